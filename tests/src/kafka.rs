//! A real Apache Kafka: one broker, or a cluster of three that may lose one.
//!
//! Every node is broker and controller, so that two of three must run for the cluster to do anything. A broker keeps its ports and its
//! data over [`Broker::kill`] and [`Broker::start`]. What is asked and ordered here goes over the wire by hand: the client under test
//! shall not judge itself.
//!
//! A cold start takes some 5 s (8 s for three brokers), a restart 4 s; a new leader is there 1.5 to 4 s after the old one was killed or
//! frozen. Debian's `kcat` cannot log in to the secure listener: its librdkafka 2.0.2 answers this Kafka's SCRAM wrongly, 2.16.0 does not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::service::{Patience, Server, file, free_port, installed};

mod wire;

/// Any 16 bytes in base64.
const CLUSTER: &str = "vigie-tests-of-KafkaAA";

/// For whom a cluster opens a listener with TLS, SASL and ACLs.
pub struct Security<'a> {
    /// The brokers' certificate for `127.0.0.1`, and what leads to its root (PEM).
    pub certificate: &'a str,
    /// The certificate's key (PKCS #8, PEM).
    pub key: &'a str,
    /// Who may log in: names and passwords, without `"`, `,` and `]`. Nobody may do anything until [`Kafka::allow_write`] or
    /// [`Kafka::allow_read`].
    pub users: &'a [(&'a str, &'a str)],
}

/// A cluster that runs; it is killed when this is dropped.
pub struct Kafka {
    brokers: Vec<Broker>,
}

/// One broker of a cluster.
pub struct Broker {
    dir: PathBuf,
    port: u16,
    secure_port: u16,
    clock_offset_ms: i64,
    server: Option<Server>,
    is_frozen: bool,
}

impl Kafka {
    /// Starts brokers, one or three, whose data and logs are in `dir`, and waits until they answer.
    ///
    /// # Panics
    /// If they do not.
    pub fn start(dir: &Path, brokers: usize) -> Self {
        Self::launch(dir, brokers, 0, None)
    }

    /// The same with brokers whose clock is wrong: early (slow) if `offset_ms` is below 0.
    ///
    /// # Panics
    /// If they do not answer.
    pub fn start_with_clock(dir: &Path, brokers: usize, offset_ms: i64) -> Self {
        Self::launch(dir, brokers, offset_ms, None)
    }

    /// The same with a second listener ([`Self::secure_bootstrap`]) that takes `SASL_SSL` with SCRAM-SHA-512 only. The first one stays
    /// as it is: who comes there may do everything.
    ///
    /// # Panics
    /// If they do not answer.
    pub fn start_secure(dir: &Path, brokers: usize, security: &Security) -> Self {
        Self::launch(dir, brokers, 0, Some(security))
    }

    fn launch(dir: &Path, brokers: usize, clock_offset_ms: i64, security: Option<&Security>) -> Self {
        let controllers: Vec<u16> = (0..brokers).map(|_| free_port()).collect();
        let of = |id: usize| Broker {
            dir: dir.join(format!("broker-{id}")),
            port: free_port(),
            secure_port: free_port(),
            clock_offset_ms,
            server: None,
            is_frozen: false,
        };
        let mut kafka = Self { brokers: (0..brokers).map(of).collect() };
        for (id, broker) in kafka.brokers.iter().enumerate() {
            std::fs::create_dir_all(broker.data()).expect("a directory for the broker");
            let settings = broker.settings(id, &controllers, security);
            std::fs::write(broker.settings_file(), settings).expect("settings that can be written");
            if let Some(security) = security {
                let pem = format!("{}\n{}", security.key, security.certificate);
                std::fs::write(broker.dir.join("server.pem"), pem).expect("a certificate that can be written");
            }
        }
        format(&kafka.brokers, security);
        kafka.brokers.iter_mut().for_each(Broker::start);
        kafka.wait_until_ready();
        kafka
    }

