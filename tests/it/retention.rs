//! What an engine that forgets its samples must still know.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::port::Logged;
use vigie_aggregator::publish::{Ledger, Publisher};
use vigie_contract::record::decode;
use vigie_contract::{Catalogue, Time};
use vigie_tests::fold::{BOUNDED, LIVE, catalogue, lines, step};

const MINUTE_US: i64 = 60_000_000;
const CATALOGUE: &str = "[[indicator]]\nid = \"I\"\nobjective = 99\n[[target]]\nid = \"t\"\nvantages = [\"v\"]\nlatency_objective = \"150ms\"\n\
    [[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = \"t\"\nsince = 2026-10-20T00:00:00Z\n";

/// A latency is counted for its month, however long ago its sample was forgotten, and after a snapshot too (SPEC §6, DESIGN §2).
#[test]
fn latencies_outlive_their_samples() {
    let parsed = catalogue(CATALOGUE);
    let (mut whole, mut bounded) = (Engine::new(LIVE, Some(parsed.clone())), Engine::new(BOUNDED, Some(parsed.clone())));
    let start = 1_792_800_000_000_000; // 2026-10-24: a change of the month and of the clocks lie ahead.
    for k in 0..14 * 24 * 60 {
        let at = start + k * MINUTE_US;
        let latency = 100_000 + k * 7919 % 60_000;
        let sample = json!({"v": 1, "type": "sample", "target": "t", "vantage": "v", "run": "r", "seq": k, "t0": at - latency, "t1": at,
            "outcome": "ok", "latency_us": latency, "period_us": MINUTE_US, "timeout_us": 1_000_000, "clock_error_us": 0, "appended_at": at})
        .to_string();
        step(&mut whole, k as u64, &sample);
        step(&mut bounded, k as u64, &sample);
        if k % 5_000 == 4_999 {
            let snapshot = bounded.snapshot(k as u64, None);
            bounded = Engine::restore(BOUNDED, Some(parsed.clone()), &snapshot.manifest, |key| snapshot.changed.get(key).cloned()).unwrap();
        }
    }
    assert!(bounded.size_bytes().0 * 2 < whole.size_bytes().0, "nothing was forgotten");
    assert_eq!(lines(&bounded), lines(&whole));
    assert_eq!(lines(&whole).iter().filter(|line| line.contains("\"latency\"")).count(), 2);
}

const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;
const YEAR_US: i64 = 1_767_225_600_000_000; // 2026-01-01T00:00:00Z
const SERVICES: [&str; 3] = ["well", "broken", "dark"];

/// Three services of one target each, all measured since 2026.
fn three_services() -> Catalogue {
    let mut text = "timezone = \"UTC\"\n[[indicator]]\nid = \"I\"\nobjective = 99\nexclusions = [\"customer\"]\n".to_owned();
    for service in SERVICES {
        writeln!(text, "[[target]]\nid = \"t-{service}\"\nvantages = [\"v\"]").unwrap();
        writeln!(text, "[[service]]\nid = \"{service}\"\nindicator = \"I\"\nneeds = \"t-{service}\"\nsince = 2026-01-01T00:00:00Z")
            .unwrap();
    }
    catalogue(&text)
}

fn claim(id: &str, rev: u64, service: &str, opened_at: i64, state: &str, resolved_at: Option<i64>, appended_at: i64) -> (i64, String) {
    let claim = json!({"v": 1, "type": "claim", "id": id, "rev": rev, "service": service, "opened_at": opened_at, "state": state,
        "resolved_at": resolved_at, "appended_at": appended_at});
    (appended_at, claim.to_string())
}

