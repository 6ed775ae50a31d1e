//! Kafka as it can be: several brokers, clocks that are wrong, topics that would corrupt, and doors that are shut.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use vigie_tests::cluster::{Cluster, is_all, read_archive};
use vigie_tests::kafka::{Kafka, Security};
use vigie_tests::program::{Program, vigie, wait_for};
use vigie_tests::region::{Web, write_catalogue};

#[test]
fn a_broker_of_three_that_dies_is_no_outage_and_takes_nothing_with_it() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.kafka.leader("vigie.evidence.v1", 0);
    cluster.kafka.broker(leader).kill();
    cluster.webs[2].set_up(false);
    cluster.wait_for_open(1);
    cluster.webs[2].set_up(true);
    cluster.wait_for_open(0);
    cluster.kafka.broker(leader).start();
    cluster.kafka.wait_until_ready();
    let other = cluster.kafka.leader("vigie.evidence.v1", 0);
    cluster.kafka.broker(other).freeze();
    cluster.wait_until_all("up");
    cluster.kafka.broker(other).thaw();
    cluster.wait_until_delivered();
    let (_, versions) = cluster.prove();
    assert!(versions >= 2, "the test has seen no window");
}

#[test]
fn a_partition_that_is_sick_holds_up_no_other_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&dir.path().join("kafka"), 3);
    let mut cluster = Cluster::prepare(dir, kafka, &["main", "webs"]);
    cluster.start_probe();
    let probe = |cluster: &Cluster, name: &str| cluster.probe.as_ref().unwrap().metric(&format!("vigie_probe_samples_{name}"));
    wait_for("samples", || (probe(&cluster, "delivered_total") >= 6.0).then_some(()));
    let leader = cluster.kafka.leader("vigie.evidence.v1", 1);
    assert_ne!(leader, cluster.kafka.leader("vigie.evidence.v1", 0));
    cluster.kafka.broker(leader).freeze();
    // As long as ten periods; of the samples of `web`, and of its anchors' copies, none gets through.
    let before = probe(&cluster, "made_total");
    wait_for("samples of a sick partition", || (probe(&cluster, "made_total") >= before + 30.0).then_some(()));
    assert!(probe(&cluster, "spooled") > 0.0);
    cluster.kafka.broker(leader).thaw();
    cluster.kafka.wait_until_ready();
    cluster.wait_until_delivered();
    assert!(cluster.probe.take().unwrap().stop().success());
    cluster.vigie(&["archive", "--kafka", "kafka.toml", "--to", "archive"]);
    let late = |group: &str| {
        let log = read_archive(&cluster.dir.path().join(format!("archive/{group}/00000")));
        let mut first: BTreeMap<(String, u64), i64> = BTreeMap::new();
        for logged in &log {
            let record: Value = serde_json::from_slice(&logged.bytes).unwrap();
            if let (Some(target), Some(seq), Some(t1)) = (record["target"].as_str(), record["seq"].as_u64(), record["t1"].as_i64()) {
                first.entry((target.to_owned(), seq)).or_insert(logged.appended_at.us() - t1);
            }
        }
        // All of them, without a hole.
        for target in ["a", "b", "web"] {
            let seqs: Vec<u64> = first.keys().filter(|(of, _)| of == target).map(|(_, seq)| *seq).collect();
            assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "{group}: {target}");
        }
        first.into_values().max().unwrap()
    };
    let (healthy, sick) = (late("main"), late("webs"));
    assert!(sick > 5_000_000 && healthy < sick / 2, "the latest of the healthy partition {healthy} us, of the sick one {sick} us");
    println!("the latest of the healthy partition {healthy} us, of the sick one {sick} us");
}

fn cluster_with_clock(offset_ms: i64) -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let kafka = Kafka::start_with_clock(&dir.path().join("kafka"), 1, offset_ms);
    Cluster::start_unseen(dir, kafka)
}

#[test]
fn samples_that_a_slow_broker_dates_before_they_were_made_are_no_evidence_and_the_clock_is_told() {
    let mut cluster = cluster_with_clock(-1_500);
    cluster.webs[2].set_up(false);
    for aggregator in cluster.aggregators.iter().flatten() {
        // From the future, or, once the probe has compared the clocks, from one that may be as wrong as the log's.
        let voided = || aggregator.metric("vigie_samples_voided_total{group=\"main\",vantage=\"v\"");
        wait_for("voids", || (voided() >= 6.0).then_some(()));
        let difference = aggregator.metric("vigie_log_clock_difference_seconds");
        assert!((-2.5..-0.3).contains(&difference), "{difference}");
        assert!(!is_all(aggregator, "up"));
        let windows = aggregator.json("/api/v1/windows");
        assert_eq!(windows["windows"].as_array().unwrap().len(), 0, "{windows}");
    }
    cluster.wait_until_delivered();
    let (_, versions) = cluster.prove_without_readiness();
    assert_eq!(versions, 0, "a wrong clock is no outage");
}

#[test]
fn a_broker_that_is_an_hour_fast_shows_nothing_as_well_and_invents_nothing() {
    let mut cluster = cluster_with_clock(3_600_000);
    for aggregator in cluster.aggregators.iter().flatten() {
        wait_for("the log's clock", || (aggregator.get("/readyz") == (503, "log_ahead\n".to_owned())).then_some(()));
        assert!(aggregator.metric("vigie_log_clock_difference_seconds") > 3_500.0);
        assert!(is_all(aggregator, "unknown"));
    }
    cluster.wait_until_delivered();
    let (_, versions) = cluster.prove_without_readiness();
    assert_eq!(versions, 0, "a wrong clock is no outage");
}