    /// Where a client begins: `127.0.0.1:…,127.0.0.1:…`.
    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect::<Vec<_>>().join(",")
    }

    /// Where a client begins that speaks `SASL_SSL`.
    pub fn secure_bootstrap(&self) -> String {
        self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.secure_port)).collect::<Vec<_>>().join(",")
    }

    /// A broker, from 0, which is its `node.id` as well.
    ///
    /// # Panics
    /// If there is none.
    pub fn broker(&mut self, id: usize) -> &mut Broker {
        &mut self.brokers[id]
    }

    /// Waits until every broker that runs knows exactly those that run, and everything that they hold has a leader and is in sync.
    ///
    /// # Panics
    /// If that does not come.
    pub fn wait_until_ready(&mut self) {
        let patience = Patience::new();
        while let Err(why) = self.is_ready() {
            patience.pause(|| format!("{why}\n{}", self.log()));
        }
    }

    fn is_ready(&mut self) -> Result<(), String> {
        let running: Vec<usize> = (0..self.brokers.len()).filter(|id| self.brokers[*id].is_running()).collect();
        for id in &running {
            let metadata = self.brokers[*id].ask(wire::metadata)?;
            if metadata.brokers != running {
                return Err(format!("broker {id} knows the brokers {:?}, not {running:?}", metadata.brokers));
            }
            for (topic, partitions) in metadata.topics {
                for partition in partitions {
                    let mut replicas = partition.replicas.iter().filter(|replica| running.contains(replica)).peekable();
                    let is_lost = replicas.peek().is_none();
                    if !is_lost && (partition.leader.is_none() || !replicas.all(|replica| partition.in_sync.contains(replica))) {
                        return Err(format!("broker {id} knows of {topic}: {partition:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a topic that is on every broker, once all are ready, and waits until it is. `settings` are those of the topic, as
    /// `("min.insync.replicas", "2")`.
    ///
    /// # Panics
    /// If it is refused.
    pub fn create_topic(&mut self, name: &str, partitions: usize, settings: &[(&str, &str)]) {
        let replicas = self.brokers.len();
        self.order(|port| wire::create_topic(port, name, partitions, replicas, settings));
        // The broker that took the order knows of it last if another is the controller.
        let patience = Patience::new();
        while self.leader_of(name, 0).is_none() {
            patience.pause(|| format!("no topic {name}\n{}", self.log()));
        }
        self.wait_until_ready();
    }

    /// Which broker leads a partition, once a running one does.
    ///
    /// # Panics
    /// If none does.
    pub fn leader(&mut self, topic: &str, partition: usize) -> usize {
        let patience = Patience::new();
        loop {
            // Who was killed or frozen a moment ago counts as the leader until its session has ended.
            if let Some(leader) = self.leader_of(topic, partition).filter(|leader| self.brokers[*leader].is_running()) {
                return leader;
            }
            patience.pause(|| format!("{topic}/{partition} has no leader\n{}", self.log()));
        }
    }

    fn leader_of(&mut self, topic: &str, partition: usize) -> Option<usize> {
        let metadata = self.running().ask(wire::metadata).ok()?;
        let (_, partitions) = metadata.topics.iter().find(|(name, _)| name == topic)?;
        partitions.iter().find(|found| found.number == partition)?.leader
    }

    /// Lets a user write to a topic; every broker knows a moment later.
    ///
    /// # Panics
    /// If that is refused.
    pub fn allow_write(&mut self, user: &str, topic: &str) {
        self.order(|port| wire::allow(port, user, wire::WRITE, wire::TOPIC, topic));
    }

    /// Lets a user read a topic, in a consumer group; every broker knows a moment later.
    ///
    /// # Panics
    /// If that is refused.
    pub fn allow_read(&mut self, user: &str, topic: &str, group: &str) {
        self.order(|port| wire::allow(port, user, wire::READ, wire::TOPIC, topic));
        self.order(|port| wire::allow(port, user, wire::READ, wire::GROUP, group));
    }

    fn order(&mut self, request: impl Fn(u16) -> std::io::Result<()>) {
        self.wait_until_ready();
        self.running().ask(request).unwrap_or_else(|why| panic!("{why}\n{}", self.log()));
    }

    /// Any broker that runs.
    fn running(&mut self) -> &mut Broker {
        self.brokers.iter_mut().find(|broker| broker.is_running()).expect("a broker that runs")
    }

    /// The end of every broker's log.
    fn log(&self) -> String {
        self.brokers.iter().filter_map(|broker| Some(broker.server.as_ref()?.log())).collect()
    }
}

impl Broker {
    /// `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.server().assert_running();
        self.server = None;
    }

    /// Starts it again after [`Self::kill`], with its ports and its data; [`Kafka::wait_until_ready`] waits for it.
    ///
    /// # Panics
    /// If it runs, or cannot be started.
    pub fn start(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let mut command = java();
        command.envs(wrong_clock(self.clock_offset_ms));
        command.arg("kafka.Kafka").arg(self.settings_file());
        self.server = Some(Server::spawn(&mut command, &self.dir.join("log")));
        self.is_frozen = false;
    }

    /// It does nothing any more, and its connections stay (SIGSTOP).
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&mut self) {
        self.server().signal("STOP");
        self.is_frozen = true;
    }

    /// It goes on (SIGCONT).
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&mut self) {
        self.server().signal("CONT");
        self.is_frozen = false;
    }

    fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("it was killed")
    }

    fn is_running(&self) -> bool {
        self.server.is_some() && !self.is_frozen
    }

    /// Asks it something; it must not have ended by itself.
    fn ask<T>(&mut self, request: impl Fn(u16) -> std::io::Result<T>) -> Result<T, String> {
        self.server().assert_running();
        request(self.port).map_err(|error| format!("port {}: {error}", self.port))
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn settings_file(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn settings(&self, id: usize, controllers: &[u16], security: Option<&Security>) -> String {
        let (port, secure_port, controller) = (self.port, self.secure_port, controllers[id]);
        let (dir, data) = (self.dir.display(), self.data());
        let (data, replicas) = (data.display(), controllers.len().min(3));
        let voters: Vec<String> = (0..).zip(controllers).map(|(id, port): (usize, _)| format!("{id}@127.0.0.1:{port}")).collect();
        let voters = voters.join(",");
        let (secure_listener, secure_protocol, secure) = match security {
            None => Default::default(),
            Some(_) => (
                format!(",SECURE://127.0.0.1:{secure_port}"),
                ",SECURE:SASL_SSL",
                format!(
                    "
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={dir}/server.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"
                ),
            ),
        };
        // The first lines of the third group keep memory and threads small; the session is short, or a broker that comes back after
        // kill -9 waits 9 s for the end of its old one, and a cluster as long for a new leader.
        format!(
            "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{secure_listener}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{secure_listener}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{secure_protocol}
log.dirs={data}

auto.create.topics.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0

num.network.threads=1
num.io.threads=2
log.cleaner.dedupe.buffer.size=2097152
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
{secure}"
        )
    }
}

/// Prepares the brokers' data: the first one's by Kafka's own tool, which takes a second, and the others' after it.
fn format(brokers: &[Broker], security: Option<&Security>) {
    let mut command = java();
    command.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER, "--config"]).arg(brokers[0].settings_file());
    for (name, password) in security.iter().flat_map(|security| security.users) {
        command.args(["--add-scram", &format!("SCRAM-SHA-512=[name={name},password={password}]")]);
    }
    let output = command.output().unwrap_or_else(|error| panic!("java: {error}; tests/services/install installs it"));
    assert!(output.status.success(), "the data cannot be prepared: {output:?}");
    for (id, broker) in brokers.iter().enumerate().skip(1) {
        let properties = format!("version=1\ncluster.id={CLUSTER}\nnode.id={id}\n");
        std::fs::write(broker.data().join("meta.properties"), properties).expect("data that can be written");
        // Everything that the cluster begins with: the versions of its features, and the users.
        let begin = "bootstrap.checkpoint";
        std::fs::copy(brokers[0].data().join(begin), broker.data().join(begin)).expect("data that can be copied");
    }
}

/// A small and quick JVM with Kafka on its class path.
fn java() -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", file("log4j2.xml").display()));
    command.arg("-cp").arg(installed("kafka").join("*"));
    command
}

/// The environment of a program whose wall clock is off by so much; none if it is not.
pub fn wrong_clock(offset_ms: i64) -> Vec<(&'static str, OsString)> {
    if offset_ms == 0 {
        return Vec::new();
    }
    let offset = format!("{:+.3}", offset_ms as f64 / 1e3).into();
    // A JVM waits by the monotonic clock: for ever if that is faked, and far too long with what libfaketime does about it unasked.
    let monotonic = [("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()), ("FAKETIME_FORCE_MONOTONIC_FIX", "0".into())];
    [("LD_PRELOAD", faketime().into_os_string()), ("FAKETIME", offset)].into_iter().chain(monotonic).collect()
}

/// libfaketime, wherever Debian's libraries are on this kind of machine.
fn faketime() -> PathBuf {
    let libraries = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut found = libraries.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("libfaketime: tests/services/install installs it")
}
