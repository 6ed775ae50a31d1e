//! Kafka and ClickHouse: whatever dies, every window comes out once, and is what the log says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use nix::sys::signal::Signal;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use vigie_tests::cluster::{Cluster, DEPLOYMENTS, Told, is_all, is_all_of, read_topic};
use vigie_tests::kafka::Kafka;
use vigie_tests::program::{Program, wait_for};
use vigie_tests::proof::every_sequence_is_whole;

/// How often something is killed; a night's run sets `VIGIE_KILLS` higher.
fn rounds() -> u32 {
    std::env::var("VIGIE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6)
}

/// What can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Probe,
    Alpha,
    Beta,
    Broker,
    Store,
}

const PARTS: [Part; 5] = [Part::Probe, Part::Alpha, Part::Beta, Part::Broker, Part::Store];

impl Part {
    fn kill(self, cluster: &mut Cluster) {
        match self {
            Self::Probe => cluster.probe.take().unwrap().kill(),
            Self::Alpha => cluster.aggregators[0].take().unwrap().kill(),
            Self::Beta => cluster.aggregators[1].take().unwrap().kill(),
            Self::Broker => cluster.kafka.broker(0).kill(),
            Self::Store => cluster.clickhouse.kill(),
        }
    }

    fn start(self, cluster: &mut Cluster) {
        match self {
            Self::Probe => cluster.start_probe(),
            Self::Alpha => cluster.start_aggregator(0),
            Self::Beta => cluster.start_aggregator(1),
            Self::Broker => cluster.kafka.broker(0).start(),
            Self::Store => cluster.clickhouse.start_again(),
        }
    }
}

#[test]
fn whatever_is_killed_every_window_comes_out_once_and_is_what_the_log_says() {
    let mut cluster = Cluster::start(1);
    let mut random = TestRunner::new(Config::default());
    let mut draw = move |most: u64| (0..most).new_tree(&mut random).unwrap().current();
    let mut made = 0.0;
    for round in 0..rounds() {
        // The web server is down in every other round, so that windows open and close across deaths.
        cluster.webs[2].set_up(round % 2 == 1);
        // Everything at first, then whatever comes.
        let chosen = if round == 0 { (1 << PARTS.len()) - 1 } else { 1 + draw((1 << PARTS.len()) - 1) };
        let victims: Vec<Part> = PARTS.into_iter().enumerate().filter(|(bit, _)| chosen & (1 << bit) != 0).map(|(_, part)| part).collect();
        println!("round {round}: {victims:?}");
        for victim in &victims {
            std::thread::sleep(Duration::from_millis(draw(1_500)));
            if *victim == Part::Probe {
                // What was made before this answer is not lost by what comes after it.
                made += cluster.probe.as_ref().unwrap().metric("vigie_probe_samples_made_total");
            }
            victim.kill(&mut cluster);
        }
        std::thread::sleep(Duration::from_millis(draw(3_000)));
        // Programs come back before what they need, or after it.
        let from = draw(victims.len() as u64) as usize;
        for at in 0..victims.len() {
            victims[(from + at) % victims.len()].start(&mut cluster);
        }
        if round % 4 == 2 {
            // Not every outage may be over before anybody sees it.
            cluster.wait_for_open(1);
        }
    }
    cluster.webs[2].set_up(true);
    cluster.wait_until_all("up");
    cluster.wait_for_open(0);
    cluster.wait_until_delivered();
    let (log, versions) = cluster.prove();
    assert!(versions >= 2, "the test has seen no window");
    let samples = every_sequence_is_whole(&log);
    assert!(samples as f64 >= made, "{samples} of {made} samples of the lives that were killed are in the log");
    let (first, last) = (log[0].offset, log[log.len() - 1].offset);
    println!("{} records, offsets {first} to {last}, {versions} versions", log.len());
}

