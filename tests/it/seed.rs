//! From the embedded region to Kafka and ClickHouse: nothing that was published changes, and an open window stays the one it is.

use std::collections::BTreeMap;

use serde_json::Value;
use vigie_tests::clickhouse::ClickHouse;
use vigie_tests::cluster::Cluster;
use vigie_tests::kafka::Kafka;
use vigie_tests::program::wait_for;
use vigie_tests::region::Region;

/// A row without what only one of the stores has: columns to look at, and those that are the same in every row of a `_current` view.
fn same(mut row: Value) -> Value {
    let fields = row.as_object_mut().unwrap();
    fields.retain(|name, _| !name.ends_with("_at") && !["month_date", "superseded_by", "retracted"].contains(&name.as_str()));
    fields.sort_keys();
    row
}

/// The lines that a command prints.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| same(serde_json::from_str(line).unwrap())).collect()
}

/// The accounts of a report, by service.
fn accounts(report: &str) -> BTreeMap<String, Value> {
    let report: Value = serde_json::from_str(report).unwrap();
    report["accounts"].as_array().unwrap().iter().map(|account| (account["service"].to_string(), same(account.clone()))).collect()
}

#[test]
fn a_region_that_moves_to_kafka_keeps_what_it_published_and_goes_on() {
    let region = Region::start();
    region.break_web();
    region.mend_web();
    region.break_web();
    let Region { dir, webs, aggregator, probe } = region;
    assert!(probe.stop().success() && aggregator.stop().success());
    let vigie = |args: &[&str]| String::from_utf8(vigie_tests::program::vigie(dir.path(), args).stdout).unwrap();
    let windows = lines(&vigie(&["windows", "--json", "--data", "data"]));
    let name = windows[0]["onset_us"].as_i64().map(vigie_contract::Time::from_us).unwrap().to_string()[..7].to_owned();
    let published = accounts(&vigie(&["report", "--format", "json", "--data", "data", "--month", &name]));

    let kafka = Kafka::start(&dir.path().join("kafka"), 1);
    let clickhouse = ClickHouse::start(&dir.path().join("clickhouse"));
    let mut cluster = Cluster::assemble(dir, webs, kafka, clickhouse, &["main"], 1);
    cluster.vigie(&["topics", "--kafka", "kafka.toml", "--create"]);
    cluster.vigie(&["schema", "--clickhouse", "clickhouse.toml", "--apply"]);
    let seed = ["seed", "--data", "data", "--kafka", "kafka.toml", "--clickhouse", "clickhouse.toml", "--archive", "archive"];
    let told = cluster.vigie(&seed);
    assert!(told.contains("the new log has begun with epoch 1"), "{told}");
    let again = vigie_tests::program::vigie(cluster.dir.path(), &seed);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("has records already"));

    let moved = lines(&cluster.vigie(&["windows", "--json", "--clickhouse", "clickhouse.toml"]));
    assert_eq!(moved, windows);
    let report = ["report", "--format", "json", "--clickhouse", "clickhouse.toml", "--month", &name];
    assert_eq!(accounts(&cluster.vigie(&report)), published);

    (0..2).for_each(|at| cluster.start_aggregator(at));
    cluster.start_probe();
    cluster.wait_for_open(1);
    cluster.webs[2].set_up(true);
    cluster.wait_for_open(0);
    let open = windows.iter().find(|window| window["end_us"].is_null()).unwrap();
    let closed = wait_for("the window's end", || {
        let now = lines(&cluster.vigie(&["windows", "--json", "--clickhouse", "clickhouse.toml"]));
        now.into_iter().find(|window| window["id"] == open["id"] && !window["end_us"].is_null())
    });
    assert_eq!(closed["onset_us"], open["onset_us"]);
    assert_eq!(closed["ver"].as_u64().unwrap() >> 48, 1, "a version of the new log");

    // Both logs, one after the other, give the windows that were published.
    cluster.wait_until_delivered();
    drop(cluster.probe.take());
    cluster.vigie(&["archive", "--kafka", "kafka.toml", "--to", "archive"]);
    let replayed = lines(&cluster.vigie(&["replay", "--evidence", "archive/main"]));
    let shape = |window: &Value| ["id", "service", "onset_us", "end_us", "kind"].map(|name| window[name].clone());
    let mut replayed: Vec<_> = replayed.iter().filter(|line| line["type"] == "window").map(shape).collect();
    let mut current: Vec<_> = lines(&cluster.vigie(&["windows", "--json", "--clickhouse", "clickhouse.toml"])).iter().map(shape).collect();
    replayed.sort_by_key(|window| window[2].as_i64());
    current.sort_by_key(|window| window[2].as_i64());
    assert_eq!(current, replayed);
}
