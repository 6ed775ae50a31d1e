//! Instants and durations, in whole microseconds (SPEC "Words"). No floating point anywhere.

use std::fmt;
use std::ops::{Add, Neg, Sub};

use serde::{Deserialize, Serialize};

/// An instant: microseconds since the Unix epoch, UTC. Always within the years 0000 to 9999, so that sums with a [`Span`] of the
/// catalogue or of a sample cannot overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(i64);

/// A duration in microseconds; may be negative as the difference of two instants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(i64);

impl Time {
    /// 0000-01-01T00:00:00Z: the earliest instant a record or a catalogue may name.
    pub const EARLIEST: Self = Self(-62_167_219_200_000_000);
    /// 9999-12-30T00:00:00Z: the latest instant a record or a catalogue may name.
    pub const LATEST: Self = Self(253_402_128_000_000_000);
    /// Before every instant: where the history of everything begins.
    pub const BEGINNING: Self = Self(i64::MIN / 4);
    /// After every instant: the end of what has none.
    pub const FOREVER: Self = Self(i64::MAX / 4);

    /// The instant `us` microseconds after the epoch, if it lies between [`Time::EARLIEST`] and [`Time::LATEST`].
    #[must_use]
    pub fn checked(us: i64) -> Option<Self> {
        let time = Self(us);
        (Self::EARLIEST <= time && time <= Self::LATEST).then_some(time)
    }

    /// The instant `us` microseconds after the epoch, or the nearest that may be named: for ends that only say "from ever" or "for ever".
    #[must_use]
    pub fn clamped(us: i64) -> Self {
        Self(us).clamp(Self::EARLIEST, Self::LATEST)
    }

    /// Reads `2026-03-01T10:00:00+01:00` (RFC 3339, an offset is needed) or whole microseconds since the epoch.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let us = text.parse().ok().or_else(|| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond));
        us.and_then(Self::checked)
    }

    /// The instant `us` microseconds after the epoch; the caller vouches that it lies in range.
    #[must_use]
    pub const fn from_us(us: i64) -> Self {
        Self(us)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn us(self) -> i64 {
        self.0
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// One hour.
    pub const HOUR: Self = Self(3_600_000_000);
    /// One day of 24 hours.
    pub const DAY: Self = Self(86_400_000_000);
    /// Ten years of 366 days: the longest duration a catalogue may name.
    pub const LONGEST: Self = Self(3_660 * Self::DAY.0);

    /// `us` microseconds.
    #[must_use]
    pub const fn from_us(us: i64) -> Self {
        Self(us)
    }

    /// `s` seconds.
    #[must_use]
    pub const fn from_secs(s: i64) -> Self {
        Self(s * 1_000_000)
    }

    /// The duration in microseconds.
    #[must_use]
    pub const fn us(self) -> i64 {
        self.0
    }

    /// Reads `"10s"`, `"150ms"`, `"15m"`, `"96h"`, `"2d"`, `"250us"` or a sum such as `"1h30m"`.
    pub fn parse(text: &str) -> Result<Self, SpanError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(SpanError::Shape);
        }
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(SpanError::NoUnit)?;
            let number: i64 = match &rest[..digits] {
                "" => return Err(SpanError::Shape),
                number => number.parse().map_err(|_| SpanError::TooLong)?,
            };
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let unit_us = match &rest[..letters] {
                "us" => 1,
                "ms" => 1_000,
                "s" => 1_000_000,
                "m" | "min" => 60_000_000,
                "h" => Self::HOUR.0,
                "d" => Self::DAY.0,
                _ => return Err(SpanError::Shape),
            };
            rest = &rest[letters..];
            total = number.checked_mul(unit_us).and_then(|us| total.checked_add(us)).ok_or(SpanError::TooLong)?;
        }
        Self::checked(total)
    }

    /// `us` microseconds, if that is neither negative nor longer than [`Span::LONGEST`].
    pub fn checked(us: i64) -> Result<Self, SpanError> {
        match us {
            us if us < 0 => Err(SpanError::Negative),
            us if us > Self::LONGEST.0 => Err(SpanError::TooLong),
            us => Ok(Self(us)),
        }
    }
}

/// Why a text or number is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// Not numbers followed by units.
    #[error("not a duration")]
    Shape,
    /// A number without a unit.
    #[error("a duration in quotes needs a unit")]
    NoUnit,
    /// Less than nothing.
    #[error("a duration cannot be negative")]
    Negative,
    /// Longer than [`Span::LONGEST`].
    #[error("a duration cannot exceed ten years")]
    TooLong,
}

impl Add<Span> for Time {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0 + span.0)
    }
}

impl Sub<Span> for Time {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0 - span.0)
    }
}

impl Sub for Time {
    type Output = Span;
    fn sub(self, earlier: Self) -> Span {
        Span(self.0 - earlier.0)
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Span {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl std::iter::Sum for Span {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Time {
    /// RFC 3339, UTC, with as many decimals as it takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            Err(_) => write!(f, "{} us", self.0),
        }
    }
}

impl fmt::Display for Span {
    /// As the catalogue writes it: `1h30m`, `150ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let mut rest = self.0.unsigned_abs();
        for (unit, unit_us) in [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)]
        {
            if rest >= unit_us {
                write!(f, "{}{unit}", rest / unit_us)?;
                rest %= unit_us;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_the_catalogue_writes_them() {
        for (text, us) in [("10s", 10_000_000), ("150ms", 150_000), ("15m", 900_000_000), ("1h30m", 5_400_000_000), ("0s", 0), ("7us", 7)] {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.us(), us);
            assert_eq!(Span::parse(&span.to_string()), Ok(span));
        }
        assert_eq!(Span::parse(""), Err(SpanError::Shape));
        assert_eq!(Span::parse("10"), Err(SpanError::NoUnit));
        assert_eq!(Span::parse("s"), Err(SpanError::Shape));
        assert_eq!(Span::parse("-5s"), Err(SpanError::Shape));
        assert_eq!(Span::parse("5y"), Err(SpanError::Shape));
        assert_eq!(Span::parse("99999999999999999999s"), Err(SpanError::TooLong));
        assert_eq!(Span::parse("9999999d"), Err(SpanError::TooLong));
    }

    #[test]
    fn instants_read_with_an_offset_or_as_microseconds() {
        let midnight = Time::from_us(1_767_222_000_000_000);
        assert_eq!(Time::parse("2026-01-01T00:00:00+01:00"), Some(midnight));
        assert_eq!(Time::parse("1767222000000000"), Some(midnight));
        assert_eq!(Time::parse("2026-01-01T00:00:00"), None);
        assert_eq!(Time::parse("9223372036854775807"), None);
    }

    #[test]
    fn instants_outside_the_calendar_are_refused() {
        assert_eq!(Time::checked(i64::MAX), None);
        assert_eq!(Time::checked(i64::MIN), None);
        assert!(Time::checked(0).is_some());
        assert_eq!([i64::MIN, 0, i64::MAX].map(Time::clamped), [Time::EARLIEST, Time::from_us(0), Time::LATEST]);
        assert_eq!(Time::EARLIEST.to_string(), "0000-01-01T00:00:00Z");
        assert_eq!(Time::LATEST.to_string(), "9999-12-30T00:00:00Z");
    }
}
