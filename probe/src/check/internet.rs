//! `kind = "internet"`: the outside is there, since enough of a few anchors in it are reached.
//!
//! Anchors are well-known servers in different networks, of different operators, by their addresses: no resolver is asked, so that a broken
//! resolver is not a broken Internet (make the resolver a target of its own, of kind `dns`). All are tried at once. One is reached when it
//! accepts a connection or, with `https`, when its certificate is that of the name there and it answers a HEAD request, with whatever
//! status: then it was no box on the way that answered. An anchor that is down is its own affair as long as `quorum` of them are reached,
//! which is why the quorum must be smaller than their number.
//!
//! ```toml
//! [target.check]
//! kind = "internet"
//! anchors = [
//!     { address = "192.0.2.1:443", https = "www.example" },
//!     { address = "198.51.100.53:53" },
//!     { address = "[2001:db8::1]:443", https = "mirror.example" },
//! ]
//! ```
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | `quorum` anchors are reached | ok | |
//! | fewer: the reason of the most anchors, of the first of them if they differ | fail refused, reset, unreachable, tls, protocol … | connect, tls, processing, transfer |
//! | an anchor has not answered shortly before the deadline | as fail timeout | connect, tls, processing, transfer |
//! | fewer, but no fewer with those that the probe had no descriptor or port for | void descriptors | connect |
//! | fewer, but no fewer with those that this machine knows no way to, not even a default route | void internal | connect |
//!
//! So a machine that has lost its routes says nothing, like any other probe that is cut off by its own fault; one whose router has died has
//! the route still, and its anchors time out or are unreachable. One anchor without a way, IPv6 on a machine that has none, hides nothing:
//! it can only excuse what it alone would have changed.
//!
//! Latency is the time until the quorum was reached; the phases are those of the anchor that decided. The others are waited for a moment
//! more, so that the metrics can tell which of them are reached.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use serde::Deserialize;
use tokio::time::timeout_at;
use tokio_rustls::rustls::pki_types::ServerName;
use vigie_contract::Reason;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Trace};
use crate::clock::{now, span};
use crate::exchange::{Server, tell_apart};
use crate::limits::MOST_ANCHORS;
use crate::net::{Host, Net};

const LEAST_ANCHORS: usize = 3;
const USUAL_QUORUM: usize = 2;
/// So long the other anchors are waited for when the quorum is reached.
const GRACE: Duration = Duration::from_millis(250);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    anchors: Vec<AnchorBlock>,
    /// So many anchors are enough.
    #[serde(default = "usual_quorum")]
    quorum: usize,
    /// A PEM file of the authorities to trust instead of the public ones.
    ca: Option<PathBuf>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorBlock {
    /// `ip:port`.
    address: String,
    /// The name in its certificate.
    https: Option<String>,
}

fn usual_quorum() -> usize {
    USUAL_QUORUM
}

struct Internet {
    anchors: Vec<Anchor>,
    quorum: usize,
}

struct Anchor {
    /// What the metrics call it: its address.
    name: Arc<str>,
    address: SocketAddr,
    server: Server,
    /// What a request over TLS calls it.
    authority: Option<HeaderValue>,
}

/// What came of an anchor.
type Reached = Result<(), Finding>;

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        let mut mistakes = Vec::new();
        let count = self.anchors.len();
        if !(LEAST_ANCHORS..=MOST_ANCHORS).contains(&count) {
            mistakes.push(format!("there are from {LEAST_ANCHORS} to {MOST_ANCHORS} `anchors`, not {count}"));
        }
        if self.quorum == 0 || self.quorum >= count.max(LEAST_ANCHORS) {
            mistakes
                .push(format!("`quorum` is at least 1 and less than the number of anchors, not {}: one of them may be down", self.quorum));
        }
        let mut addresses = BTreeMap::new();
        for anchor in &self.anchors {
            mistakes.extend(anchor.server_name().err().map(|error| error.to_string()));
            let address = anchor.address();
            mistakes.extend(address.as_ref().err().map(ToString::to_string));
            let Ok(address) = address else { continue };
            if let Some(same) = addresses.insert(address.ip().to_canonical(), &anchor.address) {
                mistakes.push(format!("`{same}` and `{}` are one host: it would count twice", anchor.address));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(CheckError::Shape(mistakes.join("; "))) }
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        let trust = net.trust(self.ca.as_deref())?;
        let anchor = |block: &AnchorBlock| {
            let address = block.address()?;
            let tls = block.server_name()?.map(|name| (Arc::clone(&trust), name));
            let unfit = |_| CheckError::Shape(format!("`{}` cannot be sent", block.https.as_deref().unwrap_or_default()));
            Ok(Anchor {
                name: block.address.as_str().into(),
                address,
                server: Server { host: Host::Ip(address.ip()), port: address.port(), tls },
                authority: block.https.as_deref().map(HeaderValue::from_str).transpose().map_err(unfit)?,
            })
        };
        Ok(Internet { anchors: self.anchors.iter().map(anchor).collect::<Result<_, CheckError>>()?, quorum: self.quorum })
    }
}

