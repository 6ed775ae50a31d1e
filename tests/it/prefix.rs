//! After every record the engine says what a batch of the same prefix says, and what the slow model says; a snapshot taken and read back
//! at every prefix changes nothing; and the versions that were published add up to the windows there are (SPEC §7, §9.7, §9.8).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;
use vigie_aggregator::core::engine::Engine;
use vigie_contract::{Catalogue, Time};
use vigie_tests::case::cases;
use vigie_tests::fold::{BOUNDED, LIVE, batch, catalogue, lines, step};
use vigie_tests::oracle;
use vigie_tests::world::{Random, world};

/// How many random worlds are tried: `VIGIE_WORLDS`.
pub(crate) fn worlds(default: u64) -> u64 {
    std::env::var("VIGIE_WORLDS").ok().and_then(|worlds| worlds.parse().ok()).unwrap_or(default)
}

fn parsed_lines(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn slow(given: Option<&str>, evidence: &[String]) -> Vec<Value> {
    oracle::replay(given, &evidence.join("\n"), None)
}

#[track_caller]
fn assert_same<T: PartialEq + std::fmt::Debug>(what: &str, left: &[T], right: &[T]) {
    if let Some(at) = (0..left.len().max(right.len())).find(|&at| left.get(at) != right.get(at)) {
        panic!("{what}: line {at} differs\n  left:  {:?}\n  right: {:?}", left.get(at), right.get(at));
    }
}

/// What a reader of versions knows: the newest of each id.
#[derive(Default)]
struct Reader {
    newest: BTreeMap<String, Value>,
}

impl Reader {
    fn read(&mut self, effects: &vigie_aggregator::core::engine::Effects) {
        for version in &effects.versions {
            let version = serde_json::to_value(version).unwrap();
            let id = version["id"].as_str().unwrap().to_owned();
            if let Some(older) = self.newest.insert(id, version.clone()) {
                assert!(older["ver"].as_u64() < version["ver"].as_u64(), "one version a record: {older} {version}");
            }
        }
    }

    /// The windows that are not retracted, without what grows by itself while they are open.
    fn windows(&self) -> BTreeMap<String, Value> {
        let there = self.newest.iter().filter(|(_, version)| version["status"] != "retracted");
        there.map(|(id, version)| (id.clone(), essence(version))).collect()
    }
}

fn essence(window: &Value) -> Value {
    let mut window = window.clone();
    let fields = window.as_object_mut().unwrap();
    let is_open = fields["end_us"].is_null();
    for field in ["type", "ver", "as_of_us", "final", "superseded_by"] {
        fields.remove(field);
    }
    if is_open {
        for field in ["observed_down_us", "inferred_down_us", "up_inside_us", "unknown_inside_us", "contested_us"] {
            fields.remove(field);
        }
    }
    window
}

fn windows_of(engine: &Engine) -> BTreeMap<String, Value> {
    let windows =
        lines(engine).into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap()).filter(|line| line["type"] == "window");
    windows.map(|window| (window["id"].as_str().unwrap().to_owned(), essence(&window))).collect()
}

