//! Two usual rules, on the same first attempts at the same instants: one attempt with its timeout, no retry, no quorum but the one written
//! down here. Where there was a choice it is in their favour.
//!
//! - **mean**: `blackbox_exporter` and the alert `avg_over_time(probe_success[5m]) < 0.9`, without a `for`. The rule is evaluated as each
//!   scrape ends (the default is once a minute), its Prometheus stands beside the exporter and loses nothing, and a scrape is known when the
//!   attempt has ended.
//! - **streak**: three failures in a row open, one success closes. So do gatus (`failure-threshold: 3`; it waits for two successes to close),
//!   Uptime Kuma with two retries, and Route 53's checkers. What was not measured neither counts nor breaks a streak.
//!
//! Each speaks for one vantage. `any` is that rule as it is written, one alarm for each vantage: the target's window is their union. `two`
//! asks for two of the three at once (`count by (instance) (…) >= 2`), the best that can be had of it without touching samples. A vantage
//! that does not measure gives no result, though a starved exporter really reports failures; a window begins and ends when the rule says so.

use std::collections::VecDeque;

use vigie_aggregator::core::interval::Intervals;
use vigie_contract::{Span, Time};

use super::Scrape;
use super::VANTAGES;

/// The range of the mean.
const RANGE: Span = Span::from_secs(300);
/// Fewer tenths of good scrapes than this are an alarm.
const TENTHS: usize = 9;
/// So many failures in a row are an alarm.
const STREAK: usize = 3;

/// A usual rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Mean,
    Streak,
}

impl Rule {
    pub(super) const ALL: [Self; 2] = [Self::Mean, Self::Streak];

    /// Under which names its alarms go: from any vantage, from two.
    pub(super) fn names(self) -> [&'static str; 2] {
        match self {
            Self::Mean => ["mean of 5 min, any vantage", "mean of 5 min, two vantages"],
            Self::Streak => ["3 in a row, any vantage", "3 in a row, two vantages"],
        }
    }

    /// The target's windows, in the order of [`Rule::names`].
    pub(super) fn alarms(self, scrapes: &[&[Scrape]; VANTAGES.len()]) -> [Intervals; 2] {
        let alarms = scrapes.map(|scrapes| match self {
            Self::Mean => mean(scrapes),
            Self::Streak => streak(scrapes),
        });
        let [a, b, c] = &alarms;
        let pairs = [a.and(b), b.and(c), c.and(a)];
        [union(&alarms), union(&pairs)]
    }
}

fn union(of: &[Intervals]) -> Intervals {
    Intervals::union_of(of.iter().flat_map(Intervals::iter))
}

/// An alarm over time.
#[derive(Default)]
struct Alarm {
    since: Option<Time>,
    past: Vec<(Time, Time)>,
}

impl Alarm {
    fn set(&mut self, at: Time, is_on: bool) {
        match self.since {
            None if is_on => self.since = Some(at),
            Some(since) if !is_on => {
                self.past.push((since, at));
                self.since = None;
            }
            _ => {}
        }
    }

    /// Nothing is wrong when a simulation ends.
    fn past(self) -> Intervals {
        Intervals::union_of(self.past)
    }
}

fn mean(scrapes: &[Scrape]) -> Intervals {
    let mut alarm = Alarm::default();
    let (mut range, mut good) = (VecDeque::new(), 0);
    for scrape in scrapes {
        if let Some(ok) = scrape.ok {
            range.push_back((scrape.at, ok));
            good += usize::from(ok);
        }
        while let Some((_, ok)) = range.front().copied().filter(|(at, _)| *at <= scrape.known - RANGE) {
            range.pop_front();
            good -= usize::from(ok);
        }
        alarm.set(scrape.known, 10 * good < TENTHS * range.len());
    }
    alarm.past()
}

fn streak(scrapes: &[Scrape]) -> Intervals {
    let mut alarm = Alarm::default();
    let mut failures = 0;
    for scrape in scrapes {
        match scrape.ok {
            None => {}
            Some(true) => failures = 0,
            Some(false) => failures += 1,
        }
        alarm.set(scrape.known, failures >= STREAK);
    }
    alarm.past()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// A scrape every ten seconds, each known half a second later: `.` good, `x` failed, `-` not made.
    fn scrapes(text: &str) -> Vec<Scrape> {
        let scrape = |(place, letter): (usize, char)| {
            let at = Time::from_us(place as i64 * 10 * SECOND);
            let ok = match letter {
                '-' => None,
                letter => Some(letter == '.'),
            };
            Scrape { at, known: at + Span::from_us(SECOND / 2), ok }
        };
        text.chars().enumerate().map(scrape).collect()
    }

    /// In seconds.
    fn alarms(rule: impl Fn(&[Scrape]) -> Intervals, text: &str) -> Vec<(i64, i64)> {
        rule(&scrapes(text)).iter().map(|(from, to)| (from.us() / SECOND, to.us() / SECOND)).collect()
    }

    #[test]
    fn the_mean_falls_with_the_fourth_failure_of_thirty_and_recovers_when_the_first_is_five_minutes_ago() {
        let (before, after) = (".".repeat(30), ".".repeat(40));
        assert_eq!(alarms(mean, &format!("{before}xxx{after}")), []);
        assert_eq!(alarms(mean, &format!("{before}xxxx{after}")), [(330, 600)]);
    }

    #[test]
    fn three_failures_in_a_row_open_and_one_success_closes() {
        assert_eq!(alarms(streak, ".xx.xx.xxxx.."), [(90, 110)]);
        assert_eq!(alarms(streak, ".xx--x-x."), [(50, 80)], "what was not measured neither counts nor breaks a streak");
    }

    #[test]
    fn two_vantages_alarm_while_both_do() {
        let seen = [scrapes(".xxxxx......"), scrapes("..xxxxx....."), scrapes("............")];
        let [any, two] = Rule::Streak.alarms(&seen.each_ref().map(Vec::as_slice));
        assert_eq!((any.length().us() / SECOND, two.length().us() / SECOND), (40, 20));
    }
}
