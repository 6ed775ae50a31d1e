//! Prometheus and Alertmanager with the files of `deploy/`, and somebody who is told: a receiver of webhooks.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use crate::program::{PATIENCE, wait_for, wait_within};
use crate::watcher::Watcher;

/// The chain from metrics to whoever is told; it runs until it is dropped.
pub struct Paging {
    _prometheus: Watcher,
    _alertmanager: Watcher,
    told: Arc<Mutex<Vec<Told>>>,
    _dir: tempfile::TempDir,
}

/// A notification.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it came.
    pub at: Instant,
    /// Whom it was for: the last part of the receiver's URL in `alertmanager.yml`.
    pub receiver: String,
    /// Alertmanager's JSON.
    pub body: Value,
}

/// An alert in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// What it is about: a service, vantage or group.
    pub about: String,
    /// P1 to P5.
    pub priority: String,
    /// Whether it is over.
    pub is_over: bool,
}

impl Paging {
    /// Starts all three, for these aggregators, and probes by vantage, and waits until Prometheus has their figures.
    ///
    /// # Panics
    /// If one does not start, or a file of `deploy/` no longer has the addresses that are replaced here.
    #[must_use]
    pub fn start(aggregators: &[SocketAddr], probes: &[(&str, SocketAddr)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let told = Arc::new(Mutex::new(Vec::new()));
        let receiver = receive(Arc::clone(&told));

        let routing = std::fs::read_to_string(deploy.join("alertmanager/alertmanager.yml")).unwrap();
        assert!(routing.contains("127.0.0.1:9099") && routing.contains("127.0.0.1:25\""));
        // There is no mail server here.
        let routing = routing.replace("127.0.0.1:9099", &receiver.to_string()).replace("127.0.0.1:25\"", "127.0.0.1:1\"");
        std::fs::write(dir.path().join("alertmanager.yml"), routing).unwrap();
        std::fs::copy(deploy.join("alertmanager/vigie.tmpl"), dir.path().join("vigie.tmpl")).unwrap();
        let place = |name: &str| dir.path().join(name).display().to_string();
        let args = [
            format!("--config.file={}", place("alertmanager.yml")),
            format!("--storage.path={}", place("alertmanager")),
            "--cluster.listen-address=".to_owned(),
        ];
        let alertmanager = Watcher::start("prometheus-alertmanager", dir.path(), &args);

        let scraping = std::fs::read_to_string(deploy.join("prometheus/prometheus.yml")).unwrap();
        let (head, _) = scraping.split_once("scrape_configs:").unwrap();
        assert!(head.contains("127.0.0.1:9093"));
        let mut scraping = head.replace("127.0.0.1:9093", &alertmanager.address.to_string());
        let list = |addresses: &[SocketAddr]| addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ");
        scraping += "scrape_configs:\n  - job_name: vigie-aggregator\n";
        writeln!(scraping, "    static_configs: [{{ targets: [{}] }}]", list(aggregators)).unwrap();
        scraping += "  - job_name: vigie-probe\n    honor_labels: true\n    static_configs:\n";
        for (vantage, address) in probes {
            writeln!(scraping, "      - {{ targets: [\"{address}\"], labels: {{ vantage: {vantage} }} }}").unwrap();
        }
        std::fs::write(dir.path().join("prometheus.yml"), scraping).unwrap();
        for entry in std::fs::read_dir(deploy.join("prometheus")).unwrap().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.ends_with(".rules.yml")) {
                std::fs::copy(entry.path(), dir.path().join(name)).unwrap();
            }
        }
        let args = [format!("--config.file={}", place("prometheus.yml")), format!("--storage.tsdb.path={}", place("prometheus"))];
        let prometheus = Watcher::start("prometheus", dir.path(), &args);
        // Its first scrape comes some seconds after it is ready.
        wait_for("figures in Prometheus", || {
            let known = prometheus.json("/api/v1/query?query=count(service:vigie_state:trusted)");
            (!known["data"]["result"].as_array()?.is_empty()).then_some(())
        });
        Self { _prometheus: prometheus, _alertmanager: alertmanager, told, _dir: dir }
    }

    /// Every notification for this receiver, in the order in which they came.
    ///
    /// # Panics
    /// If the receiver has died.
    #[must_use]
    pub fn told(&self, receiver: &str) -> Vec<Told> {
        self.told.lock().unwrap().iter().filter(|told| told.receiver == receiver).cloned().collect()
    }

    /// Waits until this receiver is told of an alert that `is_it`; the notification with it. Patience is for rules that wait themselves.
    ///
    /// # Panics
    /// If that does not come.
    pub fn wait_for(&self, receiver: &str, what: &str, is_it: impl Fn(&Alert) -> bool) -> Told {
        wait_within(PATIENCE * 3, what, || self.told(receiver).into_iter().find(|told| told.alerts().iter().any(&is_it)))
    }

    /// Every alert that this receiver was told of, once for each state.
    #[must_use]
    pub fn alerts(&self, receiver: &str) -> Vec<Alert> {
        let mut alerts: Vec<Alert> = self.told(receiver).iter().flat_map(Told::alerts).collect();
        alerts.sort();
        alerts.dedup();
        alerts
    }
}

impl Told {
    /// The alerts in it.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alert = |alert: &Value| {
            let labels = &alert["labels"];
            let about = ["service", "vantage", "scope", "group"].iter().map(|label| text(&labels[label])).find(|word| !word.is_empty());
            Alert {
                name: text(&labels["alertname"]),
                about: about.unwrap_or_default(),
                priority: text(&labels["priority"]),
                is_over: alert["status"] == "resolved",
            }
        };
        self.body["alerts"].as_array().map(|alerts| alerts.iter().map(alert).collect()).unwrap_or_default()
    }
}

#[expect(clippy::disallowed_methods, reason = "when a page came is what is measured")]
fn receive(told: Arc<Mutex<Vec<Told>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let told = Arc::clone(&told);
            std::thread::spawn(move || {
                let _ = meet(stream, |receiver, body| told.lock().unwrap().push(Told { at: Instant::now(), receiver, body }));
            });
        }
    });
    address
}

/// Takes what one connection brings.
fn meet(mut stream: TcpStream, take: impl Fn(String, Value)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line)? {
                0 => return Ok(()),
                1 | 2 => break,
                _ => head.push(line),
            }
        }
        let length = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let receiver = path.trim_start_matches('/').to_owned();
        take(receiver, serde_json::from_slice(&body).unwrap_or_default());
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}