#[test]
fn samples_that_only_the_spool_has_survive_the_probe_and_arrive_when_kafka_is_back() {
    let mut cluster = Cluster::start(1);
    for _ in 0..2 {
        cluster.kafka.broker(0).kill();
        let spooled = || cluster.probe.as_ref().unwrap().metric("vigie_probe_samples_spooled");
        wait_for("samples that only the spool has", || (spooled() >= 6.0).then_some(()));
        cluster.probe.take().unwrap().kill();
        cluster.kafka.broker(0).start();
        cluster.start_probe();
    }
    cluster.wait_until_delivered();
    cluster.wait_until_all("up");
    let (log, versions) = cluster.prove();
    assert!(every_sequence_is_whole(&log) > 0);
    assert_eq!(versions, 0, "a log that was away is no outage");
}

/// What a metric of an aggregator's group says; 0 where it is standby.
fn owns(member: &Program) -> bool {
    member.metric("vigie_group_owned{group=\"main\"}") == 1.0
}

#[test]
fn a_member_that_is_frozen_longer_than_its_session_wakes_up_and_corrupts_nothing() {
    let mut cluster = Cluster::start(1);
    let second = cluster.start_member(DEPLOYMENTS[0], "two");
    wait_for("the standby", || second.get("/readyz").1.starts_with("standby").then_some(()));
    assert!(owns(cluster.aggregator(0)) && !owns(&second));
    cluster.aggregator(0).signal(Signal::SIGSTOP);
    cluster.webs[2].set_up(false);
    wait_for("the takeover", || (owns(&second) && second.get("/readyz").0 == 200).then_some(()));
    wait_for("the window", || second.get("/api/v1/windows?status=open").1.contains("web/r1").then_some(()));
    cluster.aggregator(0).signal(Signal::SIGCONT);
    cluster.webs[2].set_up(true);
    // Whichever of them has the log in the end: it is one, and what it shows is true.
    wait_for("one owner", || (owns(cluster.aggregator(0)) != owns(&second)).then_some(()));
    let owner = if owns(&second) { &second } else { cluster.aggregator(0) };
    wait_for("up again", || is_all(owner, "up").then_some(()));
    wait_for("the window's end", || (!owner.get("/api/v1/windows?status=open").1.contains("web/r1")).then_some(()));
    if owns(&second) {
        cluster.aggregators[0] = None;
    }
    cluster.wait_until_delivered();
    let (_, versions) = cluster.prove();
    assert!(versions >= 2, "the test has seen no window");
}

#[test]
fn nothing_is_shown_as_well_while_kafka_hangs_and_nothing_is_invented_by_it() {
    let mut cluster = Cluster::start(1);
    cluster.kafka.broker(0).freeze();
    for aggregator in cluster.aggregators.iter().flatten() {
        wait_for("unknown", || is_all(aggregator, "unknown").then_some(()));
        let (status, words) = aggregator.get("/readyz");
        assert_eq!(status, 503, "{words}");
    }
    cluster.kafka.broker(0).thaw();
    cluster.wait_until_all("up");
    cluster.wait_until_delivered();
    let (_, versions) = cluster.prove();
    assert_eq!(versions, 0, "a log that hangs is no outage");
}

#[test]
fn a_store_that_takes_nothing_holds_the_fold_back_and_loses_nothing() {
    let mut cluster = Cluster::start(1);
    let full = "MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000";
    cluster.clickhouse.query(&format!("ALTER TABLE vigie.samples {full}"));
    cluster.webs[2].set_up(false);
    for aggregator in cluster.aggregators.iter().flatten() {
        wait_for("the store's trouble", || (aggregator.get("/readyz") == (503, "store_failing\n".to_owned())).then_some(()));
        assert!(aggregator.metric("vigie_store_apply_failures_total") > 0.0);
        assert!(aggregator.log().contains("NOT_ENOUGH_SPACE"), "{}", aggregator.log());
    }
    cluster.clickhouse.query("ALTER TABLE vigie.samples RESET SETTING min_free_disk_bytes_to_perform_insert");
    cluster.wait_for_open(1);
    cluster.clickhouse.freeze();
    cluster.webs[2].set_up(true);
    for aggregator in cluster.aggregators.iter().flatten() {
        wait_for("unknown", || is_all(aggregator, "unknown").then_some(()));
    }
    cluster.clickhouse.thaw();
    cluster.wait_for_open(0);
    cluster.wait_until_all("up");
    cluster.wait_until_delivered();
    let (_, versions) = cluster.prove();
    assert!(versions >= 2, "the test has seen no window");
}

