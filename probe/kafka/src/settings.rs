//! How Kafka is reached: a TOML file that probes, aggregators and `vigie topics` share.

use std::fs;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use serde::Deserialize;

/// The settings of a deployment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where brokers are asked for the cluster, `host:port`.
    pub brokers: Vec<String>,
    /// The groups of the catalogue (DESIGN §4): the evidence of the one at place `n` is partition `n`. Only ever added to at the end.
    pub groups: Vec<String>,
    /// Names of the topics.
    pub topics: Topics,
    /// Copies of each partition.
    pub replication: i32,
    /// So many copies have a record before it is acknowledged.
    pub min_insync_replicas: i32,
    /// How long the evidence stays in the log; what the archive has not by then is lost.
    pub evidence_days: u32,
    /// Rises when the log is replaced by another (SPEC §7).
    pub log_epoch: u64,
    tls: Option<Tls>,
    sasl: Option<Sasl>,
}

/// Names of the topics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// All facts, a partition per group.
    pub evidence: String,
    /// Every version of every window, keyed by service.
    pub windows: String,
    /// Snapshots of engines: a cache.
    pub snapshots: String,
    /// What engines refused.
    pub dead_letters: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            evidence: "vigie.evidence.v1".into(),
            windows: "vigie.windows.v1".into(),
            snapshots: "vigie.snapshots.v1".into(),
            dead_letters: "vigie.deadletters.v1".into(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// The authorities that signed the brokers' certificates, PEM; the system's without it.
    ca: Option<PathBuf>,
    /// Our own certificate and its key, PEM.
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sasl {
    #[serde(default = "scram")]
    mechanism: String,
    user: String,
    password_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    brokers: Vec<String>,
    #[serde(default = "main_only")]
    groups: Vec<String>,
    #[serde(default)]
    topics: Topics,
    #[serde(default = "three")]
    replication: i32,
    #[serde(default = "two")]
    min_insync_replicas: i32,
    #[serde(default = "two_weeks")]
    evidence_days: u32,
    #[serde(default)]
    log_epoch: u64,
    tls: Option<Tls>,
    sasl: Option<Sasl>,
}

fn main_only() -> Vec<String> {
    vec!["main".to_owned()]
}

fn three() -> i32 {
    3
}

fn two() -> i32 {
    2
}

fn two_weeks() -> u32 {
    14
}

fn scram() -> String {
    "SCRAM-SHA-512".to_owned()
}

/// The late horizon is four days (SPEC §1): a log that forgets sooner cannot be folded again.
const LEAST_EVIDENCE_DAYS: u32 = 5;
/// Version numbers have 16 bits for it (SPEC §7).
const MOST_LOG_EPOCH: u64 = (1 << 15) - 1;

/// What is wrong with a file of settings, all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), problems.join("; "))]
pub struct SettingsError {
    path: PathBuf,
    problems: Vec<String>,
}

impl Settings {
    /// Reads the file at `path`; files that it names lie beside it unless their paths are absolute.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let wrong = |problems: Vec<String>| SettingsError { path: path.to_owned(), problems };
        let text = fs::read_to_string(path).map_err(|error| wrong(vec![format!("cannot be read: {error}")]))?;
        let text: Text = toml::from_str(&text).map_err(|error| wrong(vec![told(&text, &error)]))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let settings = Self {
            brokers: text.brokers,
            groups: text.groups,
            topics: text.topics,
            replication: text.replication,
            min_insync_replicas: text.min_insync_replicas,
            evidence_days: text.evidence_days,
            log_epoch: text.log_epoch,
            tls: text.tls.map(|tls| Tls {
                ca: tls.ca.map(|file| base.join(file)),
                certificate: tls.certificate.map(|file| base.join(file)),
                key: tls.key.map(|file| base.join(file)),
            }),
            sasl: text.sasl.map(|sasl| Sasl { password_file: base.join(sasl.password_file), ..sasl }),
        };
        let problems = settings.problems();
        if problems.is_empty() { Ok(settings) } else { Err(wrong(problems)) }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |is: bool, otherwise: String| {
            if !is {
                problems.push(otherwise);
            }
        };
        must(!self.brokers.is_empty(), "`brokers` is empty: write [\"host:9092\"]".into());
        for broker in &self.brokers {
            must(!broker.contains([',', ' ']) && broker.rsplit_once(':').is_some(), format!("broker `{broker}` is no host:port"));
        }
        must(!self.groups.is_empty(), "`groups` is empty: write [\"main\"]".into());
        for (place, group) in self.groups.iter().enumerate() {
            must(!self.groups[..place].contains(group), format!("group `{group}` is there twice: each is one partition"));
        }
        let names = [&self.topics.evidence, &self.topics.windows, &self.topics.snapshots, &self.topics.dead_letters];
        for (place, name) in names.iter().enumerate() {
            must(!names[..place].contains(name), format!("topic `{name}` is named for two purposes"));
        }
        must(self.replication >= 1, format!("`replication` is {}: at least 1", self.replication));
        must(
            (1..=self.replication.max(1)).contains(&self.min_insync_replicas),
            format!("`min_insync_replicas` is {}: from 1 to `replication`, {}", self.min_insync_replicas, self.replication),
        );
        must(
            self.evidence_days >= LEAST_EVIDENCE_DAYS,
            format!("`evidence_days` is {}: at least {LEAST_EVIDENCE_DAYS}, a day more than the late horizon", self.evidence_days),
        );
        must(self.log_epoch <= MOST_LOG_EPOCH, format!("`log_epoch` is {}: at most {MOST_LOG_EPOCH}", self.log_epoch));
        if let Some(tls) = &self.tls {
            must(tls.certificate.is_some() == tls.key.is_some(), "`tls.certificate` and `tls.key` go together".into());
            for file in [&tls.ca, &tls.certificate, &tls.key].into_iter().flatten() {
                must(file.is_file(), format!("there is no file {}", file.display()));
            }
        }
        if let Some(sasl) = &self.sasl {
            let known = ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"];
            must(known.contains(&sasl.mechanism.as_str()), format!("`sasl.mechanism` is none of {}", known.join(", ")));
            must(sasl.mechanism != "PLAIN" || self.tls.is_some(), "PLAIN shows the password to the network: add [tls]".into());
            let password = password(&sasl.password_file);
            must(password.is_ok(), format!("cannot read the password in {}", sasl.password_file.display()));
            must(password.is_ok_and(|password| !password.is_empty()), format!("{} is empty", sasl.password_file.display()));
        }
        must(
            cfg!(feature = "tls") || (self.tls.is_none() && self.sasl.is_none()),
            "[tls] and [sasl] need a vigie that was built with `--features kafka-tls`".into(),
        );
        problems
    }

    /// Which partition of the evidence is the group's, if it has one.
    #[must_use]
    pub fn partition(&self, group: &str) -> Option<i32> {
        self.groups.iter().position(|known| known == group).map(|place| place as i32)
    }

    /// What every client of ours is configured with.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers.join(","));
        config.set("client.id", "vigie");
        // The default of ten seconds is longer than anybody waits for a sample after an outage of the brokers.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
        config.set("socket.keepalive.enable", "true");
        // A broker that does not answer, frozen or cut off, is given up after this and another is asked.
        config.set("socket.timeout.ms", "6000").set("socket.connection.setup.timeout.ms", "5000");
        config.set("topic.metadata.refresh.interval.ms", "30000");
        config.set("allow.auto.create.topics", "false");
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            let files = [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.certificate), ("ssl.key.location", &tls.key)];
            for (name, file) in files {
                if let Some(file) = file {
                    config.set(name, file.to_string_lossy());
                }
            }
        }
        if let Some(sasl) = &self.sasl {
            config.set("sasl.mechanism", &sasl.mechanism).set("sasl.username", &sasl.user);
            // It was there when the settings were read; without it the brokers say that it is wrong.
            config.set("sasl.password", password(&sasl.password_file).unwrap_or_default());
        }
        config
    }
}

