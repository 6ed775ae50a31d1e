//! `kill -9` at random moments: nothing that was acknowledged is lost, and what was published is what the log says.

use std::time::Duration;

use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value};
use vigie_aggregator::port::{EvidenceLog, Logged};
use vigie_aggregator::sqlite::{Access, DataDir, SqliteLog, SqliteStore};
use vigie_tests::program::{PATIENCE, Program, wait_for};
use vigie_tests::proof::{every_sequence_is_whole, refold};
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
            // One that has no catalogue yet has nothing to lose.
            wait_for("measuring", || (region.metric("vigie_probe_samples_made_total") >= 1.0).then_some(()));
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
    let derived = refold("main", &log);
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
