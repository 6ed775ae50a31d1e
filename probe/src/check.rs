//! One attempt at one target: a check is one file behind the trait [`Check`], so that a new kind only adds a file.
//!
//! A check says what it found; it decides neither about a retry nor about an outage. What is not the target's doing is
//! [`Finding::Void`] with its reason, never a failure (SPEC §1).

mod api;
mod backup;
#[cfg(test)]
mod bench;
mod compute;
mod console;
mod dns;
mod exec;
mod http;
mod icmp;
mod internet;
mod network;
mod s3;
mod storage;
mod tcp;
mod tls;
#[cfg(test)]
pub(crate) mod truth;
#[cfg(test)]
mod ways;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use vigie_contract::{Reason, Span, Time};

use crate::ceiling::Exceeded;
use crate::clock::{now, span};
use crate::net::Net;
use crate::s3::Store;
use crate::secret::{SecretError, SecretSource};
use crate::stamp::Exchange;
use crate::vitals::Vitals;

/// The answer of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    Ok,
    Fail(Reason),
    Void(Reason),
}

/// See [`Attempt::last_moment`].
const LAST_WORDS: Duration = Duration::from_millis(10);

/// What a check borrows for one attempt.
pub(crate) struct Attempt<'a> {
    pub(crate) net: &'a Net,
    /// Different in every attempt at anything: sent along, so that no two requests are identical.
    pub(crate) id: &'a str,
    /// What is checked, and from where.
    pub(crate) target: &'a str,
    pub(crate) vantage: &'a str,
    /// The slot's second attempt: over a fresh connection, of what the first one tried.
    pub(crate) is_retry: bool,
    /// Wall time at the attempt's beginning.
    pub(crate) wall: Time,
    /// When the attempt will be given up from outside.
    pub(crate) deadline: Instant,
    /// How far the wall clock may be off the log's; zero while nothing is known.
    pub(crate) clock_error: Span,
}

impl Attempt<'_> {
    /// Shortly before an attempt that `began` then is given up from outside, which makes it a timeout: so long a check waits that can say
    /// itself what it waited for.
    pub(crate) fn last_moment(&self, began: Instant) -> Instant {
        let lead = LAST_WORDS.min(self.deadline.saturating_duration_since(began) / 10);
        self.deadline.checked_sub(lead).unwrap_or(self.deadline)
    }
}

/// A request to an API as a check makes it, and perhaps others too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method, path and query, without the zone.
    pub(crate) what: String,
    /// The zone that it names; none if it names none, or each in its turn.
    pub(crate) zone: Option<String>,
    /// How often in a slot at most, both attempts together, in thousandths.
    pub(crate) per_slot_milli: u64,
}

impl Asked {
    pub(crate) fn new(what: impl Into<String>, zone: Option<&str>, per_slot_milli: u64) -> Self {
        Self { what: what.into(), zone: zone.map(str::to_owned), per_slot_milli }
    }
}

pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Finding> + 'a>>;

/// A way to measure a target.
pub(crate) trait Check {
    /// Tries once. The future is dropped at the deadline, which is then a timeout: `trace` holds how far it came.
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a>;

    /// Which family of phases it reports.
    fn kind(&self) -> Kind;
}

/// The kinds of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Tcp,
    Tls,
    Icmp,
    Dns,
    S3,
    Network,
    /// Reads of the provider's API, whatever they are about.
    Api,
    Exec,
    Storage,
    Compute,
}

/// A part of an attempt, by the blackbox exporter's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Resolve,
    Setup,
    Connect,
    Tls,
    Request,
    Processing,
    Transfer,
    Rtt,
    Open,
    Write,
    Sync,
    Read,
}

impl Phase {
    pub(crate) const ALL: [Self; 12] = [
        Self::Resolve,
        Self::Setup,
        Self::Connect,
        Self::Tls,
        Self::Request,
        Self::Processing,
        Self::Transfer,
        Self::Rtt,
        Self::Open,
        Self::Write,
        Self::Sync,
        Self::Read,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Setup => "setup",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Request => "request",
            Self::Processing => "processing",
            Self::Transfer => "transfer",
            Self::Rtt => "rtt",
            Self::Open => "open",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Read => "read",
        }
    }
}

