//! The invariants of SPEC §9 over random worlds, each under its number. 7 and 8 (snapshots, replicas, restarts) are in `prefix.rs`.

use serde_json::Value;
use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::core::interval::Intervals;
use vigie_aggregator::core::state::State;
use vigie_contract::{Catalogue, Time};
use vigie_tests::fold::{batch, catalogue, lines};
use vigie_tests::world::{Random, World, world};

use crate::prefix::worlds;

/// A world under a catalogue that is given, so that nothing but the evidence can change.
fn given_worlds(seeds: u64) -> impl Iterator<Item = (u64, World, Catalogue)> {
    (0..worlds(seeds)).filter_map(|seed| {
        let world = world(seed);
        let parsed = catalogue(world.catalogue.as_deref()?);
        Some((seed, world, parsed))
    })
}

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn unparsed(values: &[Value]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn of_type(values: &[Value], kind: &str) -> Vec<Value> {
    values.iter().filter(|value| value["type"] == kind).cloned().collect()
}

fn us(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("microseconds, not {value}"))
}

/// `O` and `U` of every service.
fn down_and_unknown(engine: &Engine) -> Vec<(Intervals, Intervals)> {
    let services = engine.catalogue().map_or(0, |catalogue| catalogue.services.len());
    let of = |view: &vigie_aggregator::core::window::View<'_>| {
        let all = (Time::BEGINNING, Time::FOREVER);
        (view.supervised_down(all.0, all.1), view.unknown(all.0, all.1))
    };
    (0..services).map(|service| engine.with_view(service, of).unwrap()).collect()
}

fn is_within(inner: &Intervals, outer: &Intervals) -> bool {
    inner.without(outer).length().us() == 0
}

#[test]
fn p1_order_of_records_does_not_matter() {
    for (seed, world, catalogue) in given_worlds(150) {
        let expected = lines(&batch(Some(&catalogue), &world.evidence, None));
        let mut shuffled = world.evidence.clone();
        // Of facts with one id, rev and append time the first in the log counts: those keep their order.
        let facts: Vec<_> = shuffled.iter().filter(|line| !line.contains("\"sample\"") && !line.contains("\"tick\"")).cloned().collect();
        shuffled.retain(|line| !facts.contains(line));
        Random::new(seed).shuffle(&mut shuffled);
        shuffled.extend(facts);
        assert_eq!(expected, lines(&batch(Some(&catalogue), &shuffled, None)), "world {seed}");
    }
}

#[test]
fn p2_duplicates_do_not_matter() {
    for (seed, world, catalogue) in given_worlds(150) {
        let expected = lines(&batch(Some(&catalogue), &world.evidence, None));
        let mut random = Random::new(seed);
        let twice: Vec<_> = world.evidence.iter().flat_map(|line| vec![line.clone(); 1 + usize::from(random.below(3) == 0)]).collect();
        assert_eq!(expected, lines(&batch(Some(&catalogue), &twice, None)), "world {seed}");
    }
}

#[test]
fn p3_windows_are_disjoint_and_apart() {
    for (seed, world, catalogue) in given_worlds(150) {
        let engine = batch(Some(&catalogue), &world.evidence, None);
        for (ix, service) in catalogue.services.iter().enumerate() {
            let published: Vec<_> = engine.published(ix).collect();
            assert!(published.windows(2).all(|pair| pair[0].end.is_some_and(|end| end < pair[1].onset)), "world {seed}, {}", service.id);
            engine.with_view(ix, |view| {
                for pair in view.outages.windows(2) {
                    assert!(pair[1].onset - pair[0].end >= service.stable_up, "world {seed}, {}", service.id);
                }
            });
        }
    }
}

/// Samples of one target that is nobody's anchor, all with one period and timeout.
fn plain_target(catalogue: &Catalogue, records: &[Value]) -> Option<String> {
    let anchors: Vec<usize> = catalogue.vantages.iter().flat_map(|vantage| vantage.anchors.all()).flatten().copied().collect();
    let even = |id: &str| {
        let of = |field: &str| {
            let mut values: Vec<i64> = records.iter().filter(|record| record["target"] == id).map(|record| us(&record[field])).collect();
            values.sort_unstable();
            values.dedup();
            values.len()
        };
        of("period_us") == 1 && of("timeout_us") == 1
    };
    let plain = catalogue.targets.iter().enumerate().filter(|(ix, _)| !anchors.contains(ix)).map(|(_, target)| target.id.as_str());
    plain.filter(|id| even(id)).map(str::to_owned).next()
}

