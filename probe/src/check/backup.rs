//! `kind = "backup"`: the backup service lists what it has, and has what it should.
//!
//! `operation = "lists"`: one `list` of a zone, `policies` or `backups`, answers. That of policies is known to hang for minutes while all
//! else is well: make each a target of its own, with the timeout that a person would bear (30 s).
//!
//! `operation = "age"`: the newest backup of `virtual_machine` is no older than `interval` and `grace`. A run that began while the one
//! before it still ran is skipped, which is no failure and which the API does not show: so `grace` covers a run at least. The policies of
//! the machine are asked for only when its newest backup is too old.
//!
//! A second attempt first asks for the availability zones: while the API does not give even those, it is the API that is out of order
//! (kind `api`, line 07), and nothing can be said of backups. It is given half of the time.
//!
//! What ends how is told in [`crate::openiaas`], but for these:
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | lists: a list, or a part of it (206) | ok | |
//! | age: a backup that is young enough, be the list whole or not | ok | |
//! | age: none is, the list is whole, a policy of the machine has a scheduler that is switched on | fail stale | transfer |
//! | age: none is, and a list is not whole | void request | transfer |
//! | age: none is, and the machine has no policy, or all of its schedulers are switched off, or it was deleted | void inapplicable | transfer |
//! | age: there is no backup at all: since when one is owed is not known | void inapplicable | transfer |
//! | first attempt: no token or no list of zones to learn the zone's id from, for whatever reason but ours | as a read | the login's or the read's |
//! | second attempt: no answer to the question for zones | void inapplicable | the login's or the read's |
//! | the zone is not in the list of them | void request | transfer |

use std::rc::Rc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use vigie_contract::{Reason, Span, Time};

use super::{Answer, Asked, Attempt, Check, CheckError, Finding, Kind, Trace};
use crate::clock::now;
use crate::net::Net;
use crate::openiaas::{Access, Session, ZONES, Zone};
use crate::secret::SecretSource;
use crate::sigv4::encode;

const LISTS: &str = "/api/backup/v1/open_iaas";
/// A timestamp from this on counts milliseconds: as seconds it would be in the year 5138, as milliseconds it is in 1973.
const LEAST_MILLISECONDS: i64 = 100_000_000_000;
/// A timestamp further ahead of our clock says nothing.
const FARTHEST_AHEAD: Span = Span::HOUR;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    api: Access,
    /// The availability zone, by name or id.
    zone: String,
    operation: Operation,
    /// For `lists`.
    list: Option<List>,
    /// For `age`: the id of the machine whose backups are looked at.
    virtual_machine: Option<String>,
    /// For `age`: how often its policy runs.
    interval: Option<String>,
    /// For `age`: how much later than that a backup may be there; no less than `interval`.
    grace: Option<String>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Lists,
    Age,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum List {
    Policies,
    Backups,
}

struct Backup {
    session: Rc<Session>,
    zone: String,
    duty: Duty,
}

#[derive(Debug)]
enum Duty {
    Answer(List),
    Age { virtual_machine: String, oldest: Span },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Copy {
    timestamp: i64,
    #[serde(default)]
    is_virtual_machine_deleted: bool,
}

#[derive(Deserialize)]
struct Policy {
    #[serde(default)]
    schedulers: Vec<Scheduler>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scheduler {
    #[serde(default)]
    temporarily_disabled: bool,
}

/// What an element of either list has.
#[derive(Deserialize)]
struct Element {
    #[serde(rename = "id")]
    _id: String,
}

impl List {
    fn path(self) -> String {
        let name = match self {
            Self::Policies => "policies",
            Self::Backups => "backups",
        };
        format!("{LISTS}/{name}")
    }
}

fn shape<T>(why: impl Into<String>) -> Result<T, CheckError> {
    Err(CheckError::Shape(why.into()))
}

impl Block {
    fn duty(&self) -> Result<Duty, CheckError> {
        let span = |name: &str, text: &str| {
            Span::parse(text).map_err(|error| CheckError::Shape(format!("`{name} = \"{text}\"`: {error}; write one such as \"24h\"")))
        };
        match (self.operation, self.list, &self.virtual_machine, &self.interval, &self.grace) {
            (Operation::Lists, Some(list), None, None, None) => Ok(Duty::Answer(list)),
            (Operation::Lists, ..) => shape("the operation `lists` needs `list = \"policies\"` or `\"backups\"`, and nothing else"),
            (Operation::Age, None, Some(virtual_machine), Some(interval), Some(grace)) => {
                let (interval, grace) = (span("interval", interval)?, span("grace", grace)?);
                if grace < interval {
                    return shape(format!("a grace of {grace} does not cover a run that was skipped: `interval` is {interval}"));
                }
                Ok(Duty::Age { virtual_machine: virtual_machine.clone(), oldest: interval + grace })
            }
            (Operation::Age, ..) => shape("the operation `age` needs `virtual_machine`, `interval` and `grace`, and no `list`"),
        }
    }

