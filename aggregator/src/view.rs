//! What is known now, as one value: metrics, API and page read it and decide nothing (DESIGN §2).
//!
//! What is stale is never shown as well: [`View::status`] turns every state into unknown, with its cause.

use serde::Serialize;
use vigie_contract::catalogue::{Catalogue, ServiceIx, TargetIx, VantageIx};
use vigie_contract::{ExclusionKind, IndicatorId, Month, Outcome, ServiceId, Span, TargetId, Time, VantageId};

use crate::core::engine::Engine;
use crate::core::line::{AccountLine, CandidateLine, LatencyLine, WindowLine};
use crate::core::state::State;
use crate::core::window::Status as WindowStatus;
use crate::port::Offset;

/// Wall clock − frontier may exceed `settle` by this (DESIGN §2), and the log's clock the wall clock.
pub const LATEST: Span = Span::from_secs(10);
/// The page lists at most so many windows.
const MOST_WINDOWS: usize = 50;
/// The spans of [`crate::metric::BURN_RATE_WINDOWS`].
const BURN_SPANS: [Span; 7] = [
    Span::from_secs(300),
    Span::from_secs(1_800),
    Span::from_secs(3_600),
    Span::from_secs(7_200),
    Span::from_secs(21_600),
    Span::DAY,
    Span::from_secs(3 * 86_400),
];

/// The spans of [`crate::metric::LATENCY_WINDOWS`].
const LATENCY_SPANS: [Span; 2] = [Span::from_secs(300), Span::from_secs(3_600)];

/// Why nothing that is shown may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The engine still reads the log from where it stopped.
    Starting,
    /// No catalogue is in force.
    NoCatalogue,
    /// The log is ahead of the wall clock: one of the clocks is or was wrong.
    LogAhead,
    /// Nothing can be appended to the log, not even a tick.
    AppendFailing,
    /// The store does not take what follows from the log, and the frontier waits for it.
    StoreFailing,
    /// The frontier is behind the wall clock, although the log is read.
    FrontierLags,
    /// The engine has stopped.
    EngineStopped,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::NoCatalogue,
        Self::LogAhead,
        Self::AppendFailing,
        Self::StoreFailing,
        Self::FrontierLags,
        Self::EngineStopped,
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::NoCatalogue => "no_catalogue",
            Self::LogAhead => "log_ahead",
            Self::AppendFailing => "append_failing",
            Self::StoreFailing => "store_failing",
            Self::FrontierLags => "frontier_lags",
            Self::EngineStopped => "engine_stopped",
        }
    }
}

/// Why a service is not up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is seen to be down.
    Seen,
    /// It was seen to be down, and nobody has seen it up again.
    NotSeenAgain,
    /// Unknown: a vantage of a target that cannot be judged is cut off.
    Gated,
    /// Unknown: of a target that cannot be judged, a vantage has no evidence.
    Silent,
    /// Unknown: all vantages have evidence and no quorum agrees.
    Split,
    /// Unknown: its measurement has not begun, or is over.
    NotMeasured,
}

impl Why {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::NotSeenAgain => "not_seen_again",
            Self::Gated => "gated",
            Self::Silent => "silent",
            Self::Split => "split",
            Self::NotMeasured => "not_measured",
        }
    }
}

/// Since when nothing may be trusted, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Staleness {
    /// Why.
    pub cause: Cause,
    /// The last instant of which something is known.
    pub since_us: Option<i64>,
}

/// A line of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IndicatorView {
    /// Its name in the contract.
    pub id: IndicatorId,
    /// Its wording.
    pub name: Option<String>,
    /// What it promises this month, in percent.
    pub objective: String,
    /// The share of a month that may be lost, in parts per million.
    #[serde(skip)]
    pub budget_ppm: u32,
}

