//! §1: what counts of a log.

use std::collections::BTreeMap;

use vigie_contract::catalogue::Strictness;
use vigie_contract::record::decode;
use vigie_contract::{Catalogue, Claim, Exclusion, Outcome, Record, Sample, Time};

use super::{Facts, Point};

type Identity = (String, String, String, u64);
type Taken = BTreeMap<Identity, Point>;

/// A sample that is not void by its clock keeps its outcome; late ones are gone.
fn point(sample: &Sample<'_>, appended: i64) -> Point {
    let stamp = if sample.outcome == Outcome::Fail { sample.t0.us() } else { sample.t1.us() };
    let unfit = sample.clock_error.us() > 1_000_000 || stamp > appended + 1_000_000;
    let outcome = if unfit { Outcome::Void } else { sample.outcome };
    let latency = sample.latency.map(vigie_contract::Span::us);
    Point { stamp, outcome, period: sample.period.us(), timeout: sample.timeout.us(), latency }
}

/// Of several records with one identity the greatest counts.
fn keep_greatest(taken: &mut Taken, identity: Identity, point: Point) {
    let rank = |outcome| [Outcome::Ok, Outcome::Void, Outcome::Fail].iter().position(|of| *of == outcome);
    let key = |point: &Point| (rank(point.outcome), point.stamp, point.period, point.timeout, point.latency);
    match taken.get_mut(&identity) {
        Some(known) if key(known) >= key(&point) => {}
        Some(known) => *known = point,
        None => drop(taken.insert(identity, point)),
    }
}

fn place(catalogue: &Catalogue, target: &str, vantage: &str) -> Option<(usize, usize)> {
    let target = catalogue.targets.iter().position(|of| of.id.as_str() == target)?;
    Some((target, catalogue.vantages.iter().position(|of| of.id.as_str() == vantage)?))
}

/// Reads the log; a catalogue that is given makes those in it void.
pub(super) fn facts(given: Option<&str>, evidence: &str) -> Facts {
    let read = |text: &str| Catalogue::read(text, Strictness::Replay).ok().map(|(catalogue, _)| catalogue);
    let mut catalogue = given.and_then(read);
    let mut rev: Option<u64> = None;
    let mut now = super::NEVER;
    let mut taken = Taken::new();
    let mut waiting: Vec<(Identity, Point, i64)> = Vec::new();
    let mut claims: BTreeMap<String, (Claim, i64)> = BTreeMap::new();
    let mut exclusions: BTreeMap<String, BTreeMap<u64, (Exclusion, i64)>> = BTreeMap::new();
    for line in evidence.lines().filter(|line| !line.trim().is_empty()) {
        let decoded = decode(line.as_bytes()).unwrap();
        let appended = decoded.appended_at.map_or(super::NEVER, Time::us);
        now = now.max(appended);
        let Ok(record) = decoded.record else { continue };
        let knows =
            |service: &str| catalogue.as_ref().is_some_and(|catalogue| catalogue.services.iter().any(|of| of.id.as_str() == service));
        match record {
            Record::Tick => {}
            Record::Sample(sample) => {
                let identity = (sample.target.to_string(), sample.vantage.to_string(), sample.run.to_string(), sample.seq);
                waiting.push((identity, point(&sample, appended), appended));
            }
            Record::Claim(claim) => {
                let ours = catalogue.as_ref().and_then(|catalogue| catalogue.tenant.clone());
                let foreign = claim.tenant.is_some() && ours.is_some() && claim.tenant != ours;
                let key = |claim: &Claim, appended: i64| (claim.rev, -appended);
                let newer = claims.get(claim.id.as_str()).is_none_or(|(known, at)| key(&claim, appended) > key(known, *at));
                if knows(claim.service.as_str()) && !foreign && newer {
                    claims.insert(claim.id.to_string(), (claim, appended));
                }
            }
            Record::Exclusion(exclusion) => {
                if exclusion.services.iter().all(|service| knows(service.as_str())) {
                    let revisions = exclusions.entry(exclusion.id.to_string()).or_default();
                    if revisions.get(&exclusion.rev).is_none_or(|(_, at)| appended < *at) {
                        revisions.insert(exclusion.rev, (exclusion, appended));
                    }
                }
            }
            Record::Catalogue(record) => {
                let new = if given.is_none() && rev.is_none_or(|rev| record.rev > rev) { read(&record.text) } else { None };
                let moves = |new: &Catalogue, old: &Catalogue| {
                    new.changes_from(old).iter().any(|change| change.moves_the_past_before(Time::from_us(appended)))
                };
                let accepted = new.filter(|new| record.override_by.is_some() || !catalogue.as_ref().is_some_and(|old| moves(new, old)));
                if accepted.is_some() {
                    (catalogue, rev) = (accepted, Some(record.rev));
                }
            }
        }
        // What the catalogue in force knows is taken or rejected now; the rest waits on.
        if let Some(catalogue) = &catalogue {
            for (identity, point, appended) in std::mem::take(&mut waiting) {
                match place(catalogue, &identity.0, &identity.1) {
                    _ if appended - point.stamp > catalogue.late_horizon.us() => {}
                    Some((target, vantage)) if catalogue.targets[target].plan.all().any(|plan| plan.vantages.contains(&vantage)) => {
                        keep_greatest(&mut taken, identity, point);
                    }
                    Some(_) => {}
                    None => waiting.push((identity, point, appended)),
                }
            }
        }
    }
    let mut samples: BTreeMap<(usize, usize), Vec<Point>> = BTreeMap::new();
    if let Some(catalogue) = &catalogue {
        for (identity, point) in taken {
            if let Some(place) = place(catalogue, &identity.0, &identity.1) {
                samples.entry(place).or_default().push(point);
            }
        }
    }
    let claims = claims.into_iter().map(|(id, (claim, _))| (id, claim)).collect();
    Facts { catalogue, now, samples, claims, exclusions }
}
