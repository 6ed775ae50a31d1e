-- The window store (SPEC 4 to 7, DESIGN 2). Rules that hold in every file of this directory:
--
-- * Rows are appended, never updated or deleted. `ver` = log_epoch * 2^48 + offset + 1 of the record that caused the row (SPEC 7): it
--   rises along the log, and rows with the same key and ver are equal byte for byte, whichever replica or replay wrote them.
-- * Writers deliver at least once. The engine ReplacingMergeTree without a version column only folds such equal rows together, some
--   time; every view is right before, during and after. Nobody needs FINAL or OPTIMIZE.
-- * An insert that is sent again because its answer was lost bears the same token and is dropped, if it is one of the last thousand.
-- * Partitions, where there are any, are cut by columns that are the same in every copy of a row.
-- * `_us` is an instant in microseconds since the Unix epoch, UTC, or a length in microseconds; `_at` is the same instant to look at,
--   computed when read, true from 1900 to 2299. Add lengths, never percentages; never add the lengths of windows of different services.
-- * On a cluster write `Replicated` before the engines' names; nothing else changes.

CREATE TABLE IF NOT EXISTS windows
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `id` UUID COMMENT 'UUIDv5 of service and onset (SPEC 7): another onset is another window',
    `ver` UInt64 COMMENT 'Version: log_epoch * 2^48 + offset + 1 of the record that caused it; the highest of an id counts',
    `service` LowCardinality(String) COMMENT 'The service that was unavailable, as in the catalogue',
    `indicator` LowCardinality(String) COMMENT 'Its line in the contract',
    `kind` Enum8('outage' = 1, 'claim' = 2, 'mixed' = 3) COMMENT 'Seen by supervision, by customers only, or by both',
    `status` Enum8('open' = 1, 'restoring' = 2, 'closed' = 3, 'retracted' = 4) COMMENT 'restoring: not DOWN at as_of_us, for less than stable_up; retracted: later evidence moved its onset or showed that it never was',
    `onset_us` Int64 COMMENT 'Start of the unavailability; the same in all versions of an id',
    `end_us` Nullable(Int64) COMMENT 'End of the unavailability, NULL while open. Can become NULL again: argMax(end_us, ver) skips NULL and lies, read windows_current',
    `first_failed_us` Nullable(Int64) COMMENT 'Earliest onset that supervision saw in it, NULL when kind is claim',
    `detected_us` Nullable(Int64) COMMENT 'First instant in it at which the service was DOWN without backdating or persistence, NULL if none',
    `notified_us` Nullable(Int64) COMMENT 'Earliest notification by a customer that counts, NULL if none',
    `observed_down_us` Int64 COMMENT 'Length of what was DOWN by evidence, up to as_of_us while open',
    `inferred_down_us` Int64 COMMENT 'Length of what counts as DOWN because blindness is not restoration (SPEC 3.5)',
    `up_inside_us` Int64 COMMENT 'Length of what was UP between two DOWN runs less than stable_up apart',
    `unknown_inside_us` Int64 COMMENT 'Length of what was UNKNOWN inside; the four lengths add up to the supervision windows in it',
    `contested_us` Int64 COMMENT 'Length of what counted claims add where supervision saw UP',
    `claims` Array(String) COMMENT 'Ids of its counted claims, in order',
    `ended_by` Nullable(Enum8('supervision' = 1, 'customer' = 2)) COMMENT 'Whose word ended it, NULL while open',
    `as_of_us` Int64 COMMENT 'The frontier when this version was made: the lengths are as of then',
    `final` Bool COMMENT 'Whether no sample could change it any more when this version was made (SPEC 7); time alone publishes none, so of a month ask accounts.final',
    `superseded_by` Nullable(UUID) COMMENT 'Of a retracted window: the one that covers it now, NULL if none does',
    `onset_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(onset_us, 'UTC') COMMENT 'onset_us to look at',
    `end_at` Nullable(DateTime64(6, 'UTC')) ALIAS fromUnixTimestamp64Micro(end_us, 'UTC') COMMENT 'end_us to look at',
    `as_of_at` DateTime64(6, 'UTC') ALIAS fromUnixTimestamp64Micro(as_of_us, 'UTC') COMMENT 'as_of_us to look at'
)
ENGINE = ReplacingMergeTree
ORDER BY (service, onset_us, id, ver)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Every version of every outage window, for ever. To know what holds now, read windows_current';

CREATE OR REPLACE VIEW windows_current
(
    `log_group` LowCardinality(String) COMMENT 'Group of services whose evidence is one totally ordered log',
    `id` UUID COMMENT 'UUIDv5 of service and onset',
    `ver` UInt64 COMMENT 'The highest version of the id',
    `service` LowCardinality(String) COMMENT 'The service that was unavailable',
    `indicator` LowCardinality(String) COMMENT 'Its line in the contract',
    `kind` Enum8('outage' = 1, 'claim' = 2, 'mixed' = 3) COMMENT 'Seen by supervision, by customers only, or by both',
    `status` Enum8('open' = 1, 'restoring' = 2, 'closed' = 3, 'retracted' = 4) COMMENT 'open, restoring or closed: retracted windows are not here',
    `onset_us` Int64 COMMENT 'Start of the unavailability',
    `end_us` Nullable(Int64) COMMENT 'End of the unavailability, NULL while open',
    `first_failed_us` Nullable(Int64) COMMENT 'Earliest onset that supervision saw in it, NULL when kind is claim',
    `detected_us` Nullable(Int64) COMMENT 'First instant in it at which the service was DOWN without backdating or persistence',
    `notified_us` Nullable(Int64) COMMENT 'Earliest notification by a customer that counts',
    `observed_down_us` Int64 COMMENT 'Length of what was DOWN by evidence, up to as_of_us while open',
    `inferred_down_us` Int64 COMMENT 'Length of what counts as DOWN because blindness is not restoration',
    `up_inside_us` Int64 COMMENT 'Length of what was UP between two DOWN runs less than stable_up apart',
    `unknown_inside_us` Int64 COMMENT 'Length of what was UNKNOWN inside',
    `contested_us` Int64 COMMENT 'Length of what counted claims add where supervision saw UP',
    `claims` Array(String) COMMENT 'Ids of its counted claims, in order',
    `ended_by` Nullable(Enum8('supervision' = 1, 'customer' = 2)) COMMENT 'Whose word ended it, NULL while open',
    `as_of_us` Int64 COMMENT 'The frontier when this version was made: the lengths are as of then',
    `final` Bool COMMENT 'Whether no sample could change it any more when this version was made; of a month ask accounts.final',
    `onset_at` DateTime64(6, 'UTC') COMMENT 'onset_us to look at',
    `end_at` Nullable(DateTime64(6, 'UTC')) COMMENT 'end_us to look at',
    `as_of_at` DateTime64(6, 'UTC') COMMENT 'as_of_us to look at'
)
AS SELECT
    argMax(w.log_group, w.ver) AS log_group,
    w.id AS id,
    max(w.ver) AS ver,
    w.service AS service,
    argMax(w.indicator, w.ver) AS indicator,
    argMax(w.kind, w.ver) AS kind,
    argMax(w.status, w.ver) AS status,
    w.onset_us AS onset_us,
    -- A tuple is never NULL, so argMax does not skip the version whose element is.
    argMax(tuple(w.end_us), w.ver).1 AS end_us,
    argMax(tuple(w.first_failed_us), w.ver).1 AS first_failed_us,
    argMax(tuple(w.detected_us), w.ver).1 AS detected_us,
    argMax(tuple(w.notified_us), w.ver).1 AS notified_us,
    argMax(w.observed_down_us, w.ver) AS observed_down_us,
    argMax(w.inferred_down_us, w.ver) AS inferred_down_us,
    argMax(w.up_inside_us, w.ver) AS up_inside_us,
    argMax(w.unknown_inside_us, w.ver) AS unknown_inside_us,
    argMax(w.contested_us, w.ver) AS contested_us,
    argMax(w.claims, w.ver) AS claims,
    argMax(tuple(w.ended_by), w.ver).1 AS ended_by,
    argMax(w.as_of_us, w.ver) AS as_of_us,
    argMax(w.final, w.ver) AS final,
    fromUnixTimestamp64Micro(w.onset_us, 'UTC') AS onset_at,
    fromUnixTimestamp64Micro(argMax(tuple(w.end_us), w.ver).1, 'UTC') AS end_at,
    fromUnixTimestamp64Micro(argMax(w.as_of_us, w.ver), 'UTC') AS as_of_at
FROM windows AS w
-- Service and onset never differ within an id; as keys of the grouping they let a reader's filter on them reach the table's index.
GROUP BY w.service, w.onset_us, w.id
HAVING argMax(w.status, w.ver) != 'retracted'
COMMENT 'The outage windows that hold now: the highest version of each, without the retracted. Windows of one service never overlap';

CREATE OR REPLACE VIEW windows_history
(
    `service` LowCardinality(String) COMMENT 'The service',
    `id` UUID COMMENT 'The window',
    `ver` UInt64 COMMENT 'Its version, in the order of the log',
    `kind` Enum8('outage' = 1, 'claim' = 2, 'mixed' = 3) COMMENT 'Seen by supervision, by customers only, or by both',
    `status` Enum8('open' = 1, 'restoring' = 2, 'closed' = 3, 'retracted' = 4) COMMENT 'What it was then',
    `onset_us` Int64 COMMENT 'Start of the unavailability',
    `end_us` Nullable(Int64) COMMENT 'End as it was known then, NULL while open',
    `claims` Array(String) COMMENT 'Ids of the claims that counted then',
    `as_of_us` Int64 COMMENT 'The frontier then',
    `final` Bool COMMENT 'Whether it was final then',
    `superseded_by` Nullable(UUID) COMMENT 'Of a retracted window: the one that covers it now'
)
AS SELECT w.service, w.id, w.ver, any(w.kind) AS kind, any(w.status) AS status, w.onset_us, any(tuple(w.end_us)).1 AS end_us,
    any(w.claims) AS claims, any(w.as_of_us) AS as_of_us, any(w.final) AS final, any(tuple(w.superseded_by)).1 AS superseded_by
FROM windows AS w
GROUP BY w.service, w.onset_us, w.id, w.ver
COMMENT 'What was said about each window and when, each version once, retractions included: order by ver';
