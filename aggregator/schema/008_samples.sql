-- The evidence itself (SPEC 1), to look at: the engine never reads it back, its truth is the log and the log's archive. The rules at the
-- head of 001_windows.sql hold.

CREATE TABLE IF NOT EXISTS samples
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `target` LowCardinality(String) COMMENT 'What was checked',
    `vantage` LowCardinality(String) COMMENT 'From where',
    `run` LowCardinality(String) COMMENT 'Process of the probe; target, vantage, run and seq are the identity of a sample',
    `seq` UInt64 COMMENT 'Counts 0, 1, 2 ... per target, vantage and run' CODEC(Delta, ZSTD(1)),
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the record' CODEC(Delta, ZSTD(1)),
    `scheduled_us` Nullable(Int64) COMMENT 'Start of the slot, NULL if the record does not say' CODEC(Delta, ZSTD(1)),
    `t0_us` Int64 COMMENT 'Start of the first attempt, by the clock of the probe' CODEC(Delta, ZSTD(1)),
    `t1_us` Int64 COMMENT 'End of the last attempt, by the clock of the probe' CODEC(Delta, ZSTD(1)),
    `outcome` Enum8('ok' = 1, 'void' = 2, 'fail' = 3) COMMENT 'What the probe found; void is no evidence',
    `effective` Enum8('ok' = 1, 'void' = 2, 'fail' = 3) COMMENT 'What the engine took it for: void also when the clock of the probe was unfit',
    `reason` LowCardinality(Nullable(String)) COMMENT 'Why it is not ok, one word',
    `latency_us` Nullable(Int64) COMMENT 'How long the successful attempt took' CODEC(T64, ZSTD(1)),
    `phases_us` Map(LowCardinality(String), Int64) COMMENT 'Length of each phase: resolve, connect, tls, processing, transfer' CODEC(ZSTD(1)),
    `attempts` Nullable(UInt32) COMMENT 'How many attempts it took',
    `epoch` Nullable(UInt64) COMMENT 'Epoch of the configuration at the probe',
    `period_us` Int64 COMMENT 'Period of the schedule' CODEC(T64, ZSTD(1)),
    `timeout_us` Int64 COMMENT 'Limit of one attempt' CODEC(T64, ZSTD(1)),
    `clock_error_us` Int64 COMMENT 'How far the clock of the probe may be off' CODEC(T64, ZSTD(1)),
    `appended_us` Int64 COMMENT 'When the log took it' CODEC(Delta, ZSTD(1)),
    `stamp_us` Int64 ALIAS if(outcome = 'fail', t0_us, t1_us) COMMENT 'The instant it bears witness to (SPEC 1)',
    `t0_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(t0_us, 'UTC') COMMENT 't0_us to look at',
    `t1_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(t1_us, 'UTC') COMMENT 't1_us to look at',
    `appended_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(appended_us, 'UTC') COMMENT 'appended_us to look at'
)
ENGINE = ReplacingMergeTree
-- By append time: an insert touches one or two weeks, however old the backlog is that a probe delivers.
PARTITION BY toMonday(toDateTime(intDiv(appended_us, 1000000), 'UTC'))
ORDER BY (target, vantage, t0_us, run, seq, log_group, ver)
TTL toDateTime(intDiv(appended_us, 1000000), 'UTC') + INTERVAL 90 DAY DELETE
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1
COMMENT 'Every sample that was not refused, for 90 days and at most a week more. Dashboards only, never SLA figures. Count with uniqExact(target, vantage, run, seq): a row may be there twice for a while, a probe may deliver a sample twice, and samples of anchors go into the log of every group that they gate';
