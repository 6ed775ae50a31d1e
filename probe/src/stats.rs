//! What a probe counts and last saw, kept small: it is per target.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vigie_contract::{Outcome, Reason, Span, TargetId, Time};

use crate::check::{Facts, Kind, Phase};
use crate::icmp::Counts;
use crate::openiaas;
use crate::stamp::reflector;

/// Upper bounds of the latency buckets, in microseconds: the contract's 150 ms is one of them.
pub(crate) const LATENCY_BOUNDS_US: [i64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 150_000, 500_000, 1_000_000, 2_500_000];
/// Upper bounds of the schedule's lag, in microseconds.
pub(crate) const LAG_BOUNDS_US: [i64; 8] = [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000];
/// So many results of the loopback canary are remembered.
const NOISE_MEMORY: usize = 128;

/// Counts by upper bound; the last has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Buckets<const BOUNDS: usize> {
    counts: Vec<u32>,
    sum_us: i64,
}

impl<const BOUNDS: usize> Buckets<BOUNDS> {
    pub(crate) fn add(&mut self, bounds_us: &[i64; BOUNDS], value: Span) {
        self.counts.resize(BOUNDS + 1, 0);
        let bucket = bounds_us.partition_point(|bound| *bound < value.us());
        self.counts[bucket] += 1;
        self.sum_us += value.us();
    }

    /// One more than there are bounds; all zero while nothing was added.
    pub(crate) fn counts(&self) -> Vec<u64> {
        (0..=BOUNDS).map(|bucket| self.counts.get(bucket).copied().unwrap_or(0).into()).collect()
    }

    pub(crate) fn sum_us(&self) -> i64 {
        self.sum_us
    }
}

/// What the last slot of a target gave.
#[derive(Clone, Debug)]
pub(crate) struct Last {
    pub(crate) outcome: Outcome,
    pub(crate) at: Instant,
    /// After this, it says nothing about the present any more.
    pub(crate) holds: Duration,
    pub(crate) took: Span,
    pub(crate) phases: Vec<(Phase, Span)>,
    pub(crate) facts: Facts,
}

/// One target's figures since the process began.
#[derive(Clone, Debug)]
pub(crate) struct TargetStats {
    pub(crate) kind: Kind,
    /// When the first of its secrets expires.
    pub(crate) credential_expiry: Option<Time>,
    pub(crate) results: [u64; 3],
    pub(crate) reasons: Vec<(Reason, u64)>,
    /// Of `ok` and of `fail`: failures count with the time that they took.
    pub(crate) latency: [Buckets<12>; 2],
    pub(crate) last: Option<Last>,
}

impl TargetStats {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, credential_expiry: None, results: [0; 3], reasons: Vec::new(), latency: Default::default(), last: None }
    }

    pub(crate) fn note(&mut self, reason: Option<Reason>, last: Last) {
        self.results[last.outcome as usize] += 1;
        if let Some(reason) = reason {
            match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => self.reasons.push((reason, 1)),
            }
        }
        match last.outcome {
            Outcome::Ok => self.latency[0].add(&LATENCY_BOUNDS_US, last.took),
            Outcome::Fail => self.latency[1].add(&LATENCY_BOUNDS_US, last.took),
            Outcome::Void => {}
        }
        self.last = Some(last);
    }
}

/// The figures of a whole probe.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) targets: BTreeMap<TargetId, TargetStats>,
    pub(crate) slots_due: u64,
    /// Slots that were so long ago that not even a `void` was made of them.
    pub(crate) slots_skipped: u64,
    pub(crate) made: u64,
    /// What earlier processes left in the spool: made + recovered = delivered + spooled + dropped, always.
    pub(crate) recovered: u64,
    pub(crate) delivered: u64,
    /// Those that wait for the log.
    pub(crate) spooled: u64,
    /// Those of them that no disk has.
    pub(crate) in_memory: u64,
    pub(crate) dropped: u64,
    /// Samples that found the way to the spool full: the disk hangs.
    pub(crate) unspoolable: u64,
    pub(crate) spool_bytes: u64,
    pub(crate) spool_limit_bytes: u64,
    pub(crate) spool_failures: u64,
    pub(crate) delivery_failures: u64,
    pub(crate) last_delivery_failed: bool,
    pub(crate) in_flight: u64,
    pub(crate) schedule_lag: Buckets<8>,
    pub(crate) stalls: u64,
    pub(crate) stalled: Duration,
    pub(crate) share: f32,
    pub(crate) clock_steps: u64,
    pub(crate) clock_error: Span,
    pub(crate) suspensions: u64,
    pub(crate) noise: Noise,
    pub(crate) reloads_refused: u64,
    pub(crate) assigned: u64,
    pub(crate) icmp_mode: Option<Result<&'static str, String>>,
    pub(crate) icmp: Counts,
    pub(crate) api: openiaas::Counts,
    /// How long a web token of the provider's API held when it was last needed, the least of all.
    pub(crate) api_token_left: Option<Span>,
    pub(crate) reflected: Arc<reflector::Counts>,
}

/// The last results of the loopback canary: what the probe itself adds to every latency.
#[derive(Debug, Default)]
pub(crate) struct Noise {
    last: Vec<Span>,
    next: usize,
}

impl Noise {
    pub(crate) fn add(&mut self, took: Span) {
        if self.last.len() < NOISE_MEMORY {
            self.last.push(took);
        } else {
            self.last[self.next] = took;
        }
        self.next = (self.next + 1) % NOISE_MEMORY;
    }

    /// The value below which `percent` of the last results lie.
    pub(crate) fn quantile(&self, percent: usize) -> Option<Span> {
        let mut sorted = self.last.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
    }
}

/// The figures, shared between the schedule, the delivery and the scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats(Arc<Mutex<Figures>>);

impl Stats {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_bound_is_within_it() {
        let mut buckets = Buckets::<12>::default();
        buckets.add(&LATENCY_BOUNDS_US, Span::from_us(150_000));
        buckets.add(&LATENCY_BOUNDS_US, Span::from_us(150_001));
        buckets.add(&LATENCY_BOUNDS_US, Span::from_secs(9));
        assert_eq!(buckets.counts(), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1]);
    }

    #[test]
    fn noise_remembers_the_last_results() {
        let mut noise = Noise::default();
        assert_eq!(noise.quantile(50), None);
        (0..1000).for_each(|us| noise.add(Span::from_us(us)));
        assert_eq!(noise.quantile(100), Some(Span::from_us(999)));
        assert_eq!(noise.quantile(0), Some(Span::from_us(1000 - 128)));
    }
}
