//! The values of the metrics that [`crate::metric`] names, from what is known now.

use std::collections::BTreeMap;

use vigie_contract::metric::{Exposition, Metric};
use vigie_contract::{RefusalReason, Span, Time};

use crate::archivist::Figures;
use crate::core::account::VerdictOfMonth;
use crate::core::line::AccountLine;
use crate::core::snapshot::SEMANTICS_REVISION;
use crate::core::state::State;
use crate::core::window::Status as WindowStatus;
use crate::live::{Counts, Region, Retraction};
use crate::metric as m;
use crate::view::{Cause, ServiceView, Staleness, TargetView, View, Why, scope};

fn seconds(span: Span) -> f64 {
    span.us() as f64 / 1e6
}

fn seconds_us(us: i64) -> f64 {
    us as f64 / 1e6
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn code(state: State) -> f64 {
    match state {
        State::Up => 0.0,
        State::Unknown => 1.0,
        State::Down => 2.0,
    }
}

/// Windows that were retracted are exported for so long.
const RETRACTED_SHOWN: Span = Span::DAY;

/// The text of a scrape of these regions, of a group each, when the wall clock says `now`.
#[must_use]
pub fn expose<'a>(regions: impl IntoIterator<Item = &'a Region>, now: Time) -> String {
    let mut out = Exposition::default();
    regions.into_iter().for_each(|region| expose_region(&mut out, region, now));
    out.put(&m::BUILD, &[env!("CARGO_PKG_VERSION"), &SEMANTICS_REVISION.to_string()], 1.0);
    out.into_text()
}

fn expose_region(out: &mut Exposition, region: &Region, now: Time) {
    let view = region.view();
    let stale = view.staleness(now);
    for cause in Cause::ALL {
        out.put(&m::STALE, &[&region.group, cause.as_str()], flag(stale.is_some_and(|stale| stale.cause == cause)));
    }
    for service in &view.services {
        expose_service(out, &region.group, &view, service, stale);
    }
    if stale.is_none() {
        expose_scopes(out, &region.group, &view);
    }
    let shown: Vec<String> = view.month.iter().flat_map(|(month, _, _)| [*month, month.back(1)]).map(|month| month.to_string()).collect();
    for account in view.accounts.iter().filter(|account| shown.contains(&account.month)) {
        expose_account(out, &view, account);
    }
    for target in &view.targets {
        expose_target(out, target, stale.is_some());
    }
    for line in view.latencies.iter().filter(|line| shown.contains(&line.month)) {
        let labels = [line.target.as_str(), &line.month];
        out.put(&m::LATENCY_MEASURED, &labels, line.ok as f64);
        out.put(&m::LATENCY_OVER, &labels, line.over as f64);
        if line.ok > 0 {
            out.put(&m::LATENCY_OVER_SHARE, &labels, line.over as f64 / line.ok as f64);
        }
        out.put(&m::LATENCY_MAX, &labels, seconds_us(line.max_us));
    }
    for vantage in &view.vantages {
        if let Some(gated) = vantage.gated.filter(|_| stale.is_none()) {
            out.put(&m::GATE, &[&region.group, vantage.id.as_str(), "anchors"], flag(gated));
        }
        if let Some(silent) = vantage.silent.filter(|_| stale.is_none()) {
            out.put(&m::VANTAGE_SILENT, &[&region.group, vantage.id.as_str()], flag(silent));
        }
        if let Some((newest, frontier)) = vantage.newest_us.zip(view.frontier) {
            out.put(&m::SAMPLE_AGE, &[&region.group, vantage.id.as_str()], seconds_us(frontier.us() - newest));
        }
    }
    if let Some(frontier) = view.frontier {
        out.put(&m::FRONTIER, &[&region.group], seconds_us(frontier.us()));
        out.put(&m::FRONTIER_LAG, &[&region.group], seconds(now - frontier));
    }
    let counts = region.counts();
    expose_counts(out, &region.group, &counts);
    expose_retractions(out, &region.group, &counts, now);
    if let Some(archivist) = region.archivist() {
        expose_archive(out, &region.group, &archivist.figures());
    }
}

/// Services by scope and state.
fn expose_scopes(out: &mut Exposition, group: &str, view: &View) {
    let mut scopes: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    for service in &view.services {
        scopes.entry(service.scope()).or_default()[service.state as usize] += 1;
    }
    for (scope, counts) in scopes {
        for (state, count) in [State::Up, State::Unknown, State::Down].into_iter().zip(counts) {
            out.put(&m::SCOPE_SERVICES, &[group, scope, state.as_str()], count.into());
        }
    }
}

