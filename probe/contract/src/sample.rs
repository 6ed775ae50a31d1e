//! One result of one check (SPEC §1).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::time::{Span, Time};

/// What a check found. Ordered as duplicates of one identity are resolved: `ok < void < fail`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The service answered as it should.
    Ok,
    /// No evidence: throttled, refused our credential, or a fault of the probe itself.
    Void,
    /// Two attempts failed.
    Fail,
}

/// Why a sample is not `ok`: one word each. The engine never reads it; people do, so a word that this version does not know is no
/// reason to refuse a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// fail: no answer within the timeout.
    Timeout,
    /// fail: the connection was refused.
    Refused,
    /// fail: the connection was reset or closed early.
    Reset,
    /// fail: the network said that the host or net cannot be reached.
    Unreachable,
    /// fail: the service's own name does not resolve.
    Dns,
    /// fail: the TLS handshake or the certificate.
    Tls,
    /// fail: an answer with an unexpected status.
    Status,
    /// fail: an answer with an unexpected body.
    Content,
    /// fail: an answer that breaks its protocol.
    Protocol,
    /// fail: what was read back is not what was written.
    Corrupt,
    /// fail: a device or call that hangs.
    Hung,
    /// fail: the checked thing says itself that it is not well.
    Unhealthy,
    /// fail: a backup, heartbeat or object is older than it may be.
    Stale,
    /// fail: an object that was there is gone.
    Missing,
    /// void: 429, or the API's hammering block.
    Throttled,
    /// void: our credential was refused (401, 403).
    Credential,
    /// void: our source address was refused.
    Address,
    /// void: the request was ours to get right, or asks for what is not there for us (400, 404, our clock in a signature).
    Request,
    /// void: nothing is promised of the target now: a schedule that is switched off, a run that was skipped, a guest that its owner stopped.
    Inapplicable,
    /// void: the check was cancelled, by a reload or a stop.
    Cancelled,
    /// void: the probe's own resolver failed.
    Resolver,
    /// void: the probe has no descriptors left.
    Descriptors,
    /// void: the probe's processor was starved.
    Starved,
    /// void: the probe's clock is unfit or stepped.
    Clock,
    /// void: the slot was not measured for overload.
    Overload,
    /// void: the machine slept through the slot.
    Suspended,
    /// void: any other fault of the probe.
    Internal,
}

/// One sample, borrowing the names from the record that brought it.
///
/// `run` and `seq` with target and vantage are its identity. Times are wall time of the probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// What was checked.
    pub target: Cow<'a, str>,
    /// From where.
    pub vantage: Cow<'a, str>,
    /// The probe's process.
    pub run: Cow<'a, str>,
    /// Counts 0, 1, 2… per (target, vantage, run).
    pub seq: u64,
    /// Start of the first attempt.
    pub t0: Time,
    /// End of the last attempt.
    pub t1: Time,
    /// What was found.
    pub outcome: Outcome,
    /// How long the successful attempt took, if it did.
    pub latency: Option<Span>,
    /// The schedule's period, in (0, 24 h].
    pub period: Span,
    /// The limit of one attempt, in (0, 24 h].
    pub timeout: Span,
    /// How far the probe's clock may be off.
    pub clock_error: Span,
}

impl Sample<'_> {
    /// The longest `period` or `timeout` that a sample may carry.
    pub const LONGEST_PERIOD: Span = Span::DAY;
    /// A probe whose clock may be off by more, or that is ahead of the log by more, gives no evidence.
    pub const WORST_CLOCK: Span = Span::from_secs(1);

    /// The instant that the sample bears witness to: `t0` of a `fail`, since the failure was there when we asked; `t1` otherwise,
    /// since a success is known only once complete. Both favour the customer.
    #[must_use]
    pub fn stamp(&self) -> Time {
        if self.outcome == Outcome::Fail { self.t0 } else { self.t1 }
    }

    /// The sample with names of its own, to be kept beyond its record.
    #[must_use]
    pub fn into_owned(self) -> Sample<'static> {
        let Self { target, vantage, run, seq, t0, t1, outcome, latency, period, timeout, clock_error } = self;
        let own = |name: Cow<'_, str>| Cow::Owned(name.into_owned());
        Sample { target: own(target), vantage: own(vantage), run: own(run), seq, t0, t1, outcome, latency, period, timeout, clock_error }
    }

    /// What the sample is worth to the engine when it was appended at `appended_at`: a probe with an unfit clock, or one that is
    /// ahead of the log, gives no evidence.
    #[must_use]
    pub fn effective_outcome(&self, appended_at: Time) -> Outcome {
        let unfit = self.clock_error > Self::WORST_CLOCK || self.stamp() > appended_at + Self::WORST_CLOCK;
        if unfit { Outcome::Void } else { self.outcome }
    }
}

/// How long a sample speaks for its target: two and a half periods and a timeout, so that one lost sample never makes unknown time.
#[must_use]
pub fn hold(period: Span, timeout: Span) -> Span {
    Span::from_us(5 * period.us() / 2) + timeout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_period_holds_for_the_floor() {
        assert_eq!(hold(Span::from_us(3), Span::from_us(2)), Span::from_us(7 + 2));
    }

    #[test]
    fn duplicates_resolve_ok_void_fail() {
        assert!(Outcome::Ok < Outcome::Void && Outcome::Void < Outcome::Fail);
    }
}
