//! `kind = "api"`: the provider's control API answers reads with the lists that they ask for.
//!
//! Each attempt does the next of four reads, over a fresh connection: the availability zones, then hosts, virtual machines and storage
//! repositories of a zone, so that a second attempt is always another read than the first, and identical requests are rare over all
//! vantages ([`crate::ceiling`]). Reads of a zone carry `machineManagerId`, without which the API answers 5xx now and then. It is learned
//! from the list of zones, which is what the first attempt reads, and is all that is read until it was read once. `zone` names one, by
//! name or id; without it, all take their turns.
//!
//! What ends how is told in [`crate::openiaas`], but for these:
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | 2xx and a list whose elements have what was asked for, or a part of it (206) | ok | |
//! | the list of zones is whole and the one that is to be read is not in it | void request | transfer |
//! | the login fails, or comes to nothing | as a read | setup, resolve … transfer: the login's |
//!
//! Latency is that of the read: a login before it is not in it.

use std::cell::Cell;
use std::rc::Rc;

use serde::Deserialize;
use vigie_contract::Reason;

use super::{Answer, Asked, Attempt, Check, CheckError, Finding, Kind, Trace};
use crate::net::Net;
use crate::openiaas::{Access, Session, ZONES};
use crate::secret::SecretSource;

const LISTS_OF_A_ZONE: [&str; 3] = ["hosts", "virtual_machines", "storage_repositories"];
const READS: usize = 1 + LISTS_OF_A_ZONE.len();

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    api: Access,
    /// The name or id of the zone whose lists are read; those of all zones without it.
    zone: Option<String>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

struct Api {
    session: Rc<Session>,
    zone: Option<String>,
    /// Counts the attempts.
    turn: Cell<usize>,
}

/// What an element of any of the lists has.
#[derive(Deserialize)]
struct Element {
    #[serde(rename = "id")]
    _id: String,
}

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        self.api.validate()
    }

    /// Two attempts are two of the reads.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let per_slot_milli = 2_000 / READS as u64;
        let lists = LISTS_OF_A_ZONE.map(|list| Asked::new(format!("GET {}", path(list)), self.zone.as_deref(), per_slot_milli));
        lists.into_iter().chain([Asked::new(format!("GET {ZONES}"), None, per_slot_milli)]).collect()
    }

    pub(super) fn secrets(&self) -> Vec<&SecretSource> {
        self.api.secrets()
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        Ok(Api { session: self.api.session(net)?, zone: self.zone, turn: Cell::new(0) })
    }
}

impl Check for Api {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.read(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Api
    }
}

fn path(list: &str) -> String {
    format!("{ZONES}/{list}")
}

impl Api {
    /// The next read.
    async fn read(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let zones = self.session.zones(self.zone.as_deref());
        if zones.is_empty() || turn.is_multiple_of(READS) {
            return self.read_zones(attempt, trace).await;
        }
        let (list, zone) = (LISTS_OF_A_ZONE[turn % READS - 1], &zones[turn / READS % zones.len()]);
        let reply = self.session.get(&zone.part_of(&path(list)), attempt, trace).await?;
        reply.items::<Element>().map(|_| ())
    }

    async fn read_zones(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let reply = self.session.read_zones(attempt, trace).await?;
        let is_missing = self.zone.is_some() && self.session.zones(self.zone.as_deref()).is_empty();
        if is_missing && !reply.is_partial() { Err(Finding::Void(Reason::Request)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
