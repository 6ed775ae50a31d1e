//! §3: states at every instant at which anything can change.

use std::collections::BTreeMap;

use vigie_contract::catalogue::{Catalogue, Need};
use vigie_contract::{ClaimState, Outcome, Time};

use super::{Facts, NEVER, Point};

/// UP < UNKNOWN < DOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Up,
    Unknown,
    Down,
}

use State::{Down, Unknown, Up};

/// States on `(−∞, F)`: each from its instant of `at` to the next.
pub(super) struct World<'a> {
    pub(super) facts: &'a Facts,
    pub(super) catalogue: &'a Catalogue,
    pub(super) frontier: i64,
    /// All instants at which anything can change, the first `−∞`, all before the frontier.
    pub(super) at: Vec<i64>,
    gates: BTreeMap<usize, Vec<(i64, i64, i64)>>,
    /// `T` and `T⁺` of each target, at each instant.
    seen: Vec<Vec<State>>,
    dated: Vec<Vec<State>>,
}

fn time(us: i64) -> Time {
    Time::from_us(us)
}

impl<'a> World<'a> {
    pub(super) fn new(facts: &'a Facts, catalogue: &'a Catalogue, frontier: i64) -> Self {
        let mut world = World { facts, catalogue, frontier, at: Vec::new(), gates: BTreeMap::new(), seen: Vec::new(), dated: Vec::new() };
        world.collect_instants();
        world.find_gates();
        let targets = 0..catalogue.targets.len();
        world.seen = targets.clone().map(|target| world.at.iter().map(|&at| world.quorum(target, at)).collect()).collect();
        let raised: Vec<_> = targets.clone().map(|target| world.raised(target)).collect();
        // The onsets are instants too: look again with them.
        let onsets: Vec<i64> = raised.iter().flatten().map(|(onset, _)| *onset).collect();
        world.add_instants(onsets);
        world.seen = targets.clone().map(|target| world.at.iter().map(|&at| world.quorum(target, at)).collect()).collect();
        let dated = |target: usize, place: usize| {
            let at = world.at[place];
            let is_raised = raised[target].iter().any(|&(onset, q)| onset <= at && at < q);
            if is_raised { Down } else { world.seen[target][place] }
        };
        world.dated = targets.map(|target| (0..world.at.len()).map(|place| dated(target, place)).collect()).collect();
        world
    }

    fn add_instants(&mut self, more: impl IntoIterator<Item = i64>) {
        self.at.extend(more);
        let frontier = self.frontier;
        self.at.retain(|at| *at < frontier);
        self.at.sort_unstable();
        self.at.dedup();
    }

    fn collect_instants(&mut self) {
        let mut at = vec![NEVER];
        for point in self.facts.samples.values().flatten() {
            at.extend([point.stamp, point.stamp + point.hold()]);
        }
        let catalogue = self.catalogue;
        let versions = catalogue.targets.iter().flat_map(|target| target.plan.boundaries().collect::<Vec<_>>());
        let versions = versions.chain(catalogue.vantages.iter().flat_map(|vantage| vantage.anchors.boundaries().collect::<Vec<_>>()));
        let versions = versions.chain(catalogue.services.iter().flat_map(|service| service.needs.boundaries().collect::<Vec<_>>()));
        at.extend(versions.map(Time::us));
        at.extend(catalogue.services.iter().flat_map(|service| service.since.into_iter().chain(service.until)).map(Time::us));
        at.extend(self.facts.claims.values().flat_map(|claim| [Some(claim.opened_at), claim.resolved_at]).flatten().map(Time::us));
        self.add_instants(at);
    }

    fn points(&self, target: usize, vantage: usize) -> &[Point] {
        self.facts.samples.get(&(target, vantage)).map_or(&[], Vec::as_slice)
    }

    /// The sample in force at `at` (3.1).
    fn in_force(&self, target: usize, vantage: usize, at: i64) -> Option<&Point> {
        let order = |point: &&Point| (point.stamp, point.outcome == Outcome::Fail, point.hold(), point.period);
        let earlier = self.points(target, vantage).iter().filter(|point| point.outcome != Outcome::Void && point.stamp <= at);
        earlier.max_by_key(order).filter(|point| at < point.stamp + point.hold())
    }

