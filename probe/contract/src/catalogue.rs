//! What is measured, from where, and what was promised (SPEC §2).
//!
//! [`Catalogue::read`] turns the TOML into a catalogue whose references are resolved and whose versions are in order, or into *all* its
//! [`Problem`]s at once. [`Catalogue::changes_from`] says what an edit changes, and from when.

mod block;
mod change;
mod live;
mod problem;
mod read;
mod table;

pub use change::{Change, ChangeKind};
pub use problem::{Note, Problem, Severity};
pub use read::Strictness;

use std::collections::{BTreeMap, BTreeSet};

use crate::calendar::Calendar;
use crate::exclusion::ExclusionKind;
use crate::id::{IndicatorId, ServiceId, TargetId, VantageId};
use crate::time::{Span, Time};

/// Position of a target in [`Catalogue::targets`].
pub type TargetIx = usize;
/// Position of a vantage in [`Catalogue::vantages`].
pub type VantageIx = usize;
/// Position of a service in [`Catalogue::services`].
pub type ServiceIx = usize;
/// Position of an indicator in [`Catalogue::indicators`].
pub type IndicatorIx = usize;

/// A catalogue without mistakes.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    /// The customer of the contract, if it is named.
    pub tenant: Option<String>,
    /// Months are cut at its local midnights.
    pub calendar: Calendar,
    /// How far behind the append time the engine evaluates.
    pub settle: Span,
    /// How long before an outage's onset a claim may be opened and still be corroborated by it.
    pub claim_horizon: Span,
    /// How late a sample may still arrive.
    pub late_horizon: Span,
    /// The contract's lines, in the order of the text.
    pub indicators: Vec<Indicator>,
    /// The places that check: the declared ones in the order of the text, then those that targets only name.
    pub vantages: Vec<Vantage>,
    /// The things that are checked, in the order of the text.
    pub targets: Vec<Target>,
    /// What is promised, in the order of the text.
    pub services: Vec<Service>,
}

/// The versions of one thing: each in force from its `since` until the next one's, the first for all earlier time too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions<T> {
    first: T,
    later: Vec<(Time, T)>,
}

/// A contractual line: `IC-INFRA_SNC-01`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indicator {
    /// Its name in the contract.
    pub id: IndicatorId,
    /// Its wording.
    pub name: Option<String>,
    /// What was promised; later versions begin at local month starts.
    pub terms: Versions<Terms>,
}

/// What an indicator promises for a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Unavailability that the objective leaves, in parts per million: `(100 − objective) · 10⁴`.
    pub budget_ppm: u32,
    /// The kinds that may be subtracted.
    pub exclusions: Vec<ExclusionKind>,
}

/// A place that checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vantage {
    /// Its name.
    pub id: VantageId,
    /// Whether a `[[vantage]]` block declares it.
    pub declared: bool,
    /// Reference targets: while all of two or more are down as seen from it, the vantage is cut off (SPEC §3.2).
    pub anchors: Versions<Vec<TargetIx>>,
}

/// A thing that is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub id: TargetId,
    /// Its group (DESIGN §4), `main` by default.
    pub group: String,
    /// Who checks it, and what counts as down.
    pub plan: Versions<Plan>,
}

/// Who checks a target, and what counts as down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The vantages assigned to it.
    pub vantages: Vec<VantageIx>,
    /// So many vantages DOWN make it DOWN.
    pub down_quorum: usize,
    /// An `ok` slower than this is counted.
    pub latency_objective: Option<Span>,
    /// How often it is checked; for the probe.
    pub period: Option<Span>,
    /// The limit of one attempt; for the probe.
    pub timeout: Option<Span>,
    /// What is checked, as JSON; for the probe.
    pub check: Option<serde_json::Value>,
}

/// What an SLA line speaks of in one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// Its contractual line.
    pub indicator: IndicatorIx,
    /// Whether its figure is the one that the contract speaks of.
    pub contractual: bool,
    /// Less time than this without DOWN is not restoration.
    pub stable_up: Span,
    /// Its group (DESIGN §4), `main` by default.
    pub group: String,
    /// Start of measurement, if written.
    pub since: Option<Time>,
    /// End of measurement, if written.
    pub until: Option<Time>,
    /// What it is built from.
    pub needs: Versions<Need>,
}

/// What a service is built from. In the order UP < UNKNOWN < DOWN: `All` is the maximum, `Any` the minimum, `AtLeast` the k-th smallest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// A target.
    Target(TargetIx),
    /// Another service's own expression.
    Service(ServiceIx),
    /// Every one of them.
    All(Vec<Need>),
    /// One of them.
    Any(Vec<Need>),
    /// So many of them.
    AtLeast(usize, Vec<Need>),
}

impl<T> Versions<T> {
    /// The only version.
    #[must_use]
    pub fn one(first: T) -> Self {
        Self { first, later: Vec::new() }
    }

    fn for_each_mut(&mut self, mut change: impl FnMut(&mut T)) {
        change(&mut self.first);
        self.later.iter_mut().for_each(|(_, later)| change(later));
    }

    /// The first version and the later ones, whose `since` must rise.
    #[must_use]
    pub fn new(first: T, later: Vec<(Time, T)>) -> Self {
        debug_assert!(later.is_sorted_by(|a, b| a.0 < b.0), "versions in order");
        Self { first, later }
    }