#[test]
fn poison_is_kept_with_its_reason_and_a_snapshot_that_is_damaged_is_not_used() {
    let mut cluster = Cluster::start(1);
    let poison: [&[u8]; 4] = [b"not json", b"{\"v\":9,\"type\":\"tick\"}", b"\xff\xfe", b"{\"v\":1,\"type\":\"sample\"}"];
    cluster.append("vigie.evidence.v1", &poison.map(|bytes| (&b""[..], bytes)));
    let counted = || cluster.clickhouse.query("SELECT uniqExact(ver) FROM vigie.dead_letters").trim().parse::<usize>().unwrap();
    wait_for("dead letters in the table", || (counted() == poison.len()).then_some(()));
    // The table has them as soon as one deployment was there, the topic once from each.
    let told = || read_topic(&cluster.kafka.bootstrap(), "vigie.deadletters.v1", 0);
    let of = |told: &[Told], deployment| told.iter().filter(|message| message.deployment == deployment).count();
    wait_for("dead letters of both in the topic", || DEPLOYMENTS.iter().all(|by| of(&told(), *by) >= poison.len()).then_some(()));
    assert!(DEPLOYMENTS.iter().all(|by| of(&told(), *by) == poison.len()));
    // A snapshot is taken at the end; the next start finds it damaged, says so, and reads the log from its start.
    assert!(cluster.aggregators[0].take().unwrap().stop().success());
    let snapshots = read_topic(&cluster.kafka.bootstrap(), "vigie.snapshots.v1", 0);
    let chunks: Vec<&[u8]> = snapshots.iter().filter(|told| told.key.starts_with("alpha/main/")).map(|told| told.key.as_bytes()).collect();
    assert!(!chunks.is_empty(), "there is no snapshot");
    let damage: Vec<(&[u8], &[u8])> = chunks.iter().map(|key| (*key, &b"damage"[..])).collect();
    cluster.append("vigie.snapshots.v1", &damage);
    cluster.start_aggregator(0);
    wait_for("ready", || (cluster.aggregator(0).get("/readyz").0 == 200).then_some(()));
    cluster.aggregator(0).wait_for_log(&["a snapshot is not whole", "from=0"]);
    cluster.wait_until_delivered();
    cluster.prove();
}

#[test]
fn a_probe_whose_clock_is_an_hour_slow_gives_no_evidence_of_an_hour_ago() {
    let dir = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&dir.path().join("kafka"), 1);
    let mut cluster = Cluster::prepare(dir, kafka, &["main"]);
    (0..DEPLOYMENTS.len()).for_each(|at| cluster.start_aggregator(at));
    // Down, so that evidence of the wrong hour would be an outage in it. (An hour fast: tests/it/stale.rs. Under libfaketime
    // librdkafka then waits for that hour to pass.)
    cluster.webs[2].set_up(false);
    cluster.start_probe_with_clock(-3_600_000);
    for aggregator in cluster.aggregators.iter().flatten() {
        let voided = || aggregator.metric("vigie_samples_voided_total{group=\"main\",vantage=\"v\"");
        wait_for("voids", || (voided() >= 6.0).then_some(()));
        let windows = aggregator.json("/api/v1/windows");
        assert_eq!(windows["windows"].as_array().unwrap().len(), 0, "{windows}");
    }
    cluster.wait_until_delivered();
    assert!(cluster.probe.take().unwrap().stop().success());
    // With the right clock the same failures are an outage, of now.
    cluster.start_probe();
    cluster.wait_for_open(1);
    cluster.wait_until_delivered();
    let (log, versions) = cluster.prove();
    assert!(versions > 0);
    let onset = cluster.clickhouse.query("SELECT min(onset_us) FROM vigie.windows").trim().parse::<i64>().unwrap();
    assert!(onset > log[0].appended_at.us());
}

