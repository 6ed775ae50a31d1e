//! Time of the probe: monotonic for durations, wall time anchored to it, and what disturbs either.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use vigie_contract::{Span, Time};

/// A difference between the wall clock and its anchor beyond this is a step; up to it, the anchor follows as the clock is slewed.
const STEP: Span = Span::from_us(50_000);
/// More sleep of the machine than this is a suspension.
const SUSPENSION: Span = Span::from_us(500_000);
/// How much worse the known error becomes per second without a new measurement, in parts per million: a bad quartz.
const DRIFT_PPM: u64 = 100;

/// A monotonic clock with an anchored wall time. Between two inspections wall time runs exactly as fast as monotonic time.
#[derive(Debug)]
pub(crate) struct Clock {
    zero: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Wall time at `zero`.
    anchor: Time,
    /// How much longer the machine has existed than it has run, at the last inspection.
    asleep: Span,
    error: Option<Error>,
}

/// How far the wall clock was off the log's.
#[derive(Clone, Copy, Debug)]
struct Error {
    bound: Span,
    measured: Instant,
}

/// Something that makes what was measured across it worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// The wall clock was set, by this much.
    Step(Span),
    /// The machine slept this long.
    Suspended(Span),
}

#[expect(clippy::disallowed_methods, reason = "the one place in the probe that reads the clocks")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place in the probe that reads the clocks")]
pub(crate) fn wall_now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_us(i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 4))
}

/// A duration in whole microseconds.
pub(crate) fn span(duration: Duration) -> Span {
    Span::from_us(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4))
}

/// A span as the standard library's duration; a negative one is zero.
pub(crate) fn duration(span: Span) -> Duration {
    Duration::from_micros(u64::try_from(span.us()).unwrap_or(0))
}

