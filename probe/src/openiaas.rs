//! The provider's control API (OpenIaaS): the session that a personal access token opens, and reads of JSON over it. What the kinds `api`,
//! `backup` and `compute` share.
//!
//! A login gives a web token (RFC 7519) as raw text, which holds for minutes. It is kept by the session, one for all checks of a probe that
//! use the same personal access token, and outlives a reload; it is renewed a minute before its end, by one request at a time. The login
//! is the only call beyond the reads that were asked for, and the only one that backs off (see [`login`]).
//!
//! The provider counts requests by address and doubles by what they ask: give each vantage a personal access token of its own. The name of
//! a file or variable in the catalogue may be the same everywhere.
//!
//! | what is seen, of a login or a read | finding |
//! |---|---|
//! | no address, no connection, no TLS, no answer in time; the connection ends within the answer; no HTTP | as every check |
//! | 5xx; a redirection or a status that no API gives | fail status |
//! | 2xx, but no JSON, or not of the shape that was asked for; of a login, no web token | fail content |
//! | 429, with or without `Retry-After`; so the block after hammering answers | void throttled |
//! | 401 | void credential |
//! | 403 with JSON in the body: the API knows us and refuses; without: who stands before it does not let our address in | void credential, void address |
//! | 404 and any other 4xx | void request |
//!
//! 206 is an answer, of a part of a list: whoever reads it concludes nothing from what is not there.

pub(crate) mod login;
mod reply;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;
use vigie_contract::{Reason, Span};

use crate::check::{Attempt, CheckError, Finding, Trace};
use crate::exchange::{Address, Server, tell_apart};
use crate::net::{Host, Net};
use crate::secret::{Secret, SecretSource};
use crate::sigv4::encode;
use login::{Logins, Token};
pub(crate) use reply::Reply;

/// Where the availability zones are listed; the API calls them machine managers.
pub(crate) const ZONES: &str = "/api/compute/v1/open_iaas";
/// So many answers 429 in a row are not chance any more.
const SUSTAINED: u32 = 3;

/// How to get in; a table of its own in a check.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Access {
    /// `https://host`, without a path.
    endpoint: String,
    /// The personal access token: its id, and its secret.
    token_id: SecretSource,
    token_secret: SecretSource,
    /// Connect here instead of the endpoint's host: `host:port`.
    connect: Option<String>,
    /// A PEM file of the authorities to trust instead of the public ones.
    ca: Option<PathBuf>,
}

/// All sessions of a probe.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Each lives as long as a check that uses it.
    open: RefCell<Vec<Weak<Session>>>,
    counts: Rc<Cell<Counts>>,
}

/// What a person should look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) logins: u64,
    /// Answers 401 to a token that was given less than a minute ago.
    pub(crate) fresh_token_refused: u64,
    /// Answers 429 from the third in a row on.
    pub(crate) sustained_throttling: u64,
}

/// One personal access token at one endpoint.
pub(crate) struct Session {
    account: Account,
    server: Server,
    authority: HeaderValue,
    token: RefCell<Option<Token>>,
    /// How long it held when one was last needed; zero if there was none to be had.
    token_left: Cell<Option<Span>>,
    /// Locked while somebody logs in: the others wait for what comes of it.
    logins: Mutex<Logins>,
    /// As last read.
    zones: RefCell<Vec<Zone>>,
    throttled_in_a_row: Cell<u32>,
    counts: Rc<Cell<Counts>>,
}

/// What makes two sessions the same.
#[derive(PartialEq)]
struct Account {
    endpoint: String,
    connect: Option<String>,
    ca: Option<PathBuf>,
    id: Secret,
    secret: Secret,
}

/// An availability zone. The API's reads need its id, people know its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Zone {
    pub(crate) id: String,
    pub(crate) name: String,
}

impl Zone {
    /// The path of the zone's part of the `list`: the API answers 5xx to lists of everything, now and then.
    pub(crate) fn part_of(&self, list: &str) -> String {
        format!("{list}?machineManagerId={}", encode(&self.id, false))
    }
}

impl Access {
    fn address(&self) -> Result<Address, CheckError> {
        let address = Address::parse(&self.endpoint)?;
        if address.path != "/" {
            return Err(CheckError::Shape(format!("the endpoint `{}` has a path: write the host only", self.endpoint)));
        }
        Ok(address)
    }

    pub(crate) fn validate(&self) -> Result<(), CheckError> {
        self.address()?;
        self.connect.as_deref().map(Host::with_port).transpose().map(|_| ())
    }

