//! Everything that an engine knows at its frontier, as the lines of SPEC §8.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vigie_contract::catalogue::{Catalogue, ServiceIx, TargetIx};
use vigie_contract::{ExclusionKind, Month, Outcome, Span, Time};

use super::account::{self, Account, MonthView, Revision, percent};
use super::engine::Engine;
use super::interval::Intervals;
use super::line::{AccountLine, Advice, CandidateLine, GapLine, LatencyLine, Line, WindowLine};
use super::track::Entry;
use super::version::{is_final, is_settled, window_line};
use super::window::{Candidate, View};

/// The latencies of a target in a month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Successful samples with a latency.
    pub ok: u64,
    /// Those above the objective.
    pub over: u64,
    /// The greatest.
    pub max: Span,
}

impl Engine {
    /// All lines, in the order of SPEC §8.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let Some(catalogue) = &self.catalogue else { return Vec::new() };
        let of_services = (0..catalogue.services.len()).flat_map(|service| self.service_lines(service));
        of_services.chain((0..catalogue.targets.len()).flat_map(|target| self.latency_lines(target)).map(Line::Latency)).collect()
    }

    fn service_lines(&self, service: ServiceIx) -> Vec<Line> {
        let windows = self.window_lines(service).into_iter().map(Line::Window);
        let gaps = self.gap_lines(service).into_iter().map(Line::Gap);
        let candidates = self.candidate_lines(service).into_iter().map(Line::Candidate);
        windows.chain(gaps).chain(candidates).chain(self.account_lines(service).into_iter().map(Line::Account)).collect()
    }

    /// The published windows of a service, by onset.
    #[must_use]
    pub fn window_lines(&self, service: ServiceIx) -> Vec<WindowLine> {
        let lines = self.with_view(service, |view| {
            let catalogue = self.catalogue.as_ref()?;
            let line = |window| window_line(catalogue, &catalogue.services[service], window, &view.lengths(window));
            Some(self.services[service].published.values().map(line).collect())
        });
        lines.flatten().unwrap_or_default()
    }

    /// The components of a service's unknown time, by start.
    #[must_use]
    pub fn gap_lines(&self, service: ServiceIx) -> Vec<GapLine> {
        let Some(catalogue) = &self.catalogue else { return Vec::new() };
        let id = &catalogue.services[service].id;
        let gap = |(start, end): (Time, Time)| GapLine { service: id.clone(), start_us: start.us(), end_us: end.us() };
        let unknown = self.with_view(service, |view| view.unknown(Time::BEGINNING, Time::FOREVER)).unwrap_or_default();
        unknown.iter().map(gap).collect()
    }

    /// The claims of a service that count nothing, by (opened, id).
    #[must_use]
    pub fn candidate_lines(&self, service: ServiceIx) -> Vec<CandidateLine> {
        let Some(catalogue) = &self.catalogue else { return Vec::new() };
        let line = |candidate: Candidate| {
            let advice = if candidate.opened_in_the_dark { Advice::Accept } else { Advice::Review };
            let (service, opened_us) = (catalogue.services[service].id.clone(), candidate.opened.us());
            CandidateLine { claim: candidate.claim, service, opened_us, advice }
        };
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is not general enough in its lifetime")]
        let candidates = self.with_view(service, |view| view.candidates());
        candidates.unwrap_or_default().into_iter().map(line).collect()
    }

    /// The accounts of a service, by month.
    #[must_use]
    pub fn account_lines(&self, service: ServiceIx) -> Vec<AccountLine> {
        let accounts = self.with_view(service, |view| self.accounts(service, view, &view.unknown(Time::BEGINNING, Time::FOREVER)));
        accounts.unwrap_or_default().iter().map(|account| self.account_line(service, account)).collect()
    }

    /// What does not count for a service in the month of `time`.
    #[must_use]
    pub fn excluded(&self, service: ServiceIx, time: Time) -> Intervals {
        self.excluded_as(service, self.allowed_exclusions(service, time))
    }

    /// The kinds of the exclusions that count for a service at `time`.
    #[must_use]
    pub fn excluded_by(&self, service: ServiceIx, time: Time) -> Vec<ExclusionKind> {
        let kinds = self.allowed_exclusions(service, time).iter().copied();
        kinds.filter(|kind| self.excluded_as(service, &[*kind]).contains(time)).collect()
    }

    fn excluded_as(&self, service: ServiceIx, kinds: &[ExclusionKind]) -> Intervals {
        let Some(catalogue) = &self.catalogue else { return Intervals::default() };
        let revisions = self.exclusions.values().map(|revisions| revisions.values().collect());
        account::excluded(&catalogue.services[service], kinds, revisions)
    }

    /// The accounts of a service, by month (6).
    #[must_use]
    pub fn accounts(&self, service: ServiceIx, view: &View<'_>, unknown: &Intervals) -> Vec<Account> {
        let (Some(catalogue), Some(since)) = (&self.catalogue, view.clock.since) else { return Vec::new() };
        let definition = &catalogue.services[service];
        let published = &self.services[service].published;
        let frontier = self.frontier;
        let windows = Intervals::union_of(published.values().map(|window| (window.onset, window.end.unwrap_or(frontier))));
        let measured = (since, definition.until.unwrap_or(Time::FOREVER));
        let account = |month: Month| {
            let bounds = (catalogue.calendar.start_of(month), catalogue.calendar.end_of(month));
            let terms = catalogue.indicators[definition.indicator].terms.at(bounds.0);
            let revisions = self.exclusions.values().map(|revisions| revisions.values().collect::<Vec<&Revision>>());
            let excluded = account::excluded(definition, &terms.exclusions, revisions);
            let meets = |start: Time, end: Time| start < bounds.1.min(measured.1) && end > bounds.0.max(measured.0);
            let mut meeting = published.values().filter(|window| meets(window.onset, window.end.unwrap_or(frontier)));
            let is_final = is_settled(bounds.1, catalogue.late_horizon, frontier)
                && meeting.all(|window| is_final(view, catalogue.late_horizon, window));
            MonthView { month, bounds, measured, frontier, terms, windows: &windows, unknown, excluded: &excluded, is_final }.account()
        };
        // What is not remembered stands as it was published.
        let is_whole = |month: &Month| catalogue.calendar.start_of(*month).max(since) >= view.clock.memory;
        catalogue.calendar.months(since.max(view.clock.memory), view.clock.stop()).filter(is_whole).map(account).collect()
    }

    fn account_line(&self, service: ServiceIx, account: &Account) -> AccountLine {
        let catalogue = self.catalogue.as_ref();
        let definition = catalogue.map(|catalogue| (&catalogue.services[service], catalogue));
        let (id, indicator) = definition.map_or_else(
            || ("".into(), "".into()),
            |(service, catalogue)| (service.id.clone(), catalogue.indicators[service.indicator].id.clone()),
        );
        AccountLine {
            service: id,
            indicator,
            month: account.month.to_string(),
            base_us: account.base.us(),
            elapsed_us: account.elapsed.us(),
            gross_down_us: account.gross_down.us(),
            down_us: account.down.us(),
            unknown_us: account.unknown.us(),
            budget_us: account.budget().us(),
            remaining_us: account.remaining().us(),
            availability: percent(account.base, account.down),
            availability_low: percent(account.base, account.down + account.unknown),
            availability_to_date: percent(account.elapsed, account.down),
            is_final: account.is_final,
            verdict: account.verdict(),
        }
    }

    /// The latencies of a target, by month.
    #[must_use]
    pub fn latency_lines(&self, target: TargetIx) -> Vec<LatencyLine> {
        let Some(catalogue) = &self.catalogue else { return Vec::new() };
        let id = &catalogue.targets[target].id;
        let line = |(month, latency): (Month, Latency)| {
            let (month, max_us) = (month.to_string(), latency.max.us());
            LatencyLine { target: id.clone(), month, ok: latency.ok, over: latency.over, max_us }
        };
        self.latencies(target).into_iter().map(line).collect()
    }

    /// The latencies of a target, by month of the samples' stamps (6).
    #[must_use]
    pub fn latencies(&self, target: TargetIx) -> BTreeMap<Month, Latency> {
        let Some(catalogue) = &self.catalogue else { return BTreeMap::new() };
        let mut months = self.past_latencies[target].clone();
        if catalogue.targets[target].has_latency_objective() {
            for (_, track) in &self.tracks[target] {
                let known = track.since(Time::BEGINNING).take_while(|entry| entry.stamp < self.frontier);
                tally_latencies(catalogue, target, known, &mut months);
            }
        }
        months
    }

    /// The kinds of exclusion that count for a service at `time`.
    #[must_use]
    pub fn allowed_exclusions(&self, service: ServiceIx, time: Time) -> &[ExclusionKind] {
        let Some(catalogue) = &self.catalogue else { return &[] };
        let month = catalogue.calendar.start_of(catalogue.calendar.month_of(time));
        &catalogue.indicators[catalogue.services[service].indicator].terms.at(month).exclusions
    }
}

/// Adds the latencies of `entries`, whose stamps rise, to the sums of their months.
pub(super) fn tally_latencies(
    catalogue: &Catalogue,
    target: TargetIx,
    entries: impl Iterator<Item = Entry>,
    months: &mut BTreeMap<Month, Latency>,
) {
    let plan = &catalogue.targets[target].plan;
    let mut month: Option<(Month, Time)> = None;
    for entry in entries {
        let objective = plan.at(entry.stamp).latency_objective;
        let (Outcome::Ok, Some(latency), Some(objective)) = (entry.outcome, entry.latency, objective) else { continue };
        // Stamps rise: the calendar is asked once a month.
        let month = match month {
            Some((month, end)) if entry.stamp < end => month,
            _ => {
                let now = catalogue.calendar.month_of(entry.stamp);
                month = Some((now, catalogue.calendar.end_of(now)));
                now
            }
        };
        let sums = months.entry(month).or_default();
        sums.ok += 1;
        sums.over += u64::from(latency > objective);
        sums.max = sums.max.max(latency);
    }
}