/// A place that measures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VantageView {
    /// Its name.
    pub id: VantageId,
    /// Whether all its anchors are down as seen from it; `None` while stale.
    pub gated: Option<bool>,
    /// Whether of no target that is assigned to it there is evidence from it that still counts; `None` if there is no such target.
    #[serde(skip)]
    pub silent: Option<bool>,
    /// The newest stamp that it sent.
    pub newest_us: Option<i64>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceView {
    /// Its name.
    pub id: ServiceId,
    /// Its line in the contract.
    pub indicator: IndicatorId,
    /// Whether its figure is the one that the contract speaks of.
    pub contractual: bool,
    /// The targets that it rests upon, through other services too.
    pub targets: Vec<TargetId>,
    /// What counts at the frontier.
    pub state: State,
    /// Since when it has this state.
    pub since_us: Option<i64>,
    /// Why it is not up.
    #[serde(skip)]
    pub why: Option<Why>,
    /// The kinds of exclusions that count at the frontier.
    #[serde(skip)]
    pub excluded_by: Vec<ExclusionKind>,
    /// Share of its pairs of target and vantage that are up or down, from 0 to 1.
    pub coverage: f64,
    /// How many more vantages may fall silent before some target cannot be judged; −1 if one already cannot.
    pub margin: i64,
    /// Its open window.
    pub window: Option<String>,
    /// Budget spent relative to an even spending, by [`crate::metric::BURN_RATE_WINDOWS`].
    #[serde(skip)]
    pub burn: [f64; 7],
    /// The same of what was down by evidence alone.
    #[serde(skip)]
    pub burn_observed: [f64; 7],
    /// Unavailable time of the month by evidence, without exclusions.
    #[serde(skip)]
    pub observed_down: Span,
    /// Gross unavailable time of the month that was observed, and that was inferred.
    #[serde(skip)]
    pub down_parts: (Span, Span),
    /// Claims that wait for a decision.
    pub candidates: Vec<CandidateLine>,
}

impl ServiceView {
    /// The zone or region that it is a service of: what its name says after the last slash, or all of it.
    #[must_use]
    pub fn scope(&self) -> &str {
        scope(&self.id)
    }
}

/// The zone or region that a service of this name belongs to.
#[must_use]
pub fn scope(service: &ServiceId) -> &str {
    let name = service.as_str();
    name.rsplit_once('/').map(|(_, scope)| scope).filter(|scope| !scope.is_empty()).unwrap_or(name)
}

/// A target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetView {
    /// Its name.
    pub id: TargetId,
    /// What the quorum saw.
    pub state: State,
    /// Whether some vantage sees it down and the quorum does not.
    pub suspect: bool,
    /// What each vantage saw last.
    pub vantages: Vec<SeenView>,
    /// Its latency objective.
    pub latency_objective_us: Option<i64>,
    /// Its latencies of this month.
    pub latency: Option<LatencyLine>,
    /// Share of its latencies above the objective, by [`crate::metric::LATENCY_WINDOWS`]; `None` without any.
    #[serde(skip)]
    pub latency_over: [Option<f64>; 2],
}

/// Latencies as they were summed last: they cost more than the rest of a view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    /// By target and month.
    pub months: Vec<LatencyLine>,
    /// By target that has an objective, for [`TargetView::latency_over`].
    recent: Vec<(TargetIx, [Option<f64>; 2])>,
}

impl Latencies {
    /// As `engine` knows them.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        let Some(catalogue) = engine.catalogue() else { return Self::default() };
        let own = || (0..catalogue.targets.len()).filter(|target| engine.is_own(*target));
        let with_objective = own().filter(|target| catalogue.targets[*target].has_latency_objective());
        Self {
            months: own().flat_map(|target| engine.latency_lines(target)).collect(),
            recent: with_objective.map(|target| (target, LATENCY_SPANS.map(|span| share_over(engine, catalogue, target, span)))).collect(),
        }
    }
}

