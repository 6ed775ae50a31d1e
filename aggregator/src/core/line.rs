//! The lines of `vigie replay` (SPEC §8).

use serde::{Deserialize, Serialize};
use vigie_contract::{ClaimId, IndicatorId, ServiceId, TargetId};

use super::account::VerdictOfMonth;
use super::window::{EndedBy, Kind, Status};

/// One line, in the order of its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    /// A published window.
    Window(WindowLine),
    /// A component of `U`.
    Gap(GapLine),
    /// A claim that counts nothing.
    Candidate(CandidateLine),
    /// A month of a service.
    Account(AccountLine),
    /// A month of a target's latencies.
    Latency(LatencyLine),
}

/// A published window (SPEC §4, §5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowLine {
    /// `UUIDv5` of service and onset.
    pub id: String,
    /// Its service.
    pub service: ServiceId,
    /// The service's indicator.
    pub indicator: IndicatorId,
    /// Who says so.
    pub kind: Kind,
    /// Whether it goes on.
    pub status: Status,
    /// Start.
    pub onset_us: i64,
    /// End; null while open.
    pub end_us: Option<i64>,
    /// Earliest onset of supervision; null for a claim.
    pub first_failed_us: Option<i64>,
    /// First instant at which the quorums saw DOWN.
    pub detected_us: Option<i64>,
    /// Earliest opening of a counted claim.
    pub notified_us: Option<i64>,
    /// DOWN was observed.
    pub observed_down_us: i64,
    /// DOWN was inferred.
    pub inferred_down_us: i64,
    /// UP inside.
    pub up_inside_us: i64,
    /// UNKNOWN inside.
    pub unknown_inside_us: i64,
    /// Claimed where supervision saw UP.
    pub contested_us: i64,
    /// Counted claims, in order.
    pub claims: Vec<ClaimId>,
    /// Whose word ended it; null while open.
    pub ended_by: Option<EndedBy>,
}

/// Unknown time of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapLine {
    /// Its service.
    pub service: ServiceId,
    /// Start.
    pub start_us: i64,
    /// End.
    pub end_us: i64,
}

/// A claim that counts nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateLine {
    /// The claim.
    pub claim: ClaimId,
    /// Its service.
    pub service: ServiceId,
    /// When the customer notified.
    pub opened_us: i64,
    /// What the evidence suggests.
    pub advice: Advice,
}

/// What to do with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Advice {
    /// Supervision was blind: nothing speaks against it.
    Accept,
    /// Supervision saw something else.
    Review,
}

/// The figures of a month (SPEC §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountLine {
    /// The service.
    pub service: ServiceId,
    /// Its indicator.
    pub indicator: IndicatorId,
    /// `2026-11`.
    pub month: String,
    /// Length of the month.
    pub base_us: i64,
    /// What of it has passed.
    pub elapsed_us: i64,
    /// Windows.
    pub gross_down_us: i64,
    /// Windows without exclusions.
    pub down_us: i64,
    /// Unknown time.
    pub unknown_us: i64,
    /// What the objective leaves.
    pub budget_us: i64,
    /// What is left of that.
    pub remaining_us: i64,
    /// Percent of the month.
    pub availability: String,
    /// The same if all unknown time was down.
    pub availability_low: String,
    /// Percent of what has passed.
    pub availability_to_date: String,
    /// Whether samples can change it no more.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Whether the objective was kept.
    pub verdict: VerdictOfMonth,
}

/// The latencies of a target in a month (SPEC §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LatencyLine {
    /// The target.
    pub target: TargetId,
    /// `2026-11`.
    pub month: String,
    /// Successful samples with a latency.
    pub ok: u64,
    /// Those above the objective.
    pub over: u64,
    /// The greatest.
    pub max_us: i64,
}
