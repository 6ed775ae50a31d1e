//! A new catalogue: what is known is carried over by name, and derived anew from where it means something else (SPEC §1, §2).

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use vigie_contract::catalogue::{Catalogue, ChangeKind, Service, Strictness, TargetIx};
use vigie_contract::record::CatalogueRecord;
use vigie_contract::{Month, Refusal, RefusalReason, Span, TargetId, Time, VantageId};

use super::agenda::Agenda;
use super::engine::{Effects, Engine, Refused, ServiceState};
use super::intake::Waiting;
use super::line::WindowLine;
use super::memory::sample_horizon;
use super::report::Latency;
use super::service::Reach;
use super::state::Steps;
use super::target::Level;
use super::track::Track;
use super::version::window_line;
use super::window::{Published, Status, View};

/// What is known of a target, by names: of what no catalogue knows now, for one that knows it again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Absent {
    pub(super) tracks: Vec<(VantageId, Track)>,
    pub(super) levels: Steps<Level>,
    pub(super) first_evidence: Option<Time>,
    pub(super) past_latencies: BTreeMap<Month, Latency>,
}

impl Absent {
    /// Forgets the samples that a late horizon after `now` excludes, and states before `horizon`. False if nothing is left.
    pub(super) fn forget(&mut self, now: Time, late_horizon: Span, horizon: Time) -> bool {
        let margin = self.tracks.iter().map(|(_, track)| track.longest_hold()).max().unwrap_or_default();
        let samples_from = sample_horizon(now, late_horizon, margin);
        self.tracks.retain_mut(|(_, track)| {
            track.forget_before(samples_from);
            track.newest().is_some_and(|newest| newest >= samples_from)
        });
        self.levels.forget_before(horizon);
        !self.tracks.is_empty() || self.levels.as_slice().last().is_some_and(|(start, _)| *start >= horizon)
    }
}

impl Waiting {
    pub(super) fn in_vain(self) -> Refused {
        let detail = format!("no catalogue came that knows target {} and vantage {}; seq {}", self.target, self.vantage, self.entry.seq);
        Refused { offset: self.offset, refusal: Refusal::new(RefusalReason::UnknownTarget, detail) }
    }
}

impl Engine {
    /// The catalogue of our group, as it is written in `text`.
    pub(super) fn read(&self, text: &str) -> Result<Catalogue, Refusal> {
        let read = Catalogue::read(text, Strictness::Replay);
        let (catalogue, _) = read.map_err(|problems| {
            let line =
                |problem: &vigie_contract::catalogue::Problem| format!("line {}: {}", problem.line_and_column(text).0, problem.message);
            Refusal::new(RefusalReason::InvalidCatalogue, problems.iter().map(line).collect::<Vec<_>>().join("; "))
        })?;
        let Some(group) = &self.group else { return Ok(catalogue) };
        let spans = catalogue.spans();
        if spans.is_empty() { Ok(catalogue.of_group(group)) } else { Err(Refusal::new(RefusalReason::InvalidCatalogue, spans.join("; "))) }
    }

    pub(super) fn take_catalogue(&mut self, appended_at: Time, record: CatalogueRecord, effects: &mut Effects) -> Result<(), Refusal> {
        if let Some(known) = &self.catalogue_record {
            if *known == record {
                effects.duplicate = Some(false);
                return Ok(());
            }
            if record.rev <= known.rev {
                let detail = format!("revision {} comes after {}", record.rev, known.rev);
                return Err(Refusal::new(RefusalReason::Superseded, detail));
            }
        }
        let catalogue = self.read(&record.text)?;
        if let Some(old) = &self.catalogue
            && record.override_by.is_none()
        {
            let moves = |change: &vigie_contract::catalogue::Change| change.moves_the_past_before(appended_at);
            let past: Vec<_> = catalogue.changes_from(old).iter().filter(|change| moves(change)).map(ToString::to_string).collect();
            if !past.is_empty() {
                let detail = format!("revision {} without `override_by` changes the past: {}", record.rev, past.join("; "));
                return Err(Refusal::new(RefusalReason::MovesThePast, detail));
            }
        }
        self.catalogue_record = Some(record);
        self.adopt(catalogue, effects);
        Ok(())
    }

