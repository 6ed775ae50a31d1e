//! §4 to §6 and §8: windows, claims, accounts, and the lines of `vigie replay`.

use serde_json::{Value, json};
use vigie_contract::{Claim, ClaimState, ExclusionKind, Outcome, Time};

use super::derive::{State, World};
use super::{Facts, intake};

type Set = Vec<(i64, i64)>;

fn union(mut parts: Set) -> Set {
    parts.retain(|(a, b)| a < b);
    parts.sort_unstable();
    let mut joined: Set = Vec::new();
    for (a, b) in parts {
        match joined.last_mut() {
            Some(last) if a <= last.1 => last.1 = last.1.max(b),
            _ => joined.push((a, b)),
        }
    }
    joined
}

fn and(left: &Set, right: &Set) -> Set {
    union(left.iter().flat_map(|&(a, b)| right.iter().map(move |&(c, d)| (a.max(c), b.min(d)))).collect())
}

fn without(left: &Set, right: &Set) -> Set {
    right.iter().fold(left.clone(), |rest, &(c, d)| union(rest.into_iter().flat_map(|(a, b)| [(a, b.min(c)), (a.max(d), b)]).collect()))
}

fn length(set: &Set) -> i64 {
    union(set.clone()).iter().map(|(a, b)| b - a).sum()
}

/// The lines of `vigie replay` for this catalogue and evidence; no faults are reported.
///
/// # Panics
/// If a line is not a JSON object.
#[must_use]
pub fn replay(catalogue: Option<&str>, evidence: &str, until_us: Option<i64>) -> Vec<Value> {
    let facts = intake::facts(catalogue, evidence);
    let Some(catalogue) = &facts.catalogue else { return Vec::new() };
    let frontier = until_us.unwrap_or(facts.now - catalogue.settle.us());
    let world = World::new(&facts, catalogue, frontier);
    let mut lines = Vec::new();
    for service in 0..catalogue.services.len() {
        Service::new(&world, service).lines(&mut lines);
    }
    latencies(&facts, frontier, &mut lines);
    lines
}

struct Window {
    onset: i64,
    /// End of the last DOWN run, whether open or not.
    e: i64,
    open: bool,
}

struct Service<'a> {
    world: &'a World<'a>,
    ix: usize,
    since: i64,
    /// `min(F, until)`.
    stop: i64,
    over: bool,
    /// `(from, to, [R, R⁺, R₀])`, cut.
    pieces: Vec<(i64, i64, [State; 3])>,
    windows: Vec<Window>,
}

/// A counted claim: `[start, end)`, and whether it is open.
struct Counted<'a> {
    claim: &'a Claim,
    start: i64,
    end: i64,
    open: bool,
}

impl<'a> Service<'a> {
    fn new(world: &'a World<'a>, ix: usize) -> Self {
        let definition = &world.catalogue.services[ix];
        let until = definition.until.map_or(i64::MAX, Time::us);
        let (since, stop) = (world.since(ix).unwrap_or(i64::MAX), world.frontier.min(until));
        let states = world.service(ix);
        let piece = |place: usize| {
            let next = world.at.get(place + 1).copied().unwrap_or(world.frontier);
            (world.at[place].max(since), next.min(stop), states[place])
        };
        let pieces: Vec<_> = (0..world.at.len()).map(piece).filter(|(from, to, _)| from < to).collect();
        let mut service = Self { world, ix, since, stop, over: until <= world.frontier, pieces, windows: Vec::new() };
        // §4: chains of DOWN runs with less than `stable_up` between them.
        let stable_up = definition.stable_up.us();
        for (a, b) in service.where_is(|states| states[0] == State::Down) {
            match service.windows.last_mut() {
                Some(last) if a - last.e < stable_up => last.e = b,
                _ => service.windows.push(Window { onset: a, e: b, open: false }),
            }
        }
        for window in &mut service.windows {
            window.open = !service.over && (window.e == world.frontier || world.frontier - window.e < stable_up);
        }
        service
    }

    fn where_is(&self, is: impl Fn(&[State; 3]) -> bool) -> Set {
        union(self.pieces.iter().filter(|(_, _, states)| is(states)).map(|(from, to, _)| (*from, *to)).collect())
    }

    fn frontier(&self) -> i64 {
        self.world.frontier
    }

    fn reach(&self, window: &Window) -> i64 {
        if window.open { self.frontier() } else { window.e }
    }