/// A sound sample of `target`, from which others are made.
fn sample_of(records: &[Value], target: &str, random: &mut Random) -> Option<usize> {
    let sound = |record: &Value| record["type"] == "sample" && record["target"] == target && us(&record["clock_error_us"]) <= 1_000_000;
    let places: Vec<_> = (0..records.len()).filter(|&at| sound(&records[at])).collect();
    if places.is_empty() { None } else { Some(places[random.below(places.len() as u64) as usize]) }
}

#[test]
fn p4_more_failures_never_shrink_and_more_successes_never_grow() {
    let mut tried = 0;
    for (seed, world, catalogue) in given_worlds(400) {
        if catalogue.services.iter().any(|service| service.since.is_none()) {
            continue;
        }
        let mut random = Random::new(seed);
        let records = parsed(&world.evidence);
        let Some(target) = plain_target(&catalogue, &records) else { continue };
        let Some(at) = sample_of(&records, &target, &mut random) else { continue };
        let before = down_and_unknown(&batch(Some(&catalogue), &world.evidence, None));
        // The failure bears the stamp that the sample had: only what it says changes.
        let mut worse = records.clone();
        let same = |record: &Value| ["target", "vantage", "run", "seq"].iter().all(|key| record[key] == records[at][key]);
        worse.retain(|record| !same(record));
        let mut failing = records[at].clone();
        if failing["outcome"] != "fail" {
            failing["t0"] = failing["t1"].clone();
        }
        failing["outcome"] = "fail".into();
        let mut base = worse.clone();
        base.push(records[at].clone());
        worse.push(failing);
        let base = down_and_unknown(&batch(Some(&catalogue), &unparsed(&base), None));
        let worse = down_and_unknown(&batch(Some(&catalogue), &unparsed(&worse), None));
        for (base, worse) in base.iter().zip(&worse) {
            assert!(is_within(&base.0, &worse.0), "world {seed}: O shrank");
            let both = |sets: &(Intervals, Intervals)| Intervals::union_of(sets.0.iter().chain(sets.1.iter()));
            assert!(is_within(&both(base), &both(worse)), "world {seed}: O or U shrank");
        }
        let mut better = records.clone();
        let mut ok = records[at].clone();
        ok["outcome"] = "ok".into();
        ok["run"] = "added".into();
        ok["t1"] = (us(&ok["t1"]) + random.below(20_000_000) as i64 - 10_000_000).into();
        ok["t0"] = ok["t1"].clone();
        ok["appended_at"] = us(&ok["appended_at"]).max(us(&ok["t1"])).into();
        better.push(ok);
        // The frontier must be the same for both.
        let until = Some(batch(Some(&catalogue), &world.evidence, None).frontier());
        let better = down_and_unknown(&batch(Some(&catalogue), &unparsed(&better), until));
        for (before, better) in before.iter().zip(&better) {
            assert!(is_within(&better.0, &before.0), "world {seed}: O grew by an ok");
            let both = |sets: &(Intervals, Intervals)| Intervals::union_of(sets.0.iter().chain(sets.1.iter()));
            assert!(is_within(&both(better), &both(before)), "world {seed}: O or U grew by an ok");
        }
        tried += 1;
    }
    assert!(tried * 8 > worlds(400), "the generator makes worlds of this kind: {tried}");
}

#[test]
fn p5_and_p13_figures_are_consistent() {
    for (seed, world, catalogue) in given_worlds(150) {
        let engine = batch(Some(&catalogue), &world.evidence, None);
        for account in of_type(&parsed(&lines(&engine)), "account") {
            let percent = |field: &str| account[field].as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
            assert!(percent("availability_low") <= percent("availability"), "world {seed}: {account}");
            assert_eq!(us(&account["remaining_us"]), us(&account["budget_us"]) - us(&account["down_us"]));
            assert!(
                us(&account["down_us"]) <= us(&account["gross_down_us"]) && us(&account["gross_down_us"]) <= us(&account["elapsed_us"])
            );
            assert!(us(&account["elapsed_us"]) <= us(&account["base_us"]));
        }
        for (ix, service) in catalogue.services.iter().enumerate() {
            engine.with_view(ix, |view| {
                let Some(since) = view.clock.since else { return };
                let total: i64 =
                    view.verdicts.pieces(since, view.clock.stop()).filter(|(_, _, v)| v.measured).map(|(a, b, _)| (b - a).us()).sum();
                assert_eq!(total, (view.clock.stop() - since).us().max(0), "world {seed}, {}", service.id);
                for window in engine.published(ix) {
                    let lengths = view.lengths(window);
                    let sum = lengths.observed_down + lengths.inferred_down + lengths.up_inside + lengths.unknown_inside;
                    let supervised = view.supervised_down(window.onset, window.end.unwrap_or(view.clock.frontier)).length();
                    assert_eq!(sum, supervised, "world {seed}, {}", service.id);
                }
            });
        }
    }
}

