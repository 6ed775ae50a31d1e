//! `kind = "icmp"`: an echo comes back.

use serde::Deserialize;
use vigie_contract::Reason;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::clock::span;
use crate::icmp::Echo;
use crate::net::Host;

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
        match pinger.echo(ip, attempt.deadline).await {
            Echo::Replied { rtt, hop_limit } => {
                trace.close(crate::clock::now());
                trace.set(Phase::Rtt, span(rtt));
                trace.latency = Some(span(rtt));
                trace.facts.hop_limit = hop_limit;
                Ok(())
            }
            Echo::Undelivered(_) | Echo::NoRoute(_) => Err(Finding::Fail(Reason::Unreachable)),
            Echo::TimedOut => Err(Finding::Fail(Reason::Timeout)),
            Echo::LocalFault(fault) => Err(Finding::Void(fault.reason())),
        }
    }
}
