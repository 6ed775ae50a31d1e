//! Outage windows, claims, and what is published of them (SPEC §4, §5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vigie_contract::calendar::Calendar;
use vigie_contract::{Claim, ClaimId, ClaimState, Span, Time};

use super::interval::Intervals;
use super::service::Verdict;
use super::state::{State, Steps};

/// A supervision window (4): a chain of DOWN runs of `R` with less than `stable_up` between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// Start of its first DOWN run.
    pub onset: Time,
    /// End of its last DOWN run; [`Time::FOREVER`] while that is not known. Read it with [`Clock::end_of`].
    pub end: Time,
    /// The first instant in it where `R₀` is DOWN.
    pub detected: Option<Time>,
}

/// Where a service's time stands: what opens and closes windows besides its states.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The frontier.
    pub frontier: Time,
    /// Start of measurement, if there is one yet.
    pub since: Option<Time>,
    /// End of measurement.
    pub until: Option<Time>,
    /// Less time than this without DOWN is not restoration.
    pub stable_up: Span,
    /// How long before an onset a claim may be opened.
    pub claim_horizon: Span,
    /// What was before this is forgotten, and stands as it was published.
    pub memory: Time,
}

/// Whether a window goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// DOWN until the frontier, or only claimed.
    Open,
    /// No longer DOWN, but not for `stable_up` yet.
    Restoring,
    /// Over.
    Closed,
    /// It was published, and evidence that came later took it away.
    Retracted,
}

impl Status {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Restoring => "restoring",
            Self::Closed => "closed",
            Self::Retracted => "retracted",
        }
    }
}

/// Who says that there was an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Supervision.
    Outage,
    /// The customer.
    Claim,
    /// Both.
    Mixed,
}

/// Whose word ended a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndedBy {
    /// The customer confirmed restoration.
    Customer,
    /// Supervision saw it.
    Supervision,
}

/// A published window, but for the lengths, which are as of a frontier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its start, and its name together with the service's.
    pub onset: Time,
    /// Its end; `None` while open.
    pub end: Option<Time>,
    /// Who says so.
    pub kind: Kind,
    /// Whether it goes on.
    pub status: Status,
    /// Earliest onset of its supervision windows.
    pub first_failed: Option<Time>,
    /// Earliest instant in them at which the quorums saw DOWN.
    pub detected: Option<Time>,
    /// Earliest opening of its counted claims.
    pub notified: Option<Time>,
    /// Its counted claims, in order.
    pub claims: Vec<ClaimId>,
    /// Whose word ended it.
    pub ended_by: Option<EndedBy>,
}

/// The four lengths that add up to a window's supervision windows, and what the customer says against supervision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// `R⁺` is DOWN.
    pub observed_down: Span,
    /// `R` is DOWN, `R⁺` is not.
    pub inferred_down: Span,
    /// `R` is UP.
    pub up_inside: Span,
    /// `R` is UNKNOWN.
    pub unknown_inside: Span,
    /// Counted claims where `R` is UP outside the supervision windows.
    pub contested: Span,
}

impl Lengths {
    fn plus(&self, other: &Self) -> Self {
        Self {
            observed_down: self.observed_down + other.observed_down,
            inferred_down: self.inferred_down + other.inferred_down,
            up_inside: self.up_inside + other.up_inside,
            unknown_inside: self.unknown_inside + other.unknown_inside,
            contested: self.contested + other.contested,
        }
    }
}

/// The lengths of an open window's older part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    onset: Option<Time>,
    until: Time,
    lengths: Lengths,
}

impl Tally {
    /// So far behind the frontier, states seldom change any more.
    const LAG: Span = Span::from_secs(600);

    /// States changed from here on: what was summed up beyond is void.
    pub fn revise(&mut self, changed_from: Time) {
        if changed_from < self.until {
            *self = Self::default();
        }
    }
}

/// A claim that counts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The claim.
    pub claim: ClaimId,
    /// When the customer notified.
    pub opened: Time,
    /// Whether supervision was blind then.
    pub opened_in_the_dark: bool,
}

impl Clock {
    /// Where measurement stops for now.
    #[must_use]
    pub fn stop(&self) -> Time {
        self.until.map_or(self.frontier, |until| until.min(self.frontier))
    }

    /// Whether what a claim that was opened at `opened` changes began before all that is remembered.
    #[must_use]
    pub fn is_forgotten(&self, opened: Time) -> bool {
        self.since.map_or(opened, |since| opened.max(since)) < self.memory
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= self.frontier)
    }

    /// `e` of a supervision window: where its last DOWN run ends as far as is known.
    #[must_use]
    pub fn end_of(&self, outage: &Outage) -> Time {
        outage.end.min(self.stop())
    }

    /// Whether a chain whose last DOWN run ends at `end` may still go on.
    #[must_use]
    pub fn is_open(&self, end: Time) -> bool {
        !self.is_over() && (end >= self.frontier || self.frontier - end < self.stable_up)
    }

    fn status(&self, end: Time) -> Status {
        match (self.is_open(end), end >= self.frontier) {
            (false, _) => Status::Closed,
            (true, true) => Status::Open,
            (true, false) => Status::Restoring,
        }
    }
}

