//! What the fold takes and what it refuses (SPEC §1): a record becomes evidence, a fact or a catalogue, and what it may change is marked.

use std::fmt::Display;

use vigie_contract::catalogue::{TargetIx, VantageIx};
use vigie_contract::{Claim, Outcome, Record, Refusal, RefusalReason, RunId, Sample, ServiceId, TargetId, Time, VantageId};

use super::account::Revision;
use super::engine::{Effects, Engine, Pace, Retain, widen};
use super::track::{Entry, Insertion, Track};

/// How many samples wait for a catalogue that knows their target and vantage.
pub const MOST_WAITING: usize = 10_000;

/// A fact and when the log took it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Fact<T> {
    pub(super) fact: T,
    pub(super) appended_at: Time,
}

/// A sample whose target or vantage no catalogue knows yet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Waiting {
    pub(super) offset: u64,
    pub(super) target: TargetId,
    pub(super) vantage: VantageId,
    pub(super) run: RunId,
    pub(super) entry: Entry,
    pub(super) appended_at: Time,
}

impl Engine {
    pub(super) fn take(&mut self, offset: u64, appended_at: Time, record: Record<'_>, effects: &mut Effects) -> Result<(), Refusal> {
        match record {
            Record::Sample(sample) => self.take_sample(offset, appended_at, &sample, effects),
            Record::Tick => Ok(()),
            Record::Claim(claim) => self.take_claim(appended_at, claim),
            Record::Exclusion(exclusion) => {
                self.require_services(&exclusion.services)?;
                let revisions = self.exclusions.entry(exclusion.id.clone()).or_default();
                let first = revisions.get(&exclusion.rev).is_none_or(|known| appended_at < known.appended_at);
                if first {
                    revisions.insert(exclusion.rev, Revision { exclusion, appended_at });
                }
                Ok(())
            }
            Record::Catalogue(_) if self.catalogue_is_given => Ok(()),
            Record::Catalogue(record) => self.take_catalogue(appended_at, record, effects),
        }
    }

