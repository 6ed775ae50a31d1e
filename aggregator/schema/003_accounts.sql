-- The monthly figures (SPEC 6). The rules at the head of 001_windows.sql hold.

CREATE TABLE IF NOT EXISTS accounts
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `service` LowCardinality(String) COMMENT 'The service',
    `indicator` LowCardinality(String) COMMENT 'Its line in the contract',
    `month` LowCardinality(String) COMMENT 'Calendar month YYYY-MM, cut at the local midnights of the catalogue',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the record that caused the row; the highest counts',
    `as_of_us` Int64 COMMENT 'The frontier that the figures are as of',
    `base_us` Int64 COMMENT 'Length of the month within the time of measurement, never reduced by exclusions or gaps',
    `elapsed_us` Int64 COMMENT 'What of it had passed at as_of_us',
    `gross_down_us` Int64 COMMENT 'Unavailable time before exclusions',
    `down_us` Int64 COMMENT 'Unavailable time without what counted exclusions cover: the contractual figure',
    `unknown_us` Int64 COMMENT 'Unknown time outside windows, without what counted exclusions cover',
    `budget_us` Int64 COMMENT 'Unavailable time that the objective allows in the month',
    `remaining_us` Int64 COMMENT 'budget_us - down_us, negative when overspent',
    `availability` Decimal(9, 6) COMMENT 'Percent: (base - down) / base, truncated',
    `availability_low` Decimal(9, 6) COMMENT 'Percent: the same if all unknown time had been down, truncated',
    `availability_to_date` Decimal(9, 6) COMMENT 'Percent: (elapsed - down) / elapsed, truncated',
    `final` Bool COMMENT 'No sample can change the month any more, only claims and exclusions',
    `verdict` Enum8('compliant' = 1, 'breached' = 2, 'undecided' = 3) COMMENT 'undecided: not over, or the unknown time could decide it',
    `retracted` Bool COMMENT 'A catalogue has taken the month out of the time of measurement',
    `month_date` Date ALIAS toDate(concat(month, '-01')) COMMENT 'First day of the month',
    `as_of_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(as_of_us, 'UTC') COMMENT 'as_of_us to look at'
)
ENGINE = ReplacingMergeTree
ORDER BY (service, month, ver)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every version of every monthly account. Read accounts_current';

CREATE OR REPLACE VIEW accounts_current
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `service` LowCardinality(String) COMMENT 'The service',
    `indicator` LowCardinality(String) COMMENT 'Its line in the contract',
    `month` LowCardinality(String) COMMENT 'Calendar month YYYY-MM, cut at the local midnights of the catalogue',
    `ver` UInt64 COMMENT 'The highest version',
    `as_of_us` Int64 COMMENT 'The frontier that the figures are as of',
    `base_us` Int64 COMMENT 'Length of the month within the time of measurement',
    `elapsed_us` Int64 COMMENT 'What of it had passed at as_of_us',
    `gross_down_us` Int64 COMMENT 'Unavailable time before exclusions',
    `down_us` Int64 COMMENT 'The contractual figure',
    `unknown_us` Int64 COMMENT 'Unknown time outside windows and exclusions',
    `budget_us` Int64 COMMENT 'Unavailable time that the objective allows in the month',
    `remaining_us` Int64 COMMENT 'budget_us - down_us, negative when overspent',
    `availability` Decimal(9, 6) COMMENT 'Percent, truncated',
    `availability_low` Decimal(9, 6) COMMENT 'Percent if all unknown time had been down, truncated',
    `availability_to_date` Decimal(9, 6) COMMENT 'Percent of what has passed, truncated',
    `final` Bool COMMENT 'No sample can change the month any more',
    `verdict` Enum8('compliant' = 1, 'breached' = 2, 'undecided' = 3) COMMENT 'undecided: not over, or the unknown time could decide it',
    `month_date` Date COMMENT 'First day of the month'
)
AS SELECT
    argMax(a.log_group, a.ver) AS log_group,
    a.service AS service,
    argMax(a.indicator, a.ver) AS indicator,
    a.month AS month,
    max(a.ver) AS ver,
    argMax(a.as_of_us, a.ver) AS as_of_us,
    argMax(a.base_us, a.ver) AS base_us,
    argMax(a.elapsed_us, a.ver) AS elapsed_us,
    argMax(a.gross_down_us, a.ver) AS gross_down_us,
    argMax(a.down_us, a.ver) AS down_us,
    argMax(a.unknown_us, a.ver) AS unknown_us,
    argMax(a.budget_us, a.ver) AS budget_us,
    argMax(a.remaining_us, a.ver) AS remaining_us,
    argMax(a.availability, a.ver) AS availability,
    argMax(a.availability_low, a.ver) AS availability_low,
    argMax(a.availability_to_date, a.ver) AS availability_to_date,
    argMax(a.final, a.ver) AS final,
    argMax(a.verdict, a.ver) AS verdict,
    toDate(concat(a.month, '-01')) AS month_date
FROM accounts AS a
GROUP BY a.service, a.month
HAVING NOT argMax(a.retracted, a.ver)
COMMENT 'The monthly accounts that hold now, each as of its own as_of_us';
