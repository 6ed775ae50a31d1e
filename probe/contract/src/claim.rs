//! A customer's notification that a service is unavailable (SPEC §5).

use serde::{Deserialize, Serialize};

use crate::id::{ClaimId, ServiceId};
use crate::time::Time;

/// One revision of a claim. Append-only: of several records with one id the highest `rev` counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The ticket.
    pub id: ClaimId,
    /// Revision.
    pub rev: u64,
    /// The service that the customer says is unavailable.
    pub service: ServiceId,
    /// The customer; `None` names no other contract than the catalogue's.
    pub tenant: Option<String>,
    /// When the customer notified.
    pub opened_at: Time,
    /// What support made of it.
    pub state: ClaimState,
    /// When the customer said it was well again.
    pub resolved_at: Option<Time>,
    /// Who wrote this revision.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What support made of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimState {
    /// Counts only if supervision corroborates it.
    Received,
    /// Counts.
    Accepted,
    /// Counts nothing, is not shown.
    Rejected,
}

impl Claim {
    /// The instant at which the customer confirmed restoration, if support stands by the claim.
    #[must_use]
    pub fn confirmed_return(&self) -> Option<Time> {
        if self.state == ClaimState::Accepted { self.resolved_at } else { None }
    }
}
