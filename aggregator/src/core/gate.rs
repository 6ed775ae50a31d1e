//! When a vantage is cut off, not the world (SPEC §3.2).

use serde::{Deserialize, Serialize};
use vigie_contract::Time;
use vigie_contract::catalogue::{TargetIx, Versions};

use super::state::{State, Steps};
use super::track::Track;

/// A maximal interval `[a, b)` in which all anchors of a vantage are DOWN as seen from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// All anchors are DOWN from here.
    pub a: Time,
    /// Until here.
    pub b: Time,
    /// From here on failures count as UNKNOWN: the vantage may have been cut off before its anchors were next sampled.
    pub g0: Time,
}

/// The gates of one vantage, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    gates: Vec<Gate>,
}

/// The tracks of a vantage's anchors: `None` for a target that it has never sampled.
pub trait Anchors {
    /// The samples of this target as the vantage took them.
    fn track(&self, target: TargetIx) -> Option<&Track>;
}

impl Gates {
    /// All gates, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Gate] {
        &self.gates
    }

    /// Takes up that samples of anchors changed what is seen on `[from, to)`. Answers the hull of the instants that are gated
    /// otherwise than before, as `g0` of the earliest and `b` of the latest gate that differs.
    pub fn revise(&mut self, anchors: &Versions<Vec<TargetIx>>, seen: &impl Anchors, from: Time, to: Time) -> Option<(Time, Time)> {
        let tracks = anchors.all().flatten().filter_map(|&anchor| seen.track(anchor));
        let reach = tracks.map(Track::longest_reach).max().unwrap_or_default();
        // A gate that begins a reach later may be dated back by an `ok` in here.
        let (mut low, mut high) = (from, to + reach);
        for gate in &self.gates {
            if gate.a <= high && gate.b >= low {
                (low, high) = (low.min(gate.a), high.max(gate.b));
            }
        }
        let first = self.gates.partition_point(|gate| gate.b < low);
        let last = self.gates.partition_point(|gate| gate.a <= high);
        let revised = gates_within(anchors, seen, low, high);
        let differing = difference(&self.gates[first..last], &revised);
        self.gates.splice(first..last, revised);
        differing
    }

    /// The intervals `[g0, g1)` that meet `[from, to)`, in which failures of a target with this track are UNKNOWN; only gates that
    /// begin before the frontier exist.
    pub fn masks<'a>(&'a self, track: &'a Track, from: Time, to: Time, frontier: Time) -> impl Iterator<Item = (Time, Time)> + 'a {
        // After `b` only what was sampled before it can still be DOWN, and that for no longer than a hold.
        let first = self.gates.partition_point(|gate| gate.b + track.longest_hold() < from);
        let exist = self.gates[first..].iter().take_while(move |gate| gate.a < frontier);
        exist.filter(move |gate| gate.g0 < to).map(|gate| (gate.g0, track.first_evidence(gate.b).unwrap_or(Time::FOREVER)))
    }

    /// The first gate that the frontier has not reached yet: it exists once the frontier is later than its `a`.
    #[must_use]
    pub fn next(&self, frontier: Time) -> Option<Gate> {
        self.gates.get(self.gates.partition_point(|gate| gate.a < frontier)).copied()
    }

    /// Forgets the gates that ended before `horizon`.
    pub fn forget_before(&mut self, horizon: Time) {
        let gone = self.gates.partition_point(|gate| gate.b < horizon);
        self.gates.drain(..gone);
    }
}

/// The gates in `[from, to)`, at whose edges none may be cut.
fn gates_within(anchors: &Versions<Vec<TargetIx>>, seen: &impl Anchors, from: Time, to: Time) -> Vec<Gate> {
    let cut_off = cut_off(anchors, seen, from, to);
    let mut gates = Vec::new();
    for (a, b, cut_off) in cut_off.pieces(from, to) {
        if cut_off {
            gates.push(Gate { a, b, g0: dated_back(anchors.at(a), seen, a) });
        }
    }
    gates
}

/// Whether all anchors of the version in force are DOWN, on `[from, to)`.
fn cut_off(anchors: &Versions<Vec<TargetIx>>, seen: &impl Anchors, from: Time, to: Time) -> Steps<bool> {
    let mut cut_off = Steps::default();
    let starts: Vec<_> = std::iter::once(from).chain(anchors.boundaries().filter(|at| from < *at && *at < to)).collect();
    for (index, &start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(to);
        let listed = anchors.at(start);
        let states: Vec<_> = listed.iter().map(|&anchor| seen.track(anchor).map(|track| track.states(start, end))).collect();
        let mut at = start;
        while at < end {
            let all_down = states.iter().all(|states| states.as_ref().is_some_and(|states| states.at(at) == State::Down));
            cut_off.push(at, listed.len() >= 2 && all_down);
            at = states.iter().flatten().filter_map(|states| states.next_change(at)).min().unwrap_or(end);
        }
    }
    cut_off.push(to, false);
    cut_off
}

/// `g0` of a gate that begins at `a`.
fn dated_back(listed: &[TargetIx], seen: &impl Anchors, a: Time) -> Time {
    let tracks = || listed.iter().filter_map(|&anchor| seen.track(anchor));
    let reach = tracks().filter_map(|track| track.in_force(a)).map(|failing| failing.reach()).max().unwrap_or_default();
    let earliest = a - reach;
    let last_ok = tracks().filter_map(|track| track.last_ok(a, earliest)).max();
    last_ok.map_or(earliest, |last_ok| last_ok.max(earliest))
}

/// Hull of the instants that two lists of gates treat differently.
fn difference(old: &[Gate], new: &[Gate]) -> Option<(Time, Time)> {
    let mut hull: Option<(Time, Time)> = None;
    let mut widen = |from: Time, to: Time| {
        let (low, high) = hull.unwrap_or((from, to));
        hull = Some((low.min(from), high.max(to)));
    };
    for gate in old.iter().filter(|gate| !new.contains(gate)) {
        match new.iter().find(|other| other.a == gate.a && other.g0 == gate.g0) {
            // It only ends otherwise.
            Some(other) => widen(gate.b.min(other.b), gate.b.max(other.b)),
            None => widen(gate.g0, gate.b),
        }
    }
    for gate in new.iter().filter(|gate| !old.iter().any(|other| other.a == gate.a && other.g0 == gate.g0)) {
        widen(gate.g0, gate.b);
    }
    hull
}