impl AnchorBlock {
    fn address(&self) -> Result<SocketAddr, CheckError> {
        match Host::with_port(&self.address)? {
            (Host::Ip(ip), port) => Ok(SocketAddr::new(ip, port)),
            (Host::Name(_), _) => {
                Err(CheckError::Shape(format!("`{}` is a name: write an address, so that no resolver is needed", self.address)))
            }
        }
    }

    fn server_name(&self) -> Result<Option<ServerName<'static>>, CheckError> {
        self.https.as_deref().map(|name| Host::parse(name)?.server_name()).transpose()
    }
}

impl Check for Internet {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(self.reach(attempt, trace))
    }

    fn kind(&self) -> Kind {
        Kind::Tcp
    }
}

impl Internet {
    async fn reach(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Finding {
        let mut parts: Vec<_> = self.anchors.iter().map(|_| Trace::new(trace.began)).collect();
        let mut found: Vec<Reached> = vec![Err(Finding::Fail(Reason::Timeout)); self.anchors.len()];
        let quorum = self.wait(attempt, &mut parts, &mut found).await;
        let finding = judge(&found, self.quorum);
        let decisive = match (&quorum, finding) {
            (Some((at, _)), _) => *at,
            (None, finding) => found.iter().position(|found| *found == Err(finding)).unwrap_or_default(),
        };
        parts.iter_mut().for_each(|part| part.close(now()));
        trace.take_phases(&parts[decisive]);
        trace.latency = quorum.map(|(_, when)| span(when.saturating_duration_since(trace.began)));
        trace.facts.certificate_expiry_s = parts.iter().filter_map(|part| part.facts.certificate_expiry_s).min();
        trace.facts.anchors = self.anchors.iter().zip(&found).map(|(anchor, found)| (Arc::clone(&anchor.name), found.is_ok())).collect();
        finding
    }

    /// Tries all anchors at once, and notes what is `found` in time. Returns the one that completed the quorum, and when.
    async fn wait(&self, attempt: &Attempt<'_>, parts: &mut [Trace], found: &mut [Reached]) -> Option<(usize, Instant)> {
        let mut until = attempt.last_moment(now());
        let tries = self.anchors.iter().zip(parts).enumerate();
        let mut tries: FuturesUnordered<_> =
            tries.map(|(at, (anchor, part))| async move { (at, anchor.reach(attempt, part).await) }).collect();
        let mut quorum = None;
        while let Ok(Some((at, reached))) = timeout_at(until.into(), tries.next()).await {
            found[at] = reached;
            if quorum.is_none() && found.iter().filter(|found| found.is_ok()).count() == self.quorum {
                quorum = Some((at, now()));
                until = until.min(now() + GRACE);
            }
        }
        quorum
    }
}

/// The rows of the table.
fn judge(found: &[Reached], quorum: usize) -> Finding {
    let reached = found.iter().filter(|found| found.is_ok()).count();
    if reached >= quorum {
        return Finding::Ok;
    }
    let errors: Vec<Finding> = found.iter().filter_map(|found| found.err()).collect();
    let own: Vec<_> = errors.iter().filter(|error| matches!(error, Finding::Void(_))).collect();
    match own.first() {
        Some(excuse) if reached + own.len() >= quorum => **excuse,
        _ => {
            let failures = || errors.iter().filter(|error| matches!(error, Finding::Fail(_)));
            let count = |error: &&Finding| failures().filter(|other| other == error).count();
            // Of several as frequent the first.
            failures().rev().max_by_key(count).copied().unwrap_or(Finding::Void(Reason::Internal))
        }
    }
}

impl Anchor {
    async fn reach(&self, attempt: &Attempt<'_>, part: &mut Trace) -> Reached {
        let reached = match &self.authority {
            None => attempt.net.connect(&self.server.host, self.server.port, part).await.map(|_| ()),
            Some(authority) => self.ask(authority, attempt, part).await,
        };
        part.close(now());
        match reached {
            Err(Finding::Fail(Reason::Unreachable)) if !self.has_route(attempt.net).await => Err(Finding::Void(Reason::Internal)),
            reached => reached,
        }
    }

    async fn ask(&self, authority: &HeaderValue, attempt: &Attempt<'_>, part: &mut Trace) -> Reached {
        let mut request = Request::new(Full::<Bytes>::default());
        *request.method_mut() = Method::HEAD;
        let headers = request.headers_mut();
        headers.insert(HOST, authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vigie/", env!("CARGO_PKG_VERSION"), " (availability supervision)")));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        tell_apart(&mut request, attempt.id);
        self.server.open(attempt.net, part).await?.fetch(request, part).await.map(|_| ())
    }

    /// Whether this machine knows a way there: to connect a socket for datagrams looks for one, and sends nothing.
    async fn has_route(&self, net: &Net) -> bool {
        Net::datagram_socket(net.source, self.address).await.is_ok()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
