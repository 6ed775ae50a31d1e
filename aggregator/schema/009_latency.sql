-- Latency against its objective (SPEC 6). The rules at the head of 001_windows.sql hold.

CREATE TABLE IF NOT EXISTS latency
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `target` LowCardinality(String) COMMENT 'A target with a latency objective',
    `month` LowCardinality(String) COMMENT 'Calendar month YYYY-MM of the stamps, cut at the local midnights of the catalogue',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the record that caused the row; the highest counts',
    `as_of_us` Int64 COMMENT 'The frontier that the figures are as of',
    `ok` UInt64 COMMENT 'ok samples that have a latency; 0 takes the month back',
    `over` UInt64 COMMENT 'Those of them above the objective in force at their stamp',
    `max_us` Int64 COMMENT 'The greatest latency of them',
    `month_date` Date ALIAS toDate(concat(month, '-01')) COMMENT 'First day of the month'
)
ENGINE = ReplacingMergeTree
ORDER BY (target, month, ver)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every version of the monthly latency counts of a target. Read latency_current';

CREATE OR REPLACE VIEW latency_current
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `target` LowCardinality(String) COMMENT 'A target with a latency objective',
    `month` LowCardinality(String) COMMENT 'Calendar month YYYY-MM of the stamps',
    `ver` UInt64 COMMENT 'The highest version',
    `as_of_us` Int64 COMMENT 'The frontier that the figures are as of',
    `ok` UInt64 COMMENT 'ok samples that have a latency',
    `over` UInt64 COMMENT 'Those of them above the objective in force at their stamp',
    `max_us` Int64 COMMENT 'The greatest latency of them',
    `month_date` Date COMMENT 'First day of the month'
)
AS SELECT
    argMax(l.log_group, l.ver) AS log_group,
    l.target AS target,
    l.month AS month,
    max(l.ver) AS ver,
    argMax(l.as_of_us, l.ver) AS as_of_us,
    argMax(l.ok, l.ver) AS ok,
    argMax(l.over, l.ver) AS `over`,
    argMax(l.max_us, l.ver) AS max_us,
    toDate(concat(l.month, '-01')) AS month_date
FROM latency AS l
GROUP BY l.target, l.month
HAVING argMax(l.ok, l.ver) > 0
COMMENT 'The monthly latency counts that hold now';
