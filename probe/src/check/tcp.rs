//! `kind = "tcp"`: a connection is accepted; with `expect`, what the server says first, or answers to `send`, contains it.
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | the connection, and what is expected, if anything is | ok | |
//! | there is no such name, or it has no address | fail dns | resolve |
//! | no resolver answers, and none did before | void resolver | resolve |
//! | nobody listens | fail refused | connect |
//! | no route, or a router says that it is unreachable or prohibited | fail unreachable | connect |
//! | a rule of this host prohibits it, or the system refuses it otherwise | void internal | connect |
//! | no descriptors, no ports | void descriptors | connect |
//! | the connection is reset, or ends before a word is said | fail reset | request |
//! | it ends after other words, or 16 KiB of them were said | fail content | request |
//! | no answer, or no more of it, in time | fail timeout | connect, request |

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vigie_contract::Reason;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::net::{Host, fault};

/// The most that is read while waiting for `expect`.
const MOST_BYTES: usize = 16_384;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    address: String,
    send: Option<String>,
    expect: Option<String>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

struct Tcp {
    host: Host,
    port: u16,
    send: Option<String>,
    expect: Option<String>,
}

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        Host::with_port(&self.address).map(|_| ())
    }

    pub(super) fn build(self) -> Result<impl Check + use<>, CheckError> {
        let (host, port) = Host::with_port(&self.address)?;
        Ok(Tcp { host, port, send: self.send, expect: self.expect.filter(|expect| !expect.is_empty()) })
    }
}

impl Check for Tcp {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.converse(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Tcp
    }
}

impl Tcp {
    async fn converse(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let mut stream = attempt.net.connect(&self.host, self.port, trace).await?;
        if self.send.is_none() && self.expect.is_none() {
            return Ok(());
        }
        trace.begin(Phase::Request);
        if let Some(send) = &self.send {
            stream.write_all(send.as_bytes()).await.map_err(|error| fault(&error))?;
        }
        let Some(expect) = &self.expect else { return Ok(()) };
        let mut said = Vec::new();
        while !contains(&said, expect.as_bytes()) {
            if said.len() >= MOST_BYTES {
                return Err(Finding::Fail(Reason::Content));
            }
            if stream.read_buf(&mut said).await.map_err(|error| fault(&error))? == 0 {
                return Err(Finding::Fail(if said.is_empty() { Reason::Reset } else { Reason::Content }));
            }
        }
        Ok(())
    }
}

/// Whether `part` occurs in `whole`.
pub(super) fn contains(whole: &[u8], part: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
