//! The consumers' side: the example SLA engine agrees with `vigie report`, from the topic and from the tables; facts that people append
//! through Kafka count, and dead letters get another chance.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vigie_contract::Time;
use vigie_tests::cluster::{Cluster, read_archive, read_topic};
use vigie_tests::program::wait_for;

/// What must agree to the microsecond, whenever each was written.
const FIGURES: [&str; 6] = ["base_us", "gross_down_us", "down_us", "budget_us", "remaining_us", "availability"];

fn figures(rows: &Value) -> BTreeMap<String, Vec<Value>> {
    let rows = rows.as_array().unwrap_or_else(|| panic!("no accounts: {rows}"));
    rows.iter().map(|row| (row["service"].as_str().unwrap().to_owned(), FIGURES.map(|name| row[name].clone()).to_vec())).collect()
}

fn statement(dir: &Path, args: &[&str]) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/sla/statement.py");
    let output = Command::new("python3").arg(script).args(args).arg("--json").current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_sla_engine_agrees_with_the_report_from_the_topic_and_from_the_tables() {
    let cluster = Cluster::start(1);
    for _ in 0..2 {
        cluster.webs[2].set_up(false);
        cluster.wait_for_open(1);
        cluster.webs[2].set_up(true);
        cluster.wait_for_open(0);
    }
    let windows = cluster.vigie(&["windows", "--json", "--clickhouse", "clickhouse.toml"]);
    let first: Value = serde_json::from_str(windows.lines().next().unwrap()).unwrap();
    let (onset, end) = (first["onset_us"].as_i64().unwrap(), first["end_us"].as_i64().unwrap());
    let half = Time::from_us(onset + (end - onset) / 2);
    let (start, stop) = (Time::from_us(onset).to_string(), half.to_string());
    let who = ["--approved-by", "ops", "--override-by", "ops", "--reason", "a test", "--kafka", "kafka.toml", "--yes"];
    let what = ["exclude", "approve", "--id", "M-1", "--kind", "maintenance", "--service", "web/r1", "--start", &start, "--end", &stop];
    cluster.vigie(&[&what[..], &who].concat());
    let claim = ["--actor", "support", "--reason", "a test", "--kafka", "kafka.toml", "--yes"];
    let open = ["claim", "open", "--id", "T-1", "--service", "a/r1", "--opened-at", &start];
    cluster.vigie(&[&open[..], &claim].concat());
    cluster.vigie(&[&["claim", "accept", "--id", "T-1", "--resolved-at", &stop][..], &claim].concat());

    let month = start[..7].to_owned();
    let report = ["report", "--format", "json", "--clickhouse", "clickhouse.toml", "--month", &month];
    let reported = wait_for("the accounts with the exclusion", || {
        let report: Value = serde_json::from_str(&cluster.vigie(&report)).unwrap();
        let web = report["accounts"].as_array()?.iter().find(|account| account["service"] == "web/r1")?.clone();
        let excluded = web["gross_down_us"].as_i64()? - web["down_us"].as_i64()?;
        let claimed = report["accounts"].as_array()?.iter().any(|account| account["service"] == "a/r1" && account["gross_down_us"] != 0);
        (excluded == half.us() - onset && claimed).then_some(report["accounts"].clone())
    });
    let reported = figures(&reported);

    let url = cluster.clickhouse.url();
    let tables = statement(cluster.dir.path(), &["--month", &month, "--clickhouse", &url, "--database", "vigie"]);
    assert_eq!(figures(&tables["accounts"]), reported, "from the tables");

    cluster.vigie(&["archive", "--kafka", "kafka.toml", "--to", "archive"]);
    let log = read_archive(&cluster.dir.path().join("archive/main/00000"));
    let facts: Vec<String> = log
        .iter()
        .filter_map(|logged| {
            let mut record: Value = serde_json::from_slice(&logged.bytes).ok()?;
            record["appended_at"] = logged.appended_at.us().into();
            (record["type"] == "exclusion").then(|| record.to_string() + "\n")
        })
        .collect();
    std::fs::write(cluster.dir.path().join("exclusions.ndjson"), facts.concat()).unwrap();
    let told = read_topic(&cluster.kafka.bootstrap(), "vigie.windows.v1", 0);
    let schema: Value = serde_json::from_str(include_str!("../../aggregator/schema/windows.v1.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for message in &told {
        let message: Value = serde_json::from_slice(&message.text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&message).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{message}: {errors:?}");
    }
    let messages: Vec<u8> = told.iter().rev().flat_map(|message| [&message.text[..], b"\n"].concat()).collect();
    std::fs::write(cluster.dir.path().join("windows.ndjson"), messages).unwrap();
    let as_of = cluster.aggregator(0).json("/api/v1/accounts")["frontier_us"].to_string();
    let args =
        ["--month", &month, "--topic", "windows.ndjson", "--as-of", &as_of, "--catalogue", "c.toml", "--exclusions", "exclusions.ndjson"];
    assert_eq!(figures(&statement(cluster.dir.path(), &args)["accounts"]), reported, "from the topic");
}

#[test]
fn a_dead_letter_is_listed_and_fed_again() {
    let cluster = Cluster::start(1);
    let letters = ["letters", "--kafka", "kafka.toml", "--clickhouse", "clickhouse.toml"];
    assert_eq!(cluster.vigie(&letters), "no dead letter\n");
    cluster.append("vigie.evidence.v1", &[(b"", b"{\"v\":9,\"type\":\"tick\"}")]);
    let listed = wait_for("the letter", || Some(cluster.vigie(&letters)).filter(|listed| listed != "no dead letter\n"));
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let fed = cluster.vigie(&[&letters[..], &["--feed"]].concat());
    assert!(fed.contains("1 of 1 were appended again"), "{fed}");
    // Nothing was mended: it is refused again, visibly.
    wait_for("the second letter", || (cluster.vigie(&letters).lines().count() == 2).then_some(()));
}