/// What is wrong and where, without the line itself: somebody may have written a password into it.
fn told(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

/// Read anew for every client: it may have been changed.
fn password(file: &Path) -> std::io::Result<String> {
    fs::read_to_string(file).map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, SettingsError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kafka.toml");
        fs::write(&file, text).unwrap();
        Settings::read(&file)
    }

    #[test]
    fn little_is_enough() {
        let settings = read("brokers = [\"a:9092\", \"b:9092\"]").unwrap();
        assert_eq!((settings.partition("main"), settings.partition("other")), (Some(0), None));
        assert_eq!((settings.replication, settings.min_insync_replicas, settings.evidence_days, settings.log_epoch), (3, 2, 14, 0));
        assert_eq!(settings.topics, Topics::default());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let text = "brokers = [\"a\"]\ngroups = [\"x\", \"x\"]\nreplication = 2\nmin_insync_replicas = 3\nevidence_days = 4\nlog_epoch = 40000\n\
            [topics]\nwindows = \"vigie.evidence.v1\"\n[tls]\nca = \"missing.pem\"\n[sasl]\nuser = \"u\"\npassword_file = \"missing\"\nmechanism = \"X\"\n";
        let told = read(text).unwrap_err().to_string();
        let expected = [
            "broker `a` is no host:port",
            "group `x` is there twice",
            "topic `vigie.evidence.v1` is named for two purposes",
            "`min_insync_replicas` is 3",
            "`evidence_days` is 4",
            "`log_epoch` is 40000",
            "missing.pem",
            "`sasl.mechanism` is none of",
            "cannot read the password in",
        ];
        for part in expected {
            assert!(told.contains(part), "{part} is missing in: {told}");
        }
        let told = read("brokers = []\npassword = \"hunter2\"").unwrap_err().to_string();
        assert!(told.contains("line 2: unknown field `password`") && !told.contains("hunter2"), "{told}");
        assert!(read("brokers = []\nbroker = 1").unwrap_err().to_string().contains("unknown field `broker`"));
    }
}
