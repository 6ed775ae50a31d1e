//! What the probe can carry: its own stalls, and how many slots it takes when they are too many (DESIGN §5).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Stalls are remembered this long: longer than any attempt takes.
const MEMORY: Duration = Duration::from_secs(600);
/// A beat that is later than this is a stall; less is a busy moment.
const STALL: Duration = Duration::from_millis(20);
/// How many stalls are remembered; the oldest are forgotten.
const MOST_STALLS: usize = 4096;

/// When the probe's own thread did not run although it had to. Its scheduler beats at instants that it has announced.
#[derive(Debug)]
pub(crate) struct Stalls {
    /// When the next beat is due.
    due: Instant,
    /// (from, until) of each stall.
    recent: VecDeque<(Instant, Instant)>,
}

impl Stalls {
    pub(crate) fn new(now: Instant) -> Self {
        Self { due: now + Duration::from_secs(1), recent: VecDeque::new() }
    }

    /// A beat at `now`; the next comes at `next`. Returns how late this one is.
    pub(crate) fn beat(&mut self, now: Instant, next: Instant) -> Duration {
        let late = now.saturating_duration_since(self.due);
        if late > STALL {
            self.recent.push_back((self.due, now));
        }
        while self.recent.len() > MOST_STALLS
            || self.recent.front().is_some_and(|(_, until)| now.saturating_duration_since(*until) > MEMORY)
        {
            self.recent.pop_front();
        }
        self.due = next;
        late
    }

    /// How long the thread stalled in `[from, now]`, the stall that has just ended and is not yet noted included.
    pub(crate) fn within(&self, from: Instant, now: Instant) -> Duration {
        let running = now.saturating_duration_since(self.due.max(from));
        let running = if running > STALL { running } else { Duration::ZERO };
        let noted: Duration =
            self.recent.iter().rev().take_while(|(_, until)| *until > from).map(|(start, until)| *until - *start.max(&from)).sum();
        noted + running
    }
}

/// A beat this late means that there was more to do than time.
const LATE: Duration = Duration::from_millis(30);
/// How often the share is reconsidered.
const INTERVAL: Duration = Duration::from_millis(100);
/// So many intervals with a late beat in a row are overload; fewer are somebody else's hiccup.
const PATIENCE: u32 = 3;
/// The least share of slots that is measured, whatever happens: below it the probe would hide behind `void`.
const LEAST_SHARE: f32 = 0.2;

/// Which share of the slots is measured. Falls fast while beats are late, rises slowly when they are not.
#[derive(Debug)]
pub(crate) struct Admission {
    share: f32,
    until: Instant,
    was_late: bool,
    late_intervals: u32,
}

impl Admission {
    pub(crate) fn new(now: Instant) -> Self {
        Self { share: 1.0, until: now + INTERVAL, was_late: false, late_intervals: 0 }
    }

    /// Takes note of how late a beat was.
    pub(crate) fn beat(&mut self, now: Instant, late: Duration) {
        self.was_late |= late > LATE;
        if now < self.until {
            return;
        }
        self.until = now + INTERVAL;
        if std::mem::take(&mut self.was_late) {
            self.late_intervals += 1;
            if self.late_intervals >= PATIENCE {
                self.share = (self.share * 0.92).max(LEAST_SHARE);
            }
        } else {
            self.late_intervals = 0;
            self.share = (self.share + 0.01).min(1.0);
        }
    }

    /// Whether a target that has saved up `credit` is measured now. Every target gets the same share of its slots.
    pub(crate) fn admits(&self, credit: &mut f32) -> bool {
        *credit += self.share;
        let admitted = *credit >= 1.0;
        if admitted {
            *credit -= 1.0;
        }
        admitted
    }

    /// The share of the slots that is measured now, 1 in good health.
    pub(crate) fn share(&self) -> f32 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn start() -> Instant {
        crate::clock::now()
    }

    #[test]
    fn a_stall_counts_for_what_was_in_flight() {
        let zero = start();
        let mut stalls = Stalls::new(zero);
        stalls.beat(zero, zero + 50 * MS);
        // The answer is judged before the late beat: the stall is known all the same.
        assert_eq!(stalls.within(zero, zero + 5050 * MS), 5000 * MS);
        assert_eq!(stalls.beat(zero + 5050 * MS, zero + 5100 * MS), 5000 * MS);
        assert_eq!(stalls.within(zero, zero + 5060 * MS), 5000 * MS);
        assert_eq!(stalls.within(zero + 4050 * MS, zero + 5060 * MS), 1000 * MS);
        assert_eq!(stalls.within(zero + 5051 * MS, zero + 5060 * MS), Duration::ZERO);
    }

    #[test]
    fn a_punctual_thread_has_no_stalls() {
        let zero = start();
        let mut stalls = Stalls::new(zero);
        for beat in 0..1000 {
            stalls.beat(zero + 50 * MS * beat, zero + 50 * MS * (beat + 1));
        }
        assert_eq!(stalls.within(zero, zero + 50 * MS * 1000), Duration::ZERO);
    }

    #[test]
    fn lasting_lateness_lowers_the_share_for_all_alike_and_it_recovers() {
        let zero = start();
        let mut admission = Admission::new(zero);
        let mut at = zero;
        for _ in 0..10 {
            at += INTERVAL;
            admission.beat(at, 40 * MS);
        }
        assert!((0.4..0.7).contains(&admission.share()), "{}", admission.share());
        let mut credits = [0.0; 3];
        let taken = credits.each_mut().map(|credit| (0..100).filter(|_| admission.admits(credit)).count());
        assert!(taken.iter().all(|count| *count == taken[0] && (40..70).contains(count)), "{taken:?}");
        for _ in 0..100 {
            at += INTERVAL;
            admission.beat(at, MS);
        }
        assert!(admission.share() >= 1.0);
    }

    #[test]
    fn a_hiccup_costs_no_slot() {
        let zero = start();
        let mut admission = Admission::new(zero);
        admission.beat(zero + INTERVAL, 400 * MS);
        admission.beat(zero + INTERVAL * 2, 400 * MS);
        admission.beat(zero + INTERVAL * 3, MS);
        let mut credit = 0.0;
        assert!((0..1000).all(|_| admission.admits(&mut credit)));
    }
}