impl Clock {
    pub(crate) fn new() -> Self {
        let zero = now();
        Self { zero, state: Mutex::new(State { anchor: wall_now(), asleep: time_asleep(), error: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wall time at `at`.
    pub(crate) fn wall(&self, at: Instant) -> Time {
        self.state().anchor + span(at.saturating_duration_since(self.zero))
    }

    /// When wall time will be `time`; at the earliest the start of this clock.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.zero + duration(time - self.state().anchor)
    }

    /// Compares the clocks. Call it a few times a second.
    pub(crate) fn inspect(&self) -> Option<Disturbance> {
        let at = now();
        let slept = time_asleep() - self.state().asleep;
        self.judge(wall_now() - self.wall(at), slept)
    }

    /// What follows from the wall clock being `ahead` of the anchor after the machine has slept for `slept`.
    fn judge(&self, ahead: Span, slept: Span) -> Option<Disturbance> {
        let mut state = self.state();
        state.anchor = state.anchor + ahead;
        if slept > SUSPENSION {
            state.asleep = state.asleep + slept;
            return Some(Disturbance::Suspended(slept));
        }
        let is_step = ahead > STEP || -ahead > STEP;
        if is_step && let Some(error) = &mut state.error {
            // It may have been set wrong as well as right: the next exchange with the log will tell.
            error.bound = error.bound + ahead.max(-ahead);
        }
        is_step.then_some(Disturbance::Step(ahead))
    }

    /// Learns from an acknowledgement how far the wall clock may be off: the log took the records at `appended_at` by its own clock,
    /// at some moment between `sent` and now. A narrow exchange says more than a wide one, and one that contradicts what is known
    /// is right.
    pub(crate) fn compare(&self, sent: Instant, acknowledged: Instant, appended_at: Time) {
        // The true offset lies between these two: the farther one bounds the error, and so far from zero it is at least.
        let (lowest, highest) = (appended_at - self.wall(acknowledged), appended_at - self.wall(sent));
        let bound = highest.max(-lowest).max(Span::ZERO);
        let least = lowest.max(-highest);
        let error = &mut self.state().error;
        let is_news = |known: Span| bound <= known || known < least;
        if error.is_none_or(|known| is_news(known.at(acknowledged))) {
            *error = Some(Error { bound, measured: acknowledged });
        }
    }

    /// How far the wall clock may be off the log's at `at`; zero while nothing is known.
    pub(crate) fn error(&self, at: Instant) -> Span {
        self.state().error.map_or(Span::ZERO, |known| known.at(at))
    }
}

impl Error {
    fn at(self, at: Instant) -> Span {
        let age = at.saturating_duration_since(self.measured);
        self.bound + Span::from_us((age.as_secs() * DRIFT_PPM).try_into().unwrap_or(i64::MAX / 8))
    }
}

/// How much longer the machine has existed than it has run.
pub(crate) fn time_asleep() -> Span {
    let ran = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Span::ZERO, |ran| span(ran.into()));
    (time_existed() - ran).max(Span::ZERO)
}

/// How long ago the machine booted, however much of that it slept.
pub(crate) fn time_existed() -> Span {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Span::ZERO, |existed| span(existed.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_and_instants_convert_both_ways() {
        let clock = Clock::new();
        let later = now() + Duration::from_millis(1500);
        let there_and_back = clock.instant(clock.wall(later));
        // Wall time is whole microseconds.
        assert!(there_and_back <= later && later.saturating_duration_since(there_and_back) <= Duration::from_micros(1));
    }

    #[test]
    fn a_slewed_clock_is_followed_and_a_step_is_told() {
        let clock = Clock::new();
        let at = now();
        let before = clock.wall(at);
        assert_eq!(clock.judge(Span::from_us(400), Span::ZERO), None);
        assert_eq!(clock.wall(at) - before, Span::from_us(400));
        assert_eq!(clock.judge(Span::from_us(-60_000), Span::ZERO), Some(Disturbance::Step(Span::from_us(-60_000))));
        assert_eq!(clock.wall(at) - before, Span::from_us(-59_600));
    }

    #[test]
    fn a_suspension_is_told_once() {
        let clock = Clock::new();
        assert_eq!(clock.judge(Span::from_secs(8), Span::from_secs(8)), Some(Disturbance::Suspended(Span::from_secs(8))));
        let asleep = clock.state().asleep;
        assert_eq!(clock.judge(Span::ZERO, time_asleep() + Span::from_secs(8) - asleep), None);
    }

    #[test]
    fn the_error_is_bounded_by_the_narrowest_exchange_and_grows() {
        let clock = Clock::new();
        let sent = now();
        let wide = sent + Duration::from_millis(80);
        clock.compare(sent, wide, clock.wall(sent) + Span::from_us(30_000));
        assert_eq!(clock.error(wide), Span::from_us(50_000));
        let narrow = wide + Duration::from_millis(2);
        clock.compare(wide, narrow, clock.wall(wide) + Span::from_us(1_000));
        assert_eq!(clock.error(narrow), Span::from_us(1_000));
        clock.compare(sent, wide, clock.wall(sent) + Span::from_us(30_000));
        assert_eq!(clock.error(narrow), Span::from_us(1_000));
        assert_eq!(clock.error(narrow + Duration::from_secs(1000)), Span::from_us(101_000));
    }

    /// Exchanges of two milliseconds, so long after `zero`, with a log whose clock agrees there: the error that is known after each.
    fn exchanges(clock: &Clock, zero: Instant) -> impl Fn(u64) -> Span {
        let log_zero = clock.wall(zero);
        move |after_s| {
            let after = Duration::from_secs(after_s);
            let (sent, acknowledged) = (zero + after, zero + after + Duration::from_millis(2));
            clock.compare(sent, acknowledged, log_zero + span(after) + Span::from_us(1_000));
            clock.error(acknowledged)
        }
    }

    #[test]
    fn a_step_is_an_error_until_an_exchange_shows_otherwise() {
        let (clock, zero) = (Clock::new(), now());
        let exchange = exchanges(&clock, zero);
        assert_eq!(exchange(0), Span::from_us(1_000));
        assert_eq!(clock.judge(Span::from_secs(-10), Span::ZERO), Some(Disturbance::Step(Span::from_secs(-10))));
        assert_eq!(clock.error(zero), Span::from_us(10_001_000), "nobody knows which of the two times is right");
        assert_eq!(exchange(1), Span::from_us(10_001_000), "the old one was");
        assert_eq!(clock.judge(Span::from_secs(10), Span::ZERO), Some(Disturbance::Step(Span::from_secs(10))));
        assert_eq!(exchange(2), Span::from_us(1_000));
    }

    #[test]
    fn an_exchange_refutes_what_was_known_of_a_clock_that_drifts() {
        let (clock, zero) = (Clock::new(), now());
        let exchange = exchanges(&clock, zero);
        assert_eq!(exchange(0), Span::from_us(1_000));
        assert_eq!(clock.judge(Span::from_us(-40_000), Span::ZERO), None, "slowly enough to go unnoticed");
        assert_eq!(exchange(1), Span::from_us(41_000));
        assert_eq!(clock.judge(Span::from_us(40_000), Span::ZERO), None);
        assert_eq!(exchange(2), Span::from_us(1_000));
    }
}