    /// Puts `catalogue` in force.
    pub(super) fn adopt(&mut self, catalogue: Catalogue, effects: &mut Effects) {
        let mut from = self.catalogue.as_ref().map_or(Some(Time::BEGINNING), |old| earliest_change(&catalogue, old));
        let vantages: Vec<Option<usize>> = match &self.catalogue {
            Some(old) => {
                let place = |id: &VantageId| catalogue.vantages.iter().position(|vantage| vantage.id == *id);
                old.vantages.iter().map(|vantage| place(&vantage.id)).collect()
            }
            None => Vec::new(),
        };
        let orphans = self.orphans_of(&catalogue);
        self.vantage_ix = catalogue.vantages.iter().enumerate().map(|(ix, vantage)| (vantage.id.clone(), ix)).collect();
        let mut known = self.take_by_name(&catalogue);
        self.target_ix = index(catalogue.targets.iter().map(|target| target.id.clone()));
        let old_services = std::mem::replace(&mut self.service_ix, index(catalogue.services.iter().map(|service| service.id.clone())));

        for target in &catalogue.targets {
            let (known, has_returned) = known.remove(&target.id).unwrap_or_default();
            let Absent { tracks, levels, first_evidence, past_latencies } = known;
            let (here, gone): (Vec<_>, Vec<_>) = tracks.into_iter().partition(|(vantage, _)| self.vantage_ix.contains_key(vantage));
            if !gone.is_empty() {
                self.absent.insert(target.id.clone(), Absent { tracks: gone, ..Absent::default() });
            }
            if has_returned {
                from = Some(Time::BEGINNING);
            }
            self.tracks.push(here.into_iter().map(|(vantage, track)| (self.vantage_ix[&vantage], track)).collect());
            self.levels.push(levels);
            self.first_evidence.push(first_evidence);
            self.past_latencies.push(past_latencies);
        }
        self.absent.extend(known.into_iter().map(|(target, (known, _))| (target, known)));
        let mut gates = std::mem::take(&mut self.gates);
        self.gates.resize_with(catalogue.vantages.len(), Default::default);
        for (old, new) in vantages.iter().enumerate() {
            if let Some(new) = new {
                self.gates[*new] = std::mem::take(&mut gates[old]);
            }
        }
        let mut services = std::mem::take(&mut self.services);
        for (ix, service) in catalogue.services.iter().enumerate() {
            let new = || ServiceState { memory: self.horizon, ..ServiceState::default() };
            let old = old_services.get(&service.id).map_or_else(new, |&old| std::mem::take(&mut services[old]));
            self.services.push(ServiceState { reach: Reach::of(&catalogue, ix), ..old });
        }
        self.orphans.extend(orphans);
        self.users = vec![Vec::new(); catalogue.targets.len()];
        for (service, state) in self.services.iter().enumerate() {
            state.reach.targets.iter().for_each(|&target| self.users[target].push(service));
        }
        self.anchor_of = vec![Vec::new(); catalogue.targets.len()];
        for (vantage, definition) in catalogue.vantages.iter().enumerate() {
            let mut anchors: Vec<_> = definition.anchors.all().flatten().copied().collect();
            anchors.sort_unstable();
            anchors.dedup();
            anchors.into_iter().for_each(|anchor| self.anchor_of[anchor].push(vantage));
        }
        self.catalogue = Some(catalogue);
        self.agenda = Agenda::default();
        self.rederive_from(from.unwrap_or(Time::FOREVER));
        self.release_waiting(effects);
    }

