//! What readers are told besides windows and accounts: why a service is not up, what was seen of its outages, who says nothing.

use serde_json::json;
use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::view::{Latencies, ServiceView, View, Why};
use vigie_contract::{ExclusionKind, Span};
use vigie_tests::fold::{LIVE, catalogue, step};

/// A moment in March 2026, in seconds.
const START: i64 = 1_774_567_890;
const S: i64 = 1_000_000;

const CATALOGUE: &str = r#"
settle = "0s"
stable_up = "5s"
[[indicator]]
id = "I"
objective = "99"
exclusions = ["maintenance", "throttling"]
[[vantage]]
id = "v"
anchors = ["p", "q"]
[[target]]
id = "t"
vantages = ["v", "w", "x"]
latency_objective = "150ms"
[[target]]
id = "p"
vantages = ["v"]
[[target]]
id = "q"
vantages = ["v"]
[[service]]
id = "s/z1"
indicator = "I"
needs = "t"
since = 2026-01-01T00:00:00Z
[[service]]
id = "later"
indicator = "I"
needs = "t"
since = 2030-01-01T00:00:00Z
"#;

/// A sample of a period of 10 s and a timeout of 1 s, which holds for 26 s: target, vantage, second, outcome.
type Seen<'a> = (&'a str, &'a str, i64, &'a str);

fn engine(samples: &[Seen<'_>], until_s: i64, more: &[serde_json::Value]) -> Engine {
    let mut engine = Engine::new(LIVE, Some(catalogue(CATALOGUE)));
    let sample = |(seq, (target, vantage, at, outcome)): (usize, &Seen<'_>)| {
        let at = (START + at) * S;
        json!({"v": 1, "type": "sample", "target": target, "vantage": vantage, "run": "r", "seq": seq, "t0": at, "t1": at, "outcome": outcome,
            "period_us": 10 * S, "timeout_us": S, "clock_error_us": 0, "latency_us": if *vantage == "w" { 200_000 } else { 100_000 }, "appended_at": at})
    };
    let tick = json!({"v": 1, "type": "tick", "appended_at": (START + until_s) * S});
    let records = more.iter().cloned().chain(samples.iter().enumerate().map(sample)).chain([tick]);
    for (offset, record) in (0..).zip(records) {
        let effects = step(&mut engine, offset, &record.to_string());
        assert_eq!(effects.refusals, [], "{record}");
    }
    engine
}

fn view(samples: &[Seen<'_>], until_s: i64) -> View {
    let engine = engine(samples, until_s, &[]);
    View::of(&engine, &Latencies::of(&engine))
}

fn service(view: &View) -> &ServiceView {
    &view.services[0]
}

fn silent(view: &View) -> Vec<(&str, Option<bool>)> {
    view.vantages.iter().map(|vantage| (vantage.id.as_str(), vantage.silent)).collect()
}

const WELL: [Seen<'_>; 5] = [("t", "v", 0, "ok"), ("t", "w", 0, "ok"), ("t", "x", 0, "ok"), ("p", "v", 0, "ok"), ("q", "v", 0, "ok")];

#[test]
fn a_service_is_up_without_a_reason() {
    let view = view(&WELL, 5);
    assert_eq!((service(&view).why, service(&view).scope()), (None, "z1"));
    assert_eq!((view.services[1].why, view.services[1].scope()), (Some(Why::NotMeasured), "later"));
    assert_eq!(silent(&view), [("v", Some(false)), ("w", Some(false)), ("x", Some(false))]);
}

#[test]
fn what_is_seen_to_be_down_is_told_from_what_nobody_has_seen_again() {
    let samples = [&WELL[..], &[("t", "v", 10, "fail"), ("t", "w", 11, "fail")]].concat();
    assert_eq!(service(&view(&samples, 12)).why, Some(Why::Seen));
    // The two failures hold together from 10, backdated, to 36; nobody says anything after that, and it stays down to the frontier.
    let view = view(&samples, 60);
    let service = service(&view);
    assert_eq!((service.why, service.observed_down), (Some(Why::NotSeenAgain), Span::from_secs(26)));
    let of_five_minutes = |down: f64| down / 300.0 / 0.01;
    assert!((service.burn[0] - of_five_minutes(50.0)).abs() < 1e-9, "{:?}", service.burn);
    assert!((service.burn_observed[0] - of_five_minutes(26.0)).abs() < 1e-9, "{:?}", service.burn_observed);
    assert!((service.burn_observed[6] - 26.0 / 259_200.0 / 0.01).abs() < 1e-9, "{:?}", service.burn_observed);
}

#[test]
fn a_vantage_is_silent_once_none_of_its_samples_holds() {
    let view_of_all = view(&WELL, 60);
    assert_eq!(service(&view_of_all).why, Some(Why::Silent));
    assert_eq!(silent(&view_of_all), [("v", Some(true)), ("w", Some(true)), ("x", Some(true))]);
    // A void sample is no evidence: whoever makes only those is silent, too.
    let samples = [&WELL[..], &[("t", "v", 30, "ok"), ("t", "w", 30, "void"), ("t", "x", 30, "ok")]].concat();
    let view_of_some = view(&samples, 40);
    assert_eq!(service(&view_of_some).why, None);
    assert_eq!(silent(&view_of_some), [("v", Some(false)), ("w", Some(true)), ("x", Some(false))]);
}

#[test]
fn a_vantage_that_is_cut_off_is_the_reason_before_one_that_is_silent() {
    let cut_off = [("p", "v", 10, "fail"), ("q", "v", 11, "fail"), ("t", "v", 12, "fail"), ("t", "w", 12, "ok")];
    let view = view(&[&WELL[..], &cut_off].concat(), 30);
    assert_eq!(service(&view).why, Some(Why::Gated));
}

#[test]
fn exclusions_that_count_at_the_frontier_are_told_by_kind() {
    let exclusion = |id: &str, kind: &str, start: i64, end: i64| {
        json!({"v": 1, "type": "exclusion", "id": id, "rev": 1, "kind": kind, "services": ["s/z1"], "start": (START + start) * S,
            "end": (START + end) * S, "state": "approved", "approved_by": "ops", "reason": "a test", "appended_at": START * S})
    };
    let facts = [exclusion("M", "maintenance", 10, 20), exclusion("T", "throttling", 15, 40), exclusion("C", "customer", 0, 40)];
    let kinds = |until| {
        let engine = engine(&WELL, until, &facts);
        View::of(&engine, &Latencies::of(&engine)).services[0].excluded_by.clone()
    };
    assert_eq!(kinds(10), []);
    assert_eq!(kinds(11), [ExclusionKind::Maintenance]);
    assert_eq!(kinds(16), [ExclusionKind::Maintenance, ExclusionKind::Throttling]);
    assert_eq!(kinds(21), [ExclusionKind::Throttling]);
    assert_eq!(kinds(41), [], "the indicator does not allow what is the customer's");
}

#[test]
fn slow_answers_are_a_share_of_the_last_minutes() {
    // From w every answer is too slow.
    let late = [("t", "v", 400, "ok"), ("t", "x", 400, "ok"), ("t", "v", 410, "ok"), ("t", "w", 410, "ok")];
    let view = view(&[&WELL[..], &late].concat(), 420);
    assert_eq!(view.targets[0].latency_over, [Some(0.25), Some(2.0 / 7.0)]);
    assert_eq!(view.targets[1].latency_over, [None, None], "no objective");
}
