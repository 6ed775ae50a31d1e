//! Speed of the production side, on real servers: `cargo bench -p vigie-tests`. Figures are printed, nothing is asserted.
//!
//! `VIGIE_BENCH_SECONDS` sets how long the stream of 1 000 samples a second is watched (60 by default).

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock, prints and panics"
)]

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use vigie_aggregator::clickhouse::{self, ClickHouseStore};
use vigie_aggregator::clock::wall_now;
use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings};
use vigie_aggregator::core::snapshot::Manifest;
use vigie_aggregator::kafka::{KafkaLog, KafkaSnapshots};
use vigie_aggregator::live::Snapshots;
use vigie_aggregator::port::{EvidenceLog, Logged, WindowStore};
use vigie_aggregator::publish::{Ledger, Publisher};
use vigie_aggregator::start;
use vigie_contract::record::{CatalogueRecord, Record, decode_appended, encode};
use vigie_contract::{Span, Time};
use vigie_kafka::{Message, Producer};
use vigie_tests::clickhouse::ClickHouse;
use vigie_tests::kafka::Kafka;
use vigie_tests::program::{Program, vigie, wait_for};

const SETTINGS: Settings = Settings { log_epoch: 0, retain: Retain::Horizon, pace: Pace::Live };
const PERIOD_US: i64 = 10_000_000;
const VANTAGES: usize = 3;

fn catalogue(targets: usize) -> String {
    let mut text = String::from("settle = \"1s\"\n[[indicator]]\nid = \"I\"\nobjective = \"99.99\"\n");
    for vantage in 0..VANTAGES {
        writeln!(text, "[[vantage]]\nid = \"az{vantage}\"\nanchors = [\"t0\", \"t1\"]").unwrap();
    }
    for target in 0..targets {
        writeln!(text, "[[target]]\nid = \"t{target}\"\nvantages = [\"az0\", \"az1\", \"az2\"]\nperiod = \"10s\"\ntimeout = \"2s\"")
            .unwrap();
        writeln!(text, "check = {{ kind = \"ping\", host = \"192.0.2.1\" }}").unwrap();
        writeln!(text, "[[service]]\nid = \"s{target}\"\nindicator = \"I\"\nneeds = \"t{target}\"\nsince = 2026-01-01T00:00:00Z").unwrap();
    }
    text
}

/// What a probe appends: the sample of one slot.
fn sample(target: usize, vantage: usize, seq: i64, t1: Time) -> String {
    let latency = 15_000 + (seq * 7_919 + target as i64 * 104_729) % 20_000;
    let t0 = t1.us() - latency;
    format!(
        "{{\"v\":1,\"type\":\"sample\",\"target\":\"t{target}\",\"vantage\":\"az{vantage}\",\"run\":\"5e0c1f3ab86d4a0e9c1d2e3f4a5b6c7{vantage}\",\
         \"seq\":{seq},\"t0\":{t0},\"t1\":{},\"outcome\":\"ok\",\"latency_us\":{latency},\"period_us\":{PERIOD_US},\"timeout_us\":2000000,\
         \"clock_error_us\":350,\"scheduled\":{t0},\"reason\":null,\"phases_us\":{{\"resolve\":0,\"connect\":{},\"processing\":{},\"transfer\":64}},\
         \"attempts\":1,\"epoch\":1}}",
        t1.us(),
        latency / 3,
        latency / 2
    )
}

fn catalogue_record(rev: u64, text: String) -> Vec<u8> {
    let record = CatalogueRecord { rev, sha256: None, text, override_by: None, actor: None, reason: None };
    encode(&Record::Catalogue(record), None, None).into_bytes()
}

/// CPU time of this process, all threads.
fn cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

struct Servers {
    dir: tempfile::TempDir,
    _kafka: Kafka,
    clickhouse: ClickHouse,
    settings: vigie_kafka::Settings,
    store: clickhouse::Settings,
}

fn servers() -> Servers {
    let dir = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&dir.path().join("kafka"), 1);
    let clickhouse = ClickHouse::start(&dir.path().join("clickhouse"));
    let kafka_toml = format!("brokers = [\"{}\"]\nreplication = 1\nmin_insync_replicas = 1\n", kafka.bootstrap());
    std::fs::write(dir.path().join("kafka.toml"), kafka_toml).unwrap();
    std::fs::write(dir.path().join("clickhouse.toml"), format!("url = \"{}\"\n", clickhouse.url())).unwrap();
    for args in [&["topics", "--kafka", "kafka.toml", "--create"][..], &["schema", "--clickhouse", "clickhouse.toml", "--apply"]] {
        assert!(vigie(dir.path(), args).status.success());
    }
    let settings = vigie_kafka::Settings::read(&dir.path().join("kafka.toml")).unwrap();
    let store = clickhouse::Settings::read(&dir.path().join("clickhouse.toml")).unwrap();
    Servers { dir, _kafka: kafka, clickhouse, settings, store }
}

async fn send(producer: &Producer, records: &[Vec<u8>]) {
    let message = |record| Message { topic: "vigie.evidence.v1", partition: Some(0), payload: Some(record), ..Message::default() };
    for chunk in records.chunks(5_000) {
        let messages: Vec<Message<'_>> = chunk.iter().map(|record| message(record)).collect();
        producer.send(&messages).await.unwrap();
    }
}

