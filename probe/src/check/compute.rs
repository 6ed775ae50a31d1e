//! `kind = "compute"`: the canary VM is alive.
//!
//! `path = "peer"`: the agent in the VM, which is a probe with `--reflect`, answers a STAMP packet that asks for its [`Vitals`]. One answer
//! of three packets, 20 ms apart, is enough. Latency is the round trip.
//!
//! | what is seen | outcome | reason | phase |
//! |---|---|---|---|
//! | an answer, of the same boot as before; the first one at all; of another boot after a slot that failed | ok | | |
//! | an answer, however starved its VM says it is: stolen time, waiting threads, suspension, a clock that is off | ok | | |
//! | duplicates, forgeries, late answers to an earlier attempt, before an answer or without one | count for nothing | | |
//! | an answer of another boot than before, and no slot failed between: the VM restarted unseen | fail | unhealthy | rtt |
//! | no answer at the deadline: the VM is gone, paused or cut off, or does not know the vantage as a peer; ICMP host or net unreachable, of which a socket of UDP is not told | fail | timeout | rtt |
//! | ICMP administratively prohibited, or no route | fail | unreachable | rtt |
//! | ICMP port unreachable: some system lives there, but no agent | void | request | rtt |
//! | an answer without vitals: a STAMP reflector, but no agent | void | request | rtt |
//! | the name does not resolve | as everywhere | dns, resolver | resolve |
//! | no descriptors, no ports, a local filter | void | descriptors, internal | rtt |
//!
//! Slow is not down: the contract counts no degradation, so a starved VM is told by its metrics only. A VM that is paused answers nobody,
//! which fails; afterwards its metrics tell how long it did not live. A restart by high availability is down time: the slots of its length
//! fail. One that fits between two slots fails the slot that sees it, and so counts one period: from that slot of the first vantage to its
//! next.
//!
//! `path = "self"`: the agent in the VM says that it lives, as a vantage of its own. Each slot that it measures is `ok`, which holds for
//! its stamp however late the log gets it; it never fails, and a slot that it was too late for is `void` like any (`starved`, `suspended`).
//! So the target is UP or UNKNOWN: whoever is dead, says nothing. It has one vantage, the one in the VM.
//!
//! `path = "witness"`: the provider's API, over a way that shares nothing with the mesh, says that `virtual_machine`, by id, of a `zone` runs
//! on a host that is up. Two reads: the machine, and the hosts of its zone. What an API that fails tells is nothing about the VM: that is
//! line 07, and a slot of this one is void then.
//!
//! | what is seen | outcome | reason |
//! |---|---|---|
//! | the VM is `Running`, its host is `Running` and not in maintenance mode | ok | |
//! | the same, but the host that it ran on before is down or has restarted since (`uptime`), and no slot failed between: high availability has restarted the VM, or the host took it along, unseen | fail | unhealthy |
//! | the VM is `Running` by the API, its host is `Halted` | fail | unhealthy |
//! | the VM is `Halted`, and the host that it ran on before is down or has restarted since: high availability is at it, or has no place for it | fail | unhealthy |
//! | the VM is `Halted`, and the host that it ran on before is up: its owner stopped it; or nobody saw it run, for five minutes or ever | void | inapplicable |
//! | the VM is `Paused`; its state, or its host's, is any other; its host is not in the list | void | inapplicable |
//! | the host, of now or of before, is in maintenance mode: its customer works at it | void; a VM that runs elsewhere by now: ok | inapplicable |
//! | there is no such VM (404), no such zone | void | request |
//! | our token, our address or our rate is refused | void | credential, address, throttled |
//! | no answer in time, no connection, no TLS; 5xx; no JSON, or none of such a shape; a login that fails | void | inapplicable |
//!
//! Whoever restarts a host puts it into maintenance mode first, or moves its machines away: a host that went down without took them along.
//! The phases and the latency are those of the last read.
//!
//! # Which services need what
//!
//! Silence of `self` is UNKNOWN. Where one path's UP is to be sufficient it stands in `any`, the minimum, and then its UNKNOWN keeps the
//! service from ever being DOWN; no expression of SPEC §3.6 lets an UP excuse and a silence not. So `self` is evidence for people (of a
//! service of its own, UP where the contractual one is DOWN: then it was not the VM), and the contractual service needs paths that can
//! fail: the peers, or else, so that a cut of the mesh does not blame the compute, another path that shares nothing with the mesh.
//!
//! ```toml
//! [[target]]                      # over the mesh; both must miss it (the default quorum of two), one that hears it is enough
//! id = "vm-az05"
//! vantages = ["az06", "az07"]
//! period = "5s"
//! timeout = "1s"
//! check = { kind = "compute", path = "peer", address = "10.0.5.10:862" }
//!
//! [[target]]                      # another VM on the same host, over its public address
//! id = "neighbour-az05"
//! vantages = ["paris-1", "paris-2"]
//! period = "5s"
//! timeout = "1s"
//! check = { kind = "compute", path = "peer", address = "203.0.113.15:862" }
//!
//! [[target]]
//! id = "beat-az05"
//! vantages = ["az05"]
//! period = "5s"
//! timeout = "1s"
//! check = { kind = "compute", path = "self" }
//!
//! [[target]]                      # the control plane, on the VM itself
//! id = "witness-az05"
//! vantages = ["paris-1", "paris-2"]
//! period = "30s"
//! timeout = "10s"
//! check.kind = "compute"
//! check.path = "witness"
//! check.zone = "az05"
//! check.virtual_machine = "5d6f0c1e-0000-4000-8000-000000000010"
//! check.api = { endpoint = "https://api.example", token_id = { file = "/run/secrets/id" }, token_secret = { file = "/run/secrets/secret" } }
//!
//! [[service]]
//! id = "compute/az05"
//! indicator = "IC-INFRA_SNC-01"
//! since = 2026-01-01T00:00:00+01:00
//! needs = { any = ["vm-az05", { all = ["witness-az05", "neighbour-az05"] }] }
//!
//! [[service]]
//! id = "compute-beats/az05"
//! indicator = "IC-INFRA_SNC-01"
//! contractual = false
//! needs = "beat-az05"
//! ```
//!
//! The witness's word counts while a neighbour on that host answers, as it may be old, and as it is UNKNOWN where the API is dead; without a
//! neighbour, `{ any = ["vm-az05", "witness-az05"] }` is the next best. The state of `compute/az05` then:
//!
//! | what happens | vm | witness | neighbour | service | beats, once delivered |
//! |---|---|---|---|---|---|
//! | the host dies, the VM with it, until it is up elsewhere | DOWN | UP, then DOWN | DOWN | DOWN, from the last answer to the first | UNKNOWN |
//! | the zone is dark, perhaps the API with it | DOWN | any | DOWN | DOWN | UNKNOWN |
//! | only the mesh is cut | DOWN | UP | UP | UP | UP |
//! | mesh and outside are cut, nothing else | DOWN | UP | DOWN | DOWN, wrongly: for people to exclude by the beats | UP |
//! | the guest crashes, its host runs | DOWN | UP | UP | UP | UNKNOWN |
//! | the same, and the API is dead | DOWN | UNKNOWN, when its last word has ended | UP | UNKNOWN | UNKNOWN |
//! | the VM alone is paused for 20 s | DOWN | UP | UP | UP; its metrics tell the pause | UNKNOWN |
//! | the host is paused or starved beyond its timeout | DOWN | UP | DOWN | DOWN | UNKNOWN or UP |
//! | the VM is starved, but answers | UP | UP | UP | UP | UP |

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use serde::Deserialize;
use vigie_contract::Reason;
use witness::Witness;

