//! How far windows are from the truth.

use vigie_aggregator::core::interval::Intervals;
use vigie_contract::Span;

use super::truth::{Incident, Scope, Target, World, meets};

/// Upper ends of the lengths by which detection is told, in quarters of a period; what is longer than the last has a place of its own.
pub const BUCKETS: [i64; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 16, 40, 120];

/// Distances from the truth, in thousandths of the target's period, the greatest last. Earlier than the truth is negative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors(Vec<i64>);

impl Errors {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The one that `percent` of the others do not exceed; `None` if there is none at all.
    pub fn at(&self, percent: usize) -> Option<i64> {
        self.0.get((self.0.len() * percent / 100).min(self.0.len().saturating_sub(1))).copied()
    }
}

/// How well one who publishes windows did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Outages that went on for two periods or more without a break.
    pub long: usize,
    /// How many of these have no window.
    pub missed: usize,
    /// Windows at a time when nothing was wrong with the target.
    pub false_windows: usize,
    /// Windows at a time about which one can dispute.
    pub disputed_windows: usize,
    /// Found, and how many there were, by the longest time without a break: see [`BUCKETS`].
    pub by_length: [(usize, usize); BUCKETS.len() + 1],
    /// Begin of the first window less the begin of its outage, for those that do not flap.
    pub onset: Errors,
    /// End of the last window less the end of its outage, for the same.
    pub end: Errors,
    /// The begin for those that flap.
    pub flapping_onset: Errors,
    /// Their end.
    pub flapping_end: Errors,
}

impl Score {
    /// The score of `windows`, which are by judged target.
    pub(super) fn of(world: &World, windows: &[Intervals]) -> Self {
        let mut score = Self::default();
        let hidden = world.hidden();
        for (target, windows) in world.judged().zip(windows) {
            let outages: Vec<_> = target.incidents.iter().filter(|incident| incident.scope == Scope::Total).collect();
            outages
                .iter()
                .filter(|outage| !meets(&hidden, outage.start, outage.end))
                .for_each(|outage| score.find(target, outage, windows));
            score.charge(target, &outages, &world.open_to_dispute(target), windows);
        }
        for errors in [&mut score.onset, &mut score.end, &mut score.flapping_onset, &mut score.flapping_end] {
            errors.0.sort_unstable();
        }
        score
    }

    /// Whether `windows` have the outage, and how exactly.
    fn find(&mut self, target: &Target, outage: &Incident, windows: &Intervals) {
        let period = target.period.us();
        let found: Vec<_> = windows.iter().filter(|window| belongs(target, outage, *window)).collect();
        let quarters = 4 * outage.longest().us() / period;
        let bucket = &mut self.by_length[BUCKETS.partition_point(|upper| *upper <= quarters)];
        bucket.1 += 1;
        self.long += usize::from(outage.longest().us() >= 2 * period);
        let (Some(first), Some(last)) = (found.first(), found.last()) else {
            self.missed += usize::from(outage.longest().us() >= 2 * period);
            return;
        };
        bucket.0 += 1;
        let (onset, end) = match outage.is_flapping() {
            false => (&mut self.onset, &mut self.end),
            true => (&mut self.flapping_onset, &mut self.flapping_end),
        };
        let in_periods = |error: Span| error.us() * 1_000 / period;
        onset.0.push(in_periods(first.0 - outage.start));
        end.0.push(in_periods(last.1 - outage.end));
    }

    /// Counts the windows that belong to no outage.
    fn charge(&mut self, target: &Target, outages: &[&Incident], disputed: &Intervals, windows: &Intervals) {
        for window in windows.iter().filter(|window| !outages.iter().any(|outage| belongs(target, outage, *window))) {
            if meets(disputed, window.0 - grace(target), window.1) {
                self.disputed_windows += 1;
            } else {
                self.false_windows += 1;
            }
        }
    }
}

/// How much later than the truth a window may begin.
fn grace(target: &Target) -> Span {
    Span::from_us(2 * target.period.us())
}

fn belongs(target: &Target, outage: &Incident, (onset, end): (vigie_contract::Time, vigie_contract::Time)) -> bool {
    onset < outage.end + grace(target) && end > outage.start
}
