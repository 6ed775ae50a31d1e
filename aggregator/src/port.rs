//! The two ports (DESIGN §2): the evidence log and the window store. Each has a production side and an embedded one.
//!
//! Evidence enters through [`EvidenceLog`] and what follows from it leaves through [`WindowStore`]; everything between them is the pure
//! core. An offset is committed only after the store has acknowledged what its record caused: at least once on both sides, and ids that
//! depend on nothing but the log, make an effect that happens exactly once.
//!
//! The futures are `Send`, need no particular runtime, and are not `dyn`: a program chooses its sides where it is composed.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use vigie_contract::record::{CatalogueRecord, SampleDetails};
use vigie_contract::sample::Outcome;
use vigie_contract::{Claim, Exclusion, Refusal, Sample, ServiceId, Span, Time};

use crate::core::line::{AccountLine, CandidateLine, LatencyLine};
use crate::core::version::Version;

/// Position of a record in the log of one group: 0 for the first that was ever appended.
pub type Offset = u64;

/// What lies underneath when a port fails: the error of the library or of the system.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A record as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its position.
    pub offset: Offset,
    /// When the log took it, by the log's own clock (Kafka: `LogAppendTime` × 1000). Not always rising: `now` is the running maximum
    /// (SPEC §7).
    pub appended_at: Time,
    /// The record as it was appended, byte for byte.
    pub bytes: Vec<u8>,
}

/// What a log holds: the offsets in `[oldest, next)`, perhaps with holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest record that retention has left; equal to `next` when the log is empty.
    pub oldest: Offset,
    /// The offset that the next record will have, or a lower bound of it.
    pub next: Offset,
}

/// The totally ordered log of one group's evidence (SPEC §1): a Kafka partition, or the embedded log.
///
/// Every reader sees the same records under the same offsets with the same append times, for as long as retention leaves them.
pub trait EvidenceLog: Send + Sync {
    /// Appends `records`, each one JSON object of SPEC §1 without a newline, in this order, and says where each went.
    ///
    /// When it returns `Ok` all of them are durable: they survive the loss of any one machine (Kafka: `acks=all`; embedded: synced to
    /// disk). After an error any of them may or may not have been appended; to append them again is always right, because records have
    /// identities and duplicates do not matter (SPEC §1). Dropping the future is like an error.
    fn append(&self, records: &[Vec<u8>]) -> impl Future<Output = Result<Vec<Appended>, AppendError>> + Send;

    /// Reads at most `most` (> 0) records in the order of their offsets, beginning with the first whose offset is `from` or more.
    ///
    /// Waits until there is at least one, without a limit: whoever wants a tick after a second of quiet puts a timeout around it.
    /// Dropping the future loses nothing. Offsets rise strictly but may leave holes, so the next `from` is the last offset + 1.
    fn read(&self, from: Offset, most: usize) -> impl Future<Output = Result<Vec<Logged>, ReadError>> + Send;

    /// Notes that the store has acknowledged what follows from every record before `next`. For people and tools only: nobody begins from
    /// it, and one that is lost costs nothing.
    fn commit(&self, _next: Offset) {}

    /// What the log holds now.
    fn bounds(&self) -> impl Future<Output = Result<Bounds, ReadError>> + Send;
}

impl<L: EvidenceLog> EvidenceLog for Arc<L> {
    fn append(&self, records: &[Vec<u8>]) -> impl Future<Output = Result<Vec<Appended>, AppendError>> + Send {
        L::append(self, records)
    }

    fn read(&self, from: Offset, most: usize) -> impl Future<Output = Result<Vec<Logged>, ReadError>> + Send {
        L::read(self, from, most)
    }

    fn commit(&self, next: Offset) {
        L::commit(self, next);
    }

    fn bounds(&self) -> impl Future<Output = Result<Bounds, ReadError>> + Send {
        L::bounds(self)
    }
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its position.
    pub offset: Offset,
    /// When the log took it, by the log's own clock.
    pub appended_at: Time,
}