/// Samples of every target from every vantage, in each of `slots`.
async fn send_samples(producer: &Producer, targets: usize, slots: Range<usize>, stamp: impl Fn(usize, usize) -> Time) {
    for slot in slots {
        let pair = |pair: usize| sample(pair / VANTAGES, pair % VANTAGES, slot as i64, stamp(slot, pair)).into_bytes();
        let pairs: Vec<usize> = (0..targets * VANTAGES).collect();
        for pairs in pairs.chunks(5_000) {
            send(producer, &pairs.iter().map(|at| pair(*at)).collect::<Vec<_>>()).await;
        }
    }
}

/// Folds the log from `next` to `end`.
async fn fold(log: &KafkaLog, engine: &mut Engine, mut next: u64, end: u64) {
    while next < end {
        for logged in log.read(next, 2_048).await.unwrap() {
            next = logged.offset + 1;
            let decoded = decode_appended(&logged.bytes, logged.appended_at).unwrap();
            engine.step(logged.offset, logged.appended_at, decoded.record);
        }
    }
}

async fn consume(what: &str, log: &KafkaLog, engine: &mut Engine, from: u64, end: u64) {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    fold(log, engine, from, end).await;
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let count = (end - from) as f64;
    println!(
        "consume + decode + fold of samples that {what:<15}: {:>9.0} records per CPU second, {:.0}/s by the clock",
        count / cpu,
        count / wall
    );
}

/// Samples from real Kafka, decoded and folded: a million that came hours late, after an outage of the log, and a million that came at once.
/// Then the first million as rows into ClickHouse.
async fn consume_and_store(servers: &Servers) {
    const LATE: usize = 300;
    const PROMPT: usize = 2_000;
    const RECORDS: usize = 1_000_000;
    let producer = Arc::new(Producer::new(&servers.settings).unwrap());
    let log = KafkaLog::open(&servers.settings, 0, Arc::clone(&producer), None).unwrap();
    let mut engine = Engine::of_group(SETTINGS, "main");

    let slots = RECORDS / (LATE * VANTAGES);
    let began = wall_now() - Span::from_us(slots as i64 * PERIOD_US);
    send(&producer, &[catalogue_record(1, catalogue(LATE))]).await;
    let stamp = |slot: usize, pair: usize| began + Span::from_us(slot as i64 * PERIOD_US + pair as i64 * 11_000);
    send_samples(&producer, LATE, 0..slots, stamp).await;
    let end = log.bounds().await.unwrap().next;
    consume("came hours late", &log, &mut engine, 0, end).await;

    send(&producer, &[catalogue_record(2, catalogue(PROMPT))]).await;
    let next = log.bounds().await.unwrap().next;
    fold(&log, &mut engine, end, next).await;
    let slots = slots..slots + RECORDS / (PROMPT * VANTAGES);
    send_samples(&producer, PROMPT, slots, |_, _| wall_now()).await;
    consume("came at once", &log, &mut engine, next, log.bounds().await.unwrap().next).await;
    drop(engine);

    let store = ClickHouseStore::new(&servers.store);
    let mut publisher = Publisher::new("main", 0, Ledger::default());
    let mut engine = Engine::of_group(SETTINGS, "main");
    let (mut next, mut rows, mut seconds) = (0, 0, 0.0);
    while next < end {
        let mut records: Vec<Logged> = Vec::new();
        while records.len() < 50_000 && next < end {
            records.extend(log.read(next, 4_096).await.unwrap());
            next = records.last().unwrap().offset + 1;
        }
        let mut batch = publisher.batch(&engine, records[0].offset, next - 1);
        for logged in &records {
            let decoded = decode_appended(&logged.bytes, logged.appended_at).unwrap();
            let effects = engine.step(logged.offset, logged.appended_at, decoded.record.clone());
            publisher.record(&engine, logged, &decoded, &effects, &mut batch);
        }
        rows += batch.rows();
        let began = Instant::now();
        store.apply(&batch).await.unwrap();
        seconds += began.elapsed().as_secs_f64();
    }
    println!("ClickHouse, 50 000 samples a batch: {:>9.0} rows/s ({rows} rows in {seconds:.1} s)", rows as f64 / seconds);
    let bytes = servers.clickhouse.query("SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE table = 'samples' AND active");
    println!("ClickHouse, bytes per sample on its disk: {}", bytes.trim());
}