    /// 3.1.
    fn vantage_state(&self, target: usize, vantage: usize, at: i64) -> State {
        match self.in_force(target, vantage, at).map(|point| point.outcome) {
            Some(Outcome::Ok) => Up,
            Some(Outcome::Fail) => Down,
            _ => Unknown,
        }
    }

    fn oks(&self, target: usize, vantage: usize) -> impl Iterator<Item = i64> + '_ {
        self.points(target, vantage).iter().filter(|point| point.outcome == Outcome::Ok).map(|point| point.stamp)
    }

    /// 3.2: for each vantage its gates as `(a, b, g₀)`.
    fn find_gates(&mut self) {
        for (vantage, definition) in self.catalogue.vantages.iter().enumerate() {
            let cut_off = |at: i64| {
                let anchors = definition.anchors.at(time(at));
                anchors.len() >= 2 && anchors.iter().all(|&anchor| self.vantage_state(anchor, vantage, at) == Down)
            };
            let mut gates: Vec<(i64, i64, i64)> = Vec::new();
            for (place, &at) in self.at.iter().enumerate() {
                if !cut_off(at) {
                    continue;
                }
                let next = self.at.get(place + 1).copied().unwrap_or(self.frontier);
                match gates.last_mut() {
                    Some(last) if last.1 == at => last.1 = next,
                    _ => {
                        let anchors = definition.anchors.at(time(at));
                        let failing = anchors.iter().filter_map(|&anchor| self.in_force(anchor, vantage, at));
                        let reach = failing.map(|point| point.period + point.timeout).max().unwrap_or(0);
                        let last_ok = anchors.iter().flat_map(|&anchor| self.oks(anchor, vantage)).filter(|ok| *ok <= at).max();
                        gates.push((at, next, (at - reach).max(last_ok.unwrap_or(NEVER))));
                    }
                }
            }
            self.gates.insert(vantage, gates);
        }
        let g0: Vec<i64> = self.gates.values().flatten().map(|(_, _, g0)| *g0).collect();
        self.add_instants(g0);
    }

    /// The vantage's state after the gate (3.2).
    fn gated(&self, target: usize, vantage: usize, at: i64) -> State {
        let state = self.vantage_state(target, vantage, at);
        if state != Down || self.catalogue.vantages[vantage].anchors.at(time(at)).contains(&target) {
            return state;
        }
        let g1 = |b: i64| {
            let evidence = self.points(target, vantage).iter().filter(|point| point.outcome != Outcome::Void);
            evidence.map(|point| point.stamp).filter(|stamp| *stamp >= b).min().unwrap_or(self.frontier)
        };
        let masked = self.gates[&vantage].iter().any(|&(_, b, g0)| g0 <= at && at < g1(b));
        if masked { Unknown } else { state }
    }

    /// `T` (3.3).
    fn quorum(&self, target: usize, at: i64) -> State {
        let plan = self.catalogue.targets[target].plan.at(time(at));
        let states: Vec<_> = plan.vantages.iter().map(|&vantage| self.gated(target, vantage, at)).collect();
        let count = |state| states.iter().filter(|of| **of == state).count();
        if count(Down) >= plan.down_quorum {
            Down
        } else if count(Up) > plan.vantages.len() - plan.down_quorum {
            Up
        } else {
            Unknown
        }
    }

    /// `[onset, q)` for each maximal DOWN run of `T` (3.4).
    fn raised(&self, target: usize) -> Vec<(i64, i64)> {
        let starts = (1..self.at.len()).filter(|&place| self.seen[target][place] == Down && self.seen[target][place - 1] != Down);
        let onset = |place: usize| {
            let q = self.at[place];
            let (since, plan) = self.catalogue.targets[target].plan.at_with_since(time(q));
            let down: Vec<usize> = plan.vantages.iter().copied().filter(|&vantage| self.gated(target, vantage, q) == Down).collect();
            let run_start = |vantage: usize| {
                let up_to = (0..=place).rev().take_while(|&place| self.gated(target, vantage, self.at[place]) == Down);
                up_to.last().map_or(q, |place| self.at[place])
            };
            let w = down.iter().map(|&vantage| run_start(vantage)).min().unwrap_or(q);
            let failing = down.iter().filter_map(|&vantage| self.in_force(target, vantage, q));
            let b = failing.map(|point| point.period + point.timeout).max().unwrap_or(0);
            let l = plan.vantages.iter().flat_map(|&vantage| self.oks(target, vantage)).filter(|ok| *ok <= q).max();
            ((q - b).max(w).max(l.unwrap_or(NEVER)).max(since.map_or(NEVER, Time::us)), q)
        };
        starts.map(onset).filter(|(onset, q)| onset < q).collect()
    }

    /// `T*` of a target for a service (3.5), at each instant.
    fn counted(&self, service: usize, target: usize) -> Vec<State> {
        let definition = &self.catalogue.services[service];
        let claims = self.facts.claims.values().filter(|claim| claim.service == definition.id && claim.state == ClaimState::Accepted);
        let returns: Vec<i64> = claims.filter_map(|claim| claim.resolved_at).map(Time::us).collect();
        let fails: Vec<i64> = (0..self.catalogue.vantages.len())
            .flat_map(|vantage| self.points(target, vantage))
            .filter(|point| point.outcome == Outcome::Fail)
            .map(|point| point.stamp)
            .collect();
        let dated = &self.dated[target];
        let mut counted = dated.clone();
        let mut place = 1;
        while place < dated.len() {
            if !(dated[place] == Unknown && dated[place - 1] == Down) {
                place += 1;
                continue;
            }
            let end = (place..dated.len()).find(|&later| dated[later] != Unknown).unwrap_or(dated.len());
            let (a, b) = (self.at[place], self.at.get(end).copied().unwrap_or(self.frontier));
            let last_fail = fails.iter().copied().filter(|stamp| *stamp < a).max().unwrap_or(NEVER);
            let r = returns.iter().copied().filter(|r| *r < b && *r > last_fail).min();
            let until = r.map_or(b, |r| r.max(a));
            if definition.since.is_none_or(|since| a > since.us()) {
                for (at, counted) in self.at[place..end].iter().zip(&mut counted[place..end]) {
                    if *at < until {
                        *counted = Down;
                    }
                }
            }
            place = end;
        }
        counted
    }

    fn evaluate(&self, need: &Need, place: usize, leaf: &impl Fn(usize) -> State) -> State {
        let list = |needs: &[Need]| {
            let mut states: Vec<_> = needs.iter().map(|need| self.evaluate(need, place, leaf)).collect();
            states.sort_unstable();
            states
        };
        match need {
            Need::Target(target) => leaf(*target),
            Need::Service(service) => self.evaluate(self.catalogue.services[*service].needs.at(time(self.at[place])), place, leaf),
            Need::All(needs) => list(needs)[needs.len() - 1],
            Need::Any(needs) => list(needs)[0],
            Need::AtLeast(k, needs) => list(needs)[k - 1],
        }
    }

    fn reached(&self, need: &Need, targets: &mut Vec<usize>) {
        need.for_each_leaf(&mut |leaf| match leaf {
            Need::Target(target) => targets.push(*target),
            Need::Service(service) => self.catalogue.services[*service].needs.all().for_each(|need| self.reached(need, targets)),
            _ => {}
        });
    }

    /// Start of measurement (3.6).
    pub(super) fn since(&self, service: usize) -> Option<i64> {
        let definition = &self.catalogue.services[service];
        if let Some(since) = definition.since {
            return Some(since.us());
        }
        let mut targets = Vec::new();
        definition.needs.all().for_each(|need| self.reached(need, &mut targets));
        let samples = self.facts.samples.iter().filter(|((target, _), _)| targets.contains(target)).flat_map(|(_, points)| points);
        samples.filter(|point| point.outcome != Outcome::Void).map(|point| point.stamp).min()
    }

    /// `R`, `R⁺` and `R₀` of a service at each instant (3.6), not yet cut.
    pub(super) fn service(&self, service: usize) -> Vec<[State; 3]> {
        let counted: Vec<_> = (0..self.catalogue.targets.len()).map(|target| self.counted(service, target)).collect();
        let at = |place: usize| {
            let need = self.catalogue.services[service].needs.at(time(self.at[place]));
            [
                self.evaluate(need, place, &|target| counted[target][place]),
                self.evaluate(need, place, &|target| self.dated[target][place]),
                self.evaluate(need, place, &|target| self.seen[target][place]),
            ]
        };
        (0..self.at.len()).map(at).collect()
    }
}