fn expose_service(out: &mut Exposition, group: &str, view: &View, service: &ServiceView, stale: Option<Staleness>) {
    let labels = [service.id.as_str(), service.indicator.as_str(), service.scope()];
    let is_stale = stale.is_some();
    out.put(&m::SERVICE_STATE, &labels, code(if is_stale { State::Unknown } else { service.state }));
    let why = if is_stale { Some("stale") } else { service.why.map(Why::as_str) };
    if let Some(why) = why {
        out.put(&m::SERVICE_CAUSE, &[labels[0], labels[1], labels[2], why], 1.0);
    }
    let contractual = if service.contractual { "true" } else { "false" };
    out.put(&m::SERVICE_INFO, &[labels[0], labels[1], labels[2], contractual, group], 1.0);
    for target in &service.targets {
        out.put(&m::SERVICE_TARGET, &[labels[0], target.as_str()], 1.0);
    }
    out.put(&m::CANDIDATES, &labels, service.candidates.len() as f64);
    if !is_stale {
        expose_service_now(out, view, service, labels);
    }
    if let Some((month, _, _)) = view.month {
        let month = month.to_string();
        let of_month = [labels[0], labels[1], &month, labels[2]];
        out.put(&m::DOWN_OBSERVED, &of_month, seconds(service.down_parts.0));
        out.put(&m::DOWN_INFERRED, &of_month, seconds(service.down_parts.1));
        if let Some(account) = view.accounts.iter().find(|account| account.service == service.id && account.month == month) {
            let of_budget = |us: i64| match account.budget_us {
                0 if us == 0 => 0.0,
                budget => us as f64 / budget as f64,
            };
            out.put(&m::BUDGET_USED, &of_month, of_budget(account.down_us));
            out.put(&m::BUDGET_USED_OBSERVED, &of_month, of_budget(service.observed_down.us()));
            out.put(&m::BUDGET_UNKNOWN, &of_month, of_budget(account.unknown_us));
        }
    }
}

/// What a service is now, which nobody knows while it is stale.
fn expose_service_now(out: &mut Exposition, view: &View, service: &ServiceView, labels: [&str; 3]) {
    out.put(&m::COVERAGE, &labels, service.coverage);
    out.put(&m::QUORUM_MARGIN, &labels, service.margin as f64);
    if let Some(since) = service.since_us {
        out.put(&m::SERVICE_STATE_SINCE, &labels, seconds_us(since));
    }
    for kind in &service.excluded_by {
        out.put(&m::SERVICE_EXCLUDED, &[labels[0], labels[1], labels[2], kind.as_str()], 1.0);
    }
    for ((window, burn), observed) in m::BURN_RATE_WINDOWS.iter().zip(service.burn).zip(service.burn_observed) {
        out.put(&m::BURN_RATE, &[labels[0], labels[1], labels[2], window], burn);
        out.put(&m::BURN_RATE_OBSERVED, &[labels[0], labels[1], labels[2], window], observed);
    }
    let open = view.windows.iter().find(|window| window.service == service.id && window.status != WindowStatus::Closed);
    if let Some(window) = open {
        out.put(&m::WINDOW_OPEN_SINCE, &labels, seconds_us(window.onset_us));
        out.put(&m::WINDOW_OPEN, &[labels[0], labels[1], labels[2], &window.id], 1.0);
        out.put(&m::WINDOW_RESTORING, &labels, flag(window.status == WindowStatus::Restoring));
    }
}

fn expose_account(out: &mut Exposition, view: &View, account: &AccountLine) {
    let labels = [account.service.as_str(), account.indicator.as_str(), &account.month, scope(&account.service)];
    let mut put = |metric: &Metric, value: f64| out.put(metric, &labels, value);
    let ratio = |whole: i64, lost: i64| if whole > 0 { (whole - lost) as f64 / whole as f64 } else { 1.0 };
    if let Some(indicator) = view.indicators.iter().find(|indicator| indicator.id == account.indicator) {
        put(&m::OBJECTIVE, 1.0 - f64::from(indicator.budget_ppm) / 1e6);
    }
    put(&m::DOWN, seconds_us(account.down_us));
    put(&m::DOWN_GROSS, seconds_us(account.gross_down_us));
    put(&m::UNKNOWN, seconds_us(account.unknown_us));
    put(&m::BUDGET, seconds_us(account.budget_us));
    put(&m::BUDGET_REMAINING, seconds_us(account.remaining_us));
    put(&m::AVAILABILITY, ratio(account.base_us, account.down_us));
    put(&m::AVAILABILITY_LOW, ratio(account.base_us, account.down_us + account.unknown_us));
    put(&m::AVAILABILITY_TO_DATE, ratio(account.elapsed_us, account.down_us));
    put(&m::FINAL, flag(account.is_final));
    for (verdict, word) in
        [(VerdictOfMonth::Compliant, "compliant"), (VerdictOfMonth::Breached, "breached"), (VerdictOfMonth::Undecided, "undecided")]
    {
        out.put(&m::VERDICT, &[labels[0], labels[1], labels[2], labels[3], word], flag(account.verdict == verdict));
    }
}

