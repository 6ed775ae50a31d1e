//! A region of three zones as people are paged about it: a probe in each, every one with an address of its own that its way can be cut
//! for, at the 5 s period for which the time to a page is promised (DESIGN §7).

use std::fmt::Write;
use std::net::IpAddr;

use crate::program::{Program, wait_for};
use crate::region::Web;

/// The vantages, and the address that each measures from.
pub const VANTAGES: [(&str, &str); 3] = [("az05", "127.0.0.5"), ("az06", "127.0.0.6"), ("az07", "127.0.0.7")];

/// The region.
pub struct Zones {
    dir: tempfile::TempDir,
    /// The servers of the services, in their order; behind them the two anchors'.
    pub webs: Vec<Web>,
    /// `vigie aggregate`.
    pub aggregator: Program,
    /// A probe for each vantage.
    pub probes: Vec<Option<Program>>,
}

impl Zones {
    /// Starts it, with these services, and waits until all are up. An outage is over when one has been up so long: `stable_up`, "5s".
    ///
    /// # Panics
    /// If they do not come up.
    #[must_use]
    pub fn start(services: &[&str], stable_up: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<&str> = services.iter().copied().chain(["a/outside", "b/outside"]).collect();
        let webs: Vec<Web> = names.iter().map(|_| Web::start()).collect();
        let mut text = format!("stable_up = \"{stable_up}\"\n");
        text += "[[indicator]]\nid = \"I\"\nobjective = \"99.99\"\nexclusions = [\"maintenance\"]\n";
        for (vantage, _) in VANTAGES {
            writeln!(text, "[[vantage]]\nid = \"{vantage}\"\nanchors = [\"a-outside\", \"b-outside\"]").unwrap();
        }
        for (service, web) in names.iter().zip(&webs) {
            let (target, address) = (service.replace('/', "-"), web.address);
            writeln!(text, "[[target]]\nid = \"{target}\"\nvantages = [\"az05\", \"az06\", \"az07\"]\nperiod = \"5s\"").unwrap();
            writeln!(text, "timeout = \"1s\"\ncheck = {{ kind = \"http\", url = \"http://{address}/\", body = \"alive\" }}").unwrap();
            writeln!(text, "[[service]]\nid = \"{service}\"\nindicator = \"I\"\nneeds = \"{target}\"\nsince = 2026-01-01T00:00:00Z")
                .unwrap();
        }
        std::fs::write(dir.path().join("c.toml"), text).unwrap();
        let token = |vantage: &str| format!("0123456789abcdef-{vantage}");
        std::fs::write(dir.path().join("tokens"), VANTAGES.map(|(vantage, _)| format!("{vantage} {}\n", token(vantage))).concat()).unwrap();
        for (vantage, _) in VANTAGES {
            std::fs::write(dir.path().join(vantage), token(vantage)).unwrap();
        }
        let aggregator = Program::start(dir.path(), &["aggregate", "--catalogue", "c.toml", "--tokens", "tokens", "--data", "data"]);
        let mut zones = Self { dir, webs, aggregator, probes: Vec::new() };
        zones.probes = (0..VANTAGES.len()).map(|at| Some(zones.start_probe(at, "127.0.0.1:0"))).collect();
        wait_for("all services up", || zones.is_all_up().then_some(()));
        zones
    }

    /// Starts the probe of the vantage at this place, with its metrics at an address.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn start_probe(&self, at: usize, listen: &str) -> Program {
        let (vantage, source) = VANTAGES[at];
        let (url, spool) = (format!("http://{}", self.aggregator.address), format!("spool-{vantage}"));
        let args = ["probe", "--catalogue", "c.toml", "--vantage", vantage, "--source", source, "--spool", &spool];
        let args = [&args[..], &["--aggregator", &url, "--token-file", vantage]].concat();
        Program::start_at(self.dir.path(), &args, listen)
    }

    /// Cuts the way of the vantage at this place to everything, or mends it.
    ///
    /// # Panics
    /// Never: the addresses are well formed.
    pub fn cut(&self, at: usize, is_cut: bool) {
        let source: IpAddr = VANTAGES[at].1.parse().unwrap();
        self.webs.iter().for_each(|web| web.cut(is_cut.then_some(source)));
    }

    fn is_all_up(&self) -> bool {
        let answer = self.aggregator.json("/api/v1/services");
        let services = answer["services"].as_array().unwrap();
        services.len() == self.webs.len() && services.iter().all(|service| service["state"] == "up")
    }
}
