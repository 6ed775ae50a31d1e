//! The fold: `step(offset, append time, record) → effects` (SPEC §7).
//!
//! A record marks what it may change, from an instant on; once the frontier has moved, every marked target is derived anew around
//! that instant, then every service above it, then its windows, and the difference to what was published is the effect. What only
//! time changes is marked by [`Agenda`]: nothing is looked at while nothing can happen to it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Display};
use std::ops::Deref;

use rustc_hash::FxHashMap;
use vigie_contract::catalogue::{Catalogue, ServiceIx, TargetIx, VantageIx};
use vigie_contract::record::CatalogueRecord;
use vigie_contract::{Claim, ClaimId, ExclusionId, Month, Record, Refusal, RunId, ServiceId, Span, TargetId, Time, VantageId};

use super::account::Revision;
use super::adopt::Absent;
use super::agenda::{Agenda, Item};
use super::gate::{Anchors, Gates};
use super::intake::{Fact, Waiting};
use super::interval::Intervals;
use super::line::WindowLine;
use super::report::Latency;
use super::service::{Reach, Scope, Verdict};
use super::state::{State, Steps};
use super::target::{Evidence, Level};
use super::track::{Entry, Track};
use super::version::{Version, version_number};
use super::window::{Outage, Published, Tally, View};

/// How an engine is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Rises when a log is replaced.
    pub log_epoch: u64,
    /// What is forgotten.
    pub retain: Retain,
    /// When windows are derived.
    pub pace: Pace,
}

/// What an engine forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// Nothing: exact whatever comes, for files.
    Everything,
    /// Samples after the late horizon, states after thirteen months. What was published of earlier time stands.
    Horizon,
}

/// When an engine derives windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// After every record.
    Live,
    /// Once, at [`Engine::finish`].
    Batch,
}

/// What a record did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// Versions of windows to publish, by service and onset.
    pub versions: Vec<Version>,
    /// Records that are not taken: earlier ones that waited until now, and last this one.
    pub refusals: Vec<Refused>,
    /// The record was known already; whether with another content.
    pub duplicate: Option<bool>,
}

/// A record that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its own place in the log.
    pub offset: u64,
    /// Why.
    pub refusal: Refusal,
}

impl Deref for Refused {
    type Target = Refusal;
    fn deref(&self) -> &Refusal {
        &self.refusal
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(f)
    }
}

/// What the engine holds of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceState {
    pub(super) reach: Reach,
    pub(super) verdicts: Steps<Verdict>,
    pub(super) outages: Vec<Outage>,
    pub(super) published: BTreeMap<Time, Published>,
    /// Everything before this is forgotten.
    pub(super) memory: Time,
    /// Sums of the open window.
    pub(super) tally: Tally,
    /// Whether claims had a part in what is published.
    pub(super) had_claims: bool,
    /// Until where its states take account of everything but later changes of targets.
    pub(super) refreshed_to: Time,
}

/// The state of the fold.
pub struct Engine {
    pub(super) settings: Settings,
    /// Whose log it folds; all of a region's without one.
    pub(super) group: Option<String>,
    pub(super) catalogue: Option<Catalogue>,
    /// The record that brought the catalogue; `None` for one that was given.
    pub(super) catalogue_record: Option<CatalogueRecord>,
    pub(super) catalogue_is_given: bool,
    pub(super) now: Time,
    pub(super) frontier: Time,
    pub(super) target_ix: FxHashMap<TargetId, TargetIx>,
    pub(super) vantage_ix: FxHashMap<VantageId, VantageIx>,
    pub(super) service_ix: FxHashMap<ServiceId, ServiceIx>,
    pub(super) runs: FxHashMap<RunId, u32>,
    pub(super) next_run: u32,
    /// What is known of targets and vantages that the catalogue in force does not know.
    pub(super) absent: BTreeMap<TargetId, Absent>,
    /// By target, then vantage.
    pub(super) tracks: Vec<Vec<(VantageIx, Track)>>,
    pub(super) first_evidence: Vec<Option<Time>>,
    /// For each target, the latencies of the samples that are forgotten.
    pub(super) past_latencies: Vec<BTreeMap<Month, Latency>>,
    pub(super) levels: Vec<Steps<Level>>,
    pub(super) gates: Vec<Gates>,
    pub(super) services: Vec<ServiceState>,
    /// For each target the services that reach it.
    pub(super) users: Vec<Vec<ServiceIx>>,
    /// For each target the vantages that it is an anchor of.
    pub(super) anchor_of: Vec<Vec<VantageIx>>,
    pub(super) claims: BTreeMap<ClaimId, Fact<Claim>>,
    pub(super) exclusions: BTreeMap<ExclusionId, BTreeMap<u64, Revision>>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) agenda: Agenda,
    /// What this step may change, from where to where.
    pub(super) dirty_targets: BTreeMap<TargetIx, (Time, Time)>,
    pub(super) dirty_services: BTreeMap<ServiceIx, (Time, Time)>,
    /// The frontier at which everything was derived last.
    pub(super) derived_to: Time,
    /// Windows of services that a new catalogue no longer has.
    pub(super) orphans: Vec<WindowLine>,
    /// States before this are forgotten, but for those of a month, window or gap that reaches over it.
    pub(super) horizon: Time,
    /// Samples from here on are all there: states before it cannot be derived anew.
    pub(super) sampled_from: Time,
    pub(super) next_pruning: Time,
}