fn expose_target(out: &mut Exposition, target: &TargetView, is_stale: bool) {
    let labels = [target.id.as_str()];
    out.put(&m::TARGET_STATE, &labels, code(if is_stale { State::Unknown } else { target.state }));
    out.put(&m::TARGET_SUSPECT, &labels, flag(target.suspect && !is_stale));
    if let Some(objective) = target.latency_objective_us {
        out.put(&m::LATENCY_OBJECTIVE, &labels, seconds_us(objective));
    }
    for (window, over) in m::LATENCY_WINDOWS.iter().zip(target.latency_over) {
        if let Some(over) = over.filter(|_| !is_stale) {
            out.put(&m::LATENCY_RECENT, &[labels[0], window], over);
        }
    }
}

fn expose_counts(out: &mut Exposition, group: &str, counts: &Counts) {
    for kind in ["sample", "tick", "claim", "exclusion", "catalogue", "other"] {
        out.put(&m::RECORDS, &[group, kind], counts.records.get(kind).copied().unwrap_or(0) as f64);
    }
    for reason in RefusalReason::ALL {
        out.put(&m::REFUSED, &[group, reason.as_str()], counts.refused.get(&reason).copied().unwrap_or(0) as f64);
    }
    for ((vantage, cause), count) in &counts.voided {
        out.put(&m::VOIDED, &[group, vantage, cause], *count as f64);
    }
    for (vantage, count) in &counts.conflicts {
        out.put(&m::CONFLICTS, &[group, vantage], *count as f64);
    }
    for (vantage, (_, changes)) in &counts.runs {
        out.put(&m::RUN_CHANGES, &[group, vantage], *changes as f64);
    }
    for status in ["open", "restoring", "closed", "retracted"] {
        out.put(&m::WINDOW_VERSIONS, &[group, status], counts.versions.get(status).copied().unwrap_or(0) as f64);
    }
    out.put(&m::WAITING, &[group], counts.waiting as f64);
    if let Some(kept) = counts.snapshot_kept {
        out.put(&m::SNAPSHOT, &[group], seconds_us(kept.us()));
    }
    out.put(&m::SNAPSHOT_FAILURES, &[group], counts.snapshot_failures as f64);
    out.put(&m::APPEND_FAILURES, &[group], counts.append_failures as f64);
    out.put(&m::STORE_FAILURES, &[group], counts.store_failures as f64);
    out.put(&m::STORE_WAITING, &[group], counts.store_waiting as f64);
    out.put(&m::CATALOGUE_REFUSED, &[group], counts.refused_catalogues as f64);
    if let Some(difference) = counts.log_clock_difference {
        out.put(&m::LOG_CLOCK_DIFFERENCE, &[group], seconds(difference));
    }
}

fn expose_retractions(out: &mut Exposition, group: &str, counts: &Counts, now: Time) {
    for retraction in counts.retractions.iter().filter(|retraction| now - retraction.at < RETRACTED_SHOWN) {
        let Retraction { service, id, cause, superseded_by, at } = retraction;
        let labels = [group, service, id, cause, superseded_by.as_deref().unwrap_or("none")];
        out.put(&m::WINDOW_RETRACTED, &labels, seconds_us(at.us()));
    }
}

fn expose_archive(out: &mut Exposition, group: &str, figures: &Figures) {
    out.put(&m::LOG_OLDEST, &[group], figures.oldest as f64);
    out.put(&m::ARCHIVE_NEXT, &[group], figures.next as f64);
    out.put(&m::ARCHIVE_BEHIND, &[group], figures.behind as f64);
    if let Some(newest) = figures.newest {
        out.put(&m::ARCHIVE_NEWEST, &[group], seconds_us(newest.us()));
    }
    out.put(&m::ARCHIVE_LOST, &[group], figures.lost as f64);
    out.put(&m::ARCHIVE_PRUNED, &[group], figures.pruned as f64);
    out.put(&m::ARCHIVE_FAILURES, &[group], figures.failures as f64);
}