/// An engine with 96 hours of 1 000 targets × 3 vantages: its snapshot into the topic, and back.
async fn restart(servers: &Servers) {
    const TARGETS: usize = 1_000;
    const SLOTS: i64 = 96 * 360;
    let producer = Arc::new(Producer::new(&servers.settings).unwrap());
    let mut engine = Engine::of_group(SETTINGS, "main");
    let catalogue = catalogue_record(1, catalogue(TARGETS));
    let began = wall_now() - Span::from_us(SLOTS * PERIOD_US);
    engine.step(0, began, decode_appended(&catalogue, began).unwrap().record);
    let mut offset = 1_u64;
    for slot in 0..SLOTS {
        for pair in 0..TARGETS * VANTAGES {
            // Stamps as real ones are: no slot begins quite when it should, and no answer takes as long as another.
            let noise = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49;
            let t1 = began + Span::from_us(slot * PERIOD_US + pair as i64 * 3_000 + noise as i64);
            let text = sample(pair / VANTAGES, pair % VANTAGES, slot, t1);
            let decoded = decode_appended(text.as_bytes(), t1 + Span::from_us(5_000)).unwrap();
            engine.step(offset, t1 + Span::from_us(5_000), decoded.record);
            offset += 1;
        }
    }
    let snapshots = KafkaSnapshots::new(&servers.settings, Arc::clone(&producer), "bench");
    let began = Instant::now();
    let snapshot = engine.snapshot(0, None);
    let bytes: usize = snapshot.changed.values().map(Vec::len).sum();
    let manifest: Manifest = snapshot.manifest;
    snapshots.save("main", &manifest, snapshot.changed, &Ledger::default()).await.unwrap();
    println!(
        "snapshot of {TARGETS} × {VANTAGES} × 96 h: {} MB, whole into the topic in {:.1} s",
        bytes >> 20,
        began.elapsed().as_secs_f64()
    );
    drop(engine);
    let log = KafkaLog::open(&servers.settings, 0, producer, None).unwrap();
    let began = Instant::now();
    let new = || Engine::of_group(SETTINGS, "main");
    let (engine, from) = start::restore("main", new, &log, &snapshots, "").await.unwrap();
    println!("restart from it: {:.1} s; {} tracks from offset {}", began.elapsed().as_secs_f64(), TARGETS * VANTAGES, from.next);
    drop(engine);
}

/// From the end of a check to its row in ClickHouse, at 1 000 samples a second, through a real aggregator.
async fn latency(servers: &Servers) {
    const TARGETS: usize = 1_000;
    let seconds: i64 = std::env::var("VIGIE_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
    let dir = servers.dir.path();
    std::fs::write(dir.join("c.toml"), catalogue(TARGETS)).unwrap();
    let published = vigie(dir, &["publish", "--kafka", "kafka.toml", "--catalogue", "c.toml", "--yes", "--override-by", "bench"]);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let member = |deployment: &str, member: &str| {
        let args = ["--kafka", "kafka.toml", "--clickhouse", "clickhouse.toml", "--deployment", deployment, "--member", member];
        Program::start(dir, &[&["aggregate"][..], &args].concat())
    };
    let aggregator = member("bench", "one");
    wait_for("ready", || (aggregator.get("/readyz").0 == 200).then_some(()));
    let producer = Producer::new(&servers.settings).unwrap();
    let feeding = async {
        for seq in 0..seconds * 10 {
            let due = tokio::time::Instant::now() + Duration::from_millis(100);
            let now = wall_now();
            let of = |at: usize| sample((seq as usize % 10) * 100 + at, 0, 1_000_000 + seq / 10, now);
            send(&producer, &(0..100).map(|at| of(at).into_bytes()).collect::<Vec<_>>()).await;
            tokio::time::sleep_until(due).await;
        }
    };
    let store = ClickHouseStore::new(&servers.store);
    let watching = async {
        let mut took: Vec<i64> = Vec::new();
        let mut last = 0_u64;
        let end = Instant::now() + Duration::from_secs(seconds as u64);
        while Instant::now() < end {
            let sql = "SELECT t1_us, ver FROM samples WHERE ver > ? AND seq >= 1000000 ORDER BY ver";
            let rows = store.rows(sql, vec![last.into()]).await.unwrap();
            let seen = wall_now();
            took.extend(rows.iter().map(|row| seen.us() - row["t1_us"].as_i64().unwrap()));
            last = rows.last().map_or(last, |row| row["ver"].as_u64().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        took.sort_unstable();
        let at = |share: f64| took[(took.len() as f64 * share) as usize] as f64 / 1e3;
        println!(
            "check to row, 1 000 samples/s: p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms of {}",
            at(0.5),
            at(0.99),
            at(0.9999),
            took.len()
        );
    };
    tokio::join!(feeding, watching);

    let other = member("other", "one");
    let second = member("bench", "two");
    wait_for("the other deployment", || (other.get("/readyz").0 == 200).then_some(()));
    wait_for("the standby", || second.get("/readyz").1.starts_with("standby").then_some(()));
    let began = Instant::now();
    aggregator.kill();
    assert_eq!(other.get("/readyz").0, 200);
    println!("a dead aggregator: the other deployment's metrics are fresh after {:.3} s", began.elapsed().as_secs_f64());
    wait_for("the takeover", || (second.get("/readyz").0 == 200).then_some(()));
    println!("a dead aggregator: its own group's other member is ready after {:.1} s", began.elapsed().as_secs_f64());
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if is_wanted("consume") {
        runtime.block_on(consume_and_store(&servers()));
    }
    if is_wanted("latency") {
        runtime.block_on(latency(&servers()));
    }
    if is_wanted("restart") {
        runtime.block_on(restart(&servers()));
    }
}
