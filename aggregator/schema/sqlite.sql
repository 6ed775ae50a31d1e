-- The embedded window store: the tables of schema/*.sql, column by column, which also say what each means.
--
-- Rows are appended, never updated or deleted; a row that comes again has the same key and the same bytes and is ignored. Lists are
-- JSON arrays, phases_us a JSON object, booleans 0 or 1. The file holds the evidence log and the engine's snapshot as well.

-- Every version of every outage window, for ever. To know what holds now, read windows_current.
CREATE TABLE windows
(
    "log_group" TEXT NOT NULL,
    "id" TEXT NOT NULL,
    "ver" INTEGER NOT NULL,
    "service" TEXT NOT NULL,
    "indicator" TEXT NOT NULL,
    "kind" TEXT NOT NULL,
    "status" TEXT NOT NULL,
    "onset_us" INTEGER NOT NULL,
    "end_us" INTEGER,
    "first_failed_us" INTEGER,
    "detected_us" INTEGER,
    "notified_us" INTEGER,
    "observed_down_us" INTEGER NOT NULL,
    "inferred_down_us" INTEGER NOT NULL,
    "up_inside_us" INTEGER NOT NULL,
    "unknown_inside_us" INTEGER NOT NULL,
    "contested_us" INTEGER NOT NULL,
    "claims" TEXT NOT NULL,
    "ended_by" TEXT,
    "as_of_us" INTEGER NOT NULL,
    "final" INTEGER NOT NULL,
    "superseded_by" TEXT,
    PRIMARY KEY ("id", "ver")
) WITHOUT ROWID, STRICT;

-- Every version of every gap: time in which a service is neither up nor down by evidence, outside its outages.
CREATE TABLE gaps
(
    "log_group" TEXT NOT NULL,
    "service" TEXT NOT NULL,
    "start_us" INTEGER NOT NULL,
    "ver" INTEGER NOT NULL,
    "end_us" INTEGER,
    "as_of_us" INTEGER NOT NULL,
    "retracted" INTEGER NOT NULL,
    PRIMARY KEY ("service", "start_us", "ver")
) WITHOUT ROWID, STRICT;

-- Every version of every monthly account.
CREATE TABLE accounts
(
    "log_group" TEXT NOT NULL,
    "service" TEXT NOT NULL,
    "indicator" TEXT NOT NULL,
    "month" TEXT NOT NULL,
    "ver" INTEGER NOT NULL,
    "as_of_us" INTEGER NOT NULL,
    "base_us" INTEGER NOT NULL,
    "elapsed_us" INTEGER NOT NULL,
    "gross_down_us" INTEGER NOT NULL,
    "down_us" INTEGER NOT NULL,
    "unknown_us" INTEGER NOT NULL,
    "budget_us" INTEGER NOT NULL,
    "remaining_us" INTEGER NOT NULL,
    "availability" TEXT NOT NULL,
    "availability_low" TEXT NOT NULL,
    "availability_to_date" TEXT NOT NULL,
    "final" INTEGER NOT NULL,
    "verdict" TEXT NOT NULL,
    "retracted" INTEGER NOT NULL,
    PRIMARY KEY ("service", "month", "ver")
) WITHOUT ROWID, STRICT;

-- Every revision of every claim that was not refused, as people appended it.
CREATE TABLE claims
(
    "log_group" TEXT NOT NULL,
    "id" TEXT NOT NULL,
    "rev" INTEGER NOT NULL,
    "ver" INTEGER NOT NULL,
    "service" TEXT NOT NULL,
    "tenant" TEXT,
    "opened_us" INTEGER NOT NULL,
    "state" TEXT NOT NULL,
    "resolved_us" INTEGER,
    "actor" TEXT,
    "reason" TEXT,
    "appended_us" INTEGER NOT NULL,
    PRIMARY KEY ("log_group", "id", "rev", "ver")
) WITHOUT ROWID, STRICT;

-- Claims that count nothing so far and wait for support.
CREATE TABLE candidates
(
    "log_group" TEXT NOT NULL,
    "claim" TEXT NOT NULL,
    "ver" INTEGER NOT NULL,
    "service" TEXT NOT NULL,
    "opened_us" INTEGER NOT NULL,
    "advice" TEXT NOT NULL,
    "as_of_us" INTEGER NOT NULL,
    "retracted" INTEGER NOT NULL,
    PRIMARY KEY ("log_group", "claim", "ver")
) WITHOUT ROWID, STRICT;

-- Every revision of every exclusion that was not refused, as people appended it.
CREATE TABLE exclusions
(
    "log_group" TEXT NOT NULL,
    "id" TEXT NOT NULL,
    "rev" INTEGER NOT NULL,
    "ver" INTEGER NOT NULL,
    "kind" TEXT NOT NULL,
    "services" TEXT NOT NULL,
    "start_us" INTEGER NOT NULL,
    "end_us" INTEGER NOT NULL,
    "announced_us" INTEGER,
    "state" TEXT NOT NULL,
    "approved_by" TEXT,
    "override_by" TEXT,
    "reason" TEXT,
    "appended_us" INTEGER NOT NULL,
    PRIMARY KEY ("log_group", "id", "rev", "ver")
) WITHOUT ROWID, STRICT;

-- Every catalogue that was accepted, whole.
CREATE TABLE catalogues
(
    "log_group" TEXT NOT NULL,
    "rev" INTEGER NOT NULL,
    "ver" INTEGER NOT NULL,
    "sha256" TEXT NOT NULL,
    "text" TEXT NOT NULL,
    "actor" TEXT,
    "reason" TEXT,
    "override_by" TEXT,
    "appended_us" INTEGER NOT NULL,
    PRIMARY KEY ("log_group", "rev", "ver")
) WITHOUT ROWID, STRICT;

-- Records that the engine did not take.
CREATE TABLE dead_letters
(
    "log_group" TEXT NOT NULL,
    "ver" INTEGER NOT NULL,
    "reason" TEXT NOT NULL,
    "detail" TEXT NOT NULL,
    "record" BLOB NOT NULL,
    "record_bytes" INTEGER NOT NULL,
    "appended_us" INTEGER NOT NULL,
    PRIMARY KEY ("log_group", "ver")
) WITHOUT ROWID, STRICT;

-- Every sample that was not refused, for as long as they are kept. To look at, never to account with.
CREATE TABLE samples
(
    "log_group" TEXT NOT NULL,
    "target" TEXT NOT NULL,
    "vantage" TEXT NOT NULL,
    "run" TEXT NOT NULL,
    "seq" INTEGER NOT NULL,
    "ver" INTEGER NOT NULL,
    "scheduled_us" INTEGER,
    "t0_us" INTEGER NOT NULL,
    "t1_us" INTEGER NOT NULL,
    "outcome" TEXT NOT NULL,
    "effective" TEXT NOT NULL,
    "reason" TEXT,
    "latency_us" INTEGER,
    "phases_us" TEXT NOT NULL,
    "attempts" INTEGER,
    "epoch" INTEGER,
    "period_us" INTEGER NOT NULL,
    "timeout_us" INTEGER NOT NULL,
    "clock_error_us" INTEGER NOT NULL,
    "appended_us" INTEGER NOT NULL,
    PRIMARY KEY ("target", "vantage", "t0_us", "run", "seq", "log_group", "ver")
) WITHOUT ROWID, STRICT;

-- Every version of the monthly latency counts of a target.
CREATE TABLE latency
(
    "log_group" TEXT NOT NULL,
    "target" TEXT NOT NULL,
    "month" TEXT NOT NULL,
    "ver" INTEGER NOT NULL,
    "as_of_us" INTEGER NOT NULL,
    "ok" INTEGER NOT NULL,
    "over" INTEGER NOT NULL,
    "max_us" INTEGER NOT NULL,
    PRIMARY KEY ("target", "month", "ver")
) WITHOUT ROWID, STRICT;

-- How far the store has come in each group; written last in each batch.
CREATE TABLE frontiers
(
    "log_group" TEXT NOT NULL,
    "ver" INTEGER NOT NULL,
    "now_us" INTEGER NOT NULL,
    "as_of_us" INTEGER NOT NULL,
    PRIMARY KEY ("log_group")
) WITHOUT ROWID, STRICT;

CREATE INDEX windows_by_service ON windows (service, onset_us);
-- The oldest samples are forgotten first.
CREATE INDEX samples_by_append ON samples (appended_us);

-- The outage windows that hold now: the highest version of each, without the retracted. Windows of one service never overlap.
CREATE VIEW windows_current AS
SELECT * FROM windows AS w WHERE ver = (SELECT max(ver) FROM windows WHERE id = w.id) AND status != 'retracted';

-- The gaps that hold now.
CREATE VIEW gaps_current AS
SELECT * FROM gaps AS g WHERE ver = (SELECT max(ver) FROM gaps WHERE service = g.service AND start_us = g.start_us) AND NOT retracted;

-- The monthly accounts that hold now, each as of its own as_of_us.
CREATE VIEW accounts_current AS
SELECT * FROM accounts AS a WHERE ver = (SELECT max(ver) FROM accounts WHERE service = a.service AND month = a.month) AND NOT retracted;

-- Each claim as its counting revision says: the highest, and of equal ones the first in the log; rejected ones included.
CREATE VIEW claims_current AS
SELECT * FROM claims AS c
WHERE (rev, ver) = (SELECT rev, ver FROM claims WHERE log_group = c.log_group AND id = c.id ORDER BY rev DESC, ver LIMIT 1);

-- The claims that wait for support now.
CREATE VIEW candidates_current AS
SELECT * FROM candidates AS c
WHERE ver = (SELECT max(ver) FROM candidates WHERE log_group = c.log_group AND claim = c.claim) AND NOT retracted;

-- Each exclusion as its counting revision says, not approved ones included.
CREATE VIEW exclusions_current AS
SELECT * FROM exclusions AS x
WHERE (rev, ver) = (SELECT rev, ver FROM exclusions WHERE log_group = x.log_group AND id = x.id ORDER BY rev DESC, ver LIMIT 1);

-- The monthly latency counts that hold now.
CREATE VIEW latency_current AS
SELECT * FROM latency AS l WHERE ver = (SELECT max(ver) FROM latency WHERE target = l.target AND month = l.month) AND ok > 0;

-- How far the store has come in each group.
CREATE VIEW frontiers_current AS SELECT log_group, ver, ver >> 48 AS log_epoch, now_us, as_of_us FROM frontiers;

-- The evidence log: one row for what was appended together. `records` is LZ4 of newline-separated JSON, `crc` its CRC-32.
CREATE TABLE evidence
(
    first_offset INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    appended_us INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    records BLOB NOT NULL
) STRICT;

-- One row: what the log holds, [oldest, next), the last append time, and which log it is.
CREATE TABLE evidence_state
(
    one INTEGER PRIMARY KEY CHECK (one = 1),
    oldest INTEGER NOT NULL,
    next INTEGER NOT NULL,
    appended_us INTEGER NOT NULL,
    log_epoch INTEGER NOT NULL
) STRICT;

INSERT INTO evidence_state VALUES (1, 0, 0, 0, 0);

-- The engine's newest snapshot: a cache, never the truth. Key '' holds the manifest and what was published.
CREATE TABLE snapshot
(
    log_group TEXT NOT NULL,
    key TEXT NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (log_group, key)
) WITHOUT ROWID, STRICT;
