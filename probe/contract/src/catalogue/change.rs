//! What an edit of the catalogue changes, and from when (SPEC §2 "Versions").

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Catalogue, Need, Plan, ServiceIx, Versions};
use crate::time::Time;

/// One difference between two catalogues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What differs: "target `s3-fr1`".
    pub what: String,
    /// How.
    pub kind: ChangeKind,
    /// The earliest instant whose meaning it changes; `None` for all time.
    pub from: Option<Time>,
}

/// How a thing differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there: nothing that was in force changes.
    Added,
    /// It is no longer there.
    Removed,
    /// It has another meaning.
    Changed,
    /// Only what probes or people read of it is other.
    ProbeOnly,
}

impl Change {
    /// Whether it changes what was in force before `time`.
    #[must_use]
    pub fn moves_the_past_before(&self, time: Time) -> bool {
        match self.kind {
            ChangeKind::Removed | ChangeKind::Changed => self.from.is_none_or(|from| from < time),
            ChangeKind::Added | ChangeKind::ProbeOnly => false,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            ChangeKind::Added => "added",
            ChangeKind::Removed => "removed",
            ChangeKind::Changed => "changed",
            ChangeKind::ProbeOnly => "changed for probes and people only",
        };
        match (self.kind, self.from) {
            (ChangeKind::Changed, Some(from)) => write!(f, "{}: {word} from {from}", self.what),
            (ChangeKind::Changed | ChangeKind::Removed, None) => write!(f, "{}: {word} for all time, the past included", self.what),
            _ => write!(f, "{}: {word}", self.what),
        }
    }
}

impl Catalogue {
    /// What differs from `old`.
    #[must_use]
    pub fn changes_from(&self, old: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut global = |what: &str, differs: bool| {
            if differs {
                changes.push(Change { what: format!("`{what}`"), kind: ChangeKind::Changed, from: None });
            }
        };
        global("tenant", self.tenant != old.tenant);
        global("timezone", self.calendar != old.calendar);
        global("settle", self.settle != old.settle);
        global("claim_horizon", self.claim_horizon != old.claim_horizon);
        global("late_horizon", self.late_horizon != old.late_horizon);
        compare("indicator", old.indicator_views(), self.indicator_views(), &mut changes);
        compare("vantage", old.vantage_views(), self.vantage_views(), &mut changes);
        compare("target", old.target_views(), self.target_views(), &mut changes);
        compare("service", old.service_views(), self.service_views(), &mut changes);
        changes
    }

    fn indicator_views(&self) -> BTreeMap<&str, View> {
        let view = |indicator: &super::Indicator| {
            let terms = meaning(&indicator.terms, false, |terms| {
                let mut kinds: Vec<_> = terms.exclusions.iter().map(|kind| kind.as_str()).collect();
                kinds.sort_unstable();
                format!("{} {kinds:?}", terms.budget_ppm)
            });
            View { always: String::new(), meaning: terms, until: None, for_the_probe: format!("{:?}", indicator.name) }
        };
        self.indicators.iter().map(|indicator| (indicator.id.as_str(), view(indicator))).collect()
    }

    fn vantage_views(&self) -> BTreeMap<&str, View> {
        let view = |vantage: &super::Vantage| {
            let anchors = meaning(&vantage.anchors, false, |anchors| {
                let mut names: Vec<_> = anchors.iter().map(|&target| self.targets[target].id.as_str()).collect();
                names.sort_unstable();
                // Fewer than two anchors gate nothing.
                if names.len() < 2 { String::new() } else { format!("{names:?}") }
            });
            View { always: String::new(), meaning: anchors, until: None, for_the_probe: vantage.declared.to_string() }
        };
        self.vantages.iter().map(|vantage| (vantage.id.as_str(), view(vantage))).collect()
    }

    fn target_views(&self) -> BTreeMap<&str, View> {
        let view = |target: &super::Target| {
            // The start of a version bounds backdating (SPEC §3.4), even where nothing else changes.
            let plans = meaning(&target.plan, true, |plan: &Plan| {
                let mut vantages: Vec<_> = plan.vantages.iter().map(|&vantage| self.vantages[vantage].id.as_str()).collect();
                vantages.sort_unstable();
                format!("{vantages:?} {} {:?}", plan.down_quorum, plan.latency_objective)
            });
            let probing = |plan: &Plan| format!("{:?} {:?} {:?}", plan.period, plan.timeout, plan.check);
            let probing: Vec<_> = target.plan.all().map(probing).collect();
            View { always: String::new(), meaning: plans, until: None, for_the_probe: format!("{} {probing:?}", target.group) }
        };
        self.targets.iter().map(|target| (target.id.as_str(), view(target))).collect()
    }

