//! A small region for tests: web servers that can be switched off, and a catalogue of them.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::program::{Program, TOKEN, wait_for};

/// A web server that answers, or slams the door.
pub struct Web {
    /// Where it listens.
    pub address: SocketAddr,
    is_up: Arc<AtomicBool>,
    /// From where nobody gets in.
    cut: Arc<Mutex<Option<IpAddr>>>,
}

impl Web {
    /// On a free port, for as long as the tests run.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_up) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
        let (up, cut) = (Arc::clone(&is_up), Arc::new(Mutex::new(None)));
        let refused = Arc::clone(&cut);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten().filter(|_| up.load(Ordering::SeqCst)) {
                let from = stream.peer_addr().ok().map(|from| from.ip());
                if from != *refused.lock().unwrap() {
                    let _ = answer(stream);
                }
            }
        });
        Self { address, is_up, cut }
    }

    /// Switches it on or off.
    pub fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::SeqCst);
    }

    /// Slams the door on who comes from this address only, or on nobody.
    ///
    /// # Panics
    /// If the server has died.
    pub fn cut(&self, from: Option<IpAddr>) {
        *self.cut.lock().unwrap() = from;
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 2_048];
    let _ = stream.read(&mut request)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nalive")
}

/// How a region of tests is measured: as fast as two attempts allow, and with room for a busy machine.
pub const PERIOD_US: i64 = 2_000_000;

/// A catalogue: every target is an HTTP check and a service of its own, seen from all `vantages`; two stable ones are the anchors.
///
/// # Panics
/// If it cannot be written to `path`.
pub fn write_catalogue(path: &Path, vantages: &[&str], targets: &[(&str, SocketAddr)]) {
    let list = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let mut text =
        "settle = \"1s\"\nstable_up = \"2s\"\n[[indicator]]\nid = \"I\"\nname = \"Availability\"\nobjective = \"99.9\"\n".to_owned();
    text += "exclusions = [\"maintenance\"]\n";
    let anchors = [targets[0].0, targets[1].0];
    for vantage in vantages {
        writeln!(text, "[[vantage]]\nid = \"{vantage}\"\nanchors = [{}]", list(&anchors)).unwrap();
    }
    for (id, address) in targets {
        writeln!(text, "[[target]]\nid = \"{id}\"\nvantages = [{}]\nperiod = \"2s\"\ntimeout = \"400ms\"", list(vantages)).unwrap();
        writeln!(text, "latency_objective = \"150ms\"\ncheck = {{ kind = \"http\", url = \"http://{address}/\", body = \"alive\" }}")
            .unwrap();
        writeln!(text, "[[service]]\nid = \"{id}/r1\"\nindicator = \"I\"\nneeds = \"{id}\"\nsince = 2026-01-01T00:00:00Z").unwrap();
    }
    std::fs::write(path, text).unwrap();
}

/// An aggregator, and a probe that sends to it over HTTP, in a directory of their own.
pub struct Region {
    /// Where their files are: catalogue `c.toml`, data directory `data`.
    pub dir: tempfile::TempDir,
    /// The servers of the targets `a`, `b` and `web`; the first two are the anchors.
    pub webs: Vec<Web>,
    /// `vigie aggregate`.
    pub aggregator: Program,
    /// `vigie probe`, of vantage `v`.
    pub probe: Program,
}

impl Region {
    /// Starts it, and waits until all services are up.
    ///
    /// # Panics
    /// If they are not.
    #[must_use]
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), (0..3).map(|_| Web::start()).collect(), "data")
    }

    /// The same in a directory that is there already, with its data in `data` under it.
    ///
    /// # Panics
    /// If the services do not come up.
    #[must_use]
    pub fn start_in(dir: tempfile::TempDir, webs: Vec<Web>, data: &str) -> Self {
        write_catalogue(&dir.path().join("c.toml"), &["v"], &[("a", webs[0].address), ("b", webs[1].address), ("web", webs[2].address)]);
        std::fs::write(dir.path().join("tokens"), format!("v {TOKEN}\n")).unwrap();
        let args = ["aggregate", "--catalogue", "c.toml", "--tokens", "tokens", "--data", data];
        let aggregator = Program::start(dir.path(), &args);
        let probe = start_probe(dir.path(), &aggregator);
        let region = Self { dir, webs, aggregator, probe };
        wait_for("all services up", || region.is_all("up").then_some(()));
        region
    }

    /// Whether all services are in this state.
    ///
    /// # Panics
    /// If the API does not answer.
    #[must_use]
    pub fn is_all(&self, state: &str) -> bool {
        let answer = self.aggregator.json("/api/v1/services");
        let services = answer["services"].as_array().unwrap();
        !services.is_empty() && services.iter().all(|service| service["state"] == state)
    }

    /// Switches `web` off until it has an open window.
    ///
    /// # Panics
    /// If it gets none.
    pub fn break_web(&self) {
        self.webs[2].set_up(false);
        wait_for("an open window", || {
            let windows = self.aggregator.json("/api/v1/windows?status=open");
            (!windows["windows"].as_array().unwrap().is_empty()).then_some(())
        });
    }

    /// Switches `web` on until its window is closed; the window's id.
    ///
    /// # Panics
    /// If it is not.
    pub fn mend_web(&self) -> String {
        self.webs[2].set_up(true);
        wait_for("a closed window", || {
            let windows = self.aggregator.json("/api/v1/windows?status=closed&service=web/r1");
            windows["windows"][0]["id"].as_str().map(str::to_owned)
        })
    }

    /// Runs `vigie` with `args` on the region's data.
    ///
    /// # Panics
    /// If it fails.
    pub fn vigie(&self, args: &[&str]) -> String {
        let output = crate::program::vigie(self.dir.path(), &[args, &["--data", "data"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// `vigie aggregate` in a region's directory.
#[must_use]
pub fn start_aggregator_at(dir: &Path, listen: &str) -> Program {
    Program::start_at(dir, &["aggregate", "--catalogue", "c.toml", "--tokens", "tokens", "--data", "data"], listen)
}

/// `vigie probe` in a region's directory.
#[must_use]
pub fn start_probe(dir: &Path, aggregator: &Program) -> Program {
    let url = format!("http://{}", aggregator.address);
    Program::start(dir, &["probe", "--catalogue", "c.toml", "--vantage", "v", "--aggregator", &url])
}
