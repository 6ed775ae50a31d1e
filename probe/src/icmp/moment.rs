//! The probe's clock and the kernel's at the same moment.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::clock::now;

/// How close together the clocks are read; farther apart the thread was interrupted between them.
const TIGHT: Duration = Duration::from_micros(1);
const TRIES: usize = 4;
/// A change of the distance between the clocks beyond this is a step of the wall clock: a slew moves both.
const STEP_NS: i64 = 500_000;

/// Monotonic time, by which durations are measured, and `CLOCK_REALTIME`, by which the kernel stamps what it receives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    real_ns: i64,
}

impl Moment {
    pub(super) fn now() -> Self {
        let read = || {
            let before = now();
            let real_ns = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |real| real.tv_sec() * 1_000_000_000 + real.tv_nsec());
            let apart = now().saturating_duration_since(before);
            (apart, Self { at: before + apart / 2, real_ns })
        };
        let mut best = read();
        for _ in 1..TRIES {
            if best.0 <= TIGHT {
                break;
            }
            let next = read();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// Whether the wall clock was set between `earlier` and this moment.
    pub(super) fn is_stepped_since(self, earlier: Self) -> bool {
        let ran = self.at.saturating_duration_since(earlier.at);
        let distance = (self.real_ns - earlier.real_ns) - i64::try_from(ran.as_nanos()).unwrap_or(i64::MAX);
        distance.abs() > STEP_NS
    }

    /// When something arrived that the kernel stamped `stamp_ns` and that was taken from its queue at this moment; it was sent at
    /// `sent`. An arrival before that, or in the future, shows a clock that was set: then nothing better is known than this moment.
    pub(super) fn arrival(self, stamp_ns: i64, sent: Instant) -> Instant {
        let queued = self.real_ns.checked_sub(stamp_ns).and_then(|queued| u64::try_from(queued).ok());
        let arrived = queued.and_then(|queued| self.at.checked_sub(Duration::from_nanos(queued)));
        arrived.filter(|arrived| *arrived >= sent).unwrap_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn an_arrival_is_dated_by_its_stamp_unless_the_clock_was_set() {
        let sent = now();
        let at = sent + Duration::from_millis(30);
        let moment = Moment { at, real_ns: 1_000 * MS };
        assert_eq!(moment.arrival(990 * MS, sent), sent + Duration::from_millis(20));
        assert_eq!(moment.arrival(1_001 * MS, sent), at, "in the future");
        assert_eq!(moment.arrival(969 * MS, sent), at, "before it was sent");
        assert_eq!(moment.arrival(i64::MIN, sent), at);
    }

    #[test]
    fn a_step_is_seen_and_the_passing_of_time_is_not() {
        let first = Moment { at: now(), real_ns: 1_000 * MS };
        let later = |ms: i64| Moment { at: first.at + Duration::from_millis(30), real_ns: (1_000 + ms) * MS };
        assert!(!later(30).is_stepped_since(first));
        assert!(later(31).is_stepped_since(first));
        assert!(later(-4_000).is_stepped_since(first));
    }
}