#[test]
fn a_topic_that_would_corrupt_order_time_or_evidence_is_refused_with_the_setting_to_mend() {
    let dir = tempfile::tempdir().unwrap();
    let mut kafka = Kafka::start(&dir.path().join("kafka"), 1);
    let settings = [("message.timestamp.type", "CreateTime"), ("cleanup.policy", "compact"), ("retention.ms", "60000")];
    kafka.create_topic("vigie.evidence.v1", 2, &settings);
    std::fs::write(dir.path().join("kafka.toml"), settings_of(&kafka.bootstrap(), "")).unwrap();
    for args in [&["topics", "--kafka", "kafka.toml", "--create"][..], &["topics", "--kafka", "kafka.toml"]] {
        let output = vigie(dir.path(), args);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stdout).unwrap();
        let expected = [
            "error: topic vigie.evidence.v1 has 2 partitions, and the settings name 1 groups",
            "error: topic vigie.evidence.v1 has message.timestamp.type=CreateTime: set message.timestamp.type=LogAppendTime",
            "error: topic vigie.evidence.v1 has cleanup.policy=compact: set cleanup.policy=delete",
            "error: topic vigie.evidence.v1 has retention.ms=60000: set retention.ms=1209600000 or more",
        ];
        for line in expected {
            assert!(told.contains(line), "{line} is missing in:\n{told}");
        }
        assert!(!told.contains("vigie.windows.v1"), "{told}");
    }
    std::fs::write(dir.path().join("clickhouse.toml"), "url = \"http://127.0.0.1:9\"\n").unwrap();
    let output = vigie(dir.path(), &["aggregate", "--kafka", "kafka.toml", "--clickhouse", "clickhouse.toml", "--listen", "127.0.0.1:0"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("set message.timestamp.type=LogAppendTime"), "{told}");
}

fn settings_of(bootstrap: &str, security: &str) -> String {
    format!("brokers = [\"{bootstrap}\"]\nreplication = 1\nmin_insync_replicas = 1\n{security}")
}

fn self_signed() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A probe with these settings; it measures a region that is up.
fn probe(dir: &Path, settings: &str) -> Program {
    std::fs::write(dir.join("kafka.toml"), settings).unwrap();
    let _ = std::fs::remove_dir_all(dir.join("spool"));
    Program::start(dir, &["probe", "--kafka", "kafka.toml", "--catalogue", "c.toml", "--vantage", "v", "--spool", "spool"])
}

#[test]
fn an_unknown_broker_a_bad_certificate_a_wrong_password_and_a_missing_right_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let ((certificate, key), (stranger, _)) = (self_signed(), self_signed());
    let security = Security { certificate: &certificate, key: &key, users: &[("writer", "right"), ("stranger", "right")] };
    let mut kafka = Kafka::start_secure(&dir.join("kafka"), 1, &security);
    let webs = [Web::start(), Web::start(), Web::start()];
    write_catalogue(&dir.join("c.toml"), &["v"], &[("a", webs[0].address), ("b", webs[1].address), ("web", webs[2].address)]);
    for (file, text) in [("ca.pem", certificate.as_str()), ("other.pem", stranger.as_str()), ("right", "right\n"), ("wrong", "wrong\n")] {
        std::fs::write(dir.join(file), text).unwrap();
    }
    std::fs::write(dir.join("plain.toml"), settings_of(&kafka.bootstrap(), "")).unwrap();
    assert!(vigie(dir, &["topics", "--kafka", "plain.toml", "--create"]).status.success());
    kafka.allow_write("writer", "vigie.evidence.v1");
    let secure = |ca: &str, user: &str, password: &str| {
        let security = format!("[tls]\nca = \"{ca}\"\n[sasl]\nuser = \"{user}\"\npassword_file = \"{password}\"\n");
        settings_of(&kafka.secure_bootstrap(), &security)
    };
    let nobody = settings_of("127.0.0.1:9", "");
    let wrongs = [
        ("unreachable", nobody),
        ("certificate", secure("other.pem", "writer", "right")),
        ("authentication", secure("ca.pem", "writer", "wrong")),
        ("authorization", secure("ca.pem", "stranger", "right")),
    ];
    for (trouble, settings) in wrongs {
        let probe = probe(dir, &settings);
        let words = wait_for(trouble, || {
            let (status, words) = probe.get("/readyz");
            (status == 503 && words.contains(&format!("kafka {trouble}: "))).then_some(words)
        });
        probe.wait_for_log(&[&format!("trouble=\"{trouble}\"")]);
        assert_eq!(probe.metric(&format!("vigie_kafka_trouble{{client=\"producer\",trouble=\"{trouble}\"")), 1.0);
        assert!(!words.contains("right") && !probe.log().contains("right\n"), "a secret is shown: {words}");
    }
    let probe = probe(dir, &secure("ca.pem", "writer", "right"));
    wait_for("delivered samples", || (probe.metric("vigie_probe_samples_delivered_total") >= 3.0).then_some(()));
    assert_eq!(probe.get("/readyz").0, 200);
    assert_eq!(probe.metric("vigie_kafka_trouble"), 0.0);
}