/// Why records were not all appended, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// One of them is longer than the log takes: trying again is no use.
    #[error("record {index} has {bytes} bytes, more than the {most} that the log takes")]
    TooLong {
        /// Which of the records.
        index: usize,
        /// Its length.
        bytes: usize,
        /// The greatest length.
        most: usize,
    },
    /// The log does not let us: credentials, or no right to write. Trying again is no use until somebody mends it.
    #[error("the log does not let us append")]
    Forbidden(#[source] Cause),
    /// The log did not answer, is full, or failed: try again.
    #[error("the log did not acknowledge the append")]
    Unavailable(#[source] Cause),
}

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention has deleted `from`: what lies before `oldest` is in the archive only. Never skipped in silence.
    #[error("offset {from} is no longer in the log, whose oldest record is {oldest}")]
    Gone {
        /// What was asked for.
        from: Offset,
        /// The oldest there is.
        oldest: Offset,
    },
    /// `from` lies beyond the end: this is another log than the one that was read before, or it has lost its tail.
    #[error("offset {from} lies beyond the end of the log at {next}: was the log replaced?")]
    BeyondEnd {
        /// What was asked for.
        from: Offset,
        /// Where the log ends.
        next: Offset,
    },
    /// The log is none that evidence can be read from: its order or its times are not the log's own.
    #[error("the log is unfit for evidence")]
    Unfit(#[source] Cause),
    /// The log does not let us read.
    #[error("the log does not let us read")]
    Forbidden(#[source] Cause),
    /// The log did not answer or failed: try again.
    #[error("the log could not be read")]
    Unavailable(#[source] Cause),
}

/// The log epoch of a version number (SPEC §7; [`version_number`](crate::core::version::version_number) makes them): the setting that
/// rises when a log is replaced.
#[must_use]
pub fn log_epoch(ver: u64) -> u64 {
    ver >> 48
}

/// Keeps what follows from the evidence, for ever and append-only: the tables of `schema/*.sql`, in ClickHouse or in `SQLite`.
pub trait WindowStore: Send + Sync {
    /// The highest version number of `group` up to which all consequences are in the store; `None` if it holds none. [`log_epoch`] of it
    /// is the epoch that it holds.
    ///
    /// Answers from what was acknowledged, not from a replica that lags behind it.
    fn highest(&self, group: &str) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// Takes a batch. When it returns `Ok` all of it is durable and seen by every later reader.
    ///
    /// Idempotent: the same rows may come again, alone or in other batches, now or next year, from this writer or from a replica; readers
    /// of the `_current` views never see a difference. After an error any of the rows may be there; apply the batch again. `through` is
    /// written last, so that [`WindowStore::highest`] never promises rows that are missing. A batch that is older than what the store
    /// holds changes nothing that is current and does not move `highest` back.
    fn apply(&self, batch: &Batch) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a store did not answer or did not take a batch.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store holds rows of a later log: this writer reads one that was replaced, and must stop.
    #[error("the store holds log epoch {held}, this log has epoch {ours}: it was replaced")]
    Replaced {
        /// The epoch of the highest version of the group.
        held: u64,
        /// The batch's.
        ours: u64,
    },
    /// A table does not take its rows: another schema, a value out of range. Trying again is no use.
    #[error("table {table} does not take its rows")]
    Unfit {
        /// Which table.
        table: &'static str,
        /// What the store says.
        #[source]
        cause: Cause,
    },
    /// The store did not acknowledge: try again.
    #[error("the store did not acknowledge")]
    Unavailable(#[source] Cause),
}

/// What follows from a stretch of one group's log, one field per table. Fields of rows are named as the columns; an instant that a
/// contract type calls `opened_at` or `start` is the column `opened_us` or `start_us`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Column `log_group` of every row.
    pub group: String,
    /// Version number of the first record of the stretch.
    pub from: u64,
    /// Version number of the last record of the stretch: everything that it and those before it caused is here or was applied before.
    pub through: u64,
    /// Running maximum of the append times at `through`.
    pub now: Time,
    /// The frontier at `through`.
    pub frontier: Time,
    /// Table `windows`. Key: (id, ver).
    pub windows: Vec<Version>,
    /// Table `gaps`.
    pub gaps: Vec<GapRow>,
    /// Table `accounts`.
    pub accounts: Vec<AccountRow>,
    /// Table `latency`.
    pub latency: Vec<LatencyRow>,
    /// Table `candidates`.
    pub candidates: Vec<CandidateRow>,
    /// Table `claims`.
    pub claims: Vec<ClaimRow>,
    /// Table `exclusions`.
    pub exclusions: Vec<ExclusionRow>,
    /// Table `catalogues`.
    pub catalogues: Vec<CatalogueRow>,
    /// Table `dead_letters`.
    pub dead_letters: Vec<DeadLetterRow>,
    /// Table `samples`.
    pub samples: Vec<SampleRow>,
}

impl Batch {
    /// An empty batch of `group` from `from` up to `through`.
    #[must_use]
    pub fn new(group: impl Into<String>, from: u64, through: u64, now: Time, frontier: Time) -> Self {
        Self {
            group: group.into(),
            from,
            through,
            now,
            frontier,
            windows: Vec::new(),
            gaps: Vec::new(),
            accounts: Vec::new(),
            latency: Vec::new(),
            candidates: Vec::new(),
            claims: Vec::new(),
            exclusions: Vec::new(),
            catalogues: Vec::new(),
            dead_letters: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// How many rows it has, the one for `through` not counted.
    #[must_use]
    pub fn rows(&self) -> usize {
        let results = self.windows.len() + self.gaps.len() + self.accounts.len() + self.latency.len() + self.candidates.len();
        let facts = self.claims.len() + self.exclusions.len() + self.catalogues.len() + self.dead_letters.len() + self.samples.len();
        results + facts
    }
}

/// A version of a gap. Key: (service, `start_us`, ver). Not the line of replay, whose end is the frontier where this one is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapRow {
    /// The record that caused it.
    pub ver: u64,
    /// The service that was out of sight.
    pub service: ServiceId,
    /// Start.
    pub start_us: i64,
    /// End; `None` while it reaches the frontier.
    pub end_us: Option<i64>,
    /// The frontier then.
    pub as_of_us: i64,
    /// Whether late evidence has taken it away.
    pub retracted: bool,
}

/// A version of a monthly account. Key: (service, month, ver).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountRow {
    /// The record that caused it.
    pub ver: u64,
    /// What replay prints. Its percentages have six decimals and are exact as `Decimal(9, 6)`.
    #[serde(flatten)]
    pub account: AccountLine,
    /// The frontier that the figures are as of.
    pub as_of_us: i64,
    /// Whether a catalogue has taken the month out of the time of measurement.
    pub retracted: bool,
}

/// A version of a target's monthly latency counts. Key: (target, month, ver); `ok` = 0 takes the month back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LatencyRow {
    /// The record that caused it.
    pub ver: u64,
    /// What replay prints.
    #[serde(flatten)]
    pub latency: LatencyLine,
    /// The frontier that the counts are as of.
    pub as_of_us: i64,
}

/// A version of a claim that counts nothing. Key: (claim, ver).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CandidateRow {
    /// The record that caused it.
    pub ver: u64,
    /// What replay prints.
    #[serde(flatten)]
    pub candidate: CandidateLine,
    /// The frontier then.
    pub as_of_us: i64,
    /// Whether it counts by now, or was rejected.
    pub retracted: bool,
}

/// A revision of a claim, as it was appended. Key: (id, rev, ver).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// The record itself.
    pub ver: u64,
    /// What it says.
    pub claim: Claim,
    /// When the log took it.
    pub appended_at: Time,
}