#[test]
fn p6_a_sample_changes_little() {
    for (seed, world, catalogue) in given_worlds(300) {
        let mut random = Random::new(seed);
        let records = parsed(&world.evidence);
        let Some(target) = plain_target(&catalogue, &records) else { continue };
        let Some(at) = sample_of(&records, &target, &mut random) else { continue };
        let ix = catalogue.targets.iter().position(|of| of.id.as_str() == target).unwrap();
        let mut added = records[at].clone();
        added["run"] = "added".into();
        added["outcome"] = if random.below(2) == 0 { "ok" } else { "fail" }.into();
        added["t0"] = added["t1"].clone();
        let stamp = us(&added["t1"]);
        let (period, timeout) = (us(&added["period_us"]), us(&added["timeout_us"]));
        let frontier = batch(Some(&catalogue), &world.evidence, None).frontier();
        let before = batch(Some(&catalogue), &world.evidence, Some(frontier));
        let mut more = world.evidence.clone();
        more.push(added.to_string());
        let after = batch(Some(&catalogue), &more, Some(frontier));
        let (from, to) = (Time::from_us(stamp - period - timeout), Time::from_us(stamp + period * 5 / 2 + timeout));
        for (a, b) in [(Time::BEGINNING, from), (to, frontier)] {
            let alike = |x: &vigie_aggregator::core::target::Level, y: &vigie_aggregator::core::target::Level| x.dated == y.dated;
            assert!(!before.levels(ix).differs(after.levels(ix), a, b, alike), "world {seed}");
        }
    }
}

#[test]
fn p9_months_add_up() {
    for (seed, world, catalogue) in given_worlds(150) {
        let engine = batch(Some(&catalogue), &world.evidence, None);
        let accounts = of_type(&parsed(&lines(&engine)), "account");
        for (ix, service) in catalogue.services.iter().enumerate() {
            let months: i64 = accounts
                .iter()
                .filter(|account| account["service"] == service.id.as_str())
                .map(|account| us(&account["gross_down_us"]))
                .sum();
            let windows: i64 = engine.published(ix).map(|window| (window.end.unwrap_or(engine.frontier()) - window.onset).us()).sum();
            assert_eq!(months, windows, "world {seed}, {}", service.id);
        }
    }
}

#[test]
fn p10_exclusions_only_take_away() {
    for (seed, world, catalogue) in given_worlds(150) {
        let before = parsed(&lines(&batch(Some(&catalogue), &world.evidence, None)));
        let until = Some(batch(Some(&catalogue), &world.evidence, None).frontier());
        let Some(first) = of_type(&before, "account").first().cloned() else { continue };
        let append = parsed(&world.evidence).iter().map(|record| us(&record["appended_at"])).min().unwrap();
        for kind in vigie_contract::ExclusionKind::ALL {
            let exclusion = serde_json::json!({"v": 1, "type": "exclusion", "id": "added", "rev": 1, "kind": kind.as_str(), "services": [first["service"]],
                "start": append + 1, "end": append + 3_600_000_000_i64, "state": "approved", "appended_at": append});
            let mut more = world.evidence.clone();
            more.push(exclusion.to_string());
            let after = parsed(&lines(&batch(Some(&catalogue), &more, until)));
            for (old, new) in of_type(&before, "account").iter().zip(of_type(&after, "account")) {
                assert!(us(&new["down_us"]) <= us(&old["down_us"]), "world {seed}, {kind}");
            }
            let allowed =
                catalogue.indicators.iter().flat_map(|indicator| indicator.terms.all()).any(|terms| terms.exclusions.contains(&kind));
            assert!(allowed || before == after, "world {seed}: {kind} is not allowed");
        }
    }
}

