//! From what is marked to what is published: targets, then services, then windows (SPEC §3 to §5, §7).

use std::collections::BTreeMap;

use vigie_contract::catalogue::{ServiceIx, TargetIx};
use vigie_contract::{Claim, ClaimState, ServiceId, Time};

use super::agenda::{Agenda, Item};
use super::engine::{Effects, Engine, Pace, ServiceState, widen};
use super::service::{Scope, Verdict, influence_end};
use super::state::Steps;
use super::version::Version;
use super::window::{self, Clock, Published, View};

impl Engine {
    /// Derives what is marked, level by level.
    pub(super) fn derive(&mut self, number: u64, effects: &mut Effects) {
        for (target, (from, to)) in std::mem::take(&mut self.dirty_targets) {
            self.derive_target(target, from, to);
        }
        for (service, (from, to)) in std::mem::take(&mut self.dirty_services) {
            self.derive_service(service, from, to, number, effects);
        }
        let as_of_us = self.frontier.us();
        let orphans = std::mem::take(&mut self.orphans).into_iter();
        effects.versions.extend(orphans.map(|window| Version { window, ver: number, as_of_us, is_final: false, superseded_by: None }));
        self.derived_to = self.frontier;
    }

    fn derive_target(&mut self, target: TargetIx, from: Time, to: Time) {
        let mut levels = std::mem::take(&mut self.levels[target]);
        let Some(evidence) = self.evidence(target) else { return };
        let changed = evidence.revise(&mut levels, from, to);
        let steady_until = evidence.steady_until();
        self.agenda.set(Item::Target(target), steady_until);
        self.levels[target] = levels;
        if let Some((from, to)) = changed {
            let to = influence_end(&self.levels[target], to).min(self.frontier);
            for &service in &self.users[target] {
                widen(&mut self.dirty_services, service, from, to);
            }
        }
    }

    /// Start of a service's measurement: written, or the earliest evidence that it reaches (3.6).
    pub(super) fn since(&self, service: ServiceIx) -> Option<Time> {
        let written = self.catalogue.as_ref()?.services[service].since;
        written.or_else(|| self.services[service].reach.targets.iter().filter_map(|&target| self.first_evidence[target]).min())
    }

    /// The claims of a service that are not rejected.
    pub(super) fn claims_of(&self, service: &ServiceId) -> Vec<&Claim> {
        let claims = self.claims.values().map(|fact| &fact.fact);
        claims.filter(|claim| claim.service == *service && claim.state != ClaimState::Rejected).collect()
    }

    pub(super) fn clock(&self, service: ServiceIx) -> Option<Clock> {
        let catalogue = self.catalogue.as_ref()?;
        let definition = &catalogue.services[service];
        Some(Clock {
            frontier: self.frontier,
            since: self.since(service),
            until: definition.until,
            stable_up: definition.stable_up,
            claim_horizon: catalogue.claim_horizon,
            memory: self.services[service].memory,
        })
    }

    fn derive_service(&mut self, service: ServiceIx, from: Time, to: Time, number: u64, effects: &mut Effects) {
        let Some(clock) = self.clock(service) else { return };
        let mut state = std::mem::take(&mut self.services[service]);
        self.refresh(service, &mut state, &clock, (from.max(clock.memory), to.min(self.frontier)), number, effects);
        self.services[service] = state;
    }