/// The tracks of one vantage.
struct SeenFrom<'a> {
    tracks: &'a [Vec<(VantageIx, Track)>],
    vantage: VantageIx,
}

impl Anchors for SeenFrom<'_> {
    fn track(&self, target: TargetIx) -> Option<&Track> {
        self.tracks[target].iter().find(|(vantage, _)| *vantage == self.vantage).map(|(_, track)| track)
    }
}

pub(super) fn widen<K: Ord>(dirty: &mut BTreeMap<K, (Time, Time)>, key: K, from: Time, to: Time) {
    let hull = dirty.entry(key).or_insert((from, to));
    *hull = (hull.0.min(from), hull.1.max(to));
}

impl Engine {
    /// An engine without evidence; with a `catalogue`, those in the evidence are ignored.
    #[must_use]
    pub fn new(settings: Settings, catalogue: Option<Catalogue>) -> Self {
        let mut engine = Self {
            settings,
            group: None,
            catalogue: None,
            catalogue_record: None,
            catalogue_is_given: catalogue.is_some(),
            now: Time::BEGINNING,
            frontier: Time::BEGINNING,
            target_ix: FxHashMap::default(),
            vantage_ix: FxHashMap::default(),
            service_ix: FxHashMap::default(),
            runs: FxHashMap::default(),
            next_run: 0,
            absent: BTreeMap::new(),
            tracks: Vec::new(),
            first_evidence: Vec::new(),
            past_latencies: Vec::new(),
            levels: Vec::new(),
            gates: Vec::new(),
            services: Vec::new(),
            users: Vec::new(),
            anchor_of: Vec::new(),
            claims: BTreeMap::new(),
            exclusions: BTreeMap::new(),
            waiting: VecDeque::new(),
            agenda: Agenda::default(),
            dirty_targets: BTreeMap::new(),
            dirty_services: BTreeMap::new(),
            derived_to: Time::BEGINNING,
            orphans: Vec::new(),
            horizon: Time::BEGINNING,
            sampled_from: Time::BEGINNING,
            next_pruning: Time::BEGINNING,
        };
        if let Some(catalogue) = catalogue {
            engine.adopt(catalogue, &mut Effects::default());
        }
        engine
    }

    /// An engine for the log of one group (DESIGN §4): of the catalogues in it the services of other groups are none of its business.
    #[must_use]
    pub fn of_group(settings: Settings, group: impl Into<String>) -> Self {
        Self { group: Some(group.into()), ..Self::new(settings, None) }
    }

    /// Whether a target's own log is the one that is folded: of an anchor's samples every group that it gates has a copy.
    #[must_use]
    pub fn is_own(&self, target: TargetIx) -> bool {
        let group = self.catalogue.as_ref().and_then(|catalogue| catalogue.targets.get(target)).map(|target| &target.group);
        self.group.is_none() || group == self.group.as_ref()
    }

    /// The frontier: everything before it is evaluated.
    #[must_use]
    pub fn frontier(&self) -> Time {
        self.frontier
    }

    /// The catalogue in force.
    #[must_use]
    pub fn catalogue(&self) -> Option<&Catalogue> {
        self.catalogue.as_ref()
    }

    /// What a service's expression reaches.
    #[must_use]
    pub fn reach(&self, service: ServiceIx) -> &Reach {
        &self.services[service].reach
    }

    /// The published windows of a service, by onset.
    pub fn published(&self, service: ServiceIx) -> impl Iterator<Item = &Published> {
        self.services[service].published.values()
    }

    /// From where on a service is remembered: what was published of it before stands, and is never told again. Lies in no month, no
    /// window and no gap.
    #[must_use]
    pub fn memory(&self, service: ServiceIx) -> Time {
        self.services[service].memory
    }

    /// Whether a claim that was opened at `opened` is forgotten with the time that it speaks of.
    #[must_use]
    pub fn is_forgotten(&self, service: ServiceIx, opened: Time) -> bool {
        self.clock(service).is_some_and(|clock| clock.is_forgotten(opened))
    }

    /// The levels of a target.
    #[must_use]
    pub fn levels(&self, target: TargetIx) -> &Steps<Level> {
        &self.levels[target]
    }