#[test]
fn p11_accepting_never_shortens_and_rejecting_restores() {
    for (seed, world, catalogue) in given_worlds(150) {
        let plain = batch(Some(&catalogue), &world.evidence, None);
        let until = Some(plain.frontier());
        let mut random = Random::new(seed);
        let records = parsed(&world.evidence);
        let service = &catalogue.services[random.below(catalogue.services.len() as u64) as usize].id;
        let append = records.iter().map(|record| us(&record["appended_at"])).max().unwrap();
        let opened = append - random.below(600_000_000) as i64;
        let with = |states: &[&str]| {
            let mut evidence = world.evidence.clone();
            for (rev, state) in states.iter().enumerate() {
                let claim = serde_json::json!({"v": 1, "type": "claim", "id": "added", "rev": rev + 1, "service": service.as_str(), "opened_at": opened,
                    "state": state, "appended_at": append});
                evidence.push(claim.to_string());
            }
            batch(Some(&catalogue), &evidence, until)
        };
        let length = |engine: &Engine| -> i64 {
            let services = 0..catalogue.services.len();
            services.flat_map(|ix| engine.published(ix)).map(|window| (window.end.unwrap_or(engine.frontier()) - window.onset).us()).sum()
        };
        let (received, accepted) = (with(&["received"]), with(&["received", "accepted"]));
        assert!(length(&plain) <= length(&received) && length(&received) <= length(&accepted), "world {seed}");
        assert_eq!(lines(&plain), lines(&with(&["received", "accepted", "rejected"])), "world {seed}");
    }
}

#[test]
fn p12_time_and_names_are_only_names() {
    for (seed, world, parsed_catalogue) in given_worlds(100) {
        let Some(text) = &world.catalogue else { continue };
        // Renaming: every vantage gets another name that sorts the other way round.
        let rename = |text: &str| {
            let mut renamed = text.to_owned();
            for (ix, vantage) in parsed_catalogue.vantages.iter().enumerate() {
                renamed = renamed.replace(&format!("\"{}\"", vantage.id), &format!("\"renamed-{:02}\"", 99 - ix));
            }
            renamed
        };
        let evidence: Vec<_> = world.evidence.iter().map(|line| rename(line)).collect();
        let expected = lines(&batch(Some(&parsed_catalogue), &world.evidence, None));
        assert_eq!(expected, lines(&batch(Some(&catalogue(&rename(text))), &evidence, None)), "world {seed}");
    }
}

#[test]
fn p12_shifting_the_evidence_shifts_the_windows() {
    const SHIFT_US: i64 = 1_234_567_891;
    for (seed, world, parsed_catalogue) in given_worlds(150) {
        let is_timeless =
            parsed_catalogue.services.iter().all(|service| service.until.is_none() && service.needs.boundaries().next().is_none())
                && parsed_catalogue.targets.iter().all(|target| target.plan.boundaries().next().is_none())
                && parsed_catalogue.vantages.iter().all(|vantage| vantage.anchors.boundaries().next().is_none());
        if !is_timeless {
            continue;
        }
        let mut moved = parsed_catalogue.clone();
        for service in &mut moved.services {
            service.since = service.since.map(|since| Time::from_us(since.us() + SHIFT_US));
        }
        let shift = |line: &String| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            for field in ["t0", "t1", "appended_at", "opened_at", "resolved_at", "start", "end"] {
                if let Some(us) = record.get(field).and_then(Value::as_i64) {
                    record[field] = (us + SHIFT_US).into();
                }
            }
            record.to_string()
        };
        let evidence: Vec<_> = world.evidence.iter().map(shift).collect();
        let bare = |engine: &Engine, shift_us: i64| -> Vec<(i64, Option<i64>)> {
            let services = 0..parsed_catalogue.services.len();
            services.flat_map(|ix| engine.published(ix)).map(|w| (w.onset.us() - shift_us, w.end.map(|end| end.us() - shift_us))).collect()
        };
        let (here, there) = (batch(Some(&parsed_catalogue), &world.evidence, None), batch(Some(&moved), &evidence, None));
        assert_eq!(bare(&here, 0), bare(&there, SHIFT_US), "world {seed}");
    }
}

#[test]
fn p14_no_window_without_a_quorum() {
    for (seed, world, catalogue) in given_worlds(150) {
        let facts = |line: &&String| !line.contains("\"claim\"");
        let evidence: Vec<_> = world.evidence.iter().filter(facts).cloned().collect();
        let engine = batch(Some(&catalogue), &evidence, None);
        for (ix, service) in catalogue.services.iter().enumerate() {
            for window in engine.published(ix) {
                // In the window, or in the run that is backdated into it, some target's quorum saw DOWN.
                let end = window.end.unwrap_or(engine.frontier());
                let seen_down = |target: &usize| {
                    let levels = engine.levels(*target);
                    let touched =
                        levels.pieces(window.onset, end).any(|(_, _, level)| level.seen == State::Down || level.dated == State::Down);
                    touched || levels.at(window.onset).last_fail.is_some()
                };
                assert!(engine.reach(ix).targets.iter().any(seen_down), "world {seed}, {}: {window:?}", service.id);
            }
        }
    }
}
