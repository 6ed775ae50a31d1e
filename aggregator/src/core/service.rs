//! From targets to a service: persistence and the tree (SPEC §3.5, §3.6).

use serde::{Deserialize, Serialize};
use vigie_contract::Time;
use vigie_contract::catalogue::{Catalogue, Need, ServiceIx, TargetIx};

use super::state::{State, Steps};
use super::target::Level;

/// What is known of a service at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the instant lies within `[since, until)`; outside, nothing below has a meaning.
    pub measured: bool,
    /// `R`: with persistence.
    pub counted: State,
    /// `R⁺`: what was observed.
    pub observed: State,
    /// `R₀`: what the quorums saw.
    pub seen: State,
}

impl Verdict {
    /// Whether two verdicts tell a reader of windows the same.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        (self.measured, self.counted, self.observed) == (other.measured, other.counted, other.observed)
    }
}

/// What a service's states are derived from, besides its targets'.
pub struct Scope<'a> {
    /// The catalogue.
    pub catalogue: &'a Catalogue,
    /// The service.
    pub ix: ServiceIx,
    /// Start of measurement: written, or the earliest evidence; `None` while there is none.
    pub since: Option<Time>,
    /// The `resolved_at` of its accepted claims, in order.
    pub returns: &'a [Time],
    /// What its expression reaches.
    pub reach: &'a Reach,
}

/// The services and targets that an expression reaches in any version.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Services, itself last and each after those that it needs.
    pub services: Vec<ServiceIx>,
    /// Targets, in order.
    pub targets: Vec<TargetIx>,
    /// For each service its place in `services`.
    place: rustc_hash::FxHashMap<ServiceIx, usize>,
    /// For each target its place in `targets`.
    leaf: rustc_hash::FxHashMap<TargetIx, usize>,
}

impl Reach {
    /// What `service`'s expression reaches.
    #[must_use]
    pub fn of(catalogue: &Catalogue, service: ServiceIx) -> Self {
        let services = catalogue.reach(service);
        let mut targets = Vec::new();
        for need in services.iter().flat_map(|&at| catalogue.services[at].needs.all()) {
            need.for_each_leaf(&mut |leaf| {
                if let Need::Target(target) = leaf {
                    targets.push(*target);
                }
            });
        }
        targets.sort_unstable();
        targets.dedup();
        let place = services.iter().enumerate().map(|(place, &service)| (service, place)).collect();
        let leaf = targets.iter().enumerate().map(|(leaf, &target)| (target, leaf)).collect();
        Self { services, targets, place, leaf }
    }
}

/// The three states that a leaf or an expression has at once: over `T*`, `T⁺` and `T`.
type Triple = [State; 3];

