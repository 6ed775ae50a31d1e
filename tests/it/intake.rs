//! What the engine takes and what it refuses by name (SPEC §1), and what a new catalogue does to what is there (SPEC §2).

use serde_json::{Value, json};
use vigie_aggregator::core::engine::{Effects, Engine};
use vigie_aggregator::core::intake::MOST_WAITING;
use vigie_aggregator::core::version::version_number;
use vigie_aggregator::core::window::Status;
use vigie_aggregator::port::Logged;
use vigie_aggregator::publish::{Ledger, Publisher};
use vigie_contract::record::decode_appended;
use vigie_contract::{RefusalReason, Time};
use vigie_tests::fold::{LIVE, batch, catalogue, lines, step};

const S: i64 = 1_000_000;

const BASE: &str = r#"
tenant = "acme"
settle = "0s"
stable_up = "5s"
late_horizon = "10m"
[[indicator]]
id = "I"
objective = "99.99"
[[target]]
id = "t"
vantages = ["v"]
[[target]]
id = "u"
vantages = ["w"]
[[service]]
id = "s"
indicator = "I"
needs = "t"
since = 1970-01-01T00:00:00Z
"#;

fn text(value: &Value) -> String {
    value.to_string()
}

fn sample(target: &str, vantage: &str, seq: u64, at_s: i64, outcome: &str) -> String {
    text(&json!({"v": 1, "type": "sample", "target": target, "vantage": vantage, "run": "r", "seq": seq, "t0": at_s * S, "t1": at_s * S,
        "outcome": outcome, "period_us": 10 * S, "timeout_us": S, "clock_error_us": 0, "appended_at": at_s * S}))
}

fn carried(rev: u64, text_of: &str, at_s: i64, more: &Value) -> String {
    let mut record = json!({"v": 1, "type": "catalogue", "rev": rev, "text": text_of, "appended_at": at_s * S});
    for (key, value) in more.as_object().unwrap() {
        record[key] = value.clone();
    }
    text(&record)
}

/// Takes all lines; answers the reasons of what was refused.
fn take(engine: &mut Engine, evidence: &[String]) -> Vec<RefusalReason> {
    let effects = evidence.iter().enumerate().map(|(offset, line)| step(engine, offset as u64, line));
    effects.flat_map(|effects: Effects| effects.refusals).map(|refusal| refusal.reason).collect()
}

fn refused(evidence: &[String]) -> Vec<RefusalReason> {
    take(&mut Engine::new(LIVE, Some(catalogue(BASE))), evidence)
}

#[test]
fn samples_nobody_can_use_are_refused() {
    let mut late = sample("t", "v", 0, 100, "ok");
    assert_eq!(refused(&[sample("t", "w", 0, 1, "ok")]), [RefusalReason::UnassignedVantage]);
    late = late.replace("\"appended_at\":100000000", "\"appended_at\":700000000");
    assert_eq!(refused(std::slice::from_ref(&late)), [], "as late as the horizon");
    late = late.replace("\"appended_at\":700000000", "\"appended_at\":700000001");
    assert_eq!(refused(&[late]), [RefusalReason::TooLate]);
}

#[test]
fn of_too_many_waiting_samples_the_oldest_is_refused() {
    let waiting = |seq| sample("unheard-of", "v", seq, 1, "ok");
    let mut engine = Engine::new(LIVE, Some(catalogue(BASE)));
    let all: Vec<_> = (0..MOST_WAITING as u64).map(waiting).collect();
    assert_eq!(take(&mut engine, &all), []);
    let effects = step(&mut engine, 1, &waiting(MOST_WAITING as u64));
    assert_eq!(effects.refusals[0].reason, RefusalReason::UnknownTarget);
    assert!(effects.refusals[0].detail.ends_with("seq 0"), "{}", effects.refusals[0]);
    assert_eq!(effects.refusals[0].offset, 0, "it is another record than the one that came");
}

/// A record that is taken is no dead letter because others, which waited for it, are refused (SPEC §1); each of those has its own bytes.
#[test]
fn what_waited_in_vain_is_filed_as_itself() {
    let mut engine = Engine::new(LIVE, None);
    let mut publisher = Publisher::new("main", 7, Ledger::default());
    let evidence = [sample("t", "w", 0, 1, "ok"), sample("t", "v", 1, 1, "ok"), carried(1, BASE, 2, &json!({})), "{}".to_owned()];
    let mut batches = Vec::new();
    for (offset, line) in (0..).zip(&evidence) {
        let logged = Logged { offset, bytes: line.as_bytes().to_vec(), appended_at: Time::from_us(2 * S) };
        let decoded = decode_appended(&logged.bytes, logged.appended_at).unwrap();
        let effects = engine.step(offset, logged.appended_at, decoded.record.clone());
        let mut batch = publisher.batch(&engine, offset, offset);
        publisher.record(&engine, &logged, &decoded, &effects, &mut batch);
        batches.push(batch);
    }
    let letters: Vec<_> = batches.iter().flat_map(|batch| &batch.dead_letters).collect();
    let filed: Vec<_> = letters.iter().map(|letter| (letter.ver, letter.refusal.reason, letter.record.as_slice())).collect();
    let expected = [
        (version_number(7, 0), RefusalReason::UnassignedVantage, evidence[0].as_bytes()),
        (version_number(7, 3), RefusalReason::Malformed, b"{}".as_slice()),
    ];
    assert_eq!(filed, expected);
    assert_eq!(batches[2].catalogues.len(), 1);
}