/// Share of the latencies of a target within `span` of the frontier that are above the objective of their time.
fn share_over(engine: &Engine, catalogue: &Catalogue, target: TargetIx, span: Span) -> Option<f64> {
    let (plan, frontier) = (&catalogue.targets[target].plan, engine.frontier());
    let (mut measured, mut over) = (0_u32, 0_u32);
    for vantage in &plan.at(last(engine)).vantages {
        for entry in engine.samples(target, *vantage, frontier - span, frontier).filter(|entry| entry.outcome == Outcome::Ok) {
            let Some((latency, objective)) = entry.latency.zip(plan.at(entry.stamp).latency_objective) else { continue };
            measured += 1;
            over += u32::from(latency > objective);
        }
    }
    (measured > 0).then(|| f64::from(over) / f64::from(measured))
}

/// A target as seen from a vantage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeenView {
    /// The vantage.
    pub id: VantageId,
    /// What it sees, after the gate.
    pub state: State,
    /// How long the last success took.
    pub latency_us: Option<i64>,
    /// When it last said something.
    pub stamp_us: Option<i64>,
}

/// Everything at a frontier.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own: an engine may have caught up while neither log nor store takes anything"
)]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The instant up to which everything is evaluated; `None` before the first record.
    pub frontier: Option<Time>,
    /// The catalogue's `settle`.
    pub settle: Span,
    /// The catalogue's revision, if it came with the log.
    pub catalogue_rev: Option<u64>,
    /// The customer.
    pub tenant: Option<String>,
    /// Months are cut in this zone.
    pub timezone: String,
    /// The month of the frontier and its bounds.
    pub month: Option<(Month, Time, Time)>,
    /// All months that are accounted.
    pub months: Vec<String>,
    /// The contract's lines.
    pub indicators: Vec<IndicatorView>,
    /// The places that measure.
    pub vantages: Vec<VantageView>,
    /// The services.
    pub services: Vec<ServiceView>,
    /// The targets.
    pub targets: Vec<TargetView>,
    /// The accounts of all months.
    pub accounts: Vec<AccountLine>,
    /// The latencies of all months.
    pub latencies: Vec<LatencyLine>,
    /// Open windows, then the month's, the newest first.
    pub windows: Vec<WindowLine>,
    /// The first record of the log that is not in it.
    pub next: Offset,
    /// Whether the engine has caught up with the log since it started.
    pub caught_up: bool,
    /// Whether the last append failed.
    pub append_failing: bool,
    /// Whether the store has not taken the last batch.
    pub store_failing: bool,
    /// Whether the engine has stopped.
    pub stopped: bool,
}

/// What `/api/v1/status` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Status<'a> {
    now_us: i64,
    frontier_us: Option<i64>,
    settle_us: i64,
    stale: Option<Staleness>,
    version: &'static str,
    catalogue_rev: Option<u64>,
    tenant: Option<&'a str>,
    timezone: &'a str,
    month: Option<String>,
    month_start_us: Option<i64>,
    month_end_us: Option<i64>,
    months: &'a [String],
    notice: Option<&'a str>,
    indicators: &'a [IndicatorView],
    vantages: Vec<VantageView>,
    services: Vec<ServiceView>,
    targets: Vec<TargetView>,
    accounts: Vec<&'a AccountLine>,
    windows: &'a [WindowLine],
}