/// 440 days. `well` has an outage, a gap and claims in January and a dark week in every month; `broken` fails from mid-January on and
/// is never seen up again but for a moment in every month; `dark` is last seen in January.
fn fourteen_months() -> Vec<(i64, String)> {
    let mut log = Vec::new();
    for half_day in 0..880 {
        let (at, day) = (YEAR_US + half_day * 12 * HOUR_US, half_day / 2);
        let mut sample = |service: &str, at: i64, outcome: &str| {
            let sample = json!({"v": 1, "type": "sample", "target": format!("t-{service}"), "vantage": "v", "run": "r", "seq": log.len(),
                "t0": at, "t1": at, "outcome": outcome, "period_us": 12 * HOUR_US, "timeout_us": MINUTE_US, "clock_error_us": 0,
                "appended_at": at});
            log.push((at, sample.to_string()));
        };
        if day % 30 < 20 {
            sample("well", at, if (5..7).contains(&day) { "fail" } else { "ok" });
        }
        sample("broken", at, if day < 15 { "ok" } else { "fail" });
        if half_day % 60 == 59 {
            sample("broken", at + HOUR_US, "ok");
            sample("broken", at + HOUR_US + 1_000, "fail");
        }
        if day < 10 {
            sample("dark", at, "ok");
        }
        log.push((at + 6 * HOUR_US, json!({"v": 1, "type": "tick", "appended_at": at + 6 * HOUR_US}).to_string()));
    }
    let day = |day: i64| YEAR_US + day * DAY_US;
    log.push(claim("corroborated", 1, "well", day(5) + DAY_US, "accepted", None, day(8)));
    log.push(claim("in-the-dark", 1, "well", day(24), "received", None, day(25)));
    log.push(claim("settled", 1, "well", day(12), "accepted", Some(day(13)), day(14)));
    log.push(claim("open", 1, "dark", day(20), "accepted", None, day(20)));
    log.push(claim("open", 2, "dark", day(20), "accepted", Some(day(430)), day(430)));
    log.push((
        day(9),
        json!({"v": 1, "type": "exclusion", "id": "X", "rev": 1, "kind": "customer", "services": ["well"], "start": day(6),
        "end": day(7), "state": "approved", "appended_at": day(9)})
        .to_string(),
    ));
    log.sort();
    log
}

/// What readers of the store see: the newest row of each key.
type Tables = BTreeMap<String, Value>;

/// An engine, and what is published of it.
struct Published {
    engine: Engine,
    publisher: Publisher,
    tables: Tables,
}

impl Published {
    fn new(engine: Engine) -> Self {
        Self { engine, publisher: Publisher::new("main", 7, Ledger::default()), tables: Tables::new() }
    }

    /// Takes one line; answers the earliest instant that anything newly published speaks of, by service.
    fn step(&mut self, offset: u64, appended_at: i64, line: &str) -> BTreeMap<String, i64> {
        let logged = Logged { offset, bytes: line.as_bytes().to_vec(), appended_at: Time::from_us(appended_at) };
        let decoded = decode(line.as_bytes()).unwrap();
        let effects = self.engine.step(offset, logged.appended_at, decoded.record.clone());
        let mut batch = self.publisher.batch(&self.engine, offset, offset);
        self.publisher.record(&self.engine, &logged, &decoded, &effects, &mut batch);
        let mut earliest = BTreeMap::new();
        let mut speaks_of = |service: &str, us: i64| {
            let known = earliest.entry(service.to_owned()).or_insert(us);
            *known = us.min(*known);
        };
        for version in &batch.windows {
            speaks_of(version.window.service.as_str(), version.window.onset_us);
            self.tables.insert(format!("window {}", version.window.id), serde_json::to_value(version).unwrap());
        }
        for gap in &batch.gaps {
            speaks_of(gap.service.as_str(), gap.start_us);
            self.tables.insert(format!("gap {} {}", gap.service, gap.start_us), serde_json::to_value(gap).unwrap());
        }
        for account in &batch.accounts {
            let month = format!("{}-01T00:00:00Z", account.account.month);
            speaks_of(account.account.service.as_str(), Time::parse(&month).unwrap().us());
            self.tables.insert(format!("account {} {month}", account.account.service), serde_json::to_value(account).unwrap());
        }
        for candidate in &batch.candidates {
            speaks_of(candidate.candidate.service.as_str(), candidate.candidate.opened_us);
            self.tables.insert(format!("candidate {}", candidate.candidate.claim), serde_json::to_value(candidate).unwrap());
        }
        earliest
    }
}