/// An override that takes a target away, and one that brings it back, leave its evidence as it was (SPEC §1), a snapshot between or not.
#[test]
fn what_comes_back_is_found_again() {
    let named = json!({"override_by": "director"});
    let other = BASE.replace("\"t\"", "\"x\"");
    let evidence = [
        carried(1, BASE, 1, &json!({})),
        sample("t", "v", 0, 10, "ok"),
        sample("t", "v", 1, 20, "fail"),
        carried(2, &other, 21, &named),
        carried(3, BASE, 22, &named),
        json!({"v": 1, "type": "tick", "appended_at": 25 * S}).to_string(),
    ];
    let mut engine = Engine::new(LIVE, None);
    for (offset, line) in (0..).zip(&evidence) {
        step(&mut engine, offset, line);
        let snapshot = engine.snapshot(offset, None);
        engine = Engine::restore(LIVE, None, &snapshot.manifest, |key| snapshot.changed.get(key).cloned()).unwrap();
    }
    let mut straight = evidence.to_vec();
    straight.drain(3..5);
    assert_eq!(lines(&engine), lines(&batch(None, &straight, None)));
    assert_eq!(lines(&engine), lines(&batch(None, &evidence, None)));
    assert_eq!(engine.published(0).next().map(|window| window.onset.us()), Some(20 * S));
    // So do vantages.
    let elsewhere = BASE.replacen("vantages = [\"v\"]", "vantages = [\"z\"]", 1);
    step(&mut engine, 6, &carried(4, &elsewhere, 26, &named));
    assert_eq!(engine.published(0).count(), 0);
    step(&mut engine, 7, &carried(5, BASE, 27, &named));
    assert_eq!(engine.published(0).next().map(|window| window.onset.us()), Some(20 * S));
}

/// What an override has taken away is rejected from then on, although there are samples of it (SPEC §1).
#[test]
fn a_vantage_that_is_no_longer_assigned_is_refused() {
    let both = BASE.replacen("vantages = [\"v\"]", "vantages = [\"v\", \"w\"]", 1);
    let before = [carried(1, &both, 1, &json!({})), sample("t", "w", 0, 2, "ok")];
    let after = [carried(2, BASE, 3, &json!({"override_by": "director"})), sample("t", "w", 1, 4, "ok")];
    let mut engine = Engine::new(LIVE, None);
    assert_eq!(take(&mut engine, &before), []);
    assert_eq!(take(&mut engine, &after), [RefusalReason::UnassignedVantage]);
}

#[test]
fn facts_about_strangers_are_refused() {
    let claim = |service: &str, tenant: &Value| {
        text(
            &json!({"v": 1, "type": "claim", "id": "T", "rev": 1, "service": service, "tenant": tenant, "opened_at": 0, "state": "received",
            "appended_at": S}),
        )
    };
    assert_eq!(refused(&[claim("x", &json!("acme"))]), [RefusalReason::UnknownService]);
    assert_eq!(refused(&[claim("s", &json!("umbrella"))]), [RefusalReason::ForeignTenant]);
    assert_eq!(refused(&[claim("s", &json!("acme")), claim("s", &Value::Null)]), []);
    let exclusion =
        text(&json!({"v": 1, "type": "exclusion", "id": "M", "rev": 1, "kind": "customer", "services": ["s", "x"], "start": 0, "end": 1,
        "state": "approved", "appended_at": S}));
    assert_eq!(refused(&[exclusion]), [RefusalReason::UnknownService]);
}

#[test]
fn of_equal_revisions_the_first_counts() {
    let claim = |rev: u64, state: &str| {
        text(&json!({"v": 1, "type": "claim", "id": "T", "rev": rev, "service": "s", "opened_at": S, "state": state, "appended_at": 3 * S}))
    };
    let windows = |claims: &[String]| {
        let engine = batch(Some(&catalogue(BASE)), claims, None);
        engine.published(0).count()
    };
    assert_eq!(windows(&[claim(1, "accepted"), claim(1, "rejected")]), 1);
    assert_eq!(windows(&[claim(1, "rejected"), claim(1, "accepted")]), 0);
    assert_eq!(windows(&[claim(2, "accepted"), claim(1, "rejected")]), 1);
    assert_eq!(windows(&[claim(1, "accepted"), claim(2, "rejected")]), 0);
}

#[test]
fn duplicates_are_told_from_conflicts() {
    let mut engine = Engine::new(LIVE, Some(catalogue(BASE)));
    assert_eq!(step(&mut engine, 0, &sample("t", "v", 0, 10, "ok")).duplicate, None);
    assert_eq!(step(&mut engine, 1, &sample("t", "v", 0, 10, "ok")).duplicate, Some(false));
    assert_eq!(step(&mut engine, 2, &sample("t", "v", 0, 10, "fail")).duplicate, Some(true));
    assert_eq!(step(&mut engine, 3, &sample("t", "v", 0, 10, "ok")).duplicate, Some(true));
}