/// How far an attempt came and what it learned on the way, failures included.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) began: Instant,
    /// Latency counts from here, where a check's latency holds no connecting; otherwise from the beginning.
    pub(crate) counts_from: Instant,
    running: Option<(Phase, Instant)>,
    /// The phase that began last: where the attempt ended.
    pub(crate) last: Option<Phase>,
    /// The running step of a check that has steps.
    step: Option<(Arc<str>, Instant)>,
    phases: [Option<Span>; Phase::ALL.len()],
    /// What a check measured better than from outside: a round trip by the kernel's stamps.
    pub(crate) latency: Option<Span>,
    pub(crate) facts: Facts,
}

/// What an answer tells besides being right or wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) http_status: Option<u16>,
    pub(crate) content_bytes: Option<u64>,
    /// The earliest end of validity in the chains that were presented, in Unix seconds.
    pub(crate) certificate_expiry_s: Option<i64>,
    /// 4 or 6.
    pub(crate) ip_protocol: Option<u8>,
    pub(crate) hop_limit: Option<u8>,
    pub(crate) answer_records: Option<usize>,
    /// How old the newest backup is.
    pub(crate) backup_age: Option<Span>,
    /// What STAMP packets measured.
    pub(crate) exchange: Option<Exchange>,
    pub(crate) plugin_exit_code: Option<i32>,
    /// What a canary VM told of itself.
    pub(crate) vitals: Option<Vitals>,
    /// The steps that were begun, by their names, and how long each took.
    pub(crate) steps: Vec<(Arc<str>, Span)>,
    /// The outward anchors that were waited for, and which of them were reached.
    pub(crate) anchors: Vec<(Arc<str>, bool)>,
}

impl Trace {
    pub(crate) fn new(began: Instant) -> Self {
        let (phases, facts) = ([None; Phase::ALL.len()], Facts::default());
        Self { began, counts_from: began, running: None, last: None, step: None, phases, latency: None, facts }
    }

    /// What came so far does not count: neither its phases nor its time.
    pub(crate) fn start_over(&mut self) {
        *self = Self { counts_from: now(), ..Self::new(self.began) };
    }

    /// The running phase ends and this one begins.
    pub(crate) fn begin(&mut self, phase: Phase) {
        self.begin_at(phase, now());
    }

    /// The running phase has ended at `at`, and this one has begun.
    pub(crate) fn begin_at(&mut self, phase: Phase, at: Instant) {
        self.end_phase(at);
        (self.running, self.last) = (Some((phase, at)), Some(phase));
    }

    /// The running step ends and this one begins.
    pub(crate) fn begin_step(&mut self, name: &Arc<str>) {
        let at = now();
        self.end_step(at);
        self.step = Some((Arc::clone(name), at));
    }

    /// What is running ends at `at`.
    pub(crate) fn close(&mut self, at: Instant) {
        self.end_phase(at);
        self.end_step(at);
    }

    fn end_step(&mut self, at: Instant) {
        if let Some((name, since)) = self.step.take() {
            self.facts.steps.push((name, span(at.saturating_duration_since(since))));
        }
    }

    fn end_phase(&mut self, at: Instant) {
        if let Some((phase, since)) = self.running.take() {
            let slot = &mut self.phases[phase as usize];
            *slot = Some(slot.unwrap_or(Span::ZERO) + span(at.saturating_duration_since(since)));
        }
    }

    /// The phases of one of the attempt's parts, which ran at once, become those of the whole.
    pub(crate) fn take_phases(&mut self, part: &Self) {
        (self.phases, self.last) = (part.phases, part.last);
    }

    /// Sets a phase that was measured otherwise.
    pub(crate) fn set(&mut self, phase: Phase, length: Span) {
        self.phases[phase as usize] = Some(length);
    }

    /// The phases that were reached.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (Phase, Span)> + '_ {
        Phase::ALL.iter().filter_map(|phase| self.phases[*phase as usize].map(|length| (*phase, length)))
    }
}

/// The table `check` of a target, by kind.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Block {
    Http(http::Block),
    Tcp(tcp::Block),
    Tls(tls::Block),
    Icmp(icmp::Block),
    Dns(dns::Block),
    S3(s3::Block),
    Network(network::Block),
    Api(api::Block),
    Backup(backup::Block),
    Exec(exec::Block),
    Storage(storage::Block),
    Compute(compute::Block),
    Console(console::Block),
    Internet(internet::Block),
}

/// Why a check cannot be made from what the catalogue says.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The table has a wrong shape or value.
    #[error("{0}")]
    Shape(String),
    /// A file that it names cannot be used.
    #[error("{0}")]
    File(String),
    /// A secret that it names cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It asks too much of its host, with others.
    #[error(transparent)]
    Ceiling(#[from] Exceeded),
}

