//! `kill -9` at random moments: nothing that was acknowledged is lost, and what was published is what the log says.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value};
use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings};
use vigie_aggregator::port::{EvidenceLog, Logged};
use vigie_aggregator::sqlite::{Access, DataDir, SqliteLog, SqliteStore};
use vigie_contract::record::decode_appended;
use vigie_tests::program::{PATIENCE, Program, wait_for};
use vigie_tests::region::{Web, write_catalogue};

/// How often the region is killed; a night's run sets `VIGIE_KILLS` higher.
fn lives() -> u32 {
    std::env::var("VIGIE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

#[test]
fn a_region_that_is_killed_again_and_again_keeps_every_sample_and_every_window() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second, web) = (Web::start(), Web::start(), Web::start());
    let targets = [("first", first.address), ("second", second.address), ("web", web.address)];
    write_catalogue(&dir.path().join("catalogue.toml"), &["v"], &targets);
    let start = || Program::start(dir.path(), &["run", "--catalogue", "catalogue.toml"]);
    let mut random = TestRunner::new(Config::default());
    let mut made = 0.0;
    for life in 0..lives() {
        let region = start();
        // The web server is down in every other life, so that windows open and close across deaths.
        web.set_up(life % 2 == 0);
        let millis = proptest::strategy::Strategy::new_tree(&(300_u64..5_000), &mut random).unwrap();
        std::thread::sleep(Duration::from_millis(proptest::strategy::ValueTree::current(&millis)));
        // In every third life the log takes nothing at the end: what was made is in the spool alone.
        let lock = rusqlite::Connection::open(dir.path().join("vigie-data/vigie.db")).unwrap();
        if life % 3 == 0 {
            lock.busy_timeout(PATIENCE).unwrap();
            lock.execute_batch("BEGIN IMMEDIATE").unwrap();
            wait_for("samples that only the spool has", || (region.metric("vigie_probe_samples_spooled") >= 2.0).then_some(()));
        }
        // What was made before this answer is not lost by what comes after it.
        made += region.metric("vigie_probe_samples_made_total");
        region.kill();
        drop(lock);
    }
    web.set_up(true);
    let region = start();
    wait_for("the account of all samples", || {
        let metrics = region.get("/metrics").1;
        let of = |name: &str| vigie_tests::program::sum_of(&metrics, &format!("vigie_probe_samples_{name}"));
        let is_balanced = of("made_total") + of("recovered_total") == of("delivered_total") + of("spooled") + of("dropped_total");
        (is_balanced && of("spooled") == 0.0 && of("dropped_total") == 0.0 && of("delivered_total") > 0.0).then_some(())
    });
    wait_for("the last window's end", || {
        let windows = region.json("/api/v1/windows?status=open");
        windows["windows"].as_array().unwrap().is_empty().then_some(())
    });
    assert!(region.stop().success());

    let (log, published) = read(dir.path());
    let samples = every_sequence_is_whole(&log);
    assert!(made > 0.0 && samples as f64 >= made, "{samples} of {made} samples of the lives that were killed are in the log");
    let derived = refold(&log);
    assert!(derived.len() >= 2, "the test has seen no window: {derived:?}");
    assert_eq!(published, derived);
}

/// All records, and all versions of all windows.
fn read(dir: &std::path::Path) -> (Vec<Logged>, Vec<Map<String, Value>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let data = DataDir::open(&dir.join("vigie-data"), Access::Join).unwrap();
        let (log, store) = (SqliteLog::open(&data).unwrap(), SqliteStore::open(&data).unwrap());
        let end = log.bounds().await.unwrap().next;
        let mut records = Vec::new();
        while (records.len() as u64) < end {
            records.extend(log.read(records.len() as u64, 4_096).await.unwrap());
        }
        let mut rows = store.rows("SELECT * FROM windows ORDER BY ver, id", Vec::new()).await.unwrap();
        rows.iter_mut().for_each(|row| drop(row.remove("log_group")));
        (records, rows)
    })
}

/// A sample is made when the spool's write returned, and from then on it is never lost: no hole before the last of a run. How many
/// samples there are of all runs but the last.
fn every_sequence_is_whole(log: &[Logged]) -> usize {
    let mut sequences: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    let mut last_run = String::new();
    for logged in log {
        let record: Value = serde_json::from_slice(&logged.bytes).unwrap();
        if record["type"] == "sample" {
            record["run"].as_str().unwrap().clone_into(&mut last_run);
            let key = (last_run.clone(), record["target"].as_str().unwrap().to_owned());
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

/// What an engine that was never interrupted publishes of this log.
fn refold(log: &[Logged]) -> Vec<Map<String, Value>> {
    let mut engine = Engine::new(Settings { log_epoch: 0, retain: Retain::Horizon, pace: Pace::Live }, None);
    let mut versions = Vec::new();
    for logged in log {
        let decoded = decode_appended(&logged.bytes, logged.appended_at).unwrap();
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
    rows.sort_by_key(|row| (row["ver"].as_u64(), row["id"].as_str().map(str::to_owned)));
    rows
}
