//! A region on several machines, as far as one machine can be several: real Kafka, real ClickHouse, two deployments of aggregators that
//! stand by for each other, and a probe.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value};
use vigie_aggregator::archive::{Shelf, segments};
use vigie_aggregator::port::Logged;
use vigie_contract::Catalogue;
use vigie_contract::catalogue::Strictness;

use crate::clickhouse::ClickHouse;
use crate::kafka::{Kafka, wrong_clock};
use crate::program::{Program, get, vigie, wait_for};
use crate::proof;
use crate::region::{Web, write_catalogue};

/// The two deployments.
pub const DEPLOYMENTS: [&str; 2] = ["alpha", "beta"];

/// The region.
pub struct Cluster {
    /// Where its files are.
    pub dir: tempfile::TempDir,
    /// The servers of the targets `a`, `b` and `web`; the first two are the anchors.
    pub webs: Vec<Web>,
    /// The log.
    pub kafka: Kafka,
    /// The store.
    pub clickhouse: ClickHouse,
    /// A member of each deployment.
    pub aggregators: Vec<Option<Program>>,
    /// `vigie probe`, of vantage `v`.
    pub probe: Option<Program>,
    /// The groups, one partition each.
    pub groups: Vec<&'static str>,
}

/// A message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which deployment told it.
    pub deployment: String,
    /// Its key.
    pub key: String,
    /// What it says.
    pub text: Vec<u8>,
}

impl Cluster {
    /// Starts everything, with so many brokers, and waits until all services are up.
    ///
    /// # Panics
    /// If they are not.
    pub fn start(brokers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kafka = Kafka::start(&dir.path().join("kafka"), brokers);
        Self::start_with(dir, kafka)
    }

    /// The same with a log that is there already.
    ///
    /// # Panics
    /// If the services do not come up.
    pub fn start_with(dir: tempfile::TempDir, kafka: Kafka) -> Self {
        let cluster = Self::start_unseen(dir, kafka);
        cluster.wait_until_all("up");
        cluster
    }

    /// The same without a look at the services.
    ///
    /// # Panics
    /// If a program does not start.
    pub fn start_unseen(dir: tempfile::TempDir, kafka: Kafka) -> Self {
        let mut cluster = Self::prepare(dir, kafka, &["main"]);
        (0..DEPLOYMENTS.len()).for_each(|at| cluster.start_aggregator(at));
        cluster.start_probe();
        cluster
    }

