//! A new catalogue: what is known is carried over by name, and derived anew from where it means something else (SPEC §1, §2).

use rustc_hash::FxHashMap;
use vigie_contract::catalogue::{Catalogue, ChangeKind, Service, Strictness};
use vigie_contract::record::CatalogueRecord;
use vigie_contract::{Refusal, RefusalReason, Time};

use super::agenda::Agenda;
use super::digest::sha256_hex;
use super::engine::{Effects, Engine, Refused, ServiceState, Waiting};
use super::line::WindowLine;
use super::service::Reach;
use super::version::window_line;
use super::window::{Published, Status, View};

impl Waiting {
    pub(super) fn in_vain(self) -> Refused {
        let detail = format!("no catalogue came that knows target {} and vantage {}; seq {}", self.target, self.vantage, self.entry.seq);
        Refused { offset: self.offset, refusal: Refusal::new(RefusalReason::UnknownTarget, detail) }
    }
}

impl Engine {
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
        check_digest(&record)?;
        let catalogue = read(&record.text)?;
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
        let from = self.catalogue.as_ref().map_or(Some(Time::BEGINNING), |old| earliest_change(&catalogue, old));
        let vantages: Vec<Option<usize>> = match &self.catalogue {
            Some(old) => {
                let place = |id: &vigie_contract::VantageId| catalogue.vantages.iter().position(|vantage| vantage.id == *id);
                old.vantages.iter().map(|vantage| place(&vantage.id)).collect()
            }
            None => Vec::new(),
        };
        let orphans = self.orphans_of(&catalogue);
        self.vantage_ix = catalogue.vantages.iter().enumerate().map(|(ix, vantage)| (vantage.id.clone(), ix)).collect();
        let old_targets = std::mem::replace(&mut self.target_ix, index(catalogue.targets.iter().map(|target| target.id.clone())));
        let old_services = std::mem::replace(&mut self.service_ix, index(catalogue.services.iter().map(|service| service.id.clone())));

        let mut tracks = std::mem::take(&mut self.tracks);
        let mut levels = std::mem::take(&mut self.levels);
        let first_evidence = std::mem::take(&mut self.first_evidence);
        let mut past_latencies = std::mem::take(&mut self.past_latencies);
        for target in &catalogue.targets {
            let old = old_targets.get(&target.id);
            let of_old = old.map(|&old| std::mem::take(&mut tracks[old])).unwrap_or_default();
            let carried = of_old.into_iter().filter_map(|(vantage, track)| Some((vantages[vantage]?, track)));
            self.tracks.push(carried.collect());
            self.levels.push(old.map(|&old| std::mem::take(&mut levels[old])).unwrap_or_default());
            self.first_evidence.push(old.and_then(|&old| first_evidence[old]));
            self.past_latencies.push(old.map(|&old| std::mem::take(&mut past_latencies[old])).unwrap_or_default());
        }
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

fn read(text: &str) -> Result<Catalogue, Refusal> {
    Catalogue::read(text, Strictness::Replay).map(|(catalogue, _)| catalogue).map_err(|problems| {
        let line = |problem: &vigie_contract::catalogue::Problem| format!("line {}: {}", problem.line_and_column(text).0, problem.message);
        Refusal::new(RefusalReason::InvalidCatalogue, problems.iter().map(line).collect::<Vec<_>>().join("; "))
    })
}

/// A digest that is one must fit; a text that only looks like a remark proves nothing either way.
fn check_digest(record: &CatalogueRecord) -> Result<(), Refusal> {
    let Some(given) = record.sha256.as_deref().filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())) else {
        return Ok(());
    };
    let digest = sha256_hex(record.text.as_bytes());
    if digest.eq_ignore_ascii_case(given) {
        return Ok(());
    }
    Err(Refusal::new(RefusalReason::WrongDigest, format!("the text of revision {} has SHA-256 {digest}", record.rev)))
}