/// Nothing that was published before the horizon of memory is touched again, and all that is remembered is exact (DESIGN §2).
#[test]
fn what_is_forgotten_stands_as_it_was_published() {
    let catalogue = three_services();
    let mut whole = Published::new(Engine::new(LIVE, Some(catalogue.clone())));
    let mut bounded = Published::new(Engine::new(BOUNDED, Some(catalogue.clone())));
    let log = fourteen_months();
    for (offset, (appended_at, line)) in log.iter().enumerate() {
        let offset = offset as u64;
        whole.step(offset, *appended_at, line);
        let told = bounded.step(offset, *appended_at, line);
        for (service, name) in SERVICES.iter().enumerate() {
            let memory = bounded.engine.memory(service).us();
            assert!(told.get(*name).is_none_or(|earliest| *earliest >= memory), "record {offset} tells of {name} before {memory}");
        }
        if offset % 400 == 399 {
            let snapshot = bounded.engine.snapshot(offset, None);
            let restored = Engine::restore(BOUNDED, Some(catalogue.clone()), &snapshot.manifest, |key| snapshot.changed.get(key).cloned());
            let before = lines(&bounded.engine);
            bounded.engine = restored.unwrap();
            assert_eq!(lines(&bounded.engine), before, "record {offset}");
        }
    }
    assert!(bounded.tables.keys().eq(whole.tables.keys()));
    for (key, row) in &whole.tables {
        assert_eq!(&bounded.tables[key], row, "{key}");
    }
    let known = lines(&whole.engine);
    let remembered = lines(&bounded.engine);
    assert!(remembered.iter().all(|line| known.contains(line)), "what is remembered is exact");
    let is_old = |line: &&String| line.contains("\"well\"") && (line.contains("2026-01") || line.contains("corroborated"));
    assert_eq!((known.iter().filter(is_old).count(), remembered.iter().filter(is_old).count()), (2, 0), "January of `well` is forgotten");
    let of_long_ago = |line: &&String| !line.contains("\"well\"");
    assert_eq!(remembered.iter().filter(of_long_ago).count(), known.iter().filter(of_long_ago).count(), "what goes on is remembered whole");
}

/// A candidate is told again when evidence that comes late changes what is advised, and taken back when it is rejected.
#[test]
fn a_candidate_is_published_as_it_is() {
    let mut published = Published::new(Engine::new(LIVE, Some(three_services())));
    let day = |day: i64| YEAR_US + day * DAY_US;
    let tick = |at: i64| (at, json!({"v": 1, "type": "tick", "appended_at": at}).to_string());
    let late = json!({"v": 1, "type": "sample", "target": "t-well", "vantage": "v", "run": "r", "seq": 0, "t0": day(2), "t1": day(2),
        "outcome": "ok", "period_us": DAY_US, "timeout_us": MINUTE_US, "clock_error_us": 0, "appended_at": day(4)});
    let log = [
        claim("T", 1, "well", day(3), "received", None, day(3)),
        tick(day(3) + HOUR_US),
        (day(4), late.to_string()),
        claim("T", 2, "well", day(3), "rejected", None, day(5)),
        tick(day(6)),
    ];
    let told = (0..).zip(&log).map(|(offset, (appended_at, line))| {
        published.step(offset, *appended_at, line);
        let row = published.tables.get("candidate T");
        row.map(|row| (row["advice"].as_str().unwrap().to_owned(), row["retracted"].as_bool().unwrap()))
    });
    let told: Vec<_> = told.collect();
    let row = |advice: &str, retracted| Some((advice.to_owned(), retracted));
    assert_eq!(told, [None, row("accept", false), row("review", false), row("review", true), row("review", true)]);
}

/// Whoever speaks of forgotten time comes too late; whoever confirms a return in time that is remembered is heard from there on.
#[test]
fn claims_of_forgotten_time_open_nothing() {
    let catalogue = three_services();
    let mut bounded = Published::new(Engine::new(BOUNDED, Some(catalogue)));
    let log = fourteen_months();
    for (offset, (appended_at, line)) in log.iter().enumerate() {
        bounded.step(offset as u64, *appended_at, line);
    }
    let (day, end) = (|day: i64| YEAR_US + day * DAY_US, log.last().unwrap().0);
    let before = lines(&bounded.engine);
    let late = [
        claim("corroborated", 2, "well", day(6), "accepted", None, end),
        claim("in-the-dark", 2, "well", day(24), "rejected", None, end),
        claim("settled", 2, "well", day(12), "rejected", None, end),
        claim("new", 1, "well", day(2), "accepted", None, end),
        claim("new-candidate", 1, "well", day(2), "received", None, end),
        claim("new-and-resolved", 1, "well", day(2), "accepted", Some(day(3)), end),
    ];
    for (offset, (appended_at, line)) in late.iter().enumerate() {
        assert_eq!(bounded.step(10_000 + offset as u64, *appended_at, line), BTreeMap::new(), "{line}");
        assert_eq!(lines(&bounded.engine), before, "{line}");
    }
    let memory = bounded.engine.memory(0).us();
    let (appended_at, heard) = claim("new", 2, "well", day(2), "accepted", Some(day(100)), end);
    assert_eq!(bounded.step(20_000, appended_at, &heard), BTreeMap::from([("well".to_owned(), memory)]));
    assert!(lines(&bounded.engine).iter().any(|line| line.contains("\"claims\":[\"new\"]")), "it counts from {memory} on");
}
