//! From vantages to a target: quorum and backdating (SPEC §3.3, §3.4).

use serde::{Deserialize, Serialize};
use vigie_contract::catalogue::{Target, TargetIx, Vantage, VantageIx};
use vigie_contract::{Span, Time};

use super::gate::Gates;
use super::state::{State, Steps};
use super::track::Track;

/// What is known of a target at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// `T`: what the quorum saw (3.3).
    pub seen: State,
    /// `T⁺`: the same with onsets dated back (3.4).
    pub dated: State,
    /// Where `T⁺` is UNKNOWN after DOWN: the stamp of the last `fail` sample before that, which a customer's confirmation must follow
    /// (3.5). `None` elsewhere.
    pub last_fail: Option<Time>,
}

/// Everything from which a target's states are derived.
pub struct Evidence<'a> {
    /// Its position in the catalogue.
    pub ix: TargetIx,
    /// Its definition.
    pub target: &'a Target,
    /// The catalogue's vantages.
    pub vantages: &'a [Vantage],
    /// Its samples by vantage.
    pub tracks: &'a [(VantageIx, Track)],
    /// The gates of every vantage.
    pub gates: &'a [Gates],
    /// The frontier.
    pub frontier: Time,
}

/// A vantage's states after the gate.
pub struct Seen<'a> {
    /// Which vantage.
    pub vantage: VantageIx,
    /// Its samples.
    pub track: &'a Track,
    /// Its states.
    pub states: Steps<State>,
}

impl<'a> Evidence<'a> {
    /// A sample changes nothing farther from its stamp than this, in either direction.
    #[must_use]
    pub fn margin(&self) -> Span {
        self.tracks.iter().map(|(_, track)| track.longest_hold()).max().unwrap_or_default()
    }

