//! A real Prometheus that is asked as Grafana asks it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::watcher::Watcher;

/// How often it scrapes.
pub const SCRAPE_INTERVAL_S: u64 = 1;

/// A server that runs until it is dropped.
pub struct Prometheus(Watcher);

impl Prometheus {
    /// Starts it with its data in `dir`; it scrapes these programs, each a job's name and an address, and lets labels stand that they say
    /// themselves.
    ///
    /// # Panics
    /// If it does not answer; `tests/run` installs it.
    pub fn start(dir: &Path, jobs: &[(&str, SocketAddr)]) -> Self {
        std::fs::create_dir_all(dir).expect("a directory for the server");
        let mut settings =
            format!("global: {{ scrape_interval: {SCRAPE_INTERVAL_S}s, scrape_timeout: {SCRAPE_INTERVAL_S}s }}\nscrape_configs:\n");
        for (job, address) in jobs {
            writeln!(settings, "  - {{ job_name: {job}, honor_labels: true, static_configs: [{{ targets: [\"{address}\"] }}] }}").unwrap();
        }
        let path = dir.join("prometheus.yml");
        std::fs::write(&path, settings).expect("settings that can be written");
        let args = [format!("--config.file={}", path.display()), format!("--storage.tsdb.path={}", dir.join("data").display())];
        Self(Watcher::start("prometheus", dir, &args))
    }

    /// The data that its API answers a question with, or its error.
    ///
    /// # Errors
    /// If the answer is one.
    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let form: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
        let answer = self.0.post(path, "application/x-www-form-urlencoded", &form.join("&"))?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        Ok(answer["data"].clone())
    }
}

/// A value of a form.
fn percent(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(byte.into()),
            _ => write!(text, "%{byte:02X}").unwrap(),
        }
    }
    text
}