impl View {
    /// What `engine` knows; `latencies` are those computed last, since they cost more than the rest.
    #[must_use]
    pub fn of(engine: &Engine, latencies: &Latencies) -> Self {
        let Some(catalogue) = engine.catalogue() else { return Self::default() };
        let frontier = engine.frontier();
        if frontier < Time::EARLIEST {
            return Self { settle: catalogue.settle, ..Self::default() };
        }
        let month = catalogue.calendar.month_of(frontier);
        let bounds = (catalogue.calendar.start_of(month), catalogue.calendar.end_of(month));
        let targets: Vec<_> =
            (0..catalogue.targets.len()).map(|target| target_view(engine, catalogue, target, month, latencies)).collect();
        let services = (0..catalogue.services.len()).map(|service| service_view(engine, catalogue, service, bounds, &targets)).collect();
        let accounts: Vec<_> = (0..catalogue.services.len()).flat_map(|service| engine.account_lines(service)).collect();
        let mut months: Vec<_> = accounts.iter().map(|account| account.month.clone()).collect();
        months.sort_unstable();
        months.dedup();
        let terms = |indicator: &vigie_contract::catalogue::Indicator| indicator.terms.at(bounds.0).clone();
        let indicators = catalogue.indicators.iter().map(|indicator| IndicatorView {
            id: indicator.id.clone(),
            name: indicator.name.clone(),
            objective: terms(indicator).objective_percent(),
            budget_ppm: terms(indicator).budget_ppm,
        });
        Self {
            frontier: Some(frontier),
            settle: catalogue.settle,
            catalogue_rev: engine.catalogue_rev(),
            tenant: catalogue.tenant.clone(),
            timezone: catalogue.calendar.zone_name().to_owned(),
            month: Some((month, bounds.0, bounds.1)),
            months,
            indicators: indicators.collect(),
            vantages: vantages(engine, catalogue, &targets),
            services,
            // Of an anchor that another group accounts for, no more is known here than what the gate needs.
            targets: targets.into_iter().enumerate().filter(|(target, _)| engine.is_own(*target)).map(|(_, view)| view).collect(),
            accounts,
            latencies: latencies.months.clone(),
            windows: windows(engine, catalogue, bounds),
            ..Self::default()
        }
    }

    /// Why nothing of this may be trusted when the wall clock says `now`.
    #[must_use]
    pub fn staleness(&self, now: Time) -> Option<Staleness> {
        let lags = self.frontier.is_none_or(|frontier| now - frontier > self.settle + LATEST);
        let ahead = self.frontier.is_some_and(|frontier| frontier + self.settle - now > LATEST);
        let cause = match () {
            () if self.stopped => Cause::EngineStopped,
            // It is why nothing can be appended.
            () if ahead => Cause::LogAhead,
            () if self.append_failing => Cause::AppendFailing,
            () if !self.caught_up => Cause::Starting,
            () if self.services.is_empty() => Cause::NoCatalogue,
            () if lags && self.store_failing => Cause::StoreFailing,
            () if lags => Cause::FrontierLags,
            () => return None,
        };
        Some(Staleness { cause, since_us: self.frontier.map(|frontier| frontier.min(now).us()) })
    }

    /// What may be shown when the wall clock says `now`.
    #[must_use]
    pub fn status<'a>(&'a self, now: Time, notice: Option<&'a str>) -> Status<'a> {
        let stale = self.staleness(now);
        let (mut vantages, mut services, mut targets) = (self.vantages.clone(), self.services.clone(), self.targets.clone());
        if stale.is_some() {
            vantages.iter_mut().for_each(|vantage| vantage.gated = None);
            for service in &mut services {
                (service.state, service.since_us) = (State::Unknown, None);
                (service.coverage, service.margin) = (0.0, -1);
            }
            for target in &mut targets {
                (target.state, target.suspect) = (State::Unknown, false);
                target.vantages.iter_mut().for_each(|seen| seen.state = State::Unknown);
            }
        }
        let month = self.month.map(|(month, _, _)| month.to_string());
        let accounts = self.accounts.iter().filter(|account| Some(&account.month) == month.as_ref());
        Status {
            now_us: now.us(),
            frontier_us: self.frontier.map(Time::us),
            settle_us: self.settle.us(),
            stale,
            version: env!("CARGO_PKG_VERSION"),
            catalogue_rev: self.catalogue_rev,
            tenant: self.tenant.as_deref(),
            timezone: &self.timezone,
            month_start_us: self.month.map(|(_, start, _)| start.us()),
            month_end_us: self.month.map(|(_, _, end)| end.us()),
            months: &self.months,
            notice,
            indicators: &self.indicators,
            vantages,
            services,
            targets,
            accounts: accounts.collect(),
            month,
            windows: &self.windows,
        }
    }
}

/// Just before the frontier: the last instant that is evaluated.
fn last(engine: &Engine) -> Time {
    engine.frontier() - Span::from_us(1)
}