#[test]
fn what_is_delivered_twice_is_counted_once() {
    let mut cluster = Cluster::start(1);
    cluster.webs[2].set_up(false);
    cluster.wait_for_open(1);
    // Everything again, the other way round.
    let told = read_topic(&cluster.kafka.bootstrap(), "vigie.evidence.v1", 0);
    let again: Vec<(&[u8], &[u8])> = told.iter().rev().map(|told| (&b""[..], told.text.as_slice())).collect();
    cluster.append("vigie.evidence.v1", &again);
    cluster.webs[2].set_up(true);
    cluster.wait_for_open(0);
    cluster.append("vigie.evidence.v1", &again);
    cluster.wait_until_all("up");
    cluster.wait_until_delivered();
    let (log, versions) = cluster.prove();
    assert!(versions >= 2, "the test has seen no window");
    // The contract's latency line counts samples: each once, in both deployments and in a replay.
    let mut samples: BTreeMap<(String, u64), i64> = BTreeMap::new();
    for logged in &log {
        let record: Value = serde_json::from_slice(&logged.bytes).unwrap();
        if record["target"] == "a" && record["outcome"] == "ok" && record["latency_us"].is_u64() {
            samples.insert((record["run"].to_string(), record["seq"].as_u64().unwrap()), record["t1"].as_i64().unwrap());
        }
    }
    let counted =
        |lines: &[Value]| -> u64 { lines.iter().filter(|line| line["target"] == "a").map(|line| line["ok"].as_u64().unwrap()).sum() };
    let replayed = cluster.vigie(&["replay", "--evidence", "archive/main/00000"]);
    let replayed: Vec<Value> = replayed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<Value> = replayed.into_iter().filter(|line| line["type"] == "latency").collect();
    // What is not older than the frontier, a second behind the log, is not counted yet.
    let frontier = log.iter().map(|logged| logged.appended_at.us()).max().unwrap() - 1_000_000;
    assert_eq!(counted(&lines), samples.values().filter(|stamp| **stamp < frontier).count() as u64);
    for aggregator in cluster.aggregators.iter().flatten() {
        wait_for("the latency line", || {
            let answer = aggregator.json("/api/v1/latencies");
            (counted(answer["latencies"].as_array()?) == samples.len() as u64).then_some(())
        });
    }
}

#[test]
fn replicas_that_read_a_catalogue_at_different_times_derive_the_same_from_it() {
    let mut cluster = Cluster::start(1);
    cluster.aggregator(1).signal(Signal::SIGSTOP);
    // Another service, measured from now on.
    let path = cluster.dir.path().join("c.toml");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let since = vigie_aggregator::clock::wall_now() + vigie_contract::Span::from_secs(30);
    let needs = "{ all = [\"a\", \"web\"] }";
    writeln!(text, "[[service]]\nid = \"both/r1\"\nindicator = \"I\"\nneeds = {needs}\nsince = {since}").unwrap();
    std::fs::write(&path, text).unwrap();
    cluster.vigie(&["publish", "--kafka", "kafka.toml", "--catalogue", "c.toml", "--yes"]);
    cluster.webs[2].set_up(false);
    let knows = |aggregator: &Program| aggregator.get("/api/v1/windows?status=open").1.contains("both/r1");
    wait_for("the outage of the new service", || knows(cluster.aggregator(0)).then_some(()));
    cluster.webs[2].set_up(true);
    wait_for("its end", || (!knows(cluster.aggregator(0))).then_some(()));
    cluster.aggregator(1).signal(Signal::SIGCONT);
    cluster.wait_until_all("up");
    cluster.wait_until_delivered();
    let (_, versions) = cluster.prove();
    assert!(versions >= 4, "the test has seen no windows");
}

