//! `path = "witness"`: what the control plane tells of a machine and of the hosts of its zone, and what follows from it.

use std::cell::Cell;
use std::rc::Rc;

use serde::Deserialize;
use vigie_contract::{Reason, Span, Time};

use crate::check::{Asked, Attempt, Finding, Trace};
use crate::openiaas::{Session, ZONES};
use crate::sigv4::encode;

/// What was last seen of the machine counts so long: in less, nobody empties a host, restarts it and fills it again.
const REMEMBERED: Span = Span::from_secs(300);

/// Every attempt reads the machine and the hosts of its zone.
pub(super) fn asked(zone: &str, virtual_machine: &str) -> Vec<Asked> {
    let machine = Asked::new(format!("GET {}", path_of(virtual_machine)), None, 2_000);
    vec![machine, Asked::new(format!("GET {}", hosts()), Some(zone), 2_000)]
}

fn path_of(virtual_machine: &str) -> String {
    format!("{ZONES}/virtual_machines/{}", encode(virtual_machine, false))
}

fn hosts() -> String {
    format!("{ZONES}/hosts")
}

pub(super) struct Witness {
    session: Rc<Session>,
    /// By name or id.
    zone: String,
    virtual_machine: String,
    before: Cell<Option<Before>>,
}

/// What was last seen of a machine that nobody stopped.
struct Before {
    /// The id of the host that it ran on.
    host: String,
    ran_at: Time,
    seen_at: Time,
    /// Whether a slot has failed since it ran.
    has_failed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    power_state: String,
    host: Option<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    id: String,
    power_state: String,
    /// In seconds.
    uptime: Option<i64>,
    update_data: Option<UpdateData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateData {
    #[serde(default)]
    maintenance_mode: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Up,
    Down,
    /// Its customer works at it: what happens to it then is the customer's doing.
    Maintained,
    /// Not in the list, or in a state that says nothing.
    Unknown,
}

impl Witness {
    pub(super) fn new(session: Rc<Session>, zone: String, virtual_machine: String) -> Self {
        Self { session, zone, virtual_machine, before: Cell::new(None) }
    }

    /// Asks; an API that fails is not the machine's fault.
    pub(super) async fn ask(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Finding {
        let told = tokio::time::timeout_at(attempt.last_moment(trace.began).into(), self.read(attempt, trace)).await;
        match told {
            Ok(Ok((machine, hosts))) => self.judge(&machine, &hosts, attempt),
            Ok(Err(Finding::Void(reason))) => Finding::Void(reason),
            Ok(Err(_)) | Err(_) => Finding::Void(Reason::Inapplicable),
        }
    }

    async fn read(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(Machine, Vec<Host>), Finding> {
        let zone = self.session.zone(&self.zone, attempt, trace).await?;
        let machine = self.session.get(&path_of(&self.virtual_machine), attempt, trace).await?.item()?;
        Ok((machine, self.session.get(&zone.part_of(&hosts()), attempt, trace).await?.items()?))
    }

    /// As [`super::Peer::recognise`], a failure is remembered by the second attempt only: a first one that no second follows leaves it to
    /// the next slot.
    fn judge(&self, machine: &Machine, hosts: &[Host], attempt: &Attempt<'_>) -> Finding {
        let before = self.before.take().filter(|before| attempt.wall - before.seen_at <= REMEMBERED);
        let finding = machine.judge(before.as_ref(), hosts, attempt.wall);
        self.before.set(match finding {
            Finding::Fail(_) if !attempt.is_retry => before,
            _ => machine.remembered(finding, before, attempt.wall),
        });
        finding
    }
}

impl Machine {
    /// The table of [`super`], path `witness`.
    fn judge(&self, before: Option<&Before>, hosts: &[Host], wall: Time) -> Finding {
        const FAIL: Finding = Finding::Fail(Reason::Unhealthy);
        const VOID: Finding = Finding::Void(Reason::Inapplicable);
        let has_lost_its_host = before.is_some_and(|before| before.has_lost_its_host(hosts, wall));
        match (self.power_state.as_str(), condition(hosts, self.host())) {
            ("Running", Condition::Up) if has_lost_its_host && before.is_some_and(|before| !before.has_failed) => FAIL,
            ("Running", Condition::Up) => Finding::Ok,
            ("Running", Condition::Down) => FAIL,
            ("Halted", _) if has_lost_its_host => FAIL,
            _ => VOID,
        }
    }

    /// What the next slot is to know after this `finding`.
    fn remembered(&self, finding: Finding, before: Option<Before>, wall: Time) -> Option<Before> {
        let ran_now = |has_failed| Some(Before { host: self.host().to_owned(), ran_at: wall, seen_at: wall, has_failed });
        match (finding, before) {
            (Finding::Fail(_), Some(before)) if self.power_state == "Halted" || before.host == self.host() => {
                Some(Before { seen_at: wall, has_failed: true, ..before })
            }
            (Finding::Fail(_), _) => ran_now(true),
            (Finding::Ok, _) => ran_now(false),
            // Somebody stopped it: what becomes of its host does not matter any more.
            (Finding::Void(_), _) if matches!(self.power_state.as_str(), "Halted" | "Paused") => None,
            (Finding::Void(_), before) => before,
        }
    }

    /// The id of its host; empty without one.
    fn host(&self) -> &str {
        self.host.as_ref().map_or("", |host| &host.id)
    }
}

impl Before {
    /// Whether the host that it ran on went down since: it is, or it has restarted meanwhile.
    fn has_lost_its_host(&self, hosts: &[Host], wall: Time) -> bool {
        let restarted = |host: &Host| host.uptime.is_some_and(|uptime_s| uptime_s < (wall - self.ran_at).us() / 1_000_000);
        match condition(hosts, &self.host) {
            Condition::Up => hosts.iter().any(|host| host.id == self.host && restarted(host)),
            Condition::Down => true,
            Condition::Maintained | Condition::Unknown => false,
        }
    }
}

fn condition(hosts: &[Host], id: &str) -> Condition {
    match hosts.iter().find(|host| host.id == id) {
        None => Condition::Unknown,
        Some(host) if host.update_data.as_ref().is_some_and(|data| data.maintenance_mode) => Condition::Maintained,
        Some(host) => match host.power_state.as_str() {
            "Running" => Condition::Up,
            "Halted" => Condition::Down,
            _ => Condition::Unknown,
        },
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
