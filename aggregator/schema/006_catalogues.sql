-- What was measured and promised (SPEC 2). The rules at the head of 001_windows.sql hold.

CREATE TABLE IF NOT EXISTS catalogues
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `rev` UInt64 COMMENT 'Revision: the highest is in force for the engine',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the record itself',
    `sha256` FixedString(64) COMMENT 'SHA-256 of the text, in hexadecimal',
    `text` String COMMENT 'The catalogue, TOML' CODEC(ZSTD(6)),
    `actor` Nullable(String) COMMENT 'Who appended it',
    `reason` Nullable(String) COMMENT 'Why',
    `override_by` Nullable(String) COMMENT 'Who answers for a change to the past',
    `appended_us` Int64 COMMENT 'When the log took it',
    `appended_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(appended_us, 'UTC') COMMENT 'appended_us to look at'
)
ENGINE = ReplacingMergeTree
ORDER BY (log_group, rev, ver)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every catalogue that was accepted, whole; refused ones are dead letters. Of equal revisions of a group the first in the log counts';
