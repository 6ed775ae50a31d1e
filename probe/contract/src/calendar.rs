//! Months, cut at local midnights (SPEC §2 `timezone`, §6).

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::time::Time;

/// The time zone in which months are cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    name: String,
    zone: TimeZone,
}

/// One calendar month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Calendar {
    /// The calendar of an IANA time zone such as `Europe/Paris`; `None` if there is no such zone.
    #[must_use]
    pub fn of_zone(name: &str) -> Option<Self> {
        let zone = TimeZone::get(name).ok()?;
        Some(Self { name: name.to_owned(), zone })
    }

    /// The zone's IANA name.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        &self.name
    }

    /// The month in which `time` lies.
    #[must_use]
    pub fn month_of(&self, time: Time) -> Month {
        let within = time.clamp(Time::EARLIEST, Time::LATEST);
        let timestamp = jiff::Timestamp::from_microsecond(within.us()).unwrap_or_default();
        let day = self.zone.to_datetime(timestamp).date();
        Month { year: day.year(), month: day.month() }
    }

    /// The first instant of `month`: its local midnight, or the first instant after it where the clocks jump over midnight.
    #[must_use]
    pub fn start_of(&self, month: Month) -> Time {
        let midnight = Date::new(month.year, month.month, 1).and_then(|first| self.zone.to_timestamp(first.at(0, 0, 0, 0)));
        // Only the far edges of the calendar have no midnight; no record may name an instant there.
        midnight.map_or(Time::LATEST, |timestamp| Time::from_us(timestamp.as_microsecond()))
    }

    /// The first instant after `month`.
    #[must_use]
    pub fn end_of(&self, month: Month) -> Time {
        self.start_of(month.next())
    }

    /// Whether `time` is the first instant of a month.
    #[must_use]
    pub fn is_month_start(&self, time: Time) -> bool {
        self.start_of(self.month_of(time)) == time
    }

    /// The months that meet `[from, to)`, in order.
    pub fn months(&self, from: Time, to: Time) -> impl Iterator<Item = Month> + '_ {
        let first = (from < to).then(|| self.month_of(from));
        std::iter::successors(first, |month| Some(month.next())).take_while(move |&month| self.start_of(month) < to)
    }
}

impl Month {
    /// The month after this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self { year, month: 12 } => Self { year: year + 1, month: 1 },
            Self { year, month } => Self { year, month: month + 1 },
        }
    }

    /// The month `count` months before this one.
    #[must_use]
    pub fn back(self, count: i16) -> Self {
        let months = i32::from(self.year) * 12 + i32::from(self.month) - 1 - i32::from(count);
        Self { year: months.div_euclid(12) as i16, month: (months.rem_euclid(12) + 1) as i8 }
    }

    /// Reads `2026-11`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let (year, month) = (year.parse().ok()?, month.parse().ok()?);
        ((0..=9999).contains(&year) && (1..=12).contains(&month)).then_some(Self { year, month })
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paris() -> Calendar {
        Calendar::of_zone("Europe/Paris").unwrap()
    }

    #[test]
    fn paris_months_have_their_real_lengths() {
        let length = |text| {
            let month = Month::parse(text).unwrap();
            (paris().end_of(month) - paris().start_of(month)).us() / 1_000_000
        };
        assert_eq!(length("2026-03"), 2_674_800);
        assert_eq!(length("2026-10"), 2_682_000);
        assert_eq!(length("2026-11"), 2_592_000);
    }

    #[test]
    fn an_instant_belongs_to_its_local_month() {
        let late_october_in_utc = Time::from_us(1_793_489_400_000_000); // 2026-10-31T23:30:00Z
        assert_eq!(paris().month_of(late_october_in_utc).to_string(), "2026-11");
        assert!(paris().is_month_start(Time::from_us(1_793_487_600_000_000)));
    }

    #[test]
    fn months_of_a_span_are_those_it_meets() {
        let start = paris().start_of(Month::parse("2026-11").unwrap());
        let months = |from: i64, to: i64| {
            paris().months(Time::from_us(start.us() + from), Time::from_us(start.us() + to)).map(|m| m.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(months(-1, 0), ["2026-10"]);
        assert_eq!(months(-1, 1), ["2026-10", "2026-11"]);
        assert!(months(0, 0).is_empty());
    }

    #[test]
    fn thirteen_months_back_crosses_two_new_years() {
        assert_eq!(Month::parse("2026-01").unwrap().back(13).to_string(), "2024-12");
        assert_eq!(Month::parse("2026-12").unwrap().back(12).to_string(), "2025-12");
        assert_eq!(Month::parse("9999-12").unwrap().back(12).to_string(), "9998-12");
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let months: Vec<_> = paris().months(Time::LATEST - crate::Span::DAY, Time::LATEST).collect();
        assert_eq!(months.len(), 1);
        assert_eq!(paris().end_of(months[0]), Time::LATEST);
    }
}