/// Revises the supervision windows after `R` changed on `[from, to)`; answers the hull of what may differ.
pub fn revise(outages: &mut Vec<Outage>, verdicts: &Steps<Verdict>, clock: &Clock, from: Time, to: Time) -> (Time, Time) {
    let (mut low, mut high) = (from - clock.stable_up, to + clock.stable_up);
    let first = outages.partition_point(|outage| outage.end < low);
    let last = outages.partition_point(|outage| outage.onset <= high).max(first);
    if let Some(outage) = outages[first..last].first() {
        low = low.min(outage.onset);
    }
    if let Some(outage) = outages[first..last].last() {
        high = high.max(outage.end);
    }
    let revised = chain(verdicts, clock, low, high.min(clock.stop()));
    outages.splice(first..last, revised);
    (low, high)
}

/// The chains of DOWN runs in `[from, to)` (4).
fn chain(verdicts: &Steps<Verdict>, clock: &Clock, from: Time, to: Time) -> Vec<Outage> {
    let mut outages: Vec<Outage> = Vec::new();
    for (start, end, verdict) in verdicts.pieces(from, to) {
        if !verdict.measured || verdict.counted != State::Down {
            continue;
        }
        let detected = (verdict.seen == State::Down).then_some(start);
        // A run that lasts until the frontier goes on with it.
        let end = if end == clock.frontier && !clock.is_over() { Time::FOREVER } else { end };
        match outages.last_mut() {
            Some(last) if start == last.end || start - last.end < clock.stable_up => {
                last.end = end;
                last.detected = last.detected.or(detected);
            }
            _ => outages.push(Outage { onset: start, end, detected }),
        }
    }
    outages
}

/// A service's windows, claims and states, to be read together.
pub struct View<'a> {
    /// `R`, `R⁺` and `R₀`.
    pub verdicts: &'a Steps<Verdict>,
    /// Its supervision windows.
    pub outages: &'a [Outage],
    /// Its claims that are not rejected, in order of their ids.
    pub claims: &'a [&'a Claim],
    /// Where its time stands.
    pub clock: Clock,
}

/// A claim and the time for which it counts: empty for a candidate.
struct Counted<'a> {
    claim: &'a Claim,
    start: Time,
    /// As far as the frontier while open.
    end: Time,
    open: bool,
}

