-- Unknown time (SPEC 4): when nobody can say. The rules at the head of 001_windows.sql hold.

CREATE TABLE IF NOT EXISTS gaps
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `service` LowCardinality(String) COMMENT 'The service that was out of sight',
    `start_us` Int64 COMMENT 'Start of the unknown time; with the service it names the gap',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the record that caused the row; the highest counts',
    `end_us` Nullable(Int64) COMMENT 'End of the unknown time, NULL while it reaches the frontier',
    `as_of_us` Int64 COMMENT 'The frontier when this version was made',
    `retracted` Bool COMMENT 'Evidence that came late has filled the gap, or moved its start',
    `start_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(start_us, 'UTC') COMMENT 'start_us to look at',
    `end_at` Nullable(DateTime64(6, 'UTC')) ALIAS fromUnixTimestamp64Micro(end_us, 'UTC') COMMENT 'end_us to look at'
)
ENGINE = ReplacingMergeTree
ORDER BY (service, start_us, ver)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every version of every gap: time in which the service is neither up nor down by evidence, outside its outages. Read gaps_current';

CREATE OR REPLACE VIEW gaps_current
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `service` LowCardinality(String) COMMENT 'The service that was out of sight',
    `start_us` Int64 COMMENT 'Start of the unknown time',
    `ver` UInt64 COMMENT 'The highest version',
    `end_us` Nullable(Int64) COMMENT 'End of the unknown time, NULL while it reaches the frontier',
    `as_of_us` Int64 COMMENT 'The frontier when this version was made',
    `start_at` DateTime64(6, 'UTC') COMMENT 'start_us to look at',
    `end_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'end_us to look at'
)
AS SELECT
    argMax(g.log_group, g.ver) AS log_group,
    g.service AS service,
    g.start_us AS start_us,
    max(g.ver) AS ver,
    argMax(tuple(g.end_us), g.ver).1 AS end_us,
    argMax(g.as_of_us, g.ver) AS as_of_us,
    fromUnixTimestamp64Micro(g.start_us, 'UTC') AS start_at,
    fromUnixTimestamp64Micro(argMax(tuple(g.end_us), g.ver).1, 'UTC') AS end_at
FROM gaps AS g
GROUP BY g.service, g.start_us
HAVING NOT argMax(g.retracted, g.ver)
COMMENT 'The gaps that hold now';
