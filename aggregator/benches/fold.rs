//! Speed and memory of the fold: `cargo bench`. Figures are printed, nothing is asserted.
//!
//! `VIGIE_BENCH_DAYS` sets how many days of 300 targets × 3 vantages at 10 s are folded (2 by default, 30 for the month).

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock, prints and panics"
)]

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Instant;

use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings};
use vigie_contract::catalogue::Strictness;
use vigie_contract::record::{decode, encode};
use vigie_contract::{Catalogue, Outcome, Record, Sample, Span, Time};

const TARGETS: usize = 300;
const VANTAGES: usize = 3;
const START_US: i64 = 1_793_487_600_000_000;
const PERIOD_US: i64 = 10_000_000;
const SETTINGS: Settings = Settings { log_epoch: 0, retain: Retain::Horizon, pace: Pace::Live };

fn catalogue(targets: usize, objective: bool) -> Catalogue {
    let mut text = String::from("[[indicator]]\nid = \"I\"\nobjective = \"99.99\"\n");
    for vantage in 0..VANTAGES {
        writeln!(text, "[[vantage]]\nid = \"az{vantage}\"\nanchors = [\"t0\", \"t1\"]").unwrap();
    }
    for target in 0..targets.max(2) {
        writeln!(text, "[[target]]\nid = \"t{target}\"\nvantages = [\"az0\", \"az1\", \"az2\"]").unwrap();
        if objective {
            writeln!(text, "latency_objective = \"150ms\"").unwrap();
        }
        writeln!(text, "[[service]]\nid = \"s{target}\"\nindicator = \"I\"\nneeds = \"t{target}\"\nsince = 2026-01-01T00:00:00Z").unwrap();
    }
    Catalogue::read(&text, Strictness::Replay).unwrap().0
}

/// Spreads any number over 64 bits.
fn noise(of: i64) -> i64 {
    let mixed = (of as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) as i64
}

struct Names {
    targets: Vec<String>,
    vantages: Vec<String>,
}

fn names() -> Names {
    Names { targets: (0..TARGETS).map(|n| format!("t{n}")).collect(), vantages: (0..VANTAGES).map(|n| format!("az{n}")).collect() }
}

impl Names {
    /// The sample of one slot, and its append time: what three probes with phases of their own would append.
    fn sample(&self, slot: i64, target: usize, vantage: usize, outcome: Outcome) -> (Sample<'_>, Time) {
        let phase_us = (target * VANTAGES + vantage) as i64 * PERIOD_US / (TARGETS * VANTAGES) as i64;
        let latency_us = 20_000 + noise(slot * 1_000 + phase_us) % 20_000;
        let t0 = START_US + slot * PERIOD_US + phase_us;
        let sample = Sample {
            target: Cow::Borrowed(&self.targets[target]),
            vantage: Cow::Borrowed(&self.vantages[vantage]),
            run: Cow::Borrowed("5e0c1f3ab86d4a0e9c1d2e3f4a5b6c7d"),
            seq: slot as u64,
            t0: Time::from_us(t0),
            t1: Time::from_us(t0 + latency_us),
            outcome,
            latency: Some(Span::from_us(latency_us)),
            period: Span::from_us(PERIOD_US),
            timeout: Span::from_secs(2),
            clock_error: Span::from_us(350),
        };
        (sample, Time::from_us((t0 + latency_us) / 1_000 * 1_000 + 5_000))
    }
}

fn fold(engine: &mut Engine, names: &Names, targets: usize, slots: std::ops::Range<i64>, outcome: impl Fn(i64, usize) -> Outcome) -> u64 {
    let mut offset = 0;
    for slot in slots {
        for target in 0..targets {
            for vantage in 0..VANTAGES {
                let (sample, appended_at) = names.sample(slot, target, vantage, outcome(slot, target));
                engine.step(offset, appended_at, Ok(Record::Sample(sample)));
                offset += 1;
            }
        }
    }
    offset
}

fn rate(what: &str, records: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what:<58} {:>12.0} records/s   ({records} records in {seconds:.2} s)", records as f64 / seconds);
}