fn vantages(engine: &Engine, catalogue: &Catalogue, targets: &[TargetView]) -> Vec<VantageView> {
    let newest = |vantage: VantageIx| (0..catalogue.targets.len()).filter_map(|target| engine.newest_stamp(target, vantage)).max();
    let silent = |id: &VantageId| {
        let mut seen = targets.iter().flat_map(|target| &target.vantages).filter(|seen| seen.id == *id).peekable();
        seen.peek().is_some().then(|| seen.all(|seen| seen.stamp_us.is_none()))
    };
    let view = |(ix, vantage): (VantageIx, &vigie_contract::catalogue::Vantage)| VantageView {
        id: vantage.id.clone(),
        gated: Some(engine.is_gated(ix, last(engine))),
        silent: silent(&vantage.id),
        newest_us: newest(ix).map(Time::us),
    };
    catalogue.vantages.iter().enumerate().map(view).collect()
}

fn target_view(engine: &Engine, catalogue: &Catalogue, target: TargetIx, month: Month, latencies: &Latencies) -> TargetView {
    let at = last(engine);
    let definition = &catalogue.targets[target];
    let plan = definition.plan.at(at);
    let states = engine.states_by_vantage(target, at);
    let seen = |vantage: &VantageIx| {
        let entry = engine.sample_in_force(target, *vantage, at);
        SeenView {
            id: catalogue.vantages[*vantage].id.clone(),
            state: states.iter().find(|(of, _)| of == vantage).map_or(State::Unknown, |(_, state)| *state),
            latency_us: entry.and_then(|entry| entry.latency).map(Span::us),
            stamp_us: entry.map(|entry| entry.stamp.us()),
        }
    };
    let vantages: Vec<_> = plan.vantages.iter().map(seen).collect();
    let state = engine.levels(target).at(at).seen;
    let month = month.to_string();
    TargetView {
        id: definition.id.clone(),
        state,
        suspect: state != State::Down && vantages.iter().any(|seen| seen.state == State::Down),
        vantages,
        latency_objective_us: plan.latency_objective.map(Span::us),
        latency: latencies.months.iter().find(|line| line.target == definition.id && line.month == month).cloned(),
        latency_over: latencies.recent.iter().find(|(of, _)| *of == target).map(|(_, over)| *over).unwrap_or_default(),
    }
}

fn service_view(engine: &Engine, catalogue: &Catalogue, service: ServiceIx, month: (Time, Time), targets: &[TargetView]) -> ServiceView {
    let definition = &catalogue.services[service];
    let at = last(engine);
    let reached = || engine.reach(service).targets.iter().map(|&target| (&catalogue.targets[target], &targets[target]));
    let pairs: usize = reached().map(|(_, view)| view.vantages.len()).sum();
    let known: usize = reached().map(|(_, view)| view.vantages.iter().filter(|seen| seen.state != State::Unknown).count()).sum();
    let margin = |(target, view): (&vigie_contract::catalogue::Target, &TargetView)| {
        let plan = target.plan.at(at);
        let count = |state| view.vantages.iter().filter(|seen| seen.state == state).count() as i64;
        (count(State::Up) - plan.up_quorum() as i64).max(count(State::Down) - plan.down_quorum as i64).max(-1)
    };
    let (state, since) = engine.state_now(service);
    let open = engine.published(service).find(|window| window.end.is_none()).map(|window| window.onset);
    let terms = catalogue.indicators[definition.indicator].terms.at(month.0);
    let budget = f64::from(terms.budget_ppm) / 1e6;
    let excluded = engine.excluded(service, at);
    let frontier = engine.frontier();
    let rate = |down: Span, span: Span| if budget > 0.0 { down.us() as f64 / span.us() as f64 / budget } else { 0.0 };
    let burn = BURN_SPANS.map(|span| rate(engine.published_within(service, frontier - span, frontier).without(&excluded).length(), span));
    let observed_since = month.0.min(frontier - BURN_SPANS[6]);
    let observed = engine.with_view(service, |view| view.observed_down(observed_since, frontier)).unwrap_or_default().without(&excluded);
    let burn_observed = BURN_SPANS.map(|span| rate(observed.cut(frontier - span, frontier).length(), span));
    let lengths = engine.with_view(service, |view| view.lengths_between(month.0, frontier)).unwrap_or_default();
    ServiceView {
        id: definition.id.clone(),
        indicator: catalogue.indicators[definition.indicator].id.clone(),
        contractual: definition.contractual,
        targets: reached().map(|(target, _)| target.id.clone()).collect(),
        state,
        since_us: since.map(Time::us),
        why: why(engine, catalogue, service, &reached().map(|(_, view)| view).collect::<Vec<_>>()),
        excluded_by: if excluded.contains(at) { engine.excluded_by(service, at) } else { Vec::new() },
        coverage: if pairs == 0 { 0.0 } else { known as f64 / pairs as f64 },
        margin: reached().map(margin).min().unwrap_or(-1),
        window: open.map(|onset| crate::core::version::window_id(&definition.id, onset)),
        burn,
        burn_observed,
        observed_down: observed.cut(month.0, frontier).length(),
        down_parts: (lengths.observed_down, lengths.inferred_down),
        candidates: engine.candidate_lines(service),
    }
}

