//! `kind = "s3"`: an object store does what it is asked (signature version 4, unsigned payload, path style).
//!
//! `operation = "rotate"`, the default: each slot does the next of PUT, HEAD, GET, LIST and DELETE of an object of the probe's own, 1 KiB
//! of new content each time, over a fresh connection. After a step that did not succeed the next slot begins with PUT again, so that
//! nothing is asked of an object that was perhaps never written; a second attempt repeats the first one's step. The objects are
//! `vigie/<target>/<vantage>/0` to `/7`, taken in turn: vantages share none, a PUT that the server does long after it timed out hits none
//! that is looked at, and a probe that is killed leaves at most these. The bucket neither keeps versions nor forbids deletion.
//!
//! `operation = "get"`: reads `object`, 1 KiB that somebody put there, over a connection that is kept between slots; a second attempt uses
//! a fresh one, and so does a first one that finds the connection closed. A second attempt is no double of the first: it adds the parameter
//! `x-id=GetObject`, with which the newer SDKs of AWS name the operation and which changes nothing. Latency counts from the request (phase processing: to the first
//! byte of the answer, transfer: to its last) and holds no connecting, no TLS.
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | 2xx, and content, length or listing are right; DELETE: 404 `NoSuchKey` too, it is gone | ok | |
//! | no address, no connection, no TLS, no answer in time | as every check: dns, refused, unreachable, tls, timeout … | resolve, connect, tls, processing, transfer |
//! | the connection ends within the answer | fail reset | processing, transfer |
//! | what is no HTTP | fail protocol | processing, transfer |
//! | 5xx, with or without a code; a status or redirection that no S3 server gives | fail status | transfer |
//! | GET gives other bytes, HEAD another length, than PUT was given | fail corrupt | transfer |
//! | rotate: 404 for what was written a slot ago, or it is not listed | fail missing | transfer |
//! | LIST: 2xx, but no listing | fail content | transfer |
//! | 429, or the code `SlowDown` with any status (HEAD has no code: the words beside its status) | void throttled | transfer |
//! | 403 `AccessDenied`: not in the bucket's list of addresses, or no right | void address | transfer |
//! | 401, any other 403, `InvalidAccessKeyId`, `SignatureDoesNotMatch`, `AuthorizationHeaderMalformed`, `XAdminUserNotFound` | void credential | transfer |
//! | `RequestTimeTooSkewed` | void clock | transfer |
//! | 404 without a PUT of ours before it: `get`, or no such bucket; `get`: not 1 KiB | void request | transfer |
//! | any other 4xx (`XAmzContentSHA256Mismatch` …), `PermanentRedirect`: we ask wrongly | void request | transfer |

use std::cell::Cell;
use std::path::PathBuf;

use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use vigie_contract::Reason;

use super::tcp::contains;
use super::{Answer, Asked, Attempt, Check, CheckError, Finding, Kind, Trace};
use crate::clock::now;
use crate::exchange::{Address, Line};
use crate::net::{Host, Net};
use crate::random;
use crate::s3::{Question, Reply, Store, ask};
use crate::secret::SecretSource;
use crate::sigv4::{Signer, encode};

/// The size of every object (contract, line 10.3: a latency is that of one size).
const OBJECT_BYTES: usize = 1_024;
/// So many objects a target has at a vantage.
const OBJECTS: u64 = 8;
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// `https://host`, without a path: the bucket is put there.
    endpoint: String,
    bucket: String,
    /// What the signature says; ECS takes any.
    region: String,
    access_key: SecretSource,
    secret_key: SecretSource,
    #[serde(default)]
    operation: Operation,
    /// The name of the object for `get`.
    object: Option<String>,
    /// Connect here instead of the endpoint's host: `host:port`.
    connect: Option<String>,
    /// A PEM file of the authorities to trust instead of the public ones.
    ca: Option<PathBuf>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    #[default]
    Rotate,
    Get,
}

struct S3 {
    store: Store,
    duty: Duty,
}

enum Duty {
    Rotate(Cell<Rotation>),
    Get {
        object: String,
        /// The connection of the last slot.
        kept: Cell<Option<Line>>,
    },
}

/// Where the rotation stands.
#[derive(Clone, Copy)]
struct Rotation {
    step: Step,
    has_succeeded: bool,
    /// Counts the objects that were begun.
    round: u64,
    /// What the object is made of.
    nonce: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Put,
    Head,
    Get,
    List,
    Delete,
}