    fn claims(&self) -> Vec<&'a Claim> {
        let id = &self.world.catalogue.services[self.ix].id;
        let claims = self.world.facts.claims.values();
        claims
            .filter(|claim| claim.service == *id && claim.state != ClaimState::Rejected && claim.opened_at.us() < self.frontier())
            .collect()
    }

    /// §5; empty for a candidate.
    fn counted(&self, claim: &'a Claim) -> Counted<'a> {
        let (opened, frontier) = (claim.opened_at.us(), self.frontier());
        let horizon = self.world.catalogue.claim_horizon.us();
        let accepted = claim.state == ClaimState::Accepted;
        let resolved = claim.resolved_at.map(Time::us);
        let near = |window: &&Window| window.onset - horizon <= opened && (window.open || opened < window.e);
        let corroborating = self.windows.iter().find(near).filter(|window| !(accepted && resolved.is_some_and(|at| at <= window.onset)));
        let (mut end, mut open) = match corroborating {
            Some(window) => (self.reach(window), window.open),
            None if accepted => (resolved.map_or(frontier, |at| at.min(frontier)), resolved.is_none_or(|at| at > frontier)),
            None => (opened, false),
        };
        if let (Some(_), true, Some(resolved)) = (corroborating, accepted, resolved) {
            end = end.max(resolved.min(frontier));
            open |= resolved > frontier;
        }
        Counted { claim, start: opened.max(self.since), end: end.min(self.stop), open: open && !self.over }
    }

    fn lines(&self, lines: &mut Vec<Value>) {
        let catalogue = self.world.catalogue;
        let definition = &catalogue.services[self.ix];
        let (service, indicator) = (&definition.id, &catalogue.indicators[definition.indicator]);
        let counted: Vec<_> = self.claims().into_iter().map(|claim| self.counted(claim)).collect();
        let (counted, candidates): (Vec<_>, Vec<_>) = counted.into_iter().partition(|counted| counted.start < counted.end);
        let down: Set = union(self.windows.iter().map(|window| (window.onset, self.reach(window))).collect());
        let unknown = without(&self.where_is(|states| states[0] == State::Unknown), &down);
        let published = union(down.iter().copied().chain(counted.iter().map(|counted| (counted.start, counted.end))).collect());
        let mut settled_windows = Vec::new();
        for &(onset, end) in &published {
            let windows: Vec<_> = self.windows.iter().filter(|window| onset <= window.onset && window.onset < end).collect();
            let claims: Vec<_> = counted.iter().filter(|counted| onset <= counted.start && counted.start < end).collect();
            let open = windows.iter().find(|window| window.open);
            let status = match open {
                Some(window) if window.e < self.frontier() => "restoring",
                Some(_) => "open",
                None if claims.iter().any(|counted| counted.open) => "open",
                None => "closed",
            };
            let closed = status == "closed";
            let within = union(windows.iter().map(|window| (window.onset, self.reach(window))).collect());
            let part = |is: &dyn Fn(&[State; 3]) -> bool| length(&and(&within, &self.where_is(is)));
            let claimed = union(claims.iter().map(|counted| (counted.start, counted.end)).collect());
            let contested = without(&and(&claimed, &self.where_is(|states| states[0] == State::Up)), &down);
            let accepted = |claim: &&Claim| claim.service == *service && claim.state == ClaimState::Accepted;
            let customer = self.world.facts.claims.values().filter(accepted).any(|claim| claim.resolved_at.map(Time::us) == Some(end));
            let detected = and(&within, &self.where_is(|states| states[2] == State::Down)).first().map(|(from, _)| *from);
            let stable_up = definition.stable_up.us();
            let settles = |window: &&Window| (window.e + stable_up).min(definition.until.map_or(i64::MAX, Time::us));
            settled_windows.push(((onset, end), closed && windows.iter().all(|window| self.is_settled(settles(window)))));
            let namespace = uuid::Uuid::parse_str("6f1d7a52-6d0c-5b0e-9d39-2f6b2f0a7c11").unwrap();
            lines.push(json!({
                "type": "window", "id": uuid::Uuid::new_v5(&namespace, format!("{service}/{onset}").as_bytes()).to_string(),
                "service": service, "indicator": indicator.id,
                "kind": if claims.is_empty() { "outage" } else if windows.is_empty() { "claim" } else { "mixed" },
                "status": status, "onset_us": onset, "end_us": closed.then_some(end),
                "first_failed_us": windows.first().map(|window| window.onset), "detected_us": detected,
                "notified_us": claims.iter().map(|counted| counted.claim.opened_at.us()).min(),
                "observed_down_us": part(&|states| states[0] == State::Down && states[1] == State::Down),
                "inferred_down_us": part(&|states| states[0] == State::Down && states[1] != State::Down),
                "up_inside_us": part(&|states| states[0] == State::Up),
                "unknown_inside_us": part(&|states| states[0] == State::Unknown),
                "contested_us": length(&contested),
                "claims": claims.iter().map(|counted| counted.claim.id.as_str()).collect::<Vec<_>>(),
                "ended_by": closed.then_some(if customer { "customer" } else { "supervision" }),
            }));
        }
        lines.extend(unknown.iter().map(|(from, to)| json!({"type": "gap", "service": service, "start_us": from, "end_us": to})));
        let mut candidates: Vec<_> = candidates.iter().map(|counted| (counted.claim.opened_at.us(), counted.claim.id.as_str())).collect();
        candidates.sort_unstable();
        for (opened, claim) in candidates {
            let dark = unknown.iter().any(|(from, to)| (*from..*to).contains(&opened));
            let advice = if dark { "accept" } else { "review" };
            lines.push(json!({"type": "candidate", "claim": claim, "service": service, "opened_us": opened, "advice": advice}));
        }
        self.accounts(&published, &unknown, &settled_windows, lines);
    }

    fn is_settled(&self, at: i64) -> bool {
        at + 48 * 3_600_000_000 + self.world.catalogue.late_horizon.us() <= self.frontier()
    }

    /// §6.
    fn accounts(&self, published: &Set, unknown: &Set, settled: &[((i64, i64), bool)], lines: &mut Vec<Value>) {
        let catalogue = self.world.catalogue;
        let definition = &catalogue.services[self.ix];
        if self.since >= self.stop {
            return;
        }
        let until = definition.until.map_or(i64::MAX, Time::us);
        for month in catalogue.calendar.months(Time::from_us(self.since), Time::from_us(self.stop)) {
            let (first, last) = (catalogue.calendar.start_of(month).us(), catalogue.calendar.end_of(month).us());
            let indicator = &catalogue.indicators[definition.indicator];
            let terms = indicator.terms.at(Time::from_us(first));
            let whole: Set = vec![(first.max(self.since), last.min(until))];
            let excluded = self.excluded(&terms.exclusions);
            let base = length(&whole);
            let elapsed = length(&and(&whole, &vec![(i64::MIN, self.frontier())]));
            let gross = and(published, &whole);
            let down = length(&without(&gross, &excluded));
            let unknown = length(&without(&and(&without(unknown, published), &whole), &excluded));
            let ppm = i128::from(terms.budget_ppm);
            let budget = (i128::from(base) * ppm / 1_000_000) as i64;
            let meets = |part: &(i64, i64)| !and(&vec![*part], &whole).is_empty();
            let is_final = self.is_settled(last) && settled.iter().all(|(part, settled)| *settled || !meets(part));
            let breaches = |down: i64| i128::from(down) * 1_000_000 > i128::from(base) * ppm;
            let verdict = match (breaches(down), is_final && !breaches(down + unknown)) {
                (true, _) => "breached",
                (_, true) => "compliant",
                _ => "undecided",
            };
            let percent = |of: i64, lost: i64| {
                let millionths = i128::from(of - lost) * 100_000_000 / i128::from(of);
                format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
            };
            lines.push(json!({
                "type": "account", "service": definition.id, "indicator": indicator.id, "month": month.to_string(),
                "base_us": base, "elapsed_us": elapsed, "gross_down_us": length(&gross), "down_us": down, "unknown_us": unknown,
                "budget_us": budget, "remaining_us": budget - down, "availability": percent(base, down),
                "availability_low": percent(base, down + unknown), "availability_to_date": percent(elapsed, down),
                "final": is_final, "verdict": verdict,
            }));
        }
    }

    /// `X` (§6).
    fn excluded(&self, allowed: &[ExclusionKind]) -> Set {
        let service = &self.world.catalogue.services[self.ix].id;
        let mut excluded = Vec::new();
        for revisions in self.world.facts.exclusions.values() {
            let counts =
                |(exclusion, _): &&(vigie_contract::Exclusion, i64)| exclusion.state == "approved" && exclusion.services.contains(service);
            let Some((highest, _)) = revisions.values().next_back().filter(counts) else { continue };
            let span = (highest.start.us(), highest.end.us());
            if !allowed.contains(&highest.kind) {
                continue;
            }
            if highest.kind == ExclusionKind::Maintenance && highest.override_by.is_none() {
                let announced = revisions.values().filter(counts).filter(|(exclusion, appended)| *appended < exclusion.start.us());
                let announced = union(announced.map(|(exclusion, _)| (exclusion.start.us(), exclusion.end.us())).collect());
                excluded.extend(and(&vec![span], &announced));
            } else {
                excluded.push(span);
            }
        }
        union(excluded)
    }
}

/// §6, latency.
fn latencies(facts: &Facts, frontier: i64, lines: &mut Vec<Value>) {
    let Some(catalogue) = &facts.catalogue else { return };
    for (target, definition) in catalogue.targets.iter().enumerate() {
        let mut months = std::collections::BTreeMap::new();
        for ((_, _), points) in facts.samples.iter().filter(|((of, _), _)| *of == target) {
            for point in points.iter().filter(|point| point.outcome == Outcome::Ok && point.stamp < frontier) {
                let objective = definition.plan.at(Time::from_us(point.stamp)).latency_objective;
                let (Some(latency), Some(objective)) = (point.latency, objective) else { continue };
                let sums =
                    months.entry(catalogue.calendar.month_of(Time::from_us(point.stamp)).to_string()).or_insert((0_u64, 0_u64, 0_i64));
                *sums = (sums.0 + 1, sums.1 + u64::from(latency > objective.us()), sums.2.max(latency));
            }
        }
        for (month, (ok, over, max)) in months {
            lines.push(json!({"type": "latency", "target": definition.id, "month": month, "ok": ok, "over": over, "max_us": max}));
        }
    }
}