fn read(check: &serde_json::Value) -> Result<Block, CheckError> {
    let kinds =
        ["http", "tcp", "tls", "icmp", "dns", "s3", "network", "exec", "storage", "compute", "api", "backup", "console", "internet"];
    match check.get("kind").and_then(serde_json::Value::as_str) {
        None => return Err(CheckError::Shape(format!("the check has no `kind`: write one of {}", kinds.join(", ")))),
        Some(kind) if !kinds.contains(&kind) => {
            return Err(CheckError::Shape(format!("unknown kind of check `{kind}`: there are {}", kinds.join(", "))));
        }
        Some(_) => {}
    }
    Block::deserialize(check).map_err(|error| CheckError::Shape(error.to_string()))
}

/// Whether the table `check` of a target can be understood; reads no file and no secret.
pub fn validate(check: &serde_json::Value) -> Result<(), CheckError> {
    read(check)?.validate()
}

/// What the check asks of an API, if it is of a kind that does; where there are twins of a request it matters how often it is made.
pub(crate) fn asked(check: &serde_json::Value) -> Vec<Asked> {
    match read(check) {
        Ok(Block::Http(block)) => block.asked(),
        Ok(Block::S3(block)) => block.asked(),
        Ok(Block::Api(block)) => block.asked(),
        Ok(Block::Backup(block)) => block.asked(),
        Ok(Block::Compute(block)) => block.asked(),
        _ => Vec::new(),
    }
}

/// How many packets or connections an attempt of the check takes at most, where it asks no API.
pub(crate) fn packets(check: &serde_json::Value) -> u64 {
    match read(check) {
        Ok(Block::Network(block)) => block.packets(),
        Ok(Block::Compute(_)) => compute::PACKETS.into(),
        _ => 1,
    }
}

/// When the first of the check's secrets expires, as far as that is known; reads them.
pub(crate) fn credential_expiry(check: &serde_json::Value) -> Option<Time> {
    let block = read(check).ok()?;
    let secrets = match &block {
        Block::Http(block) => block.secrets(),
        Block::S3(block) => block.secrets(),
        Block::Api(block) => block.secrets(),
        Block::Backup(block) => block.secrets(),
        Block::Exec(block) => block.secrets(),
        Block::Compute(block) => block.secrets(),
        Block::Console(block) => block.secrets(),
        _ => Vec::new(),
    };
    secrets.into_iter().filter_map(SecretSource::expiry).min()
}

/// The object store that the table of a check of kind `s3` describes, with this bucket or the check's.
pub(crate) fn object_store(check: &serde_json::Value, bucket: Option<&str>, net: &Net) -> Result<Store, CheckError> {
    match read(check)? {
        Block::S3(block) => {
            block.validate()?;
            block.store(bucket, net)
        }
        _ => Err(CheckError::Shape("not of the kind `s3`: name a target of that kind".to_owned())),
    }
}

/// The check that the table describes; reads the files and secrets that it names.
pub(crate) fn build(check: &serde_json::Value, net: &Net) -> Result<Box<dyn Check>, CheckError> {
    let block = read(check)?;
    block.validate()?;
    Ok(match block {
        Block::Http(block) => Box::new(block.build(net)?),
        Block::Tcp(block) => Box::new(block.build()?),
        Block::Tls(block) => Box::new(block.build(net)?),
        Block::Icmp(block) => Box::new(block.build()?),
        Block::Dns(block) => Box::new(block.build()?),
        Block::S3(block) => Box::new(block.build(net)?),
        Block::Network(block) => Box::new(block.build()?),
        Block::Api(block) => Box::new(block.build(net)?),
        Block::Backup(block) => Box::new(block.build(net)?),
        Block::Exec(block) => Box::new(block.build()?),
        Block::Storage(block) => Box::new(block.build()),
        Block::Compute(block) => Box::new(block.build(net)?),
        Block::Console(block) => Box::new(block.build(net)?),
        Block::Internet(block) => Box::new(block.build(net)?),
    })
}

