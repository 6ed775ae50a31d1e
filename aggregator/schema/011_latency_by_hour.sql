-- Latency percentiles by target and hour, for ever: what dashboards show after the samples are gone. The rules at the head of
-- 001_windows.sql hold, but for one: a sample that is inserted twice, as two deployments do with each, is counted twice here, which moves no
-- percentile. For people, never for figures.

CREATE TABLE IF NOT EXISTS latency_by_hour
(
    `target` LowCardinality(String) COMMENT 'What was checked',
    `vantage` LowCardinality(String) COMMENT 'From where',
    `hour` DateTime('UTC') COMMENT 'Start of the hour in which the sample ended',
    `ok` SimpleAggregateFunction(sum, UInt64) COMMENT 'ok samples that have a latency',
    `max_us` SimpleAggregateFunction(max, Int64) COMMENT 'The greatest latency of them',
    `quantiles` AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Int64) COMMENT 'Their distribution: read latency_percentiles'
)
ENGINE = AggregatingMergeTree
PARTITION BY toYear(hour)
ORDER BY (target, vantage, hour)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Latency of each target from each vantage, by hour. Read latency_percentiles';

CREATE MATERIALIZED VIEW IF NOT EXISTS latency_by_hour_of_samples TO latency_by_hour
AS SELECT
    s.target AS target,
    s.vantage AS vantage,
    toStartOfHour(fromUnixTimestamp64Micro(s.t1_us, 'UTC')) AS hour,
    count() AS ok,
    max(assumeNotNull(s.latency_us)) AS max_us,
    quantilesTDigestState(0.5, 0.95, 0.99)(assumeNotNull(s.latency_us)) AS quantiles
FROM samples AS s
WHERE s.effective = 'ok' AND s.latency_us IS NOT NULL
GROUP BY target, vantage, hour;

CREATE OR REPLACE VIEW latency_percentiles
(
    `target` LowCardinality(String) COMMENT 'What was checked',
    `vantage` LowCardinality(String) COMMENT 'From where',
    `hour` DateTime('UTC') COMMENT 'Start of the hour',
    `ok` UInt64 COMMENT 'ok samples that have a latency, each as often as it was inserted',
    `p50_us` Float32 COMMENT 'Half of them were faster, about',
    `p95_us` Float32 COMMENT '95 % of them were faster, about',
    `p99_us` Float32 COMMENT '99 % of them were faster, about',
    `max_us` Int64 COMMENT 'The slowest of them'
)
AS SELECT
    l.target AS target,
    l.vantage AS vantage,
    l.hour AS hour,
    sum(l.ok) AS ok,
    quantilesTDigestMerge(0.5, 0.95, 0.99)(l.quantiles)[1] AS p50_us,
    quantilesTDigestMerge(0.5, 0.95, 0.99)(l.quantiles)[2] AS p95_us,
    quantilesTDigestMerge(0.5, 0.95, 0.99)(l.quantiles)[3] AS p99_us,
    max(l.max_us) AS max_us
FROM latency_by_hour AS l
GROUP BY l.target, l.vantage, l.hour
COMMENT 'Latency percentiles by target, vantage and hour, to look at: approximate, and a sample that came twice counts twice';
