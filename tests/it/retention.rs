//! What an engine that forgets its samples must still know.

use serde_json::json;
use vigie_aggregator::core::engine::Engine;
use vigie_tests::fold::{BOUNDED, LIVE, catalogue, lines, step};

const MINUTE_US: i64 = 60_000_000;
const CATALOGUE: &str = "[[indicator]]\nid = \"I\"\nobjective = 99\n[[target]]\nid = \"t\"\nvantages = [\"v\"]\nlatency_objective = \"150ms\"\n\
    [[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = \"t\"\nsince = 2026-10-20T00:00:00Z\n";

/// A latency is counted for its month, however long ago its sample was forgotten, and after a snapshot too (SPEC §6, DESIGN §2).
#[test]
fn latencies_outlive_their_samples() {
    let parsed = catalogue(CATALOGUE);
    let (mut whole, mut bounded) = (Engine::new(LIVE, Some(parsed.clone())), Engine::new(BOUNDED, Some(parsed.clone())));
    let start = 1_792_800_000_000_000; // 2026-10-24: a change of the month and of the clocks lie ahead.
    for k in 0..14 * 24 * 60 {
        let at = start + k * MINUTE_US;
        let latency = 100_000 + k * 7919 % 60_000;
        let sample = json!({"v": 1, "type": "sample", "target": "t", "vantage": "v", "run": "r", "seq": k, "t0": at - latency, "t1": at,
            "outcome": "ok", "latency_us": latency, "period_us": MINUTE_US, "timeout_us": 1_000_000, "clock_error_us": 0, "appended_at": at})
        .to_string();
        step(&mut whole, k as u64, &sample);
        step(&mut bounded, k as u64, &sample);
        if k % 5_000 == 4_999 {
            let snapshot = bounded.snapshot(k as u64, None);
            bounded = Engine::restore(BOUNDED, Some(parsed.clone()), &snapshot.manifest, |key| snapshot.changed.get(key).cloned()).unwrap();
        }
    }
    assert!(bounded.size_bytes().0 * 2 < whole.size_bytes().0, "nothing was forgotten");
    assert_eq!(lines(&bounded), lines(&whole));
    assert_eq!(lines(&whole).iter().filter(|line| line.contains("\"latency\"")).count(), 2);
}