impl ClaimRow {
    /// Its columns, but for the group.
    pub(crate) fn columns(&self) -> Value {
        let claim = &self.claim;
        json!({ "id": claim.id, "rev": claim.rev, "ver": self.ver, "service": claim.service, "tenant": claim.tenant,
            "opened_us": claim.opened_at.us(), "state": claim.state, "resolved_us": claim.resolved_at.map(Time::us),
            "actor": claim.actor, "reason": claim.reason, "appended_us": self.appended_at.us() })
    }
}

/// A revision of an exclusion, as it was appended. Key: (id, rev, ver).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExclusionRow {
    /// The record itself.
    pub ver: u64,
    /// What it says.
    pub exclusion: Exclusion,
    /// When it was announced, for people.
    pub announced_at: Option<Time>,
    /// When the log took it.
    pub appended_at: Time,
}

impl ExclusionRow {
    /// Its columns, but for the group.
    pub(crate) fn columns(&self) -> Value {
        let exclusion = &self.exclusion;
        json!({ "id": exclusion.id, "rev": exclusion.rev, "ver": self.ver, "kind": exclusion.kind, "services": exclusion.services,
            "start_us": exclusion.start.us(), "end_us": exclusion.end.us(), "announced_us": self.announced_at.map(Time::us),
            "state": exclusion.state, "approved_by": exclusion.approved_by, "override_by": exclusion.override_by,
            "reason": exclusion.reason, "appended_us": self.appended_at.us() })
    }
}

/// A catalogue that was accepted. Key: (rev, ver).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueRow {
    /// The record itself.
    pub ver: u64,
    /// What it says, with the digest of its text.
    pub catalogue: CatalogueRecord,
    /// When the log took it.
    pub appended_at: Time,
}

impl CatalogueRow {
    /// Its columns, but for the group.
    pub(crate) fn columns(&self) -> Value {
        let catalogue = &self.catalogue;
        json!({ "rev": catalogue.rev, "ver": self.ver, "sha256": catalogue.sha256, "text": catalogue.text, "actor": catalogue.actor,
            "reason": catalogue.reason, "override_by": catalogue.override_by, "appended_us": self.appended_at.us() })
    }
}

/// A record that was refused. Key: ver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// The record itself.
    pub ver: u64,
    /// Why.
    pub refusal: Refusal,
    /// Its first [`DeadLetterRow::MOST_BYTES`] bytes.
    pub record: Vec<u8>,
    /// The length of the whole record.
    pub record_bytes: u64,
    /// When the log took it.
    pub appended_at: Time,
}

impl DeadLetterRow {
    /// So many bytes of a refused record are kept.
    pub const MOST_BYTES: usize = 65_536;