    pub(crate) fn secrets(&self) -> Vec<&SecretSource> {
        vec![&self.token_id, &self.token_secret]
    }

    /// The session, which other checks may have opened already.
    pub(crate) fn session(self, net: &Net) -> Result<Rc<Session>, CheckError> {
        let address = self.address()?;
        let (id, secret) = (self.token_id.read()?, self.token_secret.read()?);
        let account = Account { endpoint: self.endpoint, connect: self.connect, ca: self.ca, id, secret };
        let mut open = net.sessions.open.borrow_mut();
        open.retain(|session| session.strong_count() > 0);
        if let Some(same) = open.iter().filter_map(Weak::upgrade).find(|session| session.account == account) {
            return Ok(same);
        }
        let session = Rc::new(Session {
            server: address.server(net, account.connect.as_deref(), account.ca.as_deref())?,
            authority: address.authority,
            account,
            token: RefCell::default(),
            token_left: Cell::default(),
            logins: Mutex::default(),
            zones: RefCell::default(),
            throttled_in_a_row: Cell::new(0),
            counts: Rc::clone(&net.sessions.counts),
        });
        open.push(Rc::downgrade(&session));
        Ok(session)
    }
}

impl Sessions {
    pub(crate) fn counts(&self) -> Counts {
        self.counts.get()
    }

    /// How long the web token held of whoever's was nearest to its end when it was last needed.
    pub(crate) fn token_left(&self) -> Option<Span> {
        self.open.borrow().iter().filter_map(|session| session.upgrade()?.token_left.get()).min()
    }
}

impl Session {
    /// Reads what is at `path`, a path with its query. The phases and the latency are those of this read alone, unless the login fails.
    pub(crate) async fn get(&self, path: &str, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<Reply, Finding> {
        let token = self.token(attempt, trace).await?;
        trace.start_over();
        let mut request = self.request(Method::GET, path, Bytes::new(), attempt)?;
        request.headers_mut().insert(AUTHORIZATION, token.bearer.clone());
        let reply = self.ask(request, attempt, trace).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            self.note_refused(&token, login::wall(attempt, trace));
        }
        reply.judge_status()?;
        Ok(reply)
    }

    /// Reads which zones there are, and remembers them.
    pub(crate) async fn read_zones(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<Reply, Finding> {
        let reply = self.get(ZONES, attempt, trace).await?;
        let read = reply.items()?;
        // A part of the list makes nobody forget the rest.
        if !reply.is_partial() || self.zones.borrow().is_empty() {
            self.zones.replace(read);
        }
        Ok(reply)
    }

    /// Those of the zones read so far that have this name or id; all of them without it.
    pub(crate) fn zones(&self, name: Option<&str>) -> Vec<Zone> {
        let is_meant = |zone: &&Zone| name.is_none_or(|name| zone.name == name || zone.id == name);
        self.zones.borrow().iter().filter(is_meant).cloned().collect()
    }

    /// The zone of this name or id; where it is not known yet, it is read. There being none is no fault of the API.
    pub(crate) async fn zone(&self, name: &str, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<Zone, Finding> {
        if self.zones(Some(name)).is_empty() {
            self.read_zones(attempt, trace).await?;
        }
        self.zones(Some(name)).pop().ok_or(Finding::Void(Reason::Request))
    }

    fn request(&self, method: Method, path: &str, body: Bytes, attempt: &Attempt<'_>) -> Result<Request<Full<Bytes>>, Finding> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| Finding::Void(Reason::Internal))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        let name = concat!("vigie/", env!("CARGO_PKG_VERSION"), " (availability supervision)");
        headers.insert(USER_AGENT, HeaderValue::from_static(name));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        tell_apart(&mut request, attempt.id);
        Ok(request)
    }

    async fn ask(&self, request: Request<Full<Bytes>>, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<Reply, Finding> {
        let mut line = self.server.open(attempt.net, trace).await?;
        let reply = Reply::of(line.fetch(request, trace).await?);
        let in_a_row = if reply.status == StatusCode::TOO_MANY_REQUESTS { self.throttled_in_a_row.get().saturating_add(1) } else { 0 };
        self.throttled_in_a_row.set(in_a_row);
        if in_a_row >= SUSTAINED {
            self.count(|counts| &mut counts.sustained_throttling);
        }
        Ok(reply)
    }

    fn count(&self, which: impl Fn(&mut Counts) -> &mut u64) {
        let mut counts = self.counts.get();
        *which(&mut counts) += 1;
        self.counts.set(counts);
    }
}
