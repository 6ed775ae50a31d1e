-- How far the store has come. The rules at the head of 001_windows.sql hold.

CREATE TABLE IF NOT EXISTS frontiers
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the last record whose consequences are all in the store',
    `now_us` Int64 COMMENT 'Greatest append time up to that record',
    `as_of_us` Int64 COMMENT 'The frontier F = now - settle: windows and accounts are complete up to here, by the evidence so far',
    `as_of_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(as_of_us, 'UTC') COMMENT 'as_of_us to look at'
)
ENGINE = ReplacingMergeTree(ver)
ORDER BY log_group
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Written last in each batch, so that no windows and nobody wrote are not the same sight. The row with the highest ver of a group counts';

CREATE OR REPLACE VIEW frontiers_current
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `ver` UInt64 COMMENT 'The last record whose consequences are all in the store',
    `log_epoch` UInt64 COMMENT 'The setting that rises when a log is replaced: a store refuses writers with a lower one',
    `now_us` Int64 COMMENT 'Greatest append time up to that record',
    `as_of_us` Int64 COMMENT 'Windows and accounts are complete up to here, by the evidence so far',
    `as_of_at` DateTime64(6, 'UTC') COMMENT 'as_of_us to look at'
)
AS SELECT
    f.log_group AS log_group,
    max(f.ver) AS ver,
    bitShiftRight(max(f.ver), 48) AS log_epoch,
    argMax(f.now_us, f.ver) AS now_us,
    argMax(f.as_of_us, f.ver) AS as_of_us,
    fromUnixTimestamp64Micro(argMax(f.as_of_us, f.ver), 'UTC') AS as_of_at
FROM frontiers AS f
GROUP BY f.log_group
COMMENT 'How far the store has come in each group. An SLA engine closes no month while as_of_us lies before its end';