fn shape(why: impl Into<String>) -> CheckError {
    CheckError::Shape(why.into())
}

impl Block {
    fn address(&self) -> Result<Address, CheckError> {
        let address = Address::parse(&self.endpoint)?;
        if address.path != "/" {
            return Err(shape(format!("the endpoint `{}` has a path: the bucket's name belongs into `bucket`", self.endpoint)));
        }
        Ok(address)
    }

    fn duty(&self) -> Result<Duty, CheckError> {
        match (self.operation, &self.object) {
            (Operation::Rotate, None) => Ok(Duty::Rotate(Cell::new(Rotation::new()))),
            (Operation::Rotate, Some(_)) => Err(shape("`object` is for the operation `get`: a rotation names its own")),
            (Operation::Get, Some(object)) if !object.is_empty() => Ok(Duty::Get { object: object.clone(), kept: Cell::new(None) }),
            (Operation::Get, _) => Err(shape("the operation `get` needs the name of an `object`")),
        }
    }

    pub(super) fn validate(&self) -> Result<(), CheckError> {
        self.address()?;
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        for (what, text) in [("bucket", &self.bucket), ("region", &self.region)] {
            if !is_word(text) {
                return Err(shape(format!("`{text}` is no name of a {what}")));
            }
        }
        self.duty()?;
        self.connect.as_deref().map(Host::with_port).transpose().map(|_| ())
    }

    /// Reads of one object, which others may read too; a rotation has objects of its own.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let Some(object) = self.object.as_ref().filter(|_| self.operation == Operation::Get) else { return Vec::new() };
        [false, true]
            .map(|is_retry| {
                let Question { path, query, .. } = of_object(&self.bucket, object, is_retry);
                Asked::new(format!("GET {path}?{query}").trim_end_matches('?'), None, 1_000)
            })
            .into()
    }

    /// The object store, with this bucket or that of the check.
    pub(super) fn store(self, bucket: Option<&str>, net: &Net) -> Result<Store, CheckError> {
        let address = self.address()?;
        Ok(Store {
            server: address.server(net, self.connect.as_deref(), self.ca.as_deref())?,
            authority: address.authority,
            bucket: bucket.map_or(self.bucket, str::to_owned),
            signer: Signer { access_key: self.access_key.read()?, secret_key: self.secret_key.read()?, region: self.region },
        })
    }

    pub(super) fn secrets(&self) -> Vec<&SecretSource> {
        vec![&self.access_key, &self.secret_key]
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        Ok(S3 { duty: self.duty()?, store: self.store(None, net)? })
    }
}

impl Check for S3 {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move {
            let found = match &self.duty {
                Duty::Rotate(rotation) => self.rotate(rotation, attempt, trace).await,
                Duty::Get { object, kept } => self.get(object, kept, attempt, trace).await,
            };
            found.err().unwrap_or(Finding::Ok)
        })
    }

    fn kind(&self) -> Kind {
        Kind::S3
    }
}

impl S3 {
    /// The next step, or the same again.
    async fn rotate(&self, rotation: &Cell<Rotation>, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let turn = if attempt.is_retry { rotation.get() } else { rotation.get().next() };
        // An attempt that is given up from outside has not succeeded.
        rotation.set(turn);
        let object = turn.object(attempt);
        let question = turn.question(&self.store.bucket, &object);
        let mut request = self.store.request(&question, attempt.wall, attempt.id)?;
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let reply = ask(&mut self.store.server.open(attempt.net, trace).await?, request, trace).await?;
        turn.judge(&reply, &object)?;
        rotation.set(Rotation { has_succeeded: true, ..turn });
        Ok(())
    }

    /// Reads `object`, over the connection that was `kept` if it still stands.
    async fn get(&self, object: &str, kept: &Cell<Option<Line>>, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let question = of_object(&self.store.bucket, object, attempt.is_retry);
        let known = kept.take().filter(|_| !attempt.is_retry);
        let (line, reply) = match self.get_over(known, &question, attempt, trace).await? {
            Some(answered) => answered,
            None => {
                let mut line = self.store.server.open(attempt.net, trace).await?;
                let request = self.store.request(&question, attempt.wall, attempt.id)?;
                trace.counts_from = now();
                let reply = ask(&mut line, request, trace).await?;
                (line, reply)
            }
        };
        kept.set(Some(line));
        reply.judge_status(false)?;
        // Another object than the one that the line is about.
        if reply.body.len() == OBJECT_BYTES { Ok(()) } else { Err(Finding::Void(Reason::Request)) }
    }