    fn refresh(
        &mut self,
        service: ServiceIx,
        state: &mut ServiceState,
        clock: &Clock,
        span: (Time, Time),
        number: u64,
        effects: &mut Effects,
    ) {
        let Some(catalogue) = &self.catalogue else { return };
        let definition = &catalogue.services[service];
        let claims = self.claims_of(&definition.id);
        let mut returns: Vec<_> = claims.iter().filter_map(|claim| claim.confirmed_return()).collect();
        returns.sort_unstable();
        let scope = Scope { catalogue, ix: service, since: clock.since, returns: &returns, reach: &state.reach };
        let (from, to) = span;
        let mut before = Steps::default();
        let mut hull = None;
        if from < to {
            let revised = scope.verdicts(&self.levels, from, to);
            before = state.verdicts.part(from, to);
            let to = if to >= self.frontier { Time::FOREVER } else { to };
            if let Some((from, to)) = state.verdicts.splice(from, to, &revised) {
                state.tally.revise(from);
                hull = Some(window::revise(&mut state.outages, &state.verdicts, clock, from, to.min(self.frontier)));
            }
        }
        let view = View { verdicts: &state.verdicts, outages: &state.outages, claims: &claims, clock: *clock };
        // Claims join windows that lie far apart; without any, only what changed is looked at, and what may close by itself.
        let (low, high) = if claims.is_empty() && !state.had_claims {
            let open = state.published.last_key_value().filter(|(_, last)| last.end.is_none()).map(|(onset, _)| *onset);
            let (low, high) = hull.unwrap_or((self.frontier, self.frontier));
            open.map_or((low, high), |open| (low.min(open), self.frontier))
        } else {
            (Time::BEGINNING, Time::FOREVER)
        };
        let mut revised = view.published(low, high);
        let mut old: BTreeMap<Time, Published> = BTreeMap::new();
        while let Some((&onset, window)) = state.published.range(..=high).next_back() {
            if window.end.unwrap_or(self.frontier) < low {
                break;
            }
            old.extend(state.published.remove_entry(&onset));
        }
        for (onset, window) in &revised {
            let end = window.end.unwrap_or(self.frontier);
            let has_new_boundary = || state.verdicts.differs(&before, (*onset).max(from), end.min(to), Verdict::is_alike);
            if old.get(onset) != Some(window) || has_new_boundary() {
                let lengths = view.lengths_with(window, &mut state.tally);
                effects.versions.push(Version::published(&view, catalogue, definition, window, &lengths, number));
            }
        }
        for (onset, window) in &old {
            if !revised.contains_key(onset) {
                let successor = view.successor(&revised, window);
                effects.versions.push(Version::retracted(&view, catalogue, definition, window, successor, number));
            }
        }
        state.published.append(&mut revised);
        state.had_claims = !claims.is_empty();
        state.refreshed_to = self.frontier;
        let due = scope.next_edge(self.frontier).into_iter().chain(view.next_edge()).min();
        self.agenda.set(Item::Service(service), due.unwrap_or(Time::FOREVER));
    }

    /// After a snapshot was read back: derives what follows from the targets' levels, and when to look again.
    pub(super) fn resume(&mut self) {
        self.agenda = Agenda::default();
        self.dirty_targets.clear();
        self.dirty_services.clear();
        self.derived_to = self.frontier;
        for target in 0..self.tracks.len() {
            let steady_until = self.evidence(target).map_or(Time::FOREVER, |evidence| evidence.steady_until());
            self.agenda.set(Item::Target(target), steady_until);
        }
        for vantage in 0..self.gates.len() {
            if let Some(next) = self.gates[vantage].next(self.frontier) {
                self.agenda.set(Item::Vantage(vantage), next.a);
            }
        }
        let mut published_before = Effects::default();
        for service in 0..self.services.len() {
            self.derive_service(service, Time::BEGINNING, Time::FOREVER, 0, &mut published_before);
        }
    }

    /// Derives everything from `from` on, whatever was derived before.
    pub(super) fn derive_anew(&mut self, from: Time) {
        for vantage in 0..self.gates.len() {
            self.revise_gates(vantage, from, self.frontier);
        }
        for target in 0..self.tracks.len() {
            self.derive_target(target, from, Time::FOREVER);
        }
        let mut unpublished = Effects::default();
        for service in 0..self.services.len() {
            self.derive_service(service, Time::BEGINNING, self.frontier, 0, &mut unpublished);
        }
        self.dirty_targets.clear();
        self.dirty_services.clear();
    }

    /// After the catalogue changed: derives everything from `from` on, and all services, in this step. Of what the samples are forgotten
    /// the states stand: to derive them anew would be to declare them unknown.
    pub(super) fn rederive_from(&mut self, from: Time) {
        if self.settings.pace == Pace::Batch {
            return;
        }
        // What was marked goes by the old catalogue's positions, and is later than what was derived last.
        self.dirty_targets.clear();
        self.dirty_services.clear();
        let from = from.min(self.derived_to).max(self.sampled_from);
        self.frontier = self.now_frontier();
        for vantage in 0..self.gates.len() {
            self.revise_gates(vantage, from, Time::FOREVER);
        }
        for target in 0..self.tracks.len() {
            widen(&mut self.dirty_targets, target, from, Time::FOREVER);
        }
        for service in 0..self.services.len() {
            widen(&mut self.dirty_services, service, Time::BEGINNING, Time::FOREVER);
        }
    }
}