    fn require_services(&self, services: &[ServiceId]) -> Result<(), Refusal> {
        let unknown: Vec<_> = services.iter().filter(|service| !self.service_ix.contains_key(*service)).map(ServiceId::as_str).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(RefusalReason::UnknownService, format!("the catalogue has no service {}", unknown.join(", "))))
    }

    fn take_claim(&mut self, appended_at: Time, claim: Claim) -> Result<(), Refusal> {
        self.require_services(std::slice::from_ref(&claim.service))?;
        let tenant = self.catalogue.as_ref().and_then(|catalogue| catalogue.tenant.as_deref());
        if let (Some(ours), Some(theirs)) = (tenant, claim.tenant.as_deref())
            && ours != theirs
        {
            return Err(Refusal::new(RefusalReason::ForeignTenant, format!("claim {} is of tenant {theirs}, not {ours}", claim.id)));
        }
        let known = self.claims.get(&claim.id);
        if known.is_some_and(|known| (claim.rev, known.appended_at) <= (known.fact.rev, appended_at)) {
            return Ok(());
        }
        let old = known.map(|known| known.fact.clone());
        for claim in old.iter().chain([&claim]) {
            if let Some(&service) = self.service_ix.get(&claim.service) {
                let from = claim.confirmed_return().unwrap_or(self.frontier).min(self.frontier);
                widen(&mut self.dirty_services, service, from, self.frontier);
            }
        }
        self.claims.insert(claim.id.clone(), Fact { fact: claim, appended_at });
        Ok(())
    }

    fn take_sample(&mut self, offset: u64, appended_at: Time, sample: &Sample<'_>, effects: &mut Effects) -> Result<(), Refusal> {
        let stamp = sample.stamp();
        if let Some(refusal) = self.too_late(appended_at, stamp, &sample.target, &sample.vantage) {
            return Err(refusal);
        }
        let run = self.intern(&sample.run);
        let entry = Entry {
            stamp,
            outcome: sample.effective_outcome(appended_at),
            run,
            seq: sample.seq,
            period: sample.period,
            timeout: sample.timeout,
            latency: sample.latency,
        };
        let known = self.target_ix.get(&*sample.target).copied().zip(self.vantage_ix.get(&*sample.vantage).copied());
        let Some((target, vantage)) = known else {
            let names = (TargetId::from(&*sample.target), VantageId::from(&*sample.vantage));
            let run = RunId::from(&*sample.run);
            self.waiting.push_back(Waiting { offset, target: names.0, vantage: names.1, run, entry, appended_at });
            if self.waiting.len() > MOST_WAITING {
                effects.refusals.extend(self.waiting.pop_front().map(Waiting::in_vain));
            }
            return Ok(());
        };
        self.take_entry(target, vantage, entry, effects)
    }

    /// Whether a sample came after the late horizon; without a catalogue nobody can say yet.
    pub(super) fn too_late(&self, appended_at: Time, stamp: Time, target: &impl Display, vantage: &impl Display) -> Option<Refusal> {
        let late_horizon = self.catalogue.as_ref()?.late_horizon;
        let detail =
            || format!("target {target}, vantage {vantage}: stamped {stamp}, appended {appended_at}, more than {late_horizon} later");
        (appended_at - stamp > late_horizon).then(|| Refusal::new(RefusalReason::TooLate, detail()))
    }

    pub(super) fn intern(&mut self, run: &str) -> u32 {
        if let Some(&known) = self.runs.get(run) {
            return known;
        }
        let number = self.next_run;
        self.next_run += 1;
        self.runs.insert(RunId::from(run), number);
        number
    }

    /// Puts a sample into its track and marks what it may change.
    pub(super) fn take_entry(
        &mut self,
        target: TargetIx,
        vantage: VantageIx,
        mut entry: Entry,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(catalogue) = &self.catalogue else { return Ok(()) };
        let definition = &catalogue.targets[target];
        // There may be a track all the same: of a vantage that an earlier catalogue assigned.
        if !definition.is_ever_assigned(vantage) {
            let detail = format!("vantage {} is never assigned to target {}", catalogue.vantages[vantage].id, definition.id);
            return Err(Refusal::new(RefusalReason::UnassignedVantage, detail));
        }
        let tracks = &mut self.tracks[target];
        let place = tracks.iter().position(|(of, _)| *of == vantage).unwrap_or_else(|| {
            tracks.push((vantage, Track::default()));
            tracks.len() - 1
        });
        // Only a latency that will be judged is worth its bytes.
        if self.settings.retain == Retain::Horizon && !definition.has_latency_objective() {
            entry.latency = None;
        }
        let track = &mut tracks[place].1;
        let is_quiet = entry.stamp >= self.frontier && entry.outcome == Outcome::Ok && track.is_steadily_ok(&entry);
        let replaced = match track.insert(entry) {
            Insertion::New => None,
            Insertion::Duplicate { conflicting, replaced } => {
                effects.duplicate = Some(conflicting);
                if replaced.is_none() {
                    return Ok(());
                }
                replaced
            }
        };
        let stamps = std::iter::once(entry.stamp).chain(replaced.map(|replaced| replaced.stamp));
        let (from, to) = stamps.fold((Time::FOREVER, Time::BEGINNING), |(from, to), stamp| (from.min(stamp), to.max(stamp)));
        let to = to + track.longest_hold();
        self.note_first_evidence(target, &entry, replaced.as_ref());
        if self.settings.pace == Pace::Batch {
            return Ok(());
        }
        if !is_quiet || replaced.is_some() {
            self.mark_target(target, from, to);
        }
        if !self.anchor_of[target].is_empty() && self.anchor_of[target].contains(&vantage) {
            self.revise_gates(vantage, from, to);
        }
        Ok(())
    }

    fn note_first_evidence(&mut self, target: TargetIx, entry: &Entry, replaced: Option<&Entry>) {
        let before = self.first_evidence[target];
        let earliest = |a: Option<Time>, b: Time| Some(a.map_or(b, |a| a.min(b)));
        if replaced.is_some_and(|replaced| Some(replaced.stamp) == before) {
            let tracks = self.tracks[target].iter();
            self.first_evidence[target] = tracks.filter_map(|(_, track)| track.first_evidence(Time::BEGINNING)).min();
        } else if entry.outcome != Outcome::Void {
            self.first_evidence[target] = earliest(before, entry.stamp);
        }
        let after = self.first_evidence[target];
        if before == after {
            return;
        }
        // Where nothing is written, measurement begins with the first evidence.
        let Some(catalogue) = &self.catalogue else { return };
        let edges = || before.into_iter().chain(after);
        let (from, to) = (edges().min().unwrap_or(self.frontier), edges().max().unwrap_or(self.frontier));
        for &service in &self.users[target] {
            if catalogue.services[service].since.is_none() {
                // The service's start is the earliest of several targets': it may move to anywhere later.
                let to = if before.is_none() || after.is_none() || before < after { self.frontier } else { to };
                widen(&mut self.dirty_services, service, from.min(self.frontier), to.min(self.frontier));
            }
        }
    }
}