#[test]
fn a_snapshot_of_another_semantics_revision_is_not_used() {
    let mut cluster = Cluster::start(1);
    cluster.webs[2].set_up(false);
    cluster.wait_for_open(1);
    cluster.webs[2].set_up(true);
    cluster.wait_for_open(0);
    for at in 0..DEPLOYMENTS.len() {
        assert!(cluster.aggregators[at].take().unwrap().stop().success());
    }
    let snapshots = read_topic(&cluster.kafka.bootstrap(), "vigie.snapshots.v1", 0);
    for deployment in DEPLOYMENTS {
        let key = format!("{deployment}/main");
        let mut index = snapshots.iter().rfind(|told| told.key == key).unwrap().text.clone();
        // The revision is its first byte.
        index[0] -= 1;
        cluster.append("vigie.snapshots.v1", &[(key.as_bytes(), &index)]);
    }
    (0..DEPLOYMENTS.len()).for_each(|at| cluster.start_aggregator(at));
    cluster.wait_until_all("up");
    for aggregator in cluster.aggregators.iter().flatten() {
        aggregator.wait_for_log(&["a snapshot of another semantics revision", "from=0"]);
    }
    cluster.wait_until_delivered();
    let (_, versions) = cluster.prove();
    assert!(versions >= 2, "the test has seen no window");
}

#[test]
fn groups_that_move_between_members_in_mid_window_are_folded_by_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&dir.path().join("kafka"), 1);
    let mut cluster = Cluster::prepare(dir, kafka, &["main", "webs"]);
    (0..DEPLOYMENTS.len()).for_each(|at| cluster.start_aggregator(at));
    cluster.start_probe();
    cluster.wait_until_all("up");
    cluster.webs[2].set_up(false);
    cluster.wait_for_open(1);
    let owned = |member: &Program| ["main", "webs"].map(|group| member.metric(&format!("vigie_group_owned{{group=\"{group}\"}}")) == 1.0);
    let second = cluster.start_member(DEPLOYMENTS[0], "two");
    let share = wait_for("a share each", || {
        let (one, two) = (owned(cluster.aggregator(0)), owned(&second));
        (one.contains(&true) && two.contains(&true) && one != two).then_some(two)
    });
    let moved = if share[0] { "main" } else { "webs" };
    wait_for("the group where it moved to", || second.get(&format!("/groups/{moved}/readyz")).0.eq(&200).then_some(()));
    second.wait_for_log(&["folding"]);
    cluster.webs[2].set_up(true);
    wait_for("what moved is up", || is_all_of(&second, moved, "up").then_some(()));
    cluster.webs[2].set_up(false);
    second.kill();
    wait_for("both again", || (owned(cluster.aggregator(0)) == [true, true]).then_some(()));
    cluster.wait_for_open(1);
    cluster.webs[2].set_up(true);
    cluster.wait_for_open(0);
    cluster.wait_until_all("up");
    cluster.wait_until_delivered();
    a_member_answers_for_all_groups_that_it_folds(cluster.aggregator(0));
    let (_, versions) = cluster.prove();
    assert!(versions >= 2, "the test has seen no window");
}

fn a_member_answers_for_all_groups_that_it_folds(member: &Program) {
    let (status, metrics) = member.get("/metrics");
    assert_eq!(status, 200);
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let mut series: Vec<&str> = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    for service in ["a/r1", "web/r1"] {
        let wanted = format!("vigie_service_state{{service=\"{service}\",indicator=\"I\",scope=\"r1\"}}");
        assert!(series.contains(&wanted.as_str()), "{wanted} in {metrics}");
    }
    let count = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), count, "a series is there twice: {metrics}");
    assert_eq!(metrics.matches("# TYPE vigie_frontier_timestamp_seconds ").count(), 1);
    let page = member.get("/").1;
    assert!(page.contains("href=\"/groups/main/\"") && page.contains("href=\"/groups/webs/\""), "{page}");
    let (status, directory) = member.get("/api/v1/services");
    assert!(status == 404 && directory.contains("/groups/webs/"), "{directory}");
}