    /// The version in force at `time`.
    #[must_use]
    pub fn at(&self, time: Time) -> &T {
        self.at_with_since(time).1
    }

    /// The version in force at `time`, and its start; `None` for the first, which stands for all earlier time.
    #[must_use]
    pub fn at_with_since(&self, time: Time) -> (Option<Time>, &T) {
        match self.later.partition_point(|(since, _)| *since <= time) {
            0 => (None, &self.first),
            n => (Some(self.later[n - 1].0), &self.later[n - 1].1),
        }
    }

    /// Every version.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(self.later.iter().map(|(_, version)| version))
    }

    /// The instants at which one version gives way to the next.
    pub fn boundaries(&self) -> impl DoubleEndedIterator<Item = Time> + '_ {
        self.later.iter().map(|(since, _)| *since)
    }
}

impl Terms {
    /// The objective in percent, as the catalogue writes it.
    #[must_use]
    pub fn objective_percent(&self) -> String {
        let kept = 1_000_000 - self.budget_ppm;
        let text = format!("{}.{:04}", kept / 10_000, kept % 10_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl Plan {
    /// So many vantages UP make the target UP.
    #[must_use]
    pub fn up_quorum(&self) -> usize {
        self.vantages.len() + 1 - self.down_quorum
    }
}

impl Target {
    /// Whether any version assigns `vantage`.
    #[must_use]
    pub fn is_ever_assigned(&self, vantage: VantageIx) -> bool {
        self.plan.all().any(|plan| plan.vantages.contains(&vantage))
    }

    /// Whether any version has a latency objective.
    #[must_use]
    pub fn has_latency_objective(&self) -> bool {
        self.plan.all().any(|plan| plan.latency_objective.is_some())
    }
}

impl Need {
    fn renumber(&mut self, places: &[ServiceIx]) {
        match self {
            Self::Target(_) => {}
            Self::Service(service) => *service = places[*service],
            Self::All(needs) | Self::Any(needs) | Self::AtLeast(_, needs) => needs.iter_mut().for_each(|need| need.renumber(places)),
        }
    }

    /// The targets and services that are named, nested expressions included.
    pub fn for_each_leaf(&self, visit: &mut impl FnMut(&Need)) {
        match self {
            Self::Target(_) | Self::Service(_) => visit(self),
            Self::All(needs) | Self::Any(needs) | Self::AtLeast(_, needs) => needs.iter().for_each(|need| need.for_each_leaf(visit)),
        }
    }
}

impl Catalogue {
    /// The services that `service`'s expression reaches in any version, itself last and each after those that it needs.
    #[must_use]
    pub fn reach(&self, service: ServiceIx) -> Vec<ServiceIx> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.services.len()];
        // Depth first without recursion: a chain of services may be longer than a stack is deep.
        let mut stack = vec![(service, false)];
        while let Some((at, done)) = stack.pop() {
            if done {
                order.push(at);
            } else if !seen[at] {
                seen[at] = true;
                stack.push((at, true));
                for need in self.services[at].needs.all() {
                    need.for_each_leaf(&mut |leaf| {
                        if let Need::Service(inner) = leaf {
                            stack.push((*inner, false));
                        }
                    });
                }
            }
        }
        order
    }

    /// What breaks the rule that no service spans groups (DESIGN §4), in words.
    #[must_use]
    pub fn spans(&self) -> Vec<String> {
        let mut spans = Vec::new();
        for service in &self.services {
            let mut foreign = |what: &str, id: &str, group: &str| {
                if group != service.group {
                    spans.push(format!("service {} of group {} needs {what} {id} of group {group}", service.id, service.group));
                }
            };
            for need in service.needs.all() {
                need.for_each_leaf(&mut |leaf| match leaf {
                    Need::Target(target) => foreign("target", self.targets[*target].id.as_str(), &self.targets[*target].group),
                    Need::Service(inner) => foreign("service", self.services[*inner].id.as_str(), &self.services[*inner].group),
                    Need::All(_) | Need::Any(_) | Need::AtLeast(..) => {}
                });
            }
        }
        spans
    }

    /// The same with the services of `group` only. Targets all stay: anchors may be any of them. None may span groups.
    #[must_use]
    pub fn of_group(mut self, group: &str) -> Self {
        let mut place = 0;
        let places: Vec<ServiceIx> = (self.services.iter())
            .map(|service| {
                let is_ours = service.group == group;
                place += usize::from(is_ours);
                if is_ours { place - 1 } else { ServiceIx::MAX }
            })
            .collect();
        self.services.retain(|service| service.group == group);
        for service in &mut self.services {
            service.needs.for_each_mut(|need| need.renumber(&places));
        }
        self
    }

    /// The groups into whose log the samples of each target go: its own, and those of the targets whose vantages it anchors.
    #[must_use]
    pub fn groups_of_targets(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut groups: BTreeMap<&str, BTreeSet<&str>> =
            self.targets.iter().map(|target| (target.id.as_str(), BTreeSet::from([target.group.as_str()]))).collect();
        for target in &self.targets {
            for plan in target.plan.all() {
                for anchor in plan.vantages.iter().flat_map(|vantage| self.vantages[*vantage].anchors.all()).flatten() {
                    groups.entry(self.targets[*anchor].id.as_str()).or_default().insert(&target.group);
                }
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests;