    /// The dead letter for the whole record `bytes`.
    #[must_use]
    pub fn new(ver: u64, refusal: Refusal, bytes: &[u8], appended_at: Time) -> Self {
        let record = bytes[..bytes.len().min(Self::MOST_BYTES)].to_vec();
        Self { ver, refusal, record, record_bytes: bytes.len() as u64, appended_at }
    }
}

/// A sample that was not refused. Key: ver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleRow {
    /// The record itself.
    pub ver: u64,
    /// What the engine read.
    pub sample: Sample<'static>,
    /// What it took the outcome for.
    pub effective: Outcome,
    /// What is for people.
    pub details: SampleDetails,
    /// Lengths of the phases, by name.
    pub phases: Vec<(String, Span)>,
    /// When the log took it.
    pub appended_at: Time,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::account::VerdictOfMonth;
    use crate::core::line::{Advice, WindowLine};
    use crate::core::version::version_number;
    use crate::core::window::{EndedBy, Kind, Status};

    /// The columns of `table` that are written: those of its `CREATE TABLE` without the computed ones and `log_group`.
    fn columns(sql: &str, table: &str) -> BTreeSet<String> {
        let create = format!("CREATE TABLE IF NOT EXISTS {table}\n");
        let body = sql.split(&create).nth(1).unwrap().split("\n)\n").next().unwrap();
        let column = |line: &str| {
            let (name, rest) = line.trim().strip_prefix('`')?.split_once('`')?;
            let type_of = rest.split(" COMMENT ").next()?;
            (!type_of.contains(" ALIAS ") && name != "log_group").then(|| name.to_owned())
        };
        body.lines().filter_map(column).collect()
    }

    fn fields(row: &impl Serialize) -> BTreeSet<String> {
        serde_json::to_value(row).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn a_version_number_tells_its_epoch() {
        assert_eq!(log_epoch(version_number(0, (1 << 48) - 2)), 0);
        assert_eq!(log_epoch(version_number(3, 0)), 3);
    }

    #[test]
    fn a_dead_letter_keeps_the_beginning_and_the_length() {
        let refusal = Refusal::new(vigie_contract::RefusalReason::Malformed, "");
        let ver = version_number(0, 0);
        let letter = DeadLetterRow::new(ver, refusal.clone(), &vec![7; DeadLetterRow::MOST_BYTES + 1], Time::from_us(0));
        assert_eq!((letter.record.len(), letter.record_bytes), (65_536, 65_537));
        assert_eq!(DeadLetterRow::new(ver, refusal, b"{", Time::from_us(0)).record, b"{");
    }

    #[test]
    fn rows_have_the_columns_of_their_tables() {
        let ver = version_number(0, 0);
        let window = WindowLine {
            id: String::new(),
            service: "s".into(),
            indicator: "i".into(),
            kind: Kind::Mixed,
            status: Status::Open,
            onset_us: 0,
            end_us: None,
            first_failed_us: None,
            detected_us: None,
            notified_us: None,
            observed_down_us: 0,
            inferred_down_us: 0,
            up_inside_us: 0,
            unknown_inside_us: 0,
            contested_us: 0,
            claims: Vec::new(),
            ended_by: Some(EndedBy::Supervision),
        };
        let row = Version { window, ver, as_of_us: 0, is_final: false, superseded_by: None };
        assert_eq!(fields(&row), columns(include_str!("../schema/001_windows.sql"), "windows"));

        let row = GapRow { ver, service: "s".into(), start_us: 0, end_us: None, as_of_us: 0, retracted: false };
        assert_eq!(fields(&row), columns(include_str!("../schema/002_gaps.sql"), "gaps"));

        let account = AccountLine {
            service: "s".into(),
            indicator: "i".into(),
            month: String::new(),
            base_us: 0,
            elapsed_us: 0,
            gross_down_us: 0,
            down_us: 0,
            unknown_us: 0,
            budget_us: 0,
            remaining_us: 0,
            availability: String::new(),
            availability_low: String::new(),
            availability_to_date: String::new(),
            is_final: false,
            verdict: VerdictOfMonth::Undecided,
        };
        let row = AccountRow { ver, account, as_of_us: 0, retracted: false };
        assert_eq!(fields(&row), columns(include_str!("../schema/003_accounts.sql"), "accounts"));

        let candidate = CandidateLine { claim: "c".into(), service: "s".into(), opened_us: 0, advice: Advice::Review };
        let row = CandidateRow { ver, candidate, as_of_us: 0, retracted: false };
        assert_eq!(fields(&row), columns(include_str!("../schema/004_claims.sql"), "candidates"));

        let latency = LatencyLine { target: "t".into(), month: String::new(), ok: 0, over: 0, max_us: 0 };
        let row = LatencyRow { ver, latency, as_of_us: 0 };
        assert_eq!(fields(&row), columns(include_str!("../schema/009_latency.sql"), "latency"));
    }
}
