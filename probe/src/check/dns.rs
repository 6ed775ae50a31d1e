//! `kind = "dns"`: a server gives the expected answer to a question.
//!
//! A datagram may be lost: the question is sent again half-way to the deadline. What is no answer to it, under another id or to another
//! question, is somebody else's and counts for nothing.
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | the expected code, with all records that are expected, or any | ok | |
//! | a truncated answer, and over TCP the whole one | ok | |
//! | REFUSED: it does not want to answer us | void address | request |
//! | any other code: SERVFAIL, NXDOMAIN, or none although NXDOMAIN is expected | fail status | request |
//! | the expected code, but no records, or not those | fail content | request |
//! | the question's id before what is no message; the same over TCP | fail protocol | request |
//! | truncated, and the connection fails or ends | fail refused, unreachable, reset … | request |
//! | nothing, or only what counts for nothing | fail timeout | request |
//! | nobody listens | fail refused | request |
//! | the server's name does not resolve | as everywhere: dns, resolver | resolve |

use std::net::SocketAddr;
use std::str::FromStr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use serde::Deserialize;
use vigie_contract::Reason;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::clock::now;
use crate::dns::{Question, ask};
use crate::net::Host;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// `host:port` of the server; a name is looked up by the probe's own resolver.
    server: String,
    name: String,
    /// A, AAAA, CNAME, MX, NS, SOA, SRV, TXT …
    #[serde(rename = "type", default = "address")]
    record_type: String,
    /// Each of these is among the answers, written as in a zone file; without it, any answer will do.
    #[serde(default)]
    expect: Vec<String>,
    /// The answer to expect: `NOERROR`, or `NXDOMAIN` for a name that must not exist.
    #[serde(default)]
    code: Code,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum Code {
    #[default]
    #[serde(rename = "NOERROR")]
    NoError,
    #[serde(rename = "NXDOMAIN")]
    NxDomain,
}

fn address() -> String {
    "A".to_owned()
}

struct Dns {
    host: Host,
    port: u16,
    question: Question,
    expect: Vec<String>,
    code: ResponseCode,
}

impl Block {
    fn question(&self) -> Result<Question, CheckError> {
        let mut name =
            Name::from_str(&self.name).map_err(|error| CheckError::Shape(format!("`{}` is no domain name: {error}", self.name)))?;
        name.set_fqdn(true);
        let record_type = RecordType::from_str(&self.record_type);
        let record_type = record_type.map_err(|_| CheckError::Shape(format!("`{}` is no type of DNS record", self.record_type)))?;
        Ok(Question { name, record_type })
    }

    pub(super) fn validate(&self) -> Result<(), CheckError> {
        Host::with_port(&self.server)?;
        self.question().map(|_| ())
    }

    pub(super) fn build(self) -> Result<impl Check + use<>, CheckError> {
        let (host, port) = Host::with_port(&self.server)?;
        let code = match self.code {
            Code::NoError => ResponseCode::NoError,
            Code::NxDomain => ResponseCode::NXDomain,
        };
        Ok(Dns { host, port, question: self.question()?, expect: self.expect.iter().map(|text| plain(text)).collect(), code })
    }
}

/// The text of an answer without what two correct servers may write differently.
fn plain(text: &str) -> String {
    text.trim_end_matches('.').trim_matches('"').to_ascii_lowercase()
}

impl Check for Dns {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.question(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Dns
    }
}

impl Dns {
    async fn question(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let ip = attempt.net.resolve(&self.host, trace).await?;
        trace.begin(Phase::Request);
        // One datagram may be lost: it is sent a second time within the attempt, half-way to its end.
        let half = attempt.deadline.saturating_duration_since(now()) / 2;
        let answer = ask(attempt.net.source, SocketAddr::new(ip, self.port), &self.question, half).await?;
        trace.facts.answer_records = Some(answer.answers.len());
        if answer.metadata.response_code != self.code {
            return Err(match answer.metadata.response_code {
                // The server does not want to answer us: that says nothing about what others get.
                ResponseCode::Refused => Finding::Void(Reason::Address),
                _ => Finding::Fail(Reason::Status),
            });
        }
        let given: Vec<_> = answer.answers.iter().map(|record| plain(&record.data.to_string())).collect();
        let wants_any = self.expect.is_empty() && matches!(self.code, ResponseCode::NoError);
        if (wants_any && given.is_empty()) || !self.expect.iter().all(|expected| given.contains(expected)) {
            return Err(Finding::Fail(Reason::Content));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
