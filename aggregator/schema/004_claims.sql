-- Customers' notifications (SPEC 1 and 5). The rules at the head of 001_windows.sql hold.

CREATE TABLE IF NOT EXISTS claims
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `id` String COMMENT 'The ticket',
    `rev` UInt64 COMMENT 'Revision: the highest counts, of equal ones the first in the log',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the record itself',
    `service` LowCardinality(String) COMMENT 'The service that the customer says is unavailable',
    `tenant` Nullable(String) COMMENT 'The customer, NULL for the one of the catalogue',
    `opened_us` Int64 COMMENT 'When the customer notified',
    `state` Enum8('received' = 1, 'accepted' = 2, 'rejected' = 3) COMMENT 'What support made of it',
    `resolved_us` Nullable(Int64) COMMENT 'When the customer said that it was well again',
    `actor` Nullable(String) COMMENT 'Who wrote this revision',
    `reason` Nullable(String) COMMENT 'Why',
    `appended_us` Int64 COMMENT 'When the log took it',
    `opened_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(opened_us, 'UTC') COMMENT 'opened_us to look at',
    `resolved_at` Nullable(DateTime64(6, 'UTC')) ALIAS fromUnixTimestamp64Micro(resolved_us, 'UTC') COMMENT 'resolved_us to look at',
    `appended_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(appended_us, 'UTC') COMMENT 'appended_us to look at'
)
ENGINE = ReplacingMergeTree
ORDER BY (log_group, id, rev, ver)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every revision of every claim that was not refused, as people appended it. Read claims_current';

CREATE OR REPLACE VIEW claims_current
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `id` String COMMENT 'The ticket',
    `rev` UInt64 COMMENT 'The revision that counts',
    `service` LowCardinality(String) COMMENT 'The service that the customer says is unavailable',
    `tenant` Nullable(String) COMMENT 'The customer, NULL for the one of the catalogue',
    `opened_us` Int64 COMMENT 'When the customer notified',
    `state` Enum8('received' = 1, 'accepted' = 2, 'rejected' = 3) COMMENT 'What support made of it',
    `resolved_us` Nullable(Int64) COMMENT 'When the customer said that it was well again',
    `actor` Nullable(String) COMMENT 'Who wrote this revision',
    `reason` Nullable(String) COMMENT 'Why',
    `appended_us` Int64 COMMENT 'When the log took it'
)
AS SELECT
    c.log_group AS log_group,
    -- (rev, bitNot(ver)) is greatest for the highest revision, and of equal ones for the first in the log.
    c.id AS id,
    max(c.rev) AS rev,
    argMax(c.service, tuple(c.rev, bitNot(c.ver))) AS service,
    argMax(tuple(c.tenant), tuple(c.rev, bitNot(c.ver))).1 AS tenant,
    argMax(c.opened_us, tuple(c.rev, bitNot(c.ver))) AS opened_us,
    argMax(c.state, tuple(c.rev, bitNot(c.ver))) AS state,
    argMax(tuple(c.resolved_us), tuple(c.rev, bitNot(c.ver))).1 AS resolved_us,
    argMax(tuple(c.actor), tuple(c.rev, bitNot(c.ver))).1 AS actor,
    argMax(tuple(c.reason), tuple(c.rev, bitNot(c.ver))).1 AS reason,
    argMax(c.appended_us, tuple(c.rev, bitNot(c.ver))) AS appended_us
FROM claims AS c
GROUP BY c.log_group, c.id
COMMENT 'Each claim as its counting revision says, rejected ones included';

CREATE TABLE IF NOT EXISTS candidates
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `claim` String COMMENT 'The ticket',
    `ver` UInt64 COMMENT 'log_epoch * 2^48 + offset + 1 of the record that caused the row; the highest counts',
    `service` LowCardinality(String) COMMENT 'The service that the customer says is unavailable',
    `opened_us` Int64 COMMENT 'When the customer notified',
    `advice` Enum8('accept' = 1, 'review' = 2) COMMENT 'accept: the notification lies in unknown time, where supervision cannot contradict it',
    `as_of_us` Int64 COMMENT 'The frontier when this version was made',
    `retracted` Bool COMMENT 'It counts by now, or was rejected: no candidate any more',
    `opened_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(opened_us, 'UTC') COMMENT 'opened_us to look at'
)
ENGINE = ReplacingMergeTree
ORDER BY (log_group, claim, ver)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Claims that count nothing so far and wait for support. Read candidates_current';

CREATE OR REPLACE VIEW candidates_current
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `claim` String COMMENT 'The ticket',
    `ver` UInt64 COMMENT 'The highest version',
    `service` LowCardinality(String) COMMENT 'The service that the customer says is unavailable',
    `opened_us` Int64 COMMENT 'When the customer notified',
    `advice` Enum8('accept' = 1, 'review' = 2) COMMENT 'accept: the notification lies in unknown time',
    `as_of_us` Int64 COMMENT 'The frontier when this version was made'
)
AS SELECT
    c.log_group AS log_group,
    c.claim AS claim,
    max(c.ver) AS ver,
    argMax(c.service, c.ver) AS service,
    argMax(c.opened_us, c.ver) AS opened_us,
    argMax(c.advice, c.ver) AS advice,
    argMax(c.as_of_us, c.ver) AS as_of_us
FROM candidates AS c
GROUP BY c.log_group, c.claim
HAVING NOT argMax(c.retracted, c.ver)
COMMENT 'The claims that wait for support now';