    /// The exclusions, each by its revisions.
    pub fn exclusions(&self) -> impl Iterator<Item = &BTreeMap<u64, Revision>> {
        self.exclusions.values()
    }

    /// The name of an interned run; empty if its samples are forgotten.
    #[must_use]
    pub fn run_name(&self, run: u32) -> String {
        self.runs.iter().find(|(_, number)| **number == run).map(|(id, _)| id.to_string()).unwrap_or_default()
    }

    /// The claims that are known, each by its highest revision, rejected ones included.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().map(|fact| &fact.fact)
    }

    /// The text of the catalogue in force, if it came with the log.
    #[must_use]
    pub fn catalogue_text(&self) -> Option<&str> {
        self.catalogue_record.as_ref().map(|record| record.text.as_str())
    }

    /// The running maximum of the append times.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Settings that it was made with.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Samples of targets or vantages that the catalogue does not know yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Their places in the log, in the order in which they came.
    #[must_use]
    pub fn waiting_offsets(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.waiting.iter().map(|waiting| waiting.offset)
    }

    /// The revision of the catalogue in force, if it came with the log.
    #[must_use]
    pub fn catalogue_rev(&self) -> Option<u64> {
        self.catalogue_record.as_ref().map(|record| record.rev)
    }

    /// Whether all anchors of a vantage are down as seen from it at `at`.
    #[must_use]
    pub fn is_gated(&self, vantage: VantageIx, at: Time) -> bool {
        self.gates[vantage].as_slice().iter().any(|gate| gate.a <= at && at < gate.b)
    }

    /// The stamp of the newest sample of a target from a vantage.
    #[must_use]
    pub fn newest_stamp(&self, target: TargetIx, vantage: VantageIx) -> Option<Time> {
        self.track(target, vantage)?.newest()
    }

    /// The sample of a target that speaks for what a vantage sees at `at`.
    #[must_use]
    pub fn sample_in_force(&self, target: TargetIx, vantage: VantageIx, at: Time) -> Option<Entry> {
        self.track(target, vantage)?.in_force(at)
    }

    /// What each vantage sees of a target at `at`, after the gate.
    #[must_use]
    pub fn states_by_vantage(&self, target: TargetIx, at: Time) -> Vec<(VantageIx, State)> {
        let seen = self.evidence(target).map(|evidence| evidence.seen(at, at + Span::from_us(1))).unwrap_or_default();
        seen.iter().map(|seen| (seen.vantage, seen.states.at(at))).collect()
    }

    /// What counts of a service at the frontier, and since when.
    #[must_use]
    pub fn state_now(&self, service: ServiceIx) -> (State, Option<Time>) {
        let at = self.frontier - Span::from_us(1);
        let verdicts = &self.services[service].verdicts;
        let now = verdicts.at(at);
        if !now.measured {
            return (State::Unknown, None);
        }
        let alike = verdicts.as_slice().iter().rev().skip_while(|(start, _)| *start > at);
        let since = alike.take_while(|(_, verdict)| verdict.measured && verdict.counted == now.counted).last();
        (now.counted, since.map(|(start, _)| *start))
    }

    /// The published windows of a service within `[from, to)`, open ones up to the frontier.
    #[must_use]
    pub fn published_within(&self, service: ServiceIx, from: Time, to: Time) -> Intervals {
        let windows = self.services[service].published.values();
        Intervals::union_of(windows.map(|window| (window.onset, window.end.unwrap_or(self.frontier)))).cut(from, to)
    }

    /// The gates of a vantage, as [a, b).
    pub fn gates(&self, vantage: VantageIx) -> impl Iterator<Item = (Time, Time)> + '_ {
        self.gates[vantage].as_slice().iter().map(|gate| (gate.a, gate.b))
    }

    /// The samples of a target from a vantage with stamps in `[from, to)`, as far as they are kept.
    pub fn samples(&self, target: TargetIx, vantage: VantageIx, from: Time, to: Time) -> impl Iterator<Item = Entry> + '_ {
        self.track(target, vantage).into_iter().flat_map(move |track| track.since(from)).take_while(move |entry| entry.stamp < to)
    }

    fn track(&self, target: TargetIx, vantage: VantageIx) -> Option<&Track> {
        self.tracks[target].iter().find(|(of, _)| *of == vantage).map(|(_, track)| track)
    }

    /// Reads a service's windows, claims and states together.
    pub fn with_view<T>(&self, service: ServiceIx, read: impl FnOnce(&View<'_>) -> T) -> Option<T> {
        let catalogue = self.catalogue.as_ref()?;
        let clock = self.clock(service)?;
        let claims = self.claims_of(&catalogue.services[service].id);
        let state = &self.services[service];
        Some(read(&View { verdicts: &state.verdicts, outages: &state.outages, claims: &claims, clock }))
    }

    /// `T*`: the state of a target for a service (3.5).
    #[must_use]
    pub fn counted_leaf(&self, service: ServiceIx, target: TargetIx, at: Time) -> State {
        let counted = || {
            let catalogue = self.catalogue.as_ref()?;
            let claims = self.claims_of(&catalogue.services[service].id);
            let mut returns: Vec<_> = claims.iter().filter_map(|claim| claim.confirmed_return()).collect();
            returns.sort_unstable();
            let scope = Scope { catalogue, ix: service, since: self.since(service), returns: &returns, reach: self.reach(service) };
            Some(scope.counted_leaf(&self.levels[target], at))
        };
        counted().unwrap_or_default()
    }

    /// Takes up one record of the log.
    pub fn step(&mut self, offset: u64, appended_at: Time, record: Result<Record<'_>, Refusal>) -> Effects {
        let mut effects = Effects::default();
        self.now = self.now.max(appended_at);
        // First with the old evidence, so that the record is taken at the frontier that it brings; then again, since a catalogue moves it.
        self.advance(self.now_frontier());
        let taken = record.and_then(|record| self.take(offset, appended_at, record, &mut effects));
        effects.refusals.extend(taken.err().map(|refusal| Refused { offset, refusal }));
        if self.settings.pace == Pace::Live {
            self.advance(self.now_frontier());
            self.derive(version_number(self.settings.log_epoch, offset), &mut effects);
            if self.settings.retain == Retain::Horizon && self.frontier >= self.next_pruning {
                self.prune();
            }
        }
        effects
    }

    /// Sets the frontier of a batch and derives everything.
    pub fn finish(&mut self, until: Option<Time>) {
        self.frontier = until.unwrap_or_else(|| self.now_frontier());
        self.derive_anew(Time::BEGINNING);
    }

    pub(super) fn now_frontier(&self) -> Time {
        self.now - self.catalogue.as_ref().map_or(Span::ZERO, |catalogue| catalogue.settle)
    }

    /// Something of `target` may be other on `[from, to)`: at once if that is the past, else when the frontier comes there.
    pub(super) fn mark_target(&mut self, target: TargetIx, from: Time, to: Time) {
        if from < self.frontier {
            widen(&mut self.dirty_targets, target, from, to);
        } else {
            self.agenda.not_later_than(Item::Target(target), from);
        }
    }

    pub(super) fn revise_gates(&mut self, vantage: VantageIx, from: Time, to: Time) {
        let Some(catalogue) = &self.catalogue else { return };
        let seen = SeenFrom { tracks: &self.tracks, vantage };
        let differing = self.gates[vantage].revise(&catalogue.vantages[vantage].anchors, &seen, from, to);
        if let Some((from, to)) = differing {
            self.mark_seen_from(vantage, from, to);
        }
        if let Some(next) = self.gates[vantage].next(self.frontier) {
            self.agenda.not_later_than(Item::Vantage(vantage), next.a);
        }
    }

    /// Marks every target that `vantage` sampled: their failures are gated otherwise on `[from, to)`, and for a hold after that.
    fn mark_seen_from(&mut self, vantage: VantageIx, from: Time, to: Time) {
        for target in 0..self.tracks.len() {
            let track = self.tracks[target].iter().find(|(of, _)| *of == vantage);
            if let Some(hold) = track.map(|(_, track)| track.longest_hold()) {
                self.mark_target(target, from, to + hold);
            }
        }
    }

    /// Moves the frontier and marks what is due.
    fn advance(&mut self, frontier: Time) {
        if self.settings.pace == Pace::Batch {
            return;
        }
        self.frontier = frontier;
        while let Some((due, item)) = self.agenda.pop_before(frontier) {
            match item {
                Item::Target(target) => widen(&mut self.dirty_targets, target, due, frontier),
                Item::Service(service) => {
                    let from = self.services[service].refreshed_to.min(frontier);
                    widen(&mut self.dirty_services, service, from, frontier);
                }
                Item::Vantage(vantage) => {
                    let arrived = self.gates[vantage].as_slice().iter().filter(|gate| due <= gate.a && gate.a < frontier);
                    let arrived: Vec<_> = arrived.copied().collect();
                    for gate in arrived {
                        self.mark_seen_from(vantage, gate.g0, gate.b);
                    }
                    if let Some(next) = self.gates[vantage].next(frontier) {
                        self.agenda.not_later_than(item, next.a);
                    }
                }
            }
        }
    }

    /// Everything from which a target's states are derived.
    #[must_use]
    pub fn evidence(&self, target: TargetIx) -> Option<Evidence<'_>> {
        let catalogue = self.catalogue.as_ref()?;
        Some(Evidence {
            ix: target,
            target: &catalogue.targets[target],
            vantages: &catalogue.vantages,
            tracks: &self.tracks[target],
            gates: &self.gates,
            frontier: self.frontier,
        })
    }
}