/// Walks through the log; `every` how many records the slow comparisons are made.
fn walk(name: &str, given: Option<&str>, evidence: &[String], every: usize) {
    let parsed: Option<Catalogue> = given.map(catalogue);
    let mut live = Engine::new(LIVE, parsed.clone());
    let mut bounded = Engine::new(BOUNDED, parsed.clone());
    let mut restored = Engine::new(LIVE, parsed.clone());
    let (mut store, mut manifest) = (BTreeMap::new(), None);
    let mut reader = Reader::default();
    for (offset, line) in evidence.iter().enumerate() {
        let what = format!("{name}, prefix {}", offset + 1);
        let effects = step(&mut live, offset as u64, line);
        assert_eq!(effects, step(&mut restored, offset as u64, line), "{what}: a restored engine does the same");
        assert_eq!(effects, step(&mut bounded, offset as u64, line), "{what}: a forgetful engine does the same");
        reader.read(&effects);
        assert_eq!(reader.windows(), windows_of(&live), "{what}: versions add up to the windows");
        if offset % every > 0 && offset + 1 < evidence.len() {
            continue;
        }
        let now = lines(&live);
        assert_same(&format!("{what}: live, batch"), &now, &lines(&batch(parsed.as_ref(), &evidence[..=offset], None)));
        assert_same(&format!("{what}: live, slow model"), &parsed_lines(&now), &slow(given, &evidence[..=offset]));
        let snapshot = restored.snapshot(offset as u64, manifest.as_ref());
        store.extend(snapshot.changed);
        restored = Engine::restore(LIVE, parsed.clone(), &snapshot.manifest, |key| store.get(key).cloned()).unwrap();
        manifest = Some(snapshot.manifest);
        assert_same(&format!("{what}: live, restored"), &now, &lines(&restored));
    }
}

#[test]
fn every_prefix_of_random_worlds() {
    for seed in 0..worlds(60) {
        let world = world(seed);
        let fails =
            |evidence: &[String]| catch_unwind(AssertUnwindSafe(|| walk("shrinking", world.catalogue.as_deref(), evidence, 1))).is_err();
        if fails(&world.evidence) {
            let shrunk = shrink(world.evidence.clone(), fails);
            let (catalogue, evidence) = (world.catalogue.as_deref().unwrap_or_default(), shrunk.join("\n"));
            println!("world {seed} fails; keep this as a case in tests/cases:\n{catalogue}\n{evidence}");
            walk(&format!("world {seed}, shrunk"), world.catalogue.as_deref(), &shrunk, 1);
        }
    }
}

/// `--until` sets the frontier anywhere, also before evidence that still counts.
#[test]
fn any_frontier_of_random_worlds() {
    for seed in 0..worlds(150) {
        let world = world(seed);
        let parsed: Option<Catalogue> = world.catalogue.as_deref().map(catalogue);
        let mut random = Random::new(seed);
        let stamps: Vec<i64> =
            world.evidence.iter().filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["t1"].as_i64()).collect();
        for _ in 0..5 {
            let until =
                stamps.get(random.below(stamps.len().max(1) as u64) as usize).map_or(0, |stamp| stamp + random.between(-2, 90_000_000));
            let fast = lines(&batch(parsed.as_ref(), &world.evidence, Some(Time::from_us(until))));
            let slow = oracle::replay(world.catalogue.as_deref(), &world.evidence.join("\n"), Some(until));
            assert_same(&format!("world {seed} until {until}: fast, slow model"), &parsed_lines(&fast), &slow);
        }
    }
}

/// Takes lines away as long as the rest still fails.
fn shrink(mut lines: Vec<String>, fails: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut size = lines.len();
    while size > 0 {
        let mut at = 0;
        while at < lines.len() {
            let mut fewer = lines.clone();
            fewer.drain(at..(at + size).min(lines.len()));
            if fails(&fewer) { lines = fewer } else { at += size }
        }
        size /= 2;
    }
    lines
}

/// What once failed, shrunk; the directory's name says what was wrong.
#[test]
fn cases_that_once_failed() {
    let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    for case in std::fs::read_dir(cases).unwrap() {
        let case = case.unwrap().path();
        let catalogue = std::fs::read_to_string(case.join("catalogue.toml")).ok();
        let evidence = std::fs::read_to_string(case.join("evidence.ndjson")).unwrap();
        let evidence: Vec<_> = evidence.lines().map(str::to_owned).collect();
        walk(&case.display().to_string(), catalogue.as_deref(), &evidence, 1);
    }
}

#[test]
fn prefixes_of_the_conformance_cases() {
    for case in cases() {
        let evidence: Vec<String> = case.evidence.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        walk(&case.name, Some(&case.catalogue), &evidence, evidence.len() / 20 + 1);
    }
}
