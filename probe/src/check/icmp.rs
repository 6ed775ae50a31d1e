//! `kind = "icmp"`: an echo comes back.

use serde::Deserialize;
use vigie_contract::Reason;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::clock::span;
use crate::icmp::EchoOutcome;
use crate::net::Host;

/// What an echo carries beyond its headers: as `ping` does.
const PAYLOAD_BYTES: usize = 56;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    address: String,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

struct Icmp {
    host: Host,
}

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        Host::parse(&self.address).map(|_| ())
    }

    pub(super) fn build(self) -> Result<impl Check + use<>, CheckError> {
        Ok(Icmp { host: Host::parse(&self.address)? })
    }
}

impl Check for Icmp {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.ping(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Icmp
    }
}

impl Icmp {
    async fn ping(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let Ok(pinger) = &attempt.net.pinger else { return Err(Finding::Void(Reason::Internal)) };
        let ip = attempt.net.resolve(&self.host, trace).await?;
        trace.begin(Phase::Rtt);
        let echo = pinger.echo(ip, PAYLOAD_BYTES, attempt.deadline).await;
        trace.facts.hop_limit = echo.hop_limit;
        match echo.outcome {
            EchoOutcome::Replied => {
                if let Some(rtt) = echo.rtt {
                    trace.close(crate::clock::now());
                    trace.set(Phase::Rtt, span(rtt));
                    trace.latency = Some(span(rtt));
                }
                Ok(())
            }
            EchoOutcome::Unreachable { .. } => Err(Finding::Fail(Reason::Unreachable)),
            EchoOutcome::TimedOut => Err(Finding::Fail(Reason::Timeout)),
            EchoOutcome::LocalFault(fault) => Err(Finding::Void(fault.reason())),
        }
    }
}
