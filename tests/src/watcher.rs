//! Those who watch what vigie exports, of Debian's packages: Prometheus and Alertmanager, which are started and asked alike.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::service::{Patience, Server, exchange, free_port};

/// It runs until it is dropped.
pub struct Watcher {
    /// Where it answers.
    pub address: SocketAddr,
    _server: Server,
}

impl Watcher {
    /// Starts `program` with its log in `dir`, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not come to that; `tests/run` installs it.
    #[must_use]
    pub fn start(program: &str, dir: &Path, args: &[String]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut command = Command::new(program);
        command.args(args).arg(format!("--web.listen-address={address}"));
        let mut server = Server::spawn(&mut command, &dir.join(format!("{program}.log")));
        let patience = Patience::new();
        while let Err(why) = exchange(address.port(), "GET", "/-/ready", "text/plain", "") {
            server.assert_running();
            patience.pause(|| format!("{why}\n{}", server.log()));
        }
        Self { address, _server: server }
    }

    /// The body of an answer 200.
    ///
    /// # Errors
    /// With any other answer.
    pub fn post(&self, path: &str, kind: &str, body: &str) -> Result<String, String> {
        exchange(self.address.port(), "POST", path, kind, body)
    }

    /// What it answers, as JSON.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn json(&self, path: &str) -> Value {
        serde_json::from_str(&exchange(self.address.port(), "GET", path, "text/plain", "").unwrap()).unwrap()
    }
}
