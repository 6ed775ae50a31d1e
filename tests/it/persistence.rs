//! When a customer's confirmation ends what persists (SPEC §3.5), at the very instants that matter.

use serde_json::json;
use vigie_aggregator::core::state::State;
use vigie_aggregator::explain;
use vigie_contract::Time;
use vigie_tests::fold::{batch, catalogue};
use vigie_tests::oracle;

const S: i64 = 1_000_000;
const CATALOGUE: &str = "settle = \"0s\"\n[[indicator]]\nid = \"I\"\nobjective = 99\n[[target]]\nid = \"t\"\nvantages = [\"v\"]\n\
    [[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = \"t\"\nsince = 1970-01-01T00:00:00Z\n";

/// `R` at each of `at_s`, with a failure at 100 s that holds until 126 s, a success at 200 s, and a claim that is resolved then.
fn counted(resolved_us: i64, at_s: &[i64]) -> Vec<State> {
    let sample = |seq: u64, at_s: i64, outcome: &str| {
        json!({"v": 1, "type": "sample", "target": "t", "vantage": "v", "run": "r", "seq": seq, "t0": at_s * S, "t1": at_s * S,
            "outcome": outcome, "period_us": 10 * S, "timeout_us": S, "clock_error_us": 0, "appended_at": at_s * S})
    };
    let claim = json!({"v": 1, "type": "claim", "id": "T", "rev": 1, "service": "s", "opened_at": 90 * S, "state": "accepted",
        "resolved_at": resolved_us, "appended_at": 300 * S});
    let evidence = [sample(0, 100, "fail"), sample(1, 200, "ok"), sample(2, 210, "ok"), claim].map(|record| record.to_string());
    let engine = batch(Some(&catalogue(CATALOGUE)), &evidence, None);
    let found: Vec<serde_json::Value> = engine.lines().iter().map(|line| serde_json::to_value(line).unwrap()).collect();
    assert_eq!(found, oracle::replay(Some(CATALOGUE), &evidence.join("\n"), None));
    // With one target, what is explained of it is what counts for the service.
    for at in at_s {
        let moment = explain::moment(&engine, "s", Time::from_us(at * S)).unwrap();
        assert_eq!(moment.targets[0].counted, moment.counted, "at {at} s");
    }
    engine.with_view(0, |view| at_s.iter().map(|at| view.verdicts.at(Time::from_us(at * S)).counted).collect()).unwrap()
}

#[test]
fn a_confirmation_must_be_later_than_the_last_failure() {
    assert_eq!(counted(100 * S, &[125, 126, 199, 200]), [State::Down, State::Down, State::Down, State::Up]);
    assert_eq!(counted(100 * S + 1, &[125, 126, 199, 200]), [State::Down, State::Unknown, State::Unknown, State::Up]);
}

#[test]
fn a_confirmation_ends_what_persists_from_then_on() {
    assert_eq!(counted(150 * S, &[149, 150, 199, 200]), [State::Down, State::Unknown, State::Unknown, State::Up]);
}

#[test]
fn a_confirmation_after_it_was_seen_up_changes_nothing() {
    assert_eq!(counted(205 * S, &[199, 200, 204, 205, 220]), [State::Down, State::Up, State::Up, State::Up, State::Up]);
}