use super::{Answer, Asked, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::clock::now;
use crate::net::{Host, Net, late_fault};
use crate::openiaas::Access;
use crate::secret::SecretSource;
use crate::stamp::sender::{Order, exchange};
use crate::vitals::{Vitals, Watch};

#[cfg(test)]
mod tests;
mod witness;
#[cfg(test)]
pub(super) use tests::truth;

/// So many packets an attempt sends until one is answered.
pub(super) const PACKETS: u32 = 3;

#[derive(Debug, Deserialize)]
#[serde(tag = "path", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Block {
    /// The agent is asked.
    Peer {
        /// `host:port` of its reflector.
        address: String,
        #[serde(default, rename = "outside")]
        _outside: bool,
    },
    /// The agent says it by itself.
    #[serde(rename = "self")]
    Own {},
    /// The control plane says it.
    Witness {
        api: Access,
        /// The VM's availability zone, by name or id.
        zone: String,
        /// The VM's id.
        virtual_machine: String,
        #[serde(default, rename = "outside")]
        _outside: bool,
    },
}

enum Compute {
    Peer(Peer),
    Own(RefCell<Watch>),
    Witness(Witness),
}

struct Peer {
    host: Host,
    port: u16,
    /// The boot that answered last.
    boot: Cell<Option<u128>>,
    /// Whether a slot has failed since.
    has_failed: Cell<bool>,
}

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        match self {
            Self::Peer { address, .. } => Host::with_port(address).map(|_| ()),
            Self::Own {} => Ok(()),
            Self::Witness { api, .. } => api.validate(),
        }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        match self {
            Self::Peer { .. } | Self::Own {} => Vec::new(),
            Self::Witness { zone, virtual_machine, .. } => witness::asked(zone, virtual_machine),
        }
    }

    pub(super) fn secrets(&self) -> Vec<&SecretSource> {
        match self {
            Self::Peer { .. } | Self::Own {} => Vec::new(),
            Self::Witness { api, .. } => api.secrets(),
        }
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        Ok(match self {
            Self::Peer { address, .. } => {
                let (host, port) = Host::with_port(&address)?;
                Compute::Peer(Peer { host, port, boot: Cell::new(None), has_failed: Cell::new(false) })
            }
            Self::Own {} => {
                let watch = Watch::start(now());
                Compute::Own(watch.map_err(|error| CheckError::File(format!("cannot watch this machine: {error}")))?.into())
            }
            Self::Witness { api, zone, virtual_machine, .. } => Compute::Witness(Witness::new(api.session(net)?, zone, virtual_machine)),
        })
    }
}