    /// What each vantage saw on `[from, to)`, after the gate (3.1, 3.2).
    #[must_use]
    pub fn seen(&self, from: Time, to: Time) -> Vec<Seen<'a>> {
        let seen =
            |(vantage, track): &'a (VantageIx, Track)| Seen { vantage: *vantage, track, states: self.gated(*vantage, track, from, to) };
        self.tracks.iter().map(seen).collect()
    }

    fn gated(&self, vantage: VantageIx, track: &Track, from: Time, to: Time) -> Steps<State> {
        let open = track.states(from, to);
        let masks: Vec<_> = self.gates[vantage].masks(track, from, to, self.frontier).collect();
        if masks.is_empty() {
            return open;
        }
        let anchors = &self.vantages[vantage].anchors;
        let edges = masks.iter().flat_map(|&(g0, g1)| [g0, g1]).chain(anchors.boundaries());
        let mut at: Vec<_> = edges.chain(open.as_slice().iter().map(|(start, _)| *start)).filter(|at| from < *at && *at < to).collect();
        at.push(from);
        at.sort_unstable();
        at.dedup();
        let mut gated = Steps::default();
        for at in at {
            let state = open.at(at);
            let is_masked = || masks.iter().any(|&(g0, g1)| g0 <= at && at < g1) && !anchors.at(at).contains(&self.ix);
            gated.push(at, if state == State::Down && is_masked() { State::Unknown } else { state });
        }
        gated
    }

    /// The states of the target on `[from, to)`, given those of its vantages on a margin more at either side (3.3).
    #[must_use]
    pub fn quorum(&self, seen: &[Seen<'_>], from: Time, to: Time) -> Steps<State> {
        let edges =
            seen.iter().flat_map(|seen| seen.states.as_slice().iter().map(|(start, _)| *start)).chain(self.target.plan.boundaries());
        let mut at: Vec<_> = edges.filter(|at| from < *at && *at < to).collect();
        at.push(from);
        at.sort_unstable();
        at.dedup();
        let mut states = Steps::default();
        for at in at {
            let plan = self.target.plan.at(at);
            let count = |state| seen.iter().filter(|seen| plan.vantages.contains(&seen.vantage) && seen.states.at(at) == state).count();
            let state = if count(State::Down) >= plan.down_quorum {
                State::Down
            } else if count(State::Up) >= plan.up_quorum() {
                State::Up
            } else {
                State::Unknown
            };
            states.push(at, state);
        }
        states
    }

    /// The instant to which an onset at `q` is dated back (3.4).
    #[must_use]
    pub fn onset(&self, seen: &[Seen<'_>], q: Time) -> Time {
        let (since, plan) = self.target.plan.at_with_since(q);
        let assigned = || seen.iter().filter(|seen| plan.vantages.contains(&seen.vantage));
        let down = || assigned().filter(|seen| seen.states.at(q) == State::Down);
        let run_start = |seen: &Seen<'_>| seen.states.index_at(q).map(|index| seen.states.as_slice()[index].0);
        let earliest_run = down().filter_map(run_start).min().unwrap_or(q);
        let reach = down().filter_map(|seen| seen.track.in_force(q)).map(|failing| failing.reach()).max().unwrap_or_default();
        let last_ok = assigned().filter_map(|seen| seen.track.last_ok(q, q - reach)).max();
        let bounds = [Some(q - reach), Some(earliest_run), last_ok, since];
        bounds.into_iter().flatten().max().unwrap_or(q)
    }

    /// Derives the levels anew after vantage states changed on `[from, to)`, and answers the hull of where they differ from `levels`.
    pub fn revise(&self, levels: &mut Steps<Level>, from: Time, to: Time) -> Option<(Time, Time)> {
        let margin = self.margin();
        // States on [from, to) move T there, T⁺ a margin around it; W and the runs are looked for a margin farther still.
        let (low, high) = (from - margin - margin - margin, (to + margin + margin + margin).min(self.frontier));
        let (from, to) = (from - margin, to + margin);
        if from >= self.frontier || low >= high {
            return None;
        }
        let mut revised = self.levels(levels.at(low), low, high);
        let to = if to >= self.frontier { Time::FOREVER } else { self.carry_on(levels, &mut revised, from, to) };
        levels.splice(from, to, &revised).map(|(from, to)| (from, to.min(self.frontier)))
    }

    /// A blind run that goes on beyond `to` tells all along what came before it: continues `revised` to the end of that run.
    fn carry_on(&self, levels: &Steps<Level>, revised: &mut Steps<Level>, from: Time, to: Time) -> Time {
        if levels.at(to).dated != State::Unknown {
            return to;
        }
        let last = revised.at(to - Span::from_us(1));
        let last_fail = match last.dated {
            State::Up => None,
            State::Unknown => last.last_fail,
            State::Down => Some(self.last_fail(to)),
        };
        let later = levels.index_at(to).map_or(0, |index| index + 1);
        let end = levels.as_slice()[later..].iter().find(|(_, level)| level.dated != State::Unknown);
        let mut continued = revised.part(from, to);
        continued.push(to, Level { last_fail, ..Level::default() });
        *revised = continued;
        end.map_or(Time::FOREVER, |(start, _)| *start)
    }

    /// The levels on `[low, high)`; near the edges they lack what lies beyond.
    fn levels(&self, before: Level, low: Time, high: Time) -> Steps<Level> {
        let seen = self.seen(low, high);
        let states = self.quorum(&seen, low, high);
        let raised = states.pieces(low, high).filter(|(start, _, state)| *state == State::Down && *start > low);
        let raised: Vec<_> = raised.map(|(q, _, _)| (self.onset(&seen, q).max(low), q)).filter(|(onset, q)| onset < q).collect();
        let edges = states.as_slice().iter().map(|(start, _)| *start).chain(raised.iter().map(|(onset, _)| *onset));
        let mut at: Vec<_> = edges.filter(|at| *at > low).collect();
        at.push(low);
        at.sort_unstable();
        at.dedup();
        let mut levels = Steps::default();
        let mut last = before;
        for at in at {
            let seen = states.at(at);
            let is_raised = raised.iter().any(|&(onset, q)| onset <= at && at < q);
            let dated = if is_raised { State::Down } else { seen };
            let last_fail = match (dated, last.dated) {
                (State::Unknown, State::Down) => Some(self.last_fail(at)),
                (State::Unknown, State::Unknown) => last.last_fail,
                _ => None,
            };
            last = Level { seen, dated, last_fail };
            levels.push(at, last);
        }
        levels
    }

    /// The last `fail` before `a`, where DOWN ends: it was in force there, so a hold ago at most.
    fn last_fail(&self, a: Time) -> Time {
        let floor = a - self.margin();
        self.tracks.iter().filter_map(|(_, track)| track.last_fail_before(a, floor)).max().unwrap_or(floor)
    }

    /// Until when the target's states certainly stay what they are just before the frontier, as far as samples are known.
    #[must_use]
    pub fn steady_until(&self) -> Time {
        let last = self.frontier - Span::from_us(1);
        let of_track = |(vantage, track): &(VantageIx, Track)| {
            let ungated = self.gates[*vantage].masks(track, last, Time::FOREVER, self.frontier).map(|(_, g1)| g1);
            // What is an anchor, and so is never gated, may change with the vantage's version.
            let versions = self.vantages[*vantage].anchors.boundaries();
            ungated.chain(versions).filter(|edge| *edge > last).chain([track.steady_until(last)]).min().unwrap_or(Time::FOREVER)
        };
        let version = self.target.plan.boundaries().find(|boundary| *boundary > last);
        self.tracks.iter().map(of_track).chain(version).min().unwrap_or(Time::FOREVER)
    }
}
