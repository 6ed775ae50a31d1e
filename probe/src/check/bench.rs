//! What tests of checks make attempts with.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use serde_json::Value;
use vigie_contract::catalogue::Strictness;
use vigie_contract::{Catalogue, Reason, Span};

use super::{Attempt, Check, Finding, Trace, build};
use crate::clock::{now, wall_now};
use crate::icmp::Pinger;
use crate::net::{self, Net, Source};
use crate::resolve::Resolver;

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(3_600);

pub(super) struct Bench {
    net: Net,
    check: Box<dyn Check>,
    target: &'static str,
    pub(super) vantage: &'static str,
    /// How far the probe's clock is ahead.
    pub(super) ahead: Span,
    /// After so long an attempt is given up.
    pub(super) patience: Duration,
}

impl Bench {
    pub(super) fn new(target: &'static str, block: &Value) -> Self {
        Self::of(target, build(block, &some_net()).unwrap())
    }

    pub(super) fn of(target: &'static str, check: Box<dyn Check>) -> Self {
        Self { net: some_net(), check, target, vantage: "az05", ahead: Span::ZERO, patience: PATIENCE }
    }

    /// One with the echo engine, which lives inside a [`LocalSet`](tokio::task::LocalSet) only.
    pub(super) fn with_pinger(target: &'static str, block: &Value) -> Self {
        let mut bench = Self::new(target, block);
        bench.net.pinger = Ok(Pinger::start(Source::default()).unwrap());
        bench
    }

    pub(super) async fn attempt(&self, is_retry: bool) -> (Finding, Trace) {
        let deadline = tokio::time::Instant::now().into_std() + self.patience;
        let mut trace = Trace::new(now());
        let (target, vantage, wall, clock_error) = (self.target, self.vantage, wall_now() + self.ahead, Span::ZERO);
        let attempt = Attempt { net: &self.net, id: "run-0-1", target, vantage, is_retry, wall, deadline, clock_error };
        let found = tokio::time::timeout_at(deadline.into(), self.check.attempt(&attempt, &mut trace)).await;
        trace.close(now());
        (found.unwrap_or(Finding::Fail(Reason::Timeout)), trace)
    }

    /// A whole slot: what its sample says.
    pub(super) async fn slot(&self) -> (Finding, Trace) {
        match self.attempt(false).await {
            (Finding::Fail(_), _) => self.attempt(true).await,
            found => found,
        }
    }

    pub(super) async fn first(&self) -> Finding {
        self.attempt(false).await.0
    }

    pub(super) async fn retry(&self) -> Finding {
        self.attempt(true).await.0
    }

    /// An attempt whose time is over as soon as `something` has happened, however long that takes. What comes of it is kept until then.
    pub(super) async fn attempt_until(&self, something: impl Future) -> (Finding, Trace) {
        let mut attempt = pin!(self.attempt(false));
        let _kept = tokio::select! {
            biased;
            (found, _) = &mut attempt => panic!("{found:?} before its time"),
            kept = something => kept,
        };
        tokio::time::pause();
        tokio::time::advance(self.patience).await;
        let given_up = attempt.await;
        tokio::time::resume();
        given_up
    }
}

/// The phases that an attempt came to, in the order of their list.
pub(super) fn phases(trace: &Trace) -> String {
    trace.phases().map(|(phase, _)| phase.as_str()).collect::<Vec<_>>().join(" ")
}

fn some_net() -> Net {
    Net::new(Source::default(), Resolver::of_system(), Err("none".to_owned()), net::trust(None).unwrap())
}

/// The check that the example in a module's documentation describes.
pub(super) fn documented(source: &str) -> Value {
    let example = source.lines().skip_while(|line| *line != "//! ```toml").skip(1).take_while(|line| *line != "//! ```");
    let example: Vec<_> = example.map(|line| line.trim_start_matches("//!").trim_start()).collect();
    let around = "[[indicator]]\nid = \"I\"\nobjective = \"99\"\n[[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = \"t\"\n\
                  [[target]]\nid = \"t\"\nvantages = [\"v\"]\nperiod = \"60s\"\ntimeout = \"20s\"\n";
    let catalogue = Catalogue::read(&format!("{around}{}", example.join("\n")), Strictness::Replay).unwrap().0;
    catalogue.targets[0].plan.all().next().unwrap().check.clone().unwrap()
}