fn main() {
    let days: i64 = std::env::var("VIGIE_BENCH_DAYS").ok().and_then(|days| days.parse().ok()).unwrap_or(2);
    let names = names();
    let slots = days * 86_400_000_000 / PERIOD_US;
    let well = |_, _| Outcome::Ok;

    let mut engine = Engine::new(SETTINGS, Some(catalogue(TARGETS, false)));
    let began = Instant::now();
    let records = fold(&mut engine, &names, TARGETS, 0..slots, well);
    rate(&format!("decoded, {TARGETS} × {VANTAGES}, {days} days, healthy"), records, began);
    let per_track = engine.size_bytes().0 / (TARGETS * VANTAGES);
    println!("{:<58} {per_track:>12} bytes per (target, vantage) of {} kept samples", "  state", slots.min(4 * 8_640));

    let mut lines = Vec::new();
    for slot in 0..360 {
        for target in 0..TARGETS {
            for vantage in 0..VANTAGES {
                let (sample, appended_at) = names.sample(slot, target, vantage, Outcome::Ok);
                lines.push(encode(&Record::Sample(sample), None, Some(appended_at)));
            }
        }
    }
    let began = Instant::now();
    let sound = lines.iter().filter(|line| decode(line.as_bytes()).is_ok_and(|decoded| decoded.record.is_ok())).count();
    rate("JSON decoded and dropped: the baseline", sound as u64, began);
    let mut engine = Engine::new(SETTINGS, Some(catalogue(TARGETS, false)));
    let began = Instant::now();
    for (offset, line) in lines.iter().enumerate() {
        let decoded = decode(line.as_bytes()).unwrap();
        engine.step(offset as u64, decoded.appended_at.unwrap(), decoded.record);
    }
    rate("from JSON, an hour of it", lines.len() as u64, began);

    for (objective, what) in [(false, "without"), (true, "with")] {
        let mut engine = Engine::new(SETTINGS, Some(catalogue(2, objective)));
        fold(&mut engine, &names, 2, 0..5 * 8_640, well);
        println!(
            "{:<58} {:>12} bytes per (target, vantage)",
            format!("96 h at 10 s, {what} a latency objective"),
            engine.size_bytes().0 / (2 * VANTAGES)
        );
    }

    worst_cases(&names);
}

fn worst_cases(names: &Names) {
    let flaps = |every: i64, down: i64| move |slot: i64, _| if slot % every < down { Outcome::Fail } else { Outcome::Ok };
    for (what, every, down) in [("a window per flap", 10, 3), ("all flaps one window", 5, 3)] {
        let mut engine = Engine::new(SETTINGS, Some(catalogue(10, false)));
        let began = Instant::now();
        let records = fold(&mut engine, names, 10, 0..3 * 8_640, flaps(every, down));
        rate(&format!("ten targets that flap for three days, {what}"), records, began);
    }

    let mut engine = Engine::new(SETTINGS, Some(catalogue(10, false)));
    let claim = format!(
        r#"{{"v":1,"type":"claim","id":"T","rev":1,"service":"s3","opened_at":{START_US},"state":"accepted","appended_at":{}}}"#,
        START_US + 1_000
    );
    let decoded = decode(claim.as_bytes()).unwrap();
    engine.step(0, decoded.appended_at.unwrap(), decoded.record);
    let began = Instant::now();
    let records = fold(&mut engine, names, 10, 1..30 * 8_640, flaps(8_640, 6));
    rate("ten targets for a month, one under an open claim all along", records, began);
    println!("{:<58} {:>12} bytes per service and month", "  states and windows, an outage a day", engine.size_bytes().1 / 10);
    let mut engine = Engine::new(SETTINGS, Some(catalogue(10, false)));
    fold(&mut engine, names, 10, 1..30 * 8_640, |_, _| Outcome::Ok);
    println!("{:<58} {:>12} bytes per service and month", "  states and windows, healthy", engine.size_bytes().1 / 10);

    for (hours, what) in [(1, "an hour"), (95, "95 hours")] {
        let mut engine = Engine::new(SETTINGS, Some(catalogue(10, false)));
        fold(&mut engine, names, 10, 0..4 * 8_640, flaps(360, 3));
        let last = 4 * 8_640 - 1;
        let began = Instant::now();
        for late in 0..500 {
            let (mut sample, _) = names.sample(last - hours * 360 + late % 50, 3, 1, Outcome::Fail);
            sample.run = Cow::Borrowed("another");
            sample.seq = late as u64;
            let (_, appended_at) = names.sample(last, 3, 1, Outcome::Ok);
            engine.step(10_000_000 + late as u64, appended_at, Ok(Record::Sample(sample)));
        }
        rate(&format!("failures that come {what} late"), 500, began);
    }

    let mut engine = Engine::new(SETTINGS, Some(catalogue(TARGETS, false)));
    fold(&mut engine, names, TARGETS, 0..2 * 8_640, |_, _| Outcome::Ok);
    let began = Instant::now();
    let first = engine.snapshot(1, None);
    let bytes = |changed: &std::collections::BTreeMap<String, Vec<u8>>| changed.values().map(Vec::len).sum::<usize>();
    println!("{:<58} {:>12} bytes in {:.2} s", "a whole snapshot", bytes(&first.changed), began.elapsed().as_secs_f64());
    fold(&mut engine, names, TARGETS, 2 * 8_640..2 * 8_640 + 6, |_, _| Outcome::Ok);
    let second = engine.snapshot(2, Some(&first.manifest));
    println!("{:<58} {:>12} bytes", "  what of it is written again a minute later", bytes(&second.changed));
}
