//! What counts, by month (SPEC §6).

use serde::{Deserialize, Serialize};
use vigie_contract::catalogue::{Service, Terms};
use vigie_contract::{Exclusion, ExclusionKind, Month, ServiceId, Span, Time};

use super::interval::Intervals;

/// One revision of an exclusion, and when the log took it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// What it says.
    pub exclusion: Exclusion,
    /// Its append time.
    pub appended_at: Time,
}

/// The figures of one service and month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Which month.
    pub month: Month,
    /// The month's length within the time of measurement.
    pub base: Span,
    /// What of it is before the frontier.
    pub elapsed: Span,
    /// Published windows.
    pub gross_down: Span,
    /// Published windows without exclusions: the contractual figure.
    pub down: Span,
    /// Unknown time without windows and exclusions.
    pub unknown: Span,
    /// Parts per million of `base` that the objective leaves.
    pub budget_ppm: u32,
    /// Whether samples can change it no more.
    pub is_final: bool,
}

/// Whether a month kept its objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictOfMonth {
    /// More down time than the budget.
    Breached,
    /// Final, and even with all unknown time within the budget.
    Compliant,
    /// Neither.
    Undecided,
}

impl Account {
    /// `floor(base · ppm / 10⁶)`.
    #[must_use]
    pub fn budget(&self) -> Span {
        Span::from_us((i128::from(self.base.us()) * i128::from(self.budget_ppm) / 1_000_000) as i64)
    }

    /// What is left of the budget; may be negative.
    #[must_use]
    pub fn remaining(&self) -> Span {
        self.budget() - self.down
    }

    /// Compared in exact products, not in percentages.
    #[must_use]
    pub fn verdict(&self) -> VerdictOfMonth {
        let allowed = i128::from(self.base.us()) * i128::from(self.budget_ppm);
        let exceeds = |down: Span| i128::from(down.us()) * 1_000_000 > allowed;
        if exceeds(self.down) {
            VerdictOfMonth::Breached
        } else if self.is_final && !exceeds(self.down + self.unknown) {
            VerdictOfMonth::Compliant
        } else {
            VerdictOfMonth::Undecided
        }
    }
}

/// `(whole − lost) / whole` in percent, six decimals, truncated; `whole` is not zero.
#[must_use]
pub fn percent(whole: Span, lost: Span) -> String {
    let millionths = i128::from((whole - lost).us()) * 100_000_000 / i128::from(whole.us().max(1));
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

/// What one month of a service is computed from.
pub struct MonthView<'a> {
    /// Which month.
    pub month: Month,
    /// Its first instant and the next month's.
    pub bounds: (Time, Time),
    /// The time of measurement, `until` exclusive.
    pub measured: (Time, Time),
    /// The frontier.
    pub frontier: Time,
    /// What was promised at the month's start.
    pub terms: &'a Terms,
    /// Published windows, open ones up to the frontier.
    pub windows: &'a Intervals,
    /// `U`.
    pub unknown: &'a Intervals,
    /// What does not count.
    pub excluded: &'a Intervals,
    /// Whether samples can change it no more.
    pub is_final: bool,
}

impl MonthView<'_> {
    /// The month's figures.
    #[must_use]
    pub fn account(&self) -> Account {
        let (start, end) = (self.bounds.0.max(self.measured.0), self.bounds.1.min(self.measured.1));
        let down = self.windows.cut(start, end);
        let unknown = self.unknown.cut(start, end).without(&down);
        Account {
            month: self.month,
            base: end - start,
            elapsed: end.min(self.frontier) - start,
            gross_down: down.length(),
            down: down.without(self.excluded).length(),
            unknown: unknown.without(self.excluded).length(),
            budget_ppm: self.terms.budget_ppm,
            is_final: self.is_final,
        }
    }
}

/// What does not count for `service` if these kinds are allowed: the union of its exclusions, each given by its revisions in order.
#[must_use]
pub fn excluded<'a>(service: &Service, allowed: &[ExclusionKind], exclusions: impl Iterator<Item = Vec<&'a Revision>>) -> Intervals {
    Intervals::union_of(exclusions.flat_map(|revisions| part(&service.id, allowed, &revisions).iter().collect::<Vec<_>>()))
}

