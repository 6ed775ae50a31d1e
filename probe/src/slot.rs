//! When a target is due: absolute slots of wall time, the same after every restart (DESIGN §5).

use vigie_contract::{Span, Time};

/// The slots of one target as seen from one vantage: `phase + k · period` for whole `k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    phase: Span,
    period: Span,
}

impl Slots {
    /// The `place`th of `vantages` vantages fires that many parts of a period after the first, so that they never fire together and a
    /// failure is seen within a fraction of the period; the target's name says where in the period all of them are.
    #[must_use]
    pub fn new(target: &str, place: usize, vantages: usize, period: Span) -> Self {
        let period_us = period.us().max(1);
        let base = (hash(target) % period_us.unsigned_abs()) as i64;
        let share = i64::try_from(place * usize::try_from(period_us).unwrap_or(0) / vantages.max(1)).unwrap_or(0);
        Self { phase: Span::from_us((base + share) % period_us), period: Span::from_us(period_us) }
    }

    /// The first slot after `time`.
    #[must_use]
    pub fn after(&self, time: Time) -> Time {
        let into = (time.us() - self.phase.us()).rem_euclid(self.period.us());
        time + self.period - Span::from_us(into)
    }

    pub(crate) fn period(&self) -> Span {
        self.period
    }
}

/// FNV-1a: the same on every machine and in every version, which the standard library's hashes do not promise.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Span = Span::from_secs(10);

    #[test]
    fn slots_are_a_period_apart_and_do_not_depend_on_the_start() {
        let slots = Slots::new("s3-fr1", 0, 3, PERIOD);
        let first = slots.after(Time::from_us(1_774_567_890_000_000));
        assert_eq!(slots.after(first), first + PERIOD);
        assert_eq!(slots.after(first - Span::from_us(1)), first);
        assert_eq!(slots.after(first + Span::from_us(9_999_999)), first + PERIOD);
        assert!(slots.after(Time::from_us(-5)) > Time::from_us(-5));
    }

    #[test]
    fn vantages_never_fire_together() {
        let first = |place| Slots::new("s3-fr1", place, 3, PERIOD).after(Time::from_us(0)).us();
        let mut slots = [first(0), first(1), first(2)];
        slots.sort_unstable();
        let third = PERIOD.us() / 3;
        assert!(slots.windows(2).all(|pair| (pair[1] - pair[0] - third).abs() <= 2), "{slots:?}");
    }

    #[test]
    fn targets_spread_over_the_period() {
        let mut tenths = [0; 10];
        for target in 0..1000 {
            let slot = Slots::new(&format!("target-{target}"), 0, 1, PERIOD).after(Time::from_us(0));
            tenths[(slot.us() % PERIOD.us() / 1_000_000) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (60..140).contains(count)), "{tenths:?}");
    }
}
