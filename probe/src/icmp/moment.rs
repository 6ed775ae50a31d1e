//! The probe's clock and the kernel's at the same moment.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::clock::now;

/// How close together the clocks are read, if that can be had; farther apart the thread was interrupted between them.
const TIGHT: Duration = Duration::from_micros(1);
const TRIES: usize = 4;
/// A change of the distance between the clocks beyond this is a step of the wall clock: a slew moves both.
const STEP_NS: i64 = 500_000;

/// Monotonic time, by which durations are measured, and `CLOCK_REALTIME`, by which the kernel stamps what it receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    real_ns: i64,
    /// How far apart the two may have been read.
    doubt: Duration,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let read = || {
            let before = now();
            let real_ns = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |real| real.tv_sec() * 1_000_000_000 + real.tv_nsec());
            let apart = now().saturating_duration_since(before);
            Self { at: before + apart / 2, real_ns, doubt: apart }
        };
        let mut best = read();
        for _ in 1..TRIES {
            if best.doubt <= TIGHT {
                break;
            }
            let next = read();
            if next.doubt < best.doubt {
                best = next;
            }
        }
        best
    }

    /// Whether the wall clock was set between `earlier` and this moment.
    pub(super) fn is_stepped_since(self, earlier: Self) -> bool {
        let ran = self.at.saturating_duration_since(earlier.at);
        let distance = (self.real_ns - earlier.real_ns) - i64::try_from(ran.as_nanos()).unwrap_or(i64::MAX);
        let doubt = i64::try_from((self.doubt + earlier.doubt).as_nanos()).unwrap_or(i64::MAX / 2);
        distance.abs() > STEP_NS + doubt
    }

    /// When something arrived that the kernel stamped `stamp_ns`, that was sent at `sent` and taken from the kernel's queue at this
    /// moment. An arrival before it was sent, or in the future, shows a clock that was set: then it is not known.
    pub(crate) fn arrival(self, stamp_ns: i64, sent: Instant) -> Option<Instant> {
        let doubt_ns = i64::try_from(self.doubt.as_nanos()).ok()?;
        let queued_ns = self.real_ns.checked_sub(stamp_ns).filter(|queued_ns| *queued_ns >= -doubt_ns)?;
        let arrived = self.at.checked_sub(Duration::from_nanos(u64::try_from(queued_ns).unwrap_or(0)))?;
        (arrived + self.doubt >= sent).then(|| arrived.max(sent))
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
        let moment = Moment { at, real_ns: 1_000 * MS, doubt: Duration::from_micros(20) };
        assert_eq!(moment.arrival(990 * MS, sent), Some(sent + Duration::from_millis(20)));
        assert_eq!(moment.arrival(1_001 * MS, sent), None, "in the future");
        assert_eq!(moment.arrival(969 * MS, sent), None, "before it was sent");
        assert_eq!(moment.arrival(1_000 * MS + 19_000, sent), Some(at));
        assert_eq!(moment.arrival(970 * MS - 19_000, sent), Some(sent));
        assert_eq!(moment.arrival(i64::MIN, sent), None);
    }

    #[test]
    fn a_step_is_seen_and_the_passing_of_time_is_not() {
        let first = Moment { at: now(), real_ns: 1_000 * MS, doubt: TIGHT };
        let later = |ms: i64| Moment { at: first.at + Duration::from_millis(30), real_ns: (1_000 + ms) * MS, doubt: TIGHT };
        assert!(!later(30).is_stepped_since(first));
        assert!(later(31).is_stepped_since(first));
        assert!(later(-4_000).is_stepped_since(first));
    }
}