    /// Everything but aggregators and probe. Of several groups the last has the service of `web`, the first all others; then of each
    /// partition there is one copy, so that one of them can be sick alone.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn prepare(dir: tempfile::TempDir, kafka: Kafka, groups: &[&'static str]) -> Self {
        let clickhouse = ClickHouse::start(&dir.path().join("clickhouse"));
        let webs: Vec<Web> = (0..3).map(|_| Web::start()).collect();
        let path = dir.path().join("c.toml");
        write_catalogue(&path, &["v"], &[("a", webs[0].address), ("b", webs[1].address), ("web", webs[2].address)]);
        if let [_, .., last] = groups {
            let mut text = std::fs::read_to_string(&path).unwrap();
            for block in ["[[target]]\nid = \"web\"\n", "[[service]]\nid = \"web/r1\"\n"] {
                text = text.replace(block, &format!("{block}group = \"{last}\"\n"));
            }
            std::fs::write(&path, text).unwrap();
        }
        let cluster = Self::assemble(dir, webs, kafka, clickhouse, groups, 0);
        cluster.vigie(&["topics", "--kafka", "kafka.toml", "--create"]);
        cluster.vigie(&["schema", "--clickhouse", "clickhouse.toml", "--apply"]);
        cluster.vigie(&["publish", "--kafka", "kafka.toml", "--catalogue", "c.toml", "--yes"]);
        cluster
    }

    /// The servers and the settings that name them, and no program yet; `c.toml` in the directory is the catalogue of these webs.
    ///
    /// # Panics
    /// If the settings cannot be written.
    pub fn assemble(
        dir: tempfile::TempDir,
        webs: Vec<Web>,
        kafka: Kafka,
        clickhouse: ClickHouse,
        groups: &[&'static str],
        log_epoch: u64,
    ) -> Self {
        let bootstrap = kafka.bootstrap();
        let brokers = bootstrap.split(',').count();
        let in_sync = if brokers > 1 { 2 } else { 1 };
        let servers = bootstrap.replace(',', "\", \"");
        let named = groups.join("\", \"");
        let replication = if groups.len() > 1 { 1 } else { brokers };
        let in_sync = in_sync.min(replication);
        let settings = format!(
            "brokers = [\"{servers}\"]\ngroups = [\"{named}\"]\nreplication = {replication}\nmin_insync_replicas = {in_sync}\n\
             log_epoch = {log_epoch}\n"
        );
        std::fs::write(dir.path().join("kafka.toml"), settings).unwrap();
        std::fs::write(dir.path().join("clickhouse.toml"), format!("url = \"{}\"\n", clickhouse.url())).unwrap();
        Self { dir, webs, kafka, clickhouse, aggregators: vec![None, None], probe: None, groups: groups.to_vec() }
    }

    /// Starts the member of a deployment, or another beside it. It archives into the bucket that `DEPLOYMENT.toml` describes, if there is
    /// such a file.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_member(&self, deployment: &str, member: &str) -> Program {
        let mut args =
            vec!["aggregate", "--kafka", "kafka.toml", "--clickhouse", "clickhouse.toml", "--deployment", deployment, "--member", member];
        let bucket = format!("{deployment}.toml");
        if self.dir.path().join(&bucket).exists() {
            args.extend(["--archive", &bucket]);
        }
        Program::start(self.dir.path(), &args)
    }

    /// Starts the first member of the deployment at this place.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_aggregator(&mut self, at: usize) {
        self.aggregators[at] = Some(self.start_member(DEPLOYMENTS[at], "one"));
    }

    /// Starts the probe.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_probe(&mut self) {
        self.start_probe_with_clock(0);
    }

    /// The same with a wall clock that is wrong: early (slow) if `offset_ms` is below 0.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_probe_with_clock(&mut self, offset_ms: i64) {
        let args = ["probe", "--kafka", "kafka.toml", "--catalogue", "c.toml", "--vantage", "v", "--spool", "spool"];
        self.probe = Some(Program::start_with(self.dir.path(), &args, &wrong_clock(offset_ms)));
    }

    /// The member of the deployment at this place.
    ///
    /// # Panics
    /// If it was killed.
    pub fn aggregator(&self, at: usize) -> &Program {
        self.aggregators[at].as_ref().unwrap()
    }

    /// Runs `vigie` in the region's directory.
    ///
    /// # Panics
    /// If it fails.
    pub fn vigie(&self, args: &[&str]) -> String {
        let output = vigie(self.dir.path(), args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Appends records, each a key and what it says, to the first partition of a topic, as anybody could who may.
    ///
    /// # Panics
    /// If they are not acknowledged.
    pub fn append(&self, topic: &str, records: &[(&[u8], &[u8])]) {
        let settings = vigie_kafka::Settings::read(&self.dir.path().join("kafka.toml")).unwrap();
        let producer = vigie_kafka::Producer::new(&settings).unwrap();
        let messages: Vec<vigie_kafka::Message<'_>> = records
            .iter()
            .map(|(key, payload)| vigie_kafka::Message {
                topic,
                partition: Some(0),
                key: Some(*key).filter(|key| !key.is_empty()),
                payload: Some(payload),
                header: None,
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(producer.send(&messages)).unwrap();
    }

    /// Waits until every aggregator shows all services in this state.
    ///
    /// # Panics
    /// If one does not.
    pub fn wait_until_all(&self, state: &str) {
        for aggregator in self.aggregators.iter().flatten() {
            for group in &self.groups {
                wait_for(state, || is_all_of(aggregator, group, state).then_some(()));
            }
        }
    }

    /// Waits until every aggregator knows so many windows that are open.
    ///
    /// # Panics
    /// If one does not.
    pub fn wait_for_open(&self, count: usize) {
        // The outages of the tests are of `web`, which the last group has.
        let path = format!("/groups/{}/api/v1/windows?status=open", self.groups[self.groups.len() - 1]);
        for aggregator in self.aggregators.iter().flatten() {
            wait_for("windows that are open", || {
                let (status, body) = aggregator.get(&path);
                let answer: Value = serde_json::from_str(&body).ok().filter(|_| status == 200)?;
                (answer["stale"].is_null() && answer["windows"].as_array()?.len() == count).then_some(())
            });
        }
    }

    /// Waits until nothing waits in the probe's spool and its account is even.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn wait_until_delivered(&self) {
        wait_for("the account of all samples", || {
            let metrics = self.probe.as_ref()?.get("/metrics").1;
            let of = |name: &str| crate::program::sum_of(&metrics, &format!("vigie_probe_samples_{name}"));
            let is_even = of("made_total") + of("recovered_total") == of("delivered_total") + of("spooled") + of("dropped_total");
            (is_even && of("spooled") == 0.0 && of("dropped_total") == 0.0 && of("delivered_total") > 0.0).then_some(())
        });
    }

    /// Asks everything that still runs to end, and proves what was published: every version of every window in the store, on the topic
    /// by both deployments, is what an engine publishes that was never interrupted; and the final windows are those of `vigie replay`.
    /// The log, and how many versions there are.
    ///
    /// # Panics
    /// If anything differs.
    pub fn prove(&mut self) -> (Vec<Logged>, usize) {
        for aggregator in self.aggregators.iter().flatten() {
            wait_for("readiness", || (aggregator.get("/readyz").0 == 200).then_some(()));
        }
        self.prove_without_readiness()
    }

    /// The same where the aggregators have a reason to show nothing.
    ///
    /// # Panics
    /// If anything differs.
    pub fn prove_without_readiness(&mut self) -> (Vec<Logged>, usize) {
        if let Some(probe) = self.probe.take() {
            assert!(probe.stop().success());
        }
        self.vigie(&["archive", "--kafka", "kafka.toml", "--to", "archive"]);
        let (mut log, mut versions) = (Vec::new(), 0);
        for group in &self.groups {
            let (more, others) = self.prove_group(group);
            log.extend(more);
            versions += others;
        }
        self.compare_with_replay();
        (log, versions)
    }

    /// What there is to prove of one group's log.
    fn prove_group(&self, group: &str) -> (Vec<Logged>, usize) {
        let log = read_archive(&self.dir.path().join(format!("archive/{group}/00000")));
        let end = log.last().unwrap().offset + 1;
        // Both have come as far as the archive has.
        let ticks = |aggregator: &Program| {
            let metrics = aggregator.get(&format!("/groups/{group}/metrics")).1;
            crate::program::sum_of(&metrics, &format!("vigie_records_total{{group=\"{group}\",type=\"tick\""))
        };
        let before: Vec<f64> = self.aggregators.iter().flatten().map(ticks).collect();
        for (aggregator, before) in self.aggregators.iter().flatten().zip(before) {
            // Ticks that came after what was archived are folded, and so is all before them.
            wait_for("the end of the log", || (ticks(aggregator) >= before + 2.0).then_some(()));
        }
        wait_for("the end of the log in the store", || {
            let sql = format!("SELECT max(ver) FROM vigie.frontiers WHERE log_group = '{group}'");
            let frontier = self.clickhouse.query(&sql).trim().parse::<u64>().ok()?;
            (frontier >= end).then_some(())
        });
        let derived = proof::refold(group, &log);
        let stored = self.stored_windows(group, end);
        assert_eq!(stored, derived, "the store has other versions than an uninterrupted fold");
        let catalogue = std::fs::read_to_string(self.dir.path().join("c.toml")).unwrap();
        let (catalogue, _) = Catalogue::read(&catalogue, Strictness::Live).unwrap();
        let has = |catalogue: &Catalogue, key: &str| catalogue.services.iter().any(|service| service.id.as_str() == key);
        let mut told = read_topic(&self.kafka.bootstrap(), "vigie.windows.v1", 0);
        assert!(told.iter().all(|message| has(&catalogue, &message.key)), "windows of a service that there is not");
        let catalogue = catalogue.of_group(group);
        told.retain(|message| has(&catalogue, &message.key));
        for deployment in DEPLOYMENTS {
            let mut versions: BTreeMap<(u64, String), Vec<u8>> = BTreeMap::new();
            for message in told.iter().filter(|message| message.deployment == deployment) {
                let row: Map<String, Value> = serde_json::from_slice(&message.text).unwrap();
                let key = (row["ver"].as_u64().unwrap(), row["id"].as_str().unwrap().to_owned());
                let known = versions.insert(key, message.text.clone());
                assert!(known.is_none_or(|known| known == message.text), "one version, two texts");
            }
            let rows: Vec<Map<String, Value>> = versions
                .range(..(end + 1, String::new()))
                .map(|(_, text)| {
                    let mut row: Map<String, Value> = serde_json::from_slice(text).unwrap();
                    row.remove("type");
                    row
                })
                .collect();
            assert_eq!(rows, derived, "{deployment} told other versions");
        }
        (log, derived.len())
    }

    /// Every version of every window of a group in the store up to a version number, each once.
    fn stored_windows(&self, group: &str, up_to: u64) -> Vec<Map<String, Value>> {
        let sql = format!(
            "SELECT DISTINCT * EXCEPT log_group FROM vigie.windows WHERE log_group = '{group}' AND ver <= {up_to} FORMAT JSONEachRow \
             SETTINGS output_format_json_quote_64bit_integers = 0, output_format_json_escape_forward_slashes = 0"
        );
        let mut rows: Vec<_> = self.clickhouse.query(&sql).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        proof::sort(&mut rows);
        rows
    }

    fn compare_with_replay(&self) {
        let replay = |group| self.vigie(&["replay", "--evidence", &format!("archive/{group}/00000")]);
        let replayed: Vec<String> = self.groups.iter().map(replay).collect();
        let mut replayed: Vec<_> = replayed
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|line| line["type"] == "window")
            .map(|line| (line["service"].to_string(), line["onset_us"].as_i64(), line["end_us"].as_i64(), line["kind"].to_string()))
            .collect();
        replayed.sort();
        let sql = "SELECT service, onset_us, end_us, kind FROM vigie.windows_current FORMAT JSONEachRow \
                   SETTINGS output_format_json_quote_64bit_integers = 0, output_format_json_escape_forward_slashes = 0";
        let mut current: Vec<_> = self
            .clickhouse
            .query(sql)
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| (line["service"].to_string(), line["onset_us"].as_i64(), line["end_us"].as_i64(), line["kind"].to_string()))
            .collect();
        current.sort();
        assert_eq!(current, replayed);
    }
}