impl Check for Compute {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move {
            match self {
                Self::Peer(peer) => peer.listen(attempt, trace).await,
                Self::Own(watch) => beat(&mut watch.borrow_mut(), attempt, trace),
                Self::Witness(witness) => witness.ask(attempt, trace).await,
            }
        })
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Peer(_) | Self::Own(_) => Kind::Compute,
            Self::Witness(_) => Kind::Api,
        }
    }
}

/// Who says it, lives. Between two slots nobody counts how long.
fn beat(watch: &mut Watch, attempt: &Attempt<'_>, trace: &mut Trace) -> Finding {
    watch.beat(now());
    trace.facts.vitals = Some(Vitals { lived: None, ..watch.vitals(attempt.clock_error) });
    Finding::Ok
}

impl Peer {
    async fn listen(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Finding {
        let had_failed = self.has_failed.get();
        // A second attempt that is given up from outside makes the slot a failure, too.
        self.has_failed.set(had_failed || attempt.is_retry);
        let finding =
            self.ask(attempt, trace).await.map_or_else(|finding| finding, |vitals| self.recognise(vitals.boot, had_failed, attempt));
        if matches!(finding, Finding::Void(_)) {
            self.has_failed.set(had_failed);
        }
        finding
    }

    async fn ask(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<Vitals, Finding> {
        let to = SocketAddr::new(attempt.net.resolve(&self.host, trace).await?, self.port);
        trace.begin(Phase::Rtt);
        let socket = Net::datagram_socket(attempt.net.source, to).await?;
        let order = Order { packets: PACKETS, enough: 1, tail: &Vitals::question(), clock_error: None };
        let mut told = None;
        let (figures, error) = exchange(&socket, order, attempt.deadline, |tail| told = Vitals::told(tail)).await;
        trace.close(now());
        let Some(round_trip) = figures.round_trip else {
            return Err(error.map_or(Finding::Fail(Reason::Timeout), |error| match late_fault(&error) {
                Finding::Fail(Reason::Refused) => Finding::Void(Reason::Request),
                other => other,
            }));
        };
        trace.set(Phase::Rtt, round_trip);
        trace.latency = Some(round_trip);
        trace.facts.vitals = told;
        told.ok_or(Finding::Void(Reason::Request))
    }

    /// A VM that has restarted since its last answer was down between: if no slot has said so, this one does, by its second attempt. A
    /// first one that no second follows, since the probe excuses it, leaves that to the next slot.
    fn recognise(&self, boot: u128, had_failed: bool, attempt: &Attempt<'_>) -> Finding {
        let restarted_unseen = !had_failed && self.boot.get().is_some_and(|known| known != boot);
        if attempt.is_retry || !restarted_unseen {
            self.boot.set(Some(boot));
            self.has_failed.set(false);
        }
        if restarted_unseen { Finding::Fail(Reason::Unhealthy) } else { Finding::Ok }
    }
}
