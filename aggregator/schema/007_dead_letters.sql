-- What the engine refused (SPEC 1): visibly, never in silence. The rules at the head of 001_windows.sql hold.

CREATE TABLE IF NOT EXISTS dead_letters
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the refused record',
    `reason` LowCardinality(String) COMMENT 'Why, one word of a closed list in the contract: also the label of the counter',
    `detail` String COMMENT 'What exactly is wrong, for people',
    `record` String COMMENT 'The record as it came, at most its first 65536 bytes; not necessarily UTF-8' CODEC(ZSTD(3)),
    `record_bytes` UInt64 COMMENT 'Length of the whole record',
    `appended_us` Int64 COMMENT 'When the log took it',
    `appended_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(appended_us, 'UTC') COMMENT 'appended_us to look at'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(toDateTime(intDiv(appended_us, 1000000), 'UTC'))
ORDER BY (appended_us, log_group, ver)
TTL toDateTime(intDiv(appended_us, 1000000), 'UTC') + INTERVAL 400 DAY DELETE
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1
COMMENT 'Records that the engine did not take, kept as long as the archive of the log. Count with uniqExact(log_group, ver): a row may be there twice for a while';