/// Why a service that reaches these targets is not up at the frontier; `None` if it is.
fn why(engine: &Engine, catalogue: &Catalogue, service: ServiceIx, targets: &[&TargetView]) -> Option<Why> {
    let verdict = engine.with_view(service, |view| view.verdicts.at(last(engine))).unwrap_or_default();
    if !verdict.measured {
        return Some(Why::NotMeasured);
    }
    let gated = |id: &VantageId| {
        let ix = catalogue.vantages.iter().position(|vantage| vantage.id == *id);
        ix.is_some_and(|ix| engine.is_gated(ix, last(engine)))
    };
    let blind = || targets.iter().filter(|target| target.state == State::Unknown).flat_map(|target| &target.vantages);
    let mut silent = blind().filter(|seen| seen.state == State::Unknown).peekable();
    match (verdict.counted, verdict.observed) {
        (State::Up, _) => None,
        (State::Down, State::Down) => Some(Why::Seen),
        (State::Down, _) => Some(Why::NotSeenAgain),
        (State::Unknown, _) if silent.peek().is_none() => Some(Why::Split),
        (State::Unknown, _) => Some(if silent.any(|seen| gated(&seen.id)) { Why::Gated } else { Why::Silent }),
    }
}

fn windows(engine: &Engine, catalogue: &Catalogue, month: (Time, Time)) -> Vec<WindowLine> {
    let mut lines: Vec<_> = (0..catalogue.services.len()).flat_map(|service| engine.window_lines(service)).collect();
    lines.retain(|window| window.status != WindowStatus::Closed || window.end_us.is_none_or(|end| end > month.0.us()));
    lines.sort_by_key(|window| (window.status == WindowStatus::Closed, -window.onset_us));
    lines.truncate(MOST_WINDOWS);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_ahead_of_our_clock_is_not_trusted() {
        let now = Time::from_us(1_792_800_000_000_000);
        let service = ServiceView {
            id: "s".into(),
            indicator: "i".into(),
            contractual: true,
            targets: Vec::new(),
            state: State::Up,
            since_us: None,
            why: None,
            excluded_by: Vec::new(),
            coverage: 1.0,
            margin: 0,
            window: None,
            burn: [0.0; 7],
            burn_observed: [0.0; 7],
            observed_down: Span::ZERO,
            down_parts: (Span::ZERO, Span::ZERO),
            candidates: Vec::new(),
        };
        let settle = Span::from_secs(3);
        let view = |last: Time| View {
            frontier: Some(last - settle),
            settle,
            services: vec![service.clone()],
            caught_up: true,
            append_failing: true,
            ..View::default()
        };
        let stale = |last| view(last).staleness(now).unwrap();
        assert_eq!(stale(now + LATEST).cause, Cause::AppendFailing);
        let ahead = stale(now + LATEST + Span::from_us(1));
        assert_eq!((ahead.cause, ahead.since_us), (Cause::LogAhead, Some(now.us())), "nothing is known of the future");
    }
}