impl Block {
    fn validate(&self) -> Result<(), CheckError> {
        match self {
            Self::Http(block) => block.validate(),
            Self::Tcp(block) => block.validate(),
            Self::Tls(block) => block.validate(),
            Self::Icmp(block) => block.validate(),
            Self::Dns(block) => block.validate(),
            Self::S3(block) => block.validate(),
            Self::Network(block) => block.validate(),
            Self::Api(block) => block.validate(),
            Self::Backup(block) => block.validate(),
            Self::Exec(block) => block.validate(),
            Self::Storage(block) => block.validate(),
            Self::Compute(block) => block.validate(),
            Self::Console(block) => block.validate(),
            Self::Internet(block) => block.validate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_check_that_cannot_be_understood_says_why() {
        let error = |check: serde_json::Value| validate(&check).unwrap_err().to_string();
        assert!(error(json!({})).contains("no `kind`"));
        assert!(error(json!({"kind": "htp"})).contains("`htp`"));
        assert!(error(json!({"kind": "http"})).contains("url"));
        assert!(error(json!({"kind": "http", "url": "http://a/", "colour": 1})).contains("colour"));
        assert!(error(json!({"kind": "http", "url": "ftp://a/"})).contains("ftp"));
        assert!(error(json!({"kind": "tcp", "address": "a"})).contains("port"));
        assert!(error(json!({"kind": "dns", "server": "127.0.0.1:53", "name": "a.test", "type": "Z"})).contains('Z'));
        assert!(error(json!({"kind": "network", "address": "a:862", "packets": 0})).contains("`packets`"));
        assert!(error(json!({"kind": "network", "address": "a:862", "most_lost": 5})).contains("`most_lost`"));
        assert!(error(json!({"kind": "network", "address": "a:862", "mtu": 100})).contains("`mtu`"));
        validate(&json!({"kind": "network", "address": "a:862", "packets": 3, "most_lost": 2, "mtu": 1500, "tcp_echo": true})).unwrap();
        assert!(error(json!({"kind": "compute", "address": "a:862"})).contains("`path`"));
        assert!(error(json!({"kind": "compute", "path": "peer"})).contains("`address`"));
        assert!(error(json!({"kind": "compute", "path": "peer", "address": "a:862", "colour": 1})).contains("colour"));
        assert!(error(json!({"kind": "compute", "path": "self", "address": "a:862"})).contains("address"));
        validate(&json!({"kind": "compute", "path": "self"})).unwrap();
        assert!(error(json!({"kind": "compute", "path": "witness", "zone": "az05", "virtual_machine": "v"})).contains("`api`"));
        validate(&json!({"kind": "icmp", "address": "192.0.2.1", "outside": true})).unwrap();
    }

    #[test]
    fn every_kind_that_has_secrets_says_when_they_expire() {
        let of = |year: u16| json!({"env": "VIGIE_NO_SUCH_VARIABLE", "expires": format!("{year}-01-01T00:00:00Z")});
        let api = json!({"endpoint": "https://a", "token_id": of(2029), "token_secret": of(2028)});
        let steps = json!([{"name": "page", "get": "/"}, {"name": "login", "post": "/", "secrets": {"user": of(2028), "password": of(2029)}, "marker": "in"}]);
        for check in [
            json!({"kind": "http", "url": "https://a/", "bearer": of(2028)}),
            json!({"kind": "s3", "endpoint": "https://a", "bucket": "b", "region": "r", "access_key": of(2029), "secret_key": of(2028)}),
            json!({"kind": "api", "api": api}),
            json!({"kind": "backup", "api": api, "zone": "z", "operation": "lists", "list": "policies"}),
            json!({"kind": "compute", "path": "witness", "api": api, "zone": "z", "virtual_machine": "v"}),
            json!({"kind": "exec", "command": ["/bin/true"], "env": {"A": of(2029), "B": of(2028)}}),
            json!({"kind": "console", "endpoint": "https://a", "steps": steps}),
        ] {
            validate(&check).unwrap();
            assert_eq!(credential_expiry(&check), Time::parse("2028-01-01T00:00:00Z"), "{check}");
        }
        for check in [json!({"kind": "http", "url": "https://a/"}), json!({"kind": "icmp", "address": "192.0.2.1"})] {
            assert_eq!(credential_expiry(&check), None, "{check}");
        }
    }

    #[test]
    fn phases_add_up_over_what_was_reached() {
        let mut trace = Trace::new(now());
        trace.begin(Phase::Resolve);
        trace.begin(Phase::Connect);
        trace.close(now() + Duration::from_millis(5));
        let phases: Vec<_> = trace.phases().collect();
        assert_eq!(phases.iter().map(|(phase, _)| phase.as_str()).collect::<Vec<_>>(), ["resolve", "connect"]);
        assert!(phases[1].1 >= Span::from_us(5_000));
    }
}