    fn service_views(&self) -> BTreeMap<&str, View> {
        let view = |at: ServiceIx| {
            let service = &self.services[at];
            let indicator = &self.indicators[service.indicator].id;
            // Without `since`, measurement starts with the first sample of whatever any version reaches (SPEC §3.6).
            let start = service.since.map_or_else(|| self.reached_targets(at).join(" "), |since| since.to_string());
            View {
                always: format!("{indicator} {} {} {start}", service.contractual, service.stable_up),
                meaning: meaning(&service.needs, false, |need| self.need_text(need)),
                until: Some(service.until.unwrap_or(Time::FOREVER)),
                for_the_probe: service.group.clone(),
            }
        };
        (0..self.services.len()).map(|at| (self.services[at].id.as_str(), view(at))).collect()
    }

    fn reached_targets(&self, service: ServiceIx) -> Vec<String> {
        let mut names = BTreeSet::new();
        for need in self.reach(service).into_iter().flat_map(|at| self.services[at].needs.all()) {
            need.for_each_leaf(&mut |leaf| names.extend(if let Need::Target(at) = leaf { Some(&self.targets[*at].id) } else { None }));
        }
        names.into_iter().map(|id| format!("{id:?}")).collect()
    }

    /// A need as text in which order does not matter, as it does not for its meaning.
    fn need_text(&self, need: &Need) -> String {
        let list = |needs: &[Need]| {
            let mut texts: Vec<_> = needs.iter().map(|need| self.need_text(need)).collect();
            texts.sort_unstable();
            texts.join(" ")
        };
        match need {
            Need::Target(at) => format!("target {:?}", self.targets[*at].id),
            Need::Service(at) => format!("service {:?}", self.services[*at].id),
            Need::All(needs) => format!("all({})", list(needs)),
            Need::Any(needs) => format!("any({})", list(needs)),
            Need::AtLeast(k, needs) => format!("{k} of({})", list(needs)),
        }
    }
}

/// A thing as texts that are equal where its meaning is, whatever positions a catalogue gave to names.
struct View {
    /// What has no versions.
    always: String,
    /// The meaning from each instant on.
    meaning: Vec<(Time, String)>,
    until: Option<Time>,
    for_the_probe: String,
}

fn meaning<T>(versions: &Versions<T>, starts_matter: bool, text: impl Fn(&T) -> String) -> Vec<(Time, String)> {
    let starts = std::iter::once(Time::BEGINNING).chain(versions.boundaries());
    let mut steps: Vec<_> = starts.zip(versions.all().map(text)).collect();
    if !starts_matter {
        steps.dedup_by(|later, earlier| later.1 == earlier.1);
    }
    steps
}

fn compare(kind: &str, mut old: BTreeMap<&str, View>, new: BTreeMap<&str, View>, changes: &mut Vec<Change>) {
    for (id, view) in new {
        let what = format!("{kind} `{id}`");
        let change = match old.remove(id) {
            None => Some((ChangeKind::Added, None)),
            Some(before) => difference(&before, &view),
        };
        changes.extend(change.map(|(kind, from)| Change { what, kind, from }));
    }
    let removed = old.into_keys().map(|id| Change { what: format!("{kind} `{id}`"), kind: ChangeKind::Removed, from: None });
    changes.extend(removed);
}

fn difference(old: &View, new: &View) -> Option<(ChangeKind, Option<Time>)> {
    if old.always != new.always {
        return Some((ChangeKind::Changed, None));
    }
    let at_steps = first_difference(&old.meaning, &new.meaning);
    let at_end = if old.until == new.until { None } else { old.until.min(new.until) };
    let earliest = at_steps.into_iter().chain(at_end).min();
    match earliest {
        Some(Time::BEGINNING) => Some((ChangeKind::Changed, None)),
        Some(from) => Some((ChangeKind::Changed, Some(from))),
        None if old.for_the_probe != new.for_the_probe => Some((ChangeKind::ProbeOnly, None)),
        None => None,
    }
}

/// The earliest instant at which two step functions, given by their steps, differ.
fn first_difference(old: &[(Time, String)], new: &[(Time, String)]) -> Option<Time> {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let start = |steps: &[(Time, String)]| steps.get(same).map(|(start, _)| *start);
    match (start(old), start(new)) {
        (None, None) => None,
        (old, new) => old.into_iter().chain(new).min(),
    }
}