#[test]
fn a_catalogue_is_taken_only_if_it_may() {
    let later = |since: &str| format!("{BASE}\n[[target]]\nid = \"t\"\nvantages = [\"v\", \"w\"]\nsince = {since}\n");
    let none = json!({});
    let refused = |evidence: &[String]| take(&mut Engine::new(LIVE, None), evidence);
    let first = carried(5, BASE, 100, &none);
    assert_eq!(refused(std::slice::from_ref(&first)), []);
    assert_eq!(refused(&[first.clone(), first.clone()]), [], "the same again is no other");
    assert_eq!(refused(&[first.clone(), carried(5, "# other\n", 101, &none)]), [RefusalReason::Superseded]);
    assert_eq!(refused(&[first.clone(), carried(4, BASE, 101, &none)]), [RefusalReason::Superseded]);
    assert_eq!(refused(&[carried(1, "settle = [", 1, &none)]), [RefusalReason::InvalidCatalogue]);
    let past = later("1970-01-01T00:01:40.999999Z");
    assert_eq!(refused(&[first.clone(), carried(6, &past, 101, &none)]), [RefusalReason::MovesThePast]);
    assert_eq!(refused(&[first.clone(), carried(6, &past, 101, &json!({"override_by": "director"}))]), []);
    assert_eq!(refused(&[first.clone(), carried(6, &past, 101, &json!({"override_by": ""}))]), [RefusalReason::MovesThePast]);
    assert_eq!(refused(&[first.clone(), carried(6, &later("1970-01-01T00:01:41Z"), 101, &none)]), []);
    let digest = |sha: &str| carried(5, BASE, 100, &json!({"sha256": sha}));
    assert_eq!(refused(&[digest(&"0".repeat(64))]), [], "the text is what counts");
    assert_eq!(refused(&[digest("…"), digest("abc")]), [RefusalReason::Superseded], "another record");
    // A refused one leaves the old one in force.
    let mut engine = Engine::new(LIVE, None);
    take(&mut engine, &[first, carried(6, &past, 101, &none)]);
    assert_eq!(engine.catalogue().unwrap().targets[0].plan.boundaries().count(), 0);
}

#[test]
fn what_waited_is_taken_when_a_catalogue_knows_it() {
    let evidence = [sample("t", "v", 0, 10, "fail"), sample("t", "v", 1, 20, "fail"), carried(1, BASE, 25, &json!({}))];
    let mut engine = Engine::new(LIVE, None);
    let mut versions = Vec::new();
    for (offset, line) in evidence.iter().enumerate() {
        versions = step(&mut engine, offset as u64, line).versions;
    }
    assert_eq!(versions.len(), 1, "one window, published by the catalogue's record");
    assert_eq!((versions[0].ver, versions[0].window.onset_us), ((7 << 48) + 3, 10 * S));
    assert_eq!(lines(&engine), lines(&batch(None, &evidence, None)));
    // Too late is too late, whenever it is found out.
    let mut late = sample("t", "v", 0, 10, "fail");
    late = late.replace("\"appended_at\":10000000", "\"appended_at\":700000000");
    assert_eq!(take(&mut Engine::new(LIVE, None), &[late, carried(1, BASE, 701, &json!({}))]), [RefusalReason::TooLate]);
}

#[test]
fn a_catalogue_for_the_past_moves_windows_and_says_so() {
    let mut engine = Engine::new(LIVE, None);
    let evidence = [carried(1, BASE, 1, &json!({})), sample("t", "v", 0, 10, "fail"), sample("t", "v", 1, 20, "fail")];
    assert_eq!(take(&mut engine, &evidence), []);
    assert_eq!(engine.published(0).count(), 1);
    // Two vantages are needed from the beginning: nothing was down.
    let quorum = BASE.replacen("vantages = [\"v\"]", "vantages = [\"v\", \"w\"]", 1);
    let effects = step(&mut engine, 3, &carried(2, &quorum, 21, &json!({"override_by": "director"})));
    assert_eq!(effects.versions.len(), 1);
    assert_eq!((effects.versions[0].window.status, effects.versions[0].ver), (Status::Retracted, (7 << 48) + 4));
    assert_eq!(engine.published(0).count(), 0);
    // And back; then the service itself is taken away.
    let effects = step(&mut engine, 4, &carried(3, BASE, 22, &json!({"override_by": "director"})));
    assert_eq!(effects.versions.len(), 1);
    let gone = BASE.replace("id = \"s\"", "id = \"other\"");
    let effects = step(&mut engine, 5, &carried(4, &gone, 23, &json!({"override_by": "director"})));
    let mut told: Vec<_> = effects.versions.iter().map(|version| (version.window.service.as_str(), version.window.status)).collect();
    told.sort_by_key(|(service, _)| *service);
    assert_eq!(told, [("other", Status::Open), ("s", Status::Retracted)]);
}