impl Scope<'_> {
    /// The states on `[from, to)`.
    #[must_use]
    pub fn verdicts(&self, levels: &[Steps<Level>], from: Time, to: Time) -> Steps<Verdict> {
        let service = &self.catalogue.services[self.ix];
        let mut changes: Vec<(Time, usize, Triple)> = Vec::new();
        for (leaf, &target) in self.reach.targets.iter().enumerate() {
            self.leaf_states(&levels[target], from, to, |start, states| changes.push((start, leaf, states)));
        }
        let versions = self.reach.services.iter().flat_map(|&at| self.catalogue.services[at].needs.boundaries());
        let edges = versions.chain(self.since).chain(service.until).filter(|at| from < *at && *at < to);
        let mut at: Vec<_> = edges.chain(changes.iter().map(|(start, ..)| *start)).collect();
        at.sort_unstable();
        at.dedup();
        changes.sort_by_key(|(start, leaf, _)| (*start, *leaf));
        let mut changes = changes.into_iter().peekable();
        let mut leaves = vec![[State::Unknown; 3]; self.reach.targets.len()];
        let mut verdicts = Steps::default();
        for at in at {
            while let Some((_, leaf, states)) = changes.next_if(|(start, ..)| *start <= at) {
                leaves[leaf] = states;
            }
            let measured = self.since.is_some_and(|since| since <= at) && service.until.is_none_or(|until| at < until);
            let verdict = if measured {
                let [counted, observed, seen] = self.evaluate(&leaves, at);
                Verdict { measured, counted, observed, seen }
            } else {
                Verdict::default()
            };
            verdicts.push(at, verdict);
        }
        verdicts
    }

    /// The states of one target for this service (3.5), piece by piece on `[from, to)`.
    fn leaf_states(&self, levels: &Steps<Level>, from: Time, to: Time, mut piece: impl FnMut(Time, Triple)) {
        let written_since = self.catalogue.services[self.ix].since;
        for (start, end, level) in levels.pieces(from, to) {
            let unpersisted = [level.dated, level.dated, level.seen];
            let persisted = [State::Down, level.dated, level.seen];
            let Some(last_fail) = level.last_fail else {
                piece(start, unpersisted);
                continue;
            };
            let a = levels.index_at(start).map_or(start, |index| levels.as_slice()[index].0);
            if written_since.is_some_and(|since| a <= since) {
                piece(start, unpersisted);
                continue;
            }
            // The customer confirmed that it was well again, after we last saw it fail: nothing persists beyond.
            let confirmed = self.returns.iter().find(|confirmed| **confirmed > last_fail).map(|confirmed| (*confirmed).max(a));
            match confirmed {
                Some(confirmed) if confirmed <= start => piece(start, unpersisted),
                Some(confirmed) if confirmed < end => {
                    piece(start, persisted);
                    piece(confirmed, unpersisted);
                }
                _ => piece(start, persisted),
            }
        }
    }

    /// `T*` of one target at one instant.
    #[must_use]
    pub fn counted_leaf(&self, levels: &Steps<Level>, at: Time) -> State {
        let mut counted = State::Unknown;
        self.leaf_states(levels, at, at + vigie_contract::Span::from_us(1), |start, states| {
            if start <= at {
                counted = states[0];
            }
        });
        counted
    }

    /// The service's expression, in the versions in force at `at` (3.6).
    fn evaluate(&self, leaves: &[Triple], at: Time) -> Triple {
        let mut values: Vec<Triple> = Vec::with_capacity(self.reach.services.len());
        for &service in &self.reach.services {
            let value = self.value(self.catalogue.services[service].needs.at(at), leaves, &values);
            values.push(value);
        }
        values.pop().unwrap_or([State::Unknown; 3])
    }

    fn value(&self, need: &Need, leaves: &[Triple], services: &[Triple]) -> Triple {
        let fold = |needs: &[Need], choose: fn(State, State) -> State| {
            let values = needs.iter().map(|need| self.value(need, leaves, services));
            values.reduce(|a, b| [choose(a[0], b[0]), choose(a[1], b[1]), choose(a[2], b[2])]).unwrap_or([State::Unknown; 3])
        };
        match need {
            Need::Target(target) => leaves[self.reach.leaf[target]],
            Need::Service(service) => services[self.reach.place[service]],
            Need::All(needs) => fold(needs, State::max),
            Need::Any(needs) => fold(needs, State::min),
            Need::AtLeast(k, needs) => {
                let values: Vec<_> = needs.iter().map(|need| self.value(need, leaves, services)).collect();
                std::array::from_fn(|which| {
                    let mut states: Vec<_> = values.iter().map(|value| value[which]).collect();
                    states.sort_unstable();
                    states[k - 1]
                })
            }
        }
    }

    /// The first instant at `frontier` or later at which the service's states may change although its targets' do not.
    #[must_use]
    pub fn next_edge(&self, frontier: Time) -> Option<Time> {
        let service = &self.catalogue.services[self.ix];
        let versions = self.reach.services.iter().flat_map(|&at| self.catalogue.services[at].needs.boundaries());
        let edges = versions.chain(self.since).chain(service.until).chain(self.returns.iter().copied());
        edges.filter(|edge| *edge >= frontier).min()
    }
}

/// Until when a change of a target's levels on `[…, to)` can matter to a service: to the end of the blind run that it reaches into.
#[must_use]
pub fn influence_end(levels: &Steps<Level>, to: Time) -> Time {
    match levels.at(to).last_fail {
        Some(_) => levels.next_change(to).unwrap_or(Time::FOREVER),
        None => to,
    }
}