fn part(service: &ServiceId, allowed: &[ExclusionKind], revisions: &[&Revision]) -> Intervals {
    let counts = |revision: &Revision| revision.exclusion.is_approved() && revision.exclusion.services.contains(service);
    let Some(highest) = revisions.last().filter(|highest| counts(highest) && allowed.contains(&highest.exclusion.kind)) else {
        return Intervals::default();
    };
    let span = |revision: &Revision| (revision.exclusion.start, revision.exclusion.end);
    let whole = Intervals::union_of([span(highest)]);
    if highest.exclusion.kind != ExclusionKind::Maintenance || highest.exclusion.override_by.is_some() {
        return whole;
    }
    // Maintenance counts as far as it was on record before it began: a later revision cannot stretch it over an outage.
    let announced = revisions.iter().filter(|revision| counts(revision) && revision.appended_at < revision.exclusion.start);
    whole.and(&Intervals::union_of(announced.map(|revision| span(revision))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_truncated() {
        let percent = |whole, lost| percent(Span::from_us(whole), Span::from_us(lost));
        assert_eq!(percent(3, 1), "66.666666");
        assert_eq!(percent(1_000_000_000, 1), "99.999999");
        assert_eq!(percent(7, 0), "100.000000");
        assert_eq!(percent(7, 7), "0.000000");
        assert_eq!(percent(i64::MAX / 4, 1), "99.999999");
    }

    fn account(down: i64, unknown: i64, is_final: bool) -> Account {
        let us = Span::from_us;
        let month = Month::parse("2026-11").unwrap();
        Account {
            month,
            base: us(10_000),
            elapsed: us(10_000),
            gross_down: us(down),
            down: us(down),
            unknown: us(unknown),
            budget_ppm: 100,
            is_final,
        }
    }

    #[test]
    fn a_month_is_compliant_only_when_nothing_can_breach_it_any_more() {
        let verdict = |down, unknown, is_final| account(down, unknown, is_final).verdict();
        assert_eq!(verdict(2, 0, false), VerdictOfMonth::Breached);
        assert_eq!(verdict(1, 0, false), VerdictOfMonth::Undecided);
        assert_eq!(verdict(1, 0, true), VerdictOfMonth::Compliant);
        assert_eq!(verdict(0, 1, true), VerdictOfMonth::Compliant);
        assert_eq!(verdict(1, 1, true), VerdictOfMonth::Undecided);
        assert_eq!(account(3, 0, false).remaining(), Span::from_us(-2));
    }

    fn revision(kind: ExclusionKind, span: (i64, i64), appended_at: i64) -> Revision {
        let exclusion = Exclusion {
            id: "M".into(),
            rev: 1,
            kind,
            services: vec!["s".into()],
            start: Time::from_us(span.0),
            end: Time::from_us(span.1),
            announced_at: None,
            state: "approved".to_owned(),
            override_by: None,
            approved_by: None,
            reason: None,
        };
        Revision { exclusion, appended_at: Time::from_us(appended_at) }
    }

    fn excluded_us(revisions: &[Revision]) -> i64 {
        let allowed = [ExclusionKind::Maintenance, ExclusionKind::Throttling];
        part(&"s".into(), &allowed, &revisions.iter().collect::<Vec<_>>()).length().us()
    }

    #[test]
    fn maintenance_counts_as_far_as_it_was_on_record_before_it_began() {
        use ExclusionKind::{Customer, Maintenance, Throttling};
        let announced = revision(Maintenance, (100, 200), 99);
        assert_eq!(excluded_us(std::slice::from_ref(&announced)), 100);
        assert_eq!(excluded_us(&[revision(Maintenance, (100, 200), 100)]), 0, "not before, but when it began");
        let mut overridden = revision(Maintenance, (100, 200), 300);
        overridden.exclusion.override_by = Some("director".to_owned());
        assert_eq!(excluded_us(&[overridden]), 100);
        // Stretched during the work: only what was announced counts.
        assert_eq!(excluded_us(&[announced.clone(), revision(Maintenance, (100, 500), 150)]), 100);
        // Shortened: only what is left.
        assert_eq!(excluded_us(&[announced.clone(), revision(Maintenance, (150, 160), 155)]), 10);
        let mut withdrawn = announced.clone();
        withdrawn.exclusion.state = "withdrawn".to_owned();
        assert_eq!(excluded_us(&[announced, withdrawn]), 0);
        assert_eq!(excluded_us(&[revision(Throttling, (100, 200), 300)]), 100, "other kinds need no announcement");
        assert_eq!(excluded_us(&[revision(Customer, (100, 200), 1)]), 0, "not allowed");
        let mut of_another = revision(Throttling, (100, 200), 1);
        of_another.exclusion.services = vec!["other".into()];
        assert_eq!(excluded_us(&[of_another]), 0);
    }
}
