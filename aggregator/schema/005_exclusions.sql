-- Approved periods that do not count (SPEC 1 and 6). The rules at the head of 001_windows.sql hold. An exclusion goes into the log of
-- every group that has a service of it, and each log orders it for itself: hence log_group in the keys.

CREATE TABLE IF NOT EXISTS exclusions
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `id` String COMMENT 'Its name',
    `rev` UInt64 COMMENT 'Revision: the highest counts, of equal ones the first in the log',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the record itself',
    `kind` Enum8('maintenance' = 1, 'throttling' = 2, 'ddos_blackhole' = 3, 'customer' = 4, 'third_party' = 5, 'suspension' = 6, 'force_majeure' = 7, 'measurement_error' = 8) COMMENT 'Why the period does not count; the indicator must allow it',
    `services` Array(String) COMMENT 'The services it counts for',
    `start_us` Int64 COMMENT 'Start of the period',
    `end_us` Int64 COMMENT 'End of the period',
    `announced_us` Nullable(Int64) COMMENT 'When it was announced, for people: what counts is appended_us',
    `state` LowCardinality(String) COMMENT 'Only approved lets it count, whatever other words an approval process has',
    `approved_by` Nullable(String) COMMENT 'Who approved it',
    `override_by` Nullable(String) COMMENT 'Who let a maintenance count although it was not recorded before it began',
    `reason` Nullable(String) COMMENT 'Why',
    `appended_us` Int64 COMMENT 'When the log took it: of a maintenance only what was recorded before its start counts',
    `start_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(start_us, 'UTC') COMMENT 'start_us to look at',
    `end_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(end_us, 'UTC') COMMENT 'end_us to look at',
    `appended_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(appended_us, 'UTC') COMMENT 'appended_us to look at'
)
ENGINE = ReplacingMergeTree
ORDER BY (log_group, id, rev, ver)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every revision of every exclusion that was not refused, as people appended it: how much of a maintenance counts takes them all';

CREATE OR REPLACE VIEW exclusions_current
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `id` String COMMENT 'Its name',
    `rev` UInt64 COMMENT 'The revision that counts',
    `kind` Enum8('maintenance' = 1, 'throttling' = 2, 'ddos_blackhole' = 3, 'customer' = 4, 'third_party' = 5, 'suspension' = 6, 'force_majeure' = 7, 'measurement_error' = 8) COMMENT 'Why the period does not count',
    `services` Array(String) COMMENT 'The services it counts for',
    `start_us` Int64 COMMENT 'Start of the period',
    `end_us` Int64 COMMENT 'End of the period',
    `announced_us` Nullable(Int64) COMMENT 'When it was announced, for people',
    `state` LowCardinality(String) COMMENT 'Only approved lets it count',
    `approved_by` Nullable(String) COMMENT 'Who approved it',
    `override_by` Nullable(String) COMMENT 'Who let a maintenance count although it was not recorded before it began',
    `reason` Nullable(String) COMMENT 'Why',
    `appended_us` Int64 COMMENT 'When the log took this revision'
)
AS SELECT
    x.log_group AS log_group,
    x.id AS id,
    max(x.rev) AS rev,
    argMax(x.kind, tuple(x.rev, bitNot(x.ver))) AS kind,
    argMax(x.services, tuple(x.rev, bitNot(x.ver))) AS services,
    argMax(x.start_us, tuple(x.rev, bitNot(x.ver))) AS start_us,
    argMax(x.end_us, tuple(x.rev, bitNot(x.ver))) AS end_us,
    argMax(tuple(x.announced_us), tuple(x.rev, bitNot(x.ver))).1 AS announced_us,
    argMax(x.state, tuple(x.rev, bitNot(x.ver))) AS state,
    argMax(tuple(x.approved_by), tuple(x.rev, bitNot(x.ver))).1 AS approved_by,
    argMax(tuple(x.override_by), tuple(x.rev, bitNot(x.ver))).1 AS override_by,
    argMax(tuple(x.reason), tuple(x.rev, bitNot(x.ver))).1 AS reason,
    argMax(x.appended_us, tuple(x.rev, bitNot(x.ver))) AS appended_us
FROM exclusions AS x
GROUP BY x.log_group, x.id
COMMENT 'Each exclusion as its counting revision says, not approved ones included; what it takes off a month is in accounts';
