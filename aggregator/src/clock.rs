//! The shell's clocks: the core has none (SPEC §7).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vigie_contract::Time;

/// Monotonic time since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Default for Clock {
    #[expect(clippy::disallowed_methods, reason = "the one place in the aggregator that reads the clocks")]
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Wall time.
#[expect(clippy::disallowed_methods, reason = "the one place in the aggregator that reads the clocks")]
#[must_use]
pub fn wall_now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_us(i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 4))
}
