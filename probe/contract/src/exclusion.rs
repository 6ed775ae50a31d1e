//! An approved period that does not count (SPEC §6).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{ExclusionId, ServiceId};
use crate::time::Time;

/// One revision of an exclusion. Append-only: of several records with one id the highest `rev` counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// Its name.
    pub id: ExclusionId,
    /// Revision.
    pub rev: u64,
    /// Why the period does not count.
    pub kind: ExclusionKind,
    /// The services it counts for.
    pub services: Vec<ServiceId>,
    /// Start of the period.
    pub start: Time,
    /// End of the period.
    pub end: Time,
    /// When it was announced, for people: what counts is when the log took it.
    pub announced_at: Option<Time>,
    /// `proposed`, `approved`, `withdrawn`…: only `approved` lets it count, whatever words an approval process has besides.
    pub state: String,
    /// Who let a maintenance count although it was not recorded before it began.
    pub override_by: Option<String>,
    /// Who approved it.
    pub approved_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl Exclusion {
    /// Whether this revision lets the period count.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        self.state == "approved"
    }
}

/// The kinds of exclusion that a contract can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExclusionKind {
    /// Planned, and recorded before it began.
    Maintenance,
    /// Requests beyond the agreed rate were refused.
    Throttling,
    /// An attacked address was taken off the net.
    DdosBlackhole,
    /// Caused by the customer.
    Customer,
    /// Caused by someone else.
    ThirdParty,
    /// The contract was suspended.
    Suspension,
    /// Force majeure.
    ForceMajeure,
    /// Supervision itself was wrong.
    MeasurementError,
}

impl ExclusionKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Maintenance,
        Self::Throttling,
        Self::DdosBlackhole,
        Self::Customer,
        Self::ThirdParty,
        Self::Suspension,
        Self::ForceMajeure,
        Self::MeasurementError,
    ];

    /// The kind's one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maintenance => "maintenance",
            Self::Throttling => "throttling",
            Self::DdosBlackhole => "ddos_blackhole",
            Self::Customer => "customer",
            Self::ThirdParty => "third_party",
            Self::Suspension => "suspension",
            Self::ForceMajeure => "force_majeure",
            Self::MeasurementError => "measurement_error",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for ExclusionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
