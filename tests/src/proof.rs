//! What follows from a log, and whether a log is whole: what programs published is compared with this.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings};
use vigie_aggregator::port::Logged;
use vigie_contract::record::decode_appended;

/// All versions of all windows that an engine of a group which was never interrupted publishes of this log, by version and id.
///
/// # Panics
/// If a record is no JSON object.
pub fn refold(group: &str, log: &[Logged]) -> Vec<Map<String, Value>> {
    let mut engine = Engine::of_group(Settings { log_epoch: 0, retain: Retain::Horizon, pace: Pace::Live }, group);
    let mut versions = Vec::new();
    for logged in log {
        let Ok(decoded) = decode_appended(&logged.bytes, logged.appended_at) else { continue };
        versions.extend(engine.step(logged.offset, logged.appended_at, decoded.record).versions);
    }
    let mut rows: Vec<Map<String, Value>> = versions
        .iter()
        .map(|version| {
            let Ok(Value::Object(mut row)) = serde_json::to_value(version) else { panic!("a version is an object") };
            row.remove("type");
            row
        })
        .collect();
    sort(&mut rows);
    rows
}

/// By version and id.
pub fn sort(rows: &mut [Map<String, Value>]) {
    rows.sort_by_key(|row| (row["ver"].as_u64(), row["id"].as_str().map(str::to_owned)));
}

/// A sample is made when the spool's write returned, and from then on it is never lost: no hole before the last of a run. How many
/// samples there are of all runs but the last.
///
/// # Panics
/// If there is a hole, or only one run.
pub fn every_sequence_is_whole(log: &[Logged]) -> usize {
    let mut sequences: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    // The run of the newest sample: what is delivered last may be an older one's backlog.
    let (mut last_run, mut newest) = (String::new(), 0);
    for logged in log {
        let Ok(record) = serde_json::from_slice::<Value>(&logged.bytes) else { continue };
        if record["type"] == "sample" && record["run"].is_string() {
            let run = record["run"].as_str().unwrap();
            let t0 = record["t0"].as_i64().unwrap();
            if t0 > newest {
                newest = t0;
                run.clone_into(&mut last_run);
            }
            let key = (run.to_owned(), record["target"].as_str().unwrap().to_owned());
            sequences.entry(key).or_default().push(record["seq"].as_u64().unwrap());
        }
    }
    assert!(sequences.len() > 3, "the test has seen no second life");
    let whole = |(key, mut sequence): ((String, String), Vec<u64>)| {
        sequence.sort_unstable();
        sequence.dedup();
        assert_eq!(sequence, (0..sequence.len() as u64).collect::<Vec<_>>(), "holes in {key:?}");
        if key.0 == last_run { 0 } else { sequence.len() }
    };
    sequences.into_iter().map(whole).sum()
}
