//! `kind = "icmp"`: an echo comes back.
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | it is back in time, by the kernel's stamp, whole and from where it was sent to | ok | |
//! | nothing, or only what is late, damaged or somebody else's | fail timeout | rtt |
//! | no route, or somebody on the way says that it was not delivered: unreachable, prohibited, too many hops … | fail unreachable | rtt |
//! | the name does not resolve | as everywhere: dns, resolver | resolve |
//! | a rule of this host prohibits it, or the system refuses it otherwise; no socket of that IP version | void internal | rtt |
//! | nothing, and the kernel dropped replies that the probe did not take | void starved | rtt |
//! | it is back, but the wall clock was set meanwhile: perhaps too late | void clock | rtt |
//! | more echoes wait than there are numbers for, or the send buffer stays full | void overload | rtt |
//! | no right to send echoes | void internal | |

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