    /// Takes out what is known of all targets, and whether some of it has no place in the catalogue in force.
    fn take_by_name(&mut self, new: &Catalogue) -> BTreeMap<TargetId, (Absent, bool)> {
        let absent = std::mem::take(&mut self.absent);
        let mut known: BTreeMap<_, _> = absent.into_iter().map(|(target, absent)| (target, (absent, true))).collect();
        let kept: FxHashSet<_> = new.targets.iter().map(|target| &target.id).collect();
        for target in 0..self.tracks.len() {
            if self.catalogue.as_ref().is_some_and(|old| !kept.contains(&old.targets[target].id)) {
                self.run_out(target);
            }
        }
        let Some(old) = &self.catalogue else { return known };
        let tracks = std::mem::take(&mut self.tracks).into_iter().zip(std::mem::take(&mut self.levels));
        let rest = std::mem::take(&mut self.first_evidence).into_iter().zip(std::mem::take(&mut self.past_latencies));
        for (target, ((tracks, levels), (first_evidence, past_latencies))) in old.targets.iter().zip(tracks.zip(rest)) {
            let (of_target, _) = known.entry(target.id.clone()).or_default();
            of_target.tracks.extend(tracks.into_iter().map(|(vantage, track)| (old.vantages[vantage].id.clone(), track)));
            (of_target.levels, of_target.first_evidence, of_target.past_latencies) = (levels, first_evidence, past_latencies);
        }
        known
    }

    /// Lets a target's states end as its last samples say, since nobody will look at it when their holds end.
    fn run_out(&mut self, target: TargetIx) {
        let mut levels = std::mem::take(&mut self.levels[target]);
        if let Some(mut evidence) = self.evidence(target) {
            let margin = evidence.margin();
            evidence.frontier = self.derived_to + margin + margin;
            evidence.revise(&mut levels, self.derived_to, evidence.frontier);
        }
        self.levels[target] = levels;
    }

    /// The published windows of services that `new` no longer has: they vanish with them.
    fn orphans_of(&self, new: &Catalogue) -> Vec<WindowLine> {
        let Some(old) = &self.catalogue else { return Vec::new() };
        let kept = |service: &Service| new.services.iter().any(|other| other.id == service.id);
        let gone = old.services.iter().enumerate().filter(|(_, service)| !kept(service));
        let windows = |(ix, service): (usize, &Service)| {
            let line = |view: &View<'_>, window: &Published| {
                let gone = Published { status: Status::Retracted, ..window.clone() };
                window_line(old, service, &gone, &view.lengths(window))
            };
            self.with_view(ix, |view| self.published(ix).map(|window| line(view, window)).collect::<Vec<_>>()).unwrap_or_default()
        };
        gone.flat_map(windows).collect()
    }

    /// Takes in the samples whose target and vantage are known now.
    fn release_waiting(&mut self, effects: &mut Effects) {
        for waiting in std::mem::take(&mut self.waiting) {
            match (self.target_ix.get(&waiting.target).copied(), self.vantage_ix.get(&waiting.vantage).copied()) {
                (Some(target), Some(vantage)) => {
                    let too_late = self.too_late(waiting.appended_at, waiting.entry.stamp, &waiting.target, &waiting.vantage);
                    let mut entry = waiting.entry;
                    entry.run = self.intern(waiting.run.as_str());
                    let refused = too_late.or_else(|| self.take_entry(target, vantage, entry, effects).err());
                    effects.refusals.extend(refused.map(|refusal| Refused { offset: waiting.offset, refusal }));
                }
                _ => self.waiting.push_back(waiting),
            }
        }
    }
}

fn index<K: std::hash::Hash + Eq>(ids: impl Iterator<Item = K>) -> FxHashMap<K, usize> {
    ids.enumerate().map(|(ix, id)| (id, ix)).collect()
}

/// From when on the new catalogue means something else; `None` if it only adds to the old one.
fn earliest_change(new: &Catalogue, old: &Catalogue) -> Option<Time> {
    let changes = new.changes_from(old);
    let changed = changes.iter().filter(|change| matches!(change.kind, ChangeKind::Changed | ChangeKind::Removed));
    changed.map(|change| change.from.unwrap_or(Time::BEGINNING)).min()
}