    /// The answer over a connection of an earlier slot; nothing if the server has closed it, or does while it is asked: that is its right,
    /// and a client then asks over another (RFC 9112 §9.3.1).
    async fn get_over(
        &self,
        known: Option<Line>,
        question: &Question,
        attempt: &Attempt<'_>,
        trace: &mut Trace,
    ) -> Result<Option<(Line, Reply)>, Finding> {
        let Some(mut line) = known else { return Ok(None) };
        if !line.is_ready().await {
            return Ok(None);
        }
        let request = self.store.request(question, attempt.wall, attempt.id)?;
        trace.counts_from = now();
        match ask(&mut line, request, trace).await {
            Ok(reply) => Ok(Some((line, reply))),
            Err(Finding::Fail(Reason::Reset)) if trace.facts.http_status.is_none() => Ok(None),
            Err(finding) => Err(finding),
        }
    }
}

/// Reads the object of the operation `get`.
fn of_object(bucket: &str, object: &str, is_retry: bool) -> Question {
    let query = if is_retry { "x-id=GetObject" } else { "" };
    Question { query: query.to_owned(), ..Question::of_object(Method::GET, bucket, object) }
}

impl Rotation {
    /// Before the first PUT.
    fn new() -> Self {
        Self { step: Step::Delete, has_succeeded: true, round: 0, nonce: 0 }
    }

    fn next(self) -> Self {
        match self.step {
            Step::Put if self.has_succeeded => self.to(Step::Head),
            Step::Head if self.has_succeeded => self.to(Step::Get),
            Step::Get if self.has_succeeded => self.to(Step::List),
            Step::List if self.has_succeeded => self.to(Step::Delete),
            _ => Self { step: Step::Put, has_succeeded: false, round: self.round + 1, nonce: random::u64() },
        }
    }

    fn to(self, step: Step) -> Self {
        Self { step, has_succeeded: false, ..self }
    }

    fn content(self) -> String {
        format!("{:016x}", self.nonce).repeat(OBJECT_BYTES / 16)
    }

    fn object(self, attempt: &Attempt<'_>) -> String {
        format!("{}{}", prefix(attempt), self.round % OBJECTS)
    }

    fn question(self, bucket: &str, object: &str) -> Question {
        let of_object = |method, body| Question { body, ..Question::of_object(method, bucket, object) };
        match self.step {
            Step::Put => of_object(Method::PUT, self.content().into()),
            Step::Head => of_object(Method::HEAD, Bytes::new()),
            Step::Get => of_object(Method::GET, Bytes::new()),
            Step::Delete => of_object(Method::DELETE, Bytes::new()),
            Step::List => {
                let prefix = object.rsplit_once('/').map_or("", |(prefix, _)| prefix);
                let query = format!("list-type=2&max-keys={}&prefix={}", 2 * OBJECTS, encode(&format!("{prefix}/"), false));
                Question { method: Method::GET, path: format!("/{bucket}"), query, body: Bytes::new() }
            }
        }
    }

    fn judge(self, reply: &Reply, object: &str) -> Result<(), Finding> {
        // A DELETE that was done although its answer was lost.
        if self.step == Step::Delete && reply.status == StatusCode::NOT_FOUND && reply.code() == "NoSuchKey" {
            return Ok(());
        }
        reply.judge_status(self.step != Step::Put)?;
        let holds = |text: &str| contains(&reply.body, text.as_bytes());
        match self.step {
            Step::Head if reply.length.is_some_and(|length| length != OBJECT_BYTES) => Err(Finding::Fail(Reason::Corrupt)),
            Step::Get if reply.body != self.content().as_bytes() => Err(Finding::Fail(Reason::Corrupt)),
            Step::List if !holds("<ListBucketResult") => Err(Finding::Fail(Reason::Content)),
            Step::List if !holds(&format!("<Key>{object}</Key>")) => Err(Finding::Fail(Reason::Missing)),
            _ => Ok(()),
        }
    }
}

/// What the names of the objects of a target at a vantage begin with; encoded, so that a listing in XML shows them as they are.
fn prefix(attempt: &Attempt<'_>) -> String {
    format!("vigie/{}/{}/", encode(attempt.target, true), encode(attempt.vantage, true))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
