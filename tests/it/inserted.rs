//! A batch that is inserted again, because nobody knows whether it was: its rows are there once (DESIGN §4).

use vigie_aggregator::clickhouse::{self, ClickHouseStore};
use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings};
use vigie_aggregator::port::{Batch, Logged, WindowStore};
use vigie_aggregator::publish::{Ledger, Publisher};
use vigie_contract::record::{CatalogueRecord, Record, decode_appended, encode};
use vigie_contract::{Span, Time};
use vigie_tests::clickhouse::ClickHouse;
use vigie_tests::program::vigie;

const SETTINGS: Settings = Settings { log_epoch: 0, retain: Retain::Horizon, pace: Pace::Live };
const CATALOGUE: &str = r#"
settle = "1s"
[[indicator]]
id = "I"
objective = "99.99"
[[vantage]]
id = "v"
anchors = ["t"]
[[target]]
id = "t"
vantages = ["v"]
period = "10s"
timeout = "2s"
check = { kind = "tcp", address = "192.0.2.1:1" }
[[service]]
id = "s"
indicator = "I"
needs = "t"
since = 2026-01-01T00:00:00Z
"#;

fn at_seconds(seconds: i64) -> Time {
    Time::from_us(1_793_000_000_000_000) + Span::from_us(seconds * 1_000_000)
}

/// A sample every 10 s that fails for a while, over the end of a week: its rows are in two partitions. One record is none.
fn log() -> Vec<Logged> {
    let catalogue = CatalogueRecord { rev: 1, sha256: None, text: CATALOGUE.into(), override_by: None, actor: None, reason: None };
    let mut records = vec![(at_seconds(0), encode(&Record::Catalogue(catalogue), None, None).into_bytes())];
    records.push((at_seconds(0), b"{\"v\":1,\"type\":\"nonsense\"}".to_vec()));
    for seq in 0..40 {
        // Half of it a week later.
        let t1 = at_seconds(seq * 10 + if seq < 20 { 0 } else { 7 * 86_400 }).us();
        let outcome = if (5..15).contains(&seq) { "fail" } else { "ok" };
        let text = format!(
            "{{\"v\":1,\"type\":\"sample\",\"target\":\"t\",\"vantage\":\"v\",\"run\":\"r\",\"seq\":{seq},\"t0\":{},\"t1\":{t1},\
             \"outcome\":\"{outcome}\",\"latency_us\":{},\"period_us\":10000000,\"timeout_us\":2000000,\"clock_error_us\":0}}",
            t1 - 5_000,
            if outcome == "ok" { "5000" } else { "null" },
        );
        records.push((Time::from_us(t1 + 1_000), text.into_bytes()));
    }
    let logged = |(offset, (appended_at, bytes))| Logged { offset, appended_at, bytes };
    (0..).zip(records).map(logged).collect()
}

/// What the stretch of the log causes.
fn fold(engine: &mut Engine, publisher: &mut Publisher, records: &[Logged]) -> Batch {
    let mut batch = publisher.batch(engine, records[0].offset, records[records.len() - 1].offset);
    for logged in records {
        let decoded = decode_appended(&logged.bytes, logged.appended_at).unwrap();
        let effects = engine.step(logged.offset, logged.appended_at, decoded.record.clone());
        publisher.record(engine, logged, &decoded, &effects, &mut batch);
    }
    batch
}

#[test]
fn a_batch_that_is_inserted_again_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = ClickHouse::start(&dir.path().join("clickhouse"));
    std::fs::write(dir.path().join("clickhouse.toml"), format!("url = \"{}\"\n", server.url())).unwrap();
    assert!(vigie(dir.path(), &["schema", "--clickhouse", "clickhouse.toml", "--apply"]).status.success());
    // Or rows that are there twice would become one behind our back.
    server.query("SYSTEM STOP MERGES");
    let store = ClickHouseStore::new(&clickhouse::Settings::read(&dir.path().join("clickhouse.toml")).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();

    let (mut engine, mut publisher) = (Engine::of_group(SETTINGS, "main"), Publisher::new("main", 0, Ledger::default()));
    let log = log();
    let batches: Vec<Batch> = log.chunks(30).map(|records| fold(&mut engine, &mut publisher, records)).collect();
    let tables =
        server.query("SELECT name FROM system.tables WHERE database = 'vigie' AND engine LIKE '%MergeTree' ORDER BY name");
    let counts = || -> Vec<(String, u64)> {
        let count = |table: &str| server.query(&format!("SELECT count() FROM vigie.{table}")).trim().parse().unwrap();
        tables.lines().map(|table| (table.to_owned(), count(table))).collect()
    };
    for batch in &batches {
        runtime.block_on(store.apply(batch)).unwrap();
    }
    let once = counts();
    let of = |name: &str| once.iter().find(|(table, _)| table == name).unwrap().1;
    assert_eq!((of("samples"), of("dead_letters")), (40, 1), "{once:?}");
    assert!(of("windows") > 0 && of("accounts") > 0, "{once:?}");
    // The second one first, as another replica might.
    for batch in batches.iter().rev().chain(&batches) {
        runtime.block_on(store.apply(batch)).unwrap();
    }
    assert_eq!(counts(), once);
}
