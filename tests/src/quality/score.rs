//! How far windows are from the truth.

use vigie_aggregator::core::interval::Intervals;
use vigie_contract::{Span, Time};

use super::truth::{Incident, Target, World, meets};

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

/// How late windows begin and end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// Begin of the first window less the begin of its outage.
    pub onset: Errors,
    /// End of the last window less the end of its outage.
    pub end: Errors,
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
    /// Of steady outages that every vantage watched.
    pub steady: Lateness,
    /// Of steady outages while a vantage was in trouble, or just had been.
    pub in_trouble: Lateness,
    /// Of those that came and went.
    pub flapping: Lateness,
}

impl Score {
    /// The score of `windows`, which are by judged target.
    pub(super) fn of(world: &World, windows: &[Intervals]) -> Self {
        let mut score = Self::default();
        let (hidden, troubled) = (world.hidden(), world.troubled());
        for (target, windows) in world.judged().zip(windows) {
            for outage in target.outages().filter(|outage| !meets(&hidden, outage.start, outage.end)) {
                score.find(target, outage, windows, meets(&troubled, outage.start, outage.end));
            }
            let disputed = world.open_to_dispute(target);
            for window in windows.iter() {
                match ground(target, &disputed, window) {
                    Ground::Outage => {}
                    Ground::Dispute => score.disputed_windows += 1,
                    Ground::None => score.false_windows += 1,
                }
            }
        }
        for Lateness { onset, end } in [&mut score.steady, &mut score.in_trouble, &mut score.flapping] {
            onset.0.sort_unstable();
            end.0.sort_unstable();
        }
        score
    }

    /// Whether `windows` have the outage, and how exactly.
    fn find(&mut self, target: &Target, outage: &Incident, windows: &Intervals, is_in_trouble: bool) {
        let period = target.period.us();
        let is_long = outage.longest().us() >= 2 * period;
        let found: Vec<_> = windows.iter().filter(|window| belongs(target, outage, *window)).collect();
        let quarters = 4 * outage.longest().us() / period;
        let (of_its_length, of) = &mut self.by_length[BUCKETS.partition_point(|upper| *upper <= quarters)];
        *of += 1;
        self.long += usize::from(is_long);
        let (Some(first), Some(last)) = (found.first(), found.last()) else {
            self.missed += usize::from(is_long);
            return;
        };
        *of_its_length += 1;
        let lateness = match (outage.is_flapping(), is_in_trouble) {
            (true, _) => &mut self.flapping,
            (false, true) => &mut self.in_trouble,
            (false, false) => &mut self.steady,
        };
        let in_periods = |error: Span| error.us() * 1_000 / period;
        lateness.onset.0.push(in_periods(first.0 - outage.start));
        lateness.end.0.push(in_periods(last.1 - outage.end));
    }
}

/// How many of the windows that were `withdrawn`, told by their onsets, had no ground whatever: not even two vantages that were cut off.
pub(super) fn groundless(world: &World, withdrawn: &[Vec<Time>]) -> usize {
    let hidden = world.hidden();
    let of_target = |(target, onsets): (&Target, &Vec<Time>)| {
        let disputed = world.open_to_dispute(target);
        let is_groundless = |onset: &&Time| {
            let window = (**onset, **onset + Span::from_us(1));
            ground(target, &disputed, window) == Ground::None && !meets(&hidden, window.0, window.1)
        };
        onsets.iter().filter(is_groundless).count()
    };
    world.judged().zip(withdrawn).map(of_target).sum()
}

/// What a window stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    Outage,
    Dispute,
    None,
}

fn ground(target: &Target, disputed: &Intervals, window: (Time, Time)) -> Ground {
    if target.outages().any(|outage| belongs(target, outage, window)) {
        Ground::Outage
    } else if meets(disputed, window.0 - grace(target), window.1) {
        Ground::Dispute
    } else {
        Ground::None
    }
}

/// How much later than its cause a window may begin.
fn grace(target: &Target) -> Span {
    Span::from_us(2 * target.period.us())
}

fn belongs(target: &Target, outage: &Incident, (onset, end): (Time, Time)) -> bool {
    onset < outage.end + grace(target) && end > outage.start
}