impl View<'_> {
    /// The end of a supervision window as far as it is known: the frontier while it is open.
    fn reach(&self, outage: &Outage) -> Time {
        if self.clock.is_open(outage.end) { self.clock.frontier } else { self.clock.end_of(outage) }
    }

    /// `O`, within `[from, to)`.
    #[must_use]
    pub fn supervised_down(&self, from: Time, to: Time) -> Intervals {
        let first = self.outages.partition_point(|outage| outage.end < from && !self.clock.is_open(outage.end));
        let within = self.outages[first..].iter().take_while(|outage| outage.onset < to);
        Intervals::union_of(within.map(|outage| (outage.onset, self.reach(outage)))).cut(from, to)
    }

    /// `U`, within `[from, to)`.
    #[must_use]
    pub fn unknown(&self, from: Time, to: Time) -> Intervals {
        self.instants(State::Unknown, from, to).without(&self.supervised_down(from, to))
    }

    fn instants(&self, state: State, from: Time, to: Time) -> Intervals {
        let pieces = self.verdicts.pieces(from, to.min(self.clock.stop()));
        let those = pieces.filter(|(_, _, verdict)| verdict.measured && verdict.counted == state);
        Intervals::union_of(those.map(|(start, end, _)| (start, end)))
    }

    /// The earliest supervision window that corroborates `claim` (5).
    fn corroborating(&self, claim: &Claim) -> Option<&Outage> {
        let ended = |outage: &Outage| !self.clock.is_open(outage.end) && self.clock.end_of(outage) <= claim.opened_at;
        let outage = self.outages.get(self.outages.partition_point(ended))?;
        let near = outage.onset - self.clock.claim_horizon <= claim.opened_at;
        let over_before = claim.confirmed_return().is_some_and(|resolved| resolved <= outage.onset);
        // Windows are disjoint: if the earliest begins too late, so do all others; if the customer was well again before it, likewise.
        (near && !over_before).then_some(outage)
    }

    /// For how long `claim` counts (5).
    fn counted<'c>(&self, claim: &'c Claim) -> Counted<'c> {
        let nothing = Counted { claim, start: claim.opened_at, end: claim.opened_at, open: false };
        let frontier = self.clock.frontier;
        let (end, open) = match (self.corroborating(claim), claim.state) {
            (Some(outage), _) => {
                let open = self.clock.is_open(outage.end);
                let resolved = claim.confirmed_return();
                (self.reach(outage).max(resolved.unwrap_or(outage.onset).min(frontier)), open || resolved.is_some_and(|at| at > frontier))
            }
            (None, ClaimState::Accepted) => match claim.resolved_at.filter(|resolved| *resolved <= frontier) {
                Some(resolved) => (resolved, false),
                None => (frontier, true),
            },
            (None, _) => return nothing,
        };
        let Some(since) = self.clock.since else { return nothing };
        let (start, end) = (claim.opened_at.max(since).max(self.clock.memory), end.min(self.clock.stop()));
        if start < end { Counted { claim, start, end, open: open && !self.clock.is_over() } } else { nothing }
    }

    fn effective_claims(&self) -> impl Iterator<Item = &Claim> {
        let counts = |claim: &&Claim| claim.state != ClaimState::Rejected && claim.opened_at < self.clock.frontier;
        self.claims.iter().copied().filter(counts).filter(|claim| self.is_remembered(claim))
    }

    /// Whether all that `claim` may count for is remembered. Nobody knows any more whether a window corroborated an older one; only that
    /// the customer confirmed a later return is certain, and then it counts from where memory begins.
    fn is_remembered(&self, claim: &Claim) -> bool {
        !self.clock.is_forgotten(claim.opened_at) || claim.confirmed_return().is_some_and(|resolved| resolved > self.clock.memory)
    }

    /// From where on to remember what this shows, when time before `horizon` is forgotten: no month, no window and no gap is cut, so that
    /// whatever still changes is known whole.
    #[must_use]
    pub fn memory(&self, published: &BTreeMap<Time, Published>, calendar: &Calendar, horizon: Time) -> Time {
        let unknown = self.unknown(Time::BEGINNING, Time::FOREVER);
        let mut memory = horizon;
        loop {
            memory = calendar.start_of(calendar.month_of(memory));
            let windows = published.values().map(|window| (window.onset, window.end.unwrap_or(Time::FOREVER)));
            let cut = windows.chain(unknown.iter()).find(|&(start, end)| start < memory && memory < end);
            match cut {
                Some((start, _)) => memory = start,
                None => return memory,
            }
        }
    }

    /// The published windows that meet or touch `[from, to]`; the hull must cut none.
    #[must_use]
    pub fn published(&self, from: Time, to: Time) -> BTreeMap<Time, Published> {
        let counted: Vec<_> =
            self.effective_claims().map(|claim| self.counted(claim)).filter(|counted| counted.start < counted.end).collect();
        let first = self.outages.partition_point(|outage| self.reach(outage) < from);
        let last = self.outages.partition_point(|outage| outage.onset <= to).max(first);
        let outages = &self.outages[first..last];
        let parts = outages
            .iter()
            .map(|outage| (outage.onset, self.reach(outage)))
            .chain(counted.iter().map(|counted| (counted.start, counted.end)));
        let components = Intervals::union_of(parts);
        components.iter().map(|(onset, end)| (onset, self.component(onset, end, outages, &counted))).collect()
    }

    fn component(&self, onset: Time, end: Time, outages: &[Outage], counted: &[Counted<'_>]) -> Published {
        let first = outages.partition_point(|outage| outage.onset < onset);
        let last = outages.partition_point(|outage| outage.onset < end);
        let outages = &outages[first..last];
        let claims: Vec<_> = counted.iter().filter(|counted| onset <= counted.start && counted.start < end).collect();
        let open_outage = outages.last().filter(|outage| self.clock.is_open(outage.end));
        let status = match open_outage {
            Some(outage) => self.clock.status(outage.end),
            None if claims.iter().any(|counted| counted.open) => Status::Open,
            None => Status::Closed,
        };
        let end = (status == Status::Closed).then_some(end);
        let confirms = |end| self.claims.iter().any(|claim| claim.confirmed_return() == Some(end));
        Published {
            onset,
            end,
            kind: match (outages.is_empty(), claims.is_empty()) {
                (false, true) => Kind::Outage,
                (true, _) => Kind::Claim,
                (false, false) => Kind::Mixed,
            },
            status,
            first_failed: outages.first().map(|outage| outage.onset),
            detected: outages.iter().filter_map(|outage| outage.detected).min(),
            notified: claims.iter().map(|counted| counted.claim.opened_at).min(),
            claims: claims.iter().map(|counted| counted.claim.id.clone()).collect(),
            ended_by: end.map(|end| if confirms(end) { EndedBy::Customer } else { EndedBy::Supervision }),
        }
    }

    /// The lengths of a published window.
    #[must_use]
    pub fn lengths(&self, window: &Published) -> Lengths {
        let end = window.end.unwrap_or(self.clock.frontier);
        let mut lengths = self.lengths_between(window.onset, end);
        if !window.claims.is_empty() {
            lengths.contested = self.contested(window.onset, end);
        }
        lengths
    }

    /// The four lengths of the supervision windows within `[from, to)`.
    #[must_use]
    pub fn lengths_between(&self, from: Time, to: Time) -> Lengths {
        let mut lengths = Lengths::default();
        for (from, to) in self.supervised_down(from, to).iter() {
            for (start, end, verdict) in self.verdicts.pieces(from, to) {
                let slot = match (verdict.counted, verdict.observed) {
                    (State::Down, State::Down) => &mut lengths.observed_down,
                    (State::Down, _) => &mut lengths.inferred_down,
                    (State::Up, _) => &mut lengths.up_inside,
                    (State::Unknown, _) => &mut lengths.unknown_inside,
                };
                *slot = *slot + (end - start);
            }
        }
        lengths
    }

    /// The instants within `[from, to)` at which `R⁺` is DOWN.
    #[must_use]
    pub fn observed_down(&self, from: Time, to: Time) -> Intervals {
        let is_down = |verdict: &Verdict| verdict.measured && verdict.observed == State::Down;
        let pieces = self.verdicts.pieces(from, to).filter(|(_, _, verdict)| is_down(verdict));
        Intervals::union_of(pieces.map(|(start, end, _)| (start, end)))
    }

    /// Length of the counted claims where `R` is UP outside `O`.
    fn contested(&self, from: Time, to: Time) -> Span {
        let counted = self.effective_claims().map(|claim| self.counted(claim)).map(|counted| (counted.start, counted.end));
        let claimed = Intervals::union_of(counted).cut(from, to);
        claimed.and(&self.instants(State::Up, from, to)).without(&self.supervised_down(from, to)).length()
    }

    /// The lengths of an open window, of which `tally` knows the part that no longer changes: a window that flaps for a month is not
    /// summed up anew at every turn.
    #[must_use]
    pub fn lengths_with(&self, window: &Published, tally: &mut Tally) -> Lengths {
        if window.end.is_some() || !window.claims.is_empty() {
            return self.lengths(window);
        }
        if tally.onset != Some(window.onset) {
            *tally = Tally { onset: Some(window.onset), until: window.onset, lengths: Lengths::default() };
        }
        let settled = (self.clock.frontier - Tally::LAG).max(tally.until);
        tally.lengths = tally.lengths.plus(&self.lengths_between(tally.until, settled));
        tally.until = settled;
        tally.lengths.plus(&self.lengths_between(settled, self.clock.frontier))
    }

    /// The window that took the place of one that vanished.
    #[must_use]
    pub fn successor(&self, published: &BTreeMap<Time, Published>, vanished: &Published) -> Option<Time> {
        let ends = |window: &Published| window.end.unwrap_or(self.clock.frontier);
        let meets = |window: &&Published| window.onset <= ends(vanished) && vanished.onset <= ends(window);
        published.values().find(meets).map(|window| window.onset)
    }

    /// The claims that count nothing, by opening and id.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        let uncounted = self.effective_claims().map(|claim| self.counted(claim)).filter(|counted| counted.start >= counted.end);
        let candidate = |counted: Counted<'_>| {
            let opened = counted.claim.opened_at;
            let opened_in_the_dark = self.unknown(opened, opened + Span::from_us(1)).contains(opened);
            Candidate { claim: counted.claim.id.clone(), opened, opened_in_the_dark }
        };
        let mut candidates: Vec<_> = uncounted.map(candidate).collect();
        candidates.sort_by(|a, b| (a.opened, &a.claim).cmp(&(b.opened, &b.claim)));
        candidates
    }

    /// Once the frontier is later than this, windows may change although states do not: closing takes `stable_up`, and claims begin
    /// and end by themselves.
    #[must_use]
    pub fn next_edge(&self) -> Option<Time> {
        let us = Span::from_us(1);
        let open = self.outages.last().filter(|outage| self.clock.is_open(outage.end) && outage.end < Time::FOREVER);
        let closing = open.map(|outage| outage.end + self.clock.stable_up - us);
        let claims = self.claims.iter().flat_map(|claim| [Some(claim.opened_at), claim.resolved_at.map(|at| at - us)]).flatten();
        let over = self.clock.until.map(|until| until - us);
        closing.into_iter().chain(claims).chain(over).filter(|edge| *edge >= self.clock.frontier).min()
    }
}