    pub(super) fn validate(&self) -> Result<(), CheckError> {
        self.duty()?;
        self.api.validate()
    }

    /// Every attempt reads what it is about, a second one the zones before.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let of_zone = |what: String| Asked::new(format!("GET {what}"), Some(&self.zone), 2_000);
        let of_machine = |list: List, machine: &str| of_zone(format!("{}?virtualMachineId={}", list.path(), encode(machine, false)));
        let mut asked = match self.duty() {
            Ok(Duty::Answer(list)) => vec![of_zone(list.path())],
            Ok(Duty::Age { virtual_machine, .. }) => [List::Backups, List::Policies].map(|list| of_machine(list, &virtual_machine)).into(),
            Err(_) => return Vec::new(),
        };
        asked.push(Asked::new(format!("GET {ZONES}"), None, 1_000));
        asked
    }

    pub(super) fn secrets(&self) -> Vec<&SecretSource> {
        self.api.secrets()
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        let duty = self.duty()?;
        Ok(Backup { session: self.api.session(net)?, zone: self.zone, duty })
    }
}

impl Check for Backup {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.look(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Api
    }
}

impl Backup {
    async fn look(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        if attempt.is_retry {
            self.require_api(attempt, trace).await?;
        }
        let zone = self.session.zone(&self.zone, attempt, trace).await?;
        match &self.duty {
            Duty::Answer(list) => self.read::<Element>(*list, &zone, None, attempt, trace).await.map(|_| ()),
            Duty::Age { virtual_machine, oldest } => self.judge_age(&zone, virtual_machine, *oldest, attempt, trace).await,
        }
    }

    /// Whether the API gives anything at all.
    async fn require_api(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let half = attempt.deadline.saturating_duration_since(now()) / 2;
        match tokio::time::timeout(half, self.session.read_zones(attempt, trace)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Finding::Void(reason))) => Err(Finding::Void(reason)),
            Ok(Err(_)) | Err(_) => Err(Finding::Void(Reason::Inapplicable)),
        }
    }

    /// The elements of a list, and whether there may be more of them.
    async fn read<T: DeserializeOwned>(
        &self,
        list: List,
        zone: &Zone,
        virtual_machine: Option<&str>,
        attempt: &Attempt<'_>,
        trace: &mut Trace,
    ) -> Result<(Vec<T>, bool), Finding> {
        let mut path = zone.part_of(&list.path());
        if let Some(id) = virtual_machine {
            path = format!("{path}&virtualMachineId={}", encode(id, false));
        }
        let reply = self.session.get(&path, attempt, trace).await?;
        Ok((reply.items()?, reply.is_partial()))
    }

    async fn judge_age(&self, zone: &Zone, machine: &str, oldest: Span, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let (copies, may_be_more): (Vec<Copy>, bool) = self.read(List::Backups, zone, Some(machine), attempt, trace).await?;
        let taken = copies.iter().map(|copy| taken(copy.timestamp)).filter(|taken| *taken <= attempt.wall + FARTHEST_AHEAD);
        let age = taken.max().map(|newest| attempt.wall - newest);
        trace.facts.backup_age = age;
        if age.is_some_and(|age| age <= oldest) {
            return Ok(());
        }
        if may_be_more {
            return Err(Finding::Void(Reason::Request));
        }
        if age.is_none() || copies.iter().any(|copy| copy.is_virtual_machine_deleted) {
            return Err(Finding::Void(Reason::Inapplicable));
        }
        let owed = self.is_scheduled(zone, machine, attempt, trace).await?;
        trace.facts.backup_age = age;
        Err(if owed { Finding::Fail(Reason::Stale) } else { Finding::Void(Reason::Inapplicable) })
    }

    /// Whether a policy is to make backups of the machine.
    async fn is_scheduled(&self, zone: &Zone, machine: &str, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<bool, Finding> {
        let (policies, may_be_more): (Vec<Policy>, bool) = self.read(List::Policies, zone, Some(machine), attempt, trace).await?;
        let is_on = policies.iter().flat_map(|policy| &policy.schedulers).any(|scheduler| !scheduler.temporarily_disabled);
        if !is_on && may_be_more { Err(Finding::Void(Reason::Request)) } else { Ok(is_on) }
    }
}

/// When a backup was taken: the API's documents do not say whether it counts seconds or milliseconds.
fn taken(timestamp: i64) -> Time {
    let to_us = if timestamp < LEAST_MILLISECONDS { 1_000_000 } else { 1_000 };
    Time::clamped(timestamp.saturating_mul(to_us))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