/// A test that fails says what every program was showing: the directory and the programs are gone right after.
impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "a test that fails speaks there")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for program in self.aggregators.iter().flatten().chain(&self.probe) {
            let paths = ["/readyz", "/api/v1/services", "/api/v1/windows?status=open", "/metrics"];
            for (path, (status, body)) in paths.iter().filter_map(|path| Some((path, get(program.address, path).ok()?))) {
                let lines = body.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket"));
                eprintln!("{path}: {status}: {}", lines.collect::<Vec<_>>().join("\n"));
            }
            let log = program.log();
            let skipped = log.lines().count().saturating_sub(60);
            eprintln!("{}", log.lines().skip(skipped).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Whether an aggregator shows all services of its first group in this state.
pub fn is_all(aggregator: &Program, state: &str) -> bool {
    is_all_at(aggregator, "/api/v1/services", state)
}

/// Whether an aggregator shows all services of a group in this state.
pub fn is_all_of(aggregator: &Program, group: &str, state: &str) -> bool {
    is_all_at(aggregator, &format!("/groups/{group}/api/v1/services"), state)
}

fn is_all_at(aggregator: &Program, path: &str, state: &str) -> bool {
    let (status, body) = aggregator.get(path);
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    let services = answer["services"].as_array().cloned().unwrap_or_default();
    status == 200 && !services.is_empty() && services.iter().all(|service| service["state"] == state)
}

/// All records of an archive.
///
/// # Panics
/// If it is damaged.
pub fn read_archive(dir: &Path) -> Vec<Logged> {
    let mut log = Vec::new();
    for segment in segments(&Shelf::directory(dir)).unwrap() {
        segment.verify(Some(&mut |logged| log.push(logged))).unwrap();
    }
    log
}

/// Everything in a partition of a topic.
///
/// # Panics
/// If it cannot be read.
pub fn read_topic(bootstrap: &str, topic: &str, partition: i32) -> Vec<Told> {
    const ANSWER: Duration = Duration::from_secs(10);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "test").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let (first, end) = wait_for("the topic", || consumer.fetch_watermarks(topic, partition, ANSWER).ok());
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(first)).unwrap();
    consumer.assign(&list).unwrap();
    let mut told = Vec::new();
    let mut next = first;
    wait_for("the topic's end", || {
        while next < end {
            let message = consumer.poll(Duration::from_millis(200))?.ok()?;
            next = message.offset() + 1;
            let deployment = message.headers().and_then(|headers| headers.iter().next()?.value).unwrap_or_default();
            told.push(Told {
                deployment: String::from_utf8_lossy(deployment).into_owned(),
                key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                text: message.payload().unwrap_or_default().to_vec(),
            });
        }
        Some(())
    });
    told
}
