//! What is deleted from an archive after 400 days, and what can still be said then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use vigie_aggregator::archive::{Archive, Archived, Segment, Shelf};
use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings};
use vigie_aggregator::core::snapshot::Manifest;
use vigie_aggregator::live::{Restored, Snapshots};
use vigie_aggregator::port::{AppendError, Appended, Bounds, EvidenceLog, Logged, Offset, ReadError, StoreError, WindowStore};
use vigie_aggregator::publish::{Ledger, Publisher};
use vigie_aggregator::sqlite::{Access, DataDir, SqliteStore};
use vigie_aggregator::start::{self, StartError};
use vigie_contract::record::{CatalogueRecord, Record, decode_appended, encode};
use vigie_contract::{Span, Time};
use vigie_counterparts::identity::Identity;
use vigie_counterparts::object_store::ObjectStore;
use vigie_tests::program::vigie;

use crate::bucket::describe;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2020-01-01: long ago by any clock.
const BEGINNING: i64 = 1_577_836_800_000_000;
const CATALOGUE: &str = "timezone = \"UTC\"\n[[indicator]]\nid = \"I\"\nobjective = 99\n[[target]]\nid = \"t\"\nvantages = [\"v\"]\n\
    latency_objective = \"150ms\"\n[[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = \"t\"\nsince = 2020-01-01T00:00:00Z\n";
/// The last day; what lies before the day 20 is older than 400 days then.
const LAST_DAY: i64 = 420;

/// A region that was measured on 24 days, eight hours a day, every five minutes.
struct World {
    dir: tempfile::TempDir,
    log: Vec<Logged>,
}

fn instant(day: i64, minutes: i64) -> i64 {
    BEGINNING + day * DAY + minutes * MINUTE
}

/// The days that have evidence.
fn days() -> impl Iterator<Item = i64> {
    (0..18).chain(200..202).chain(LAST_DAY - 3..=LAST_DAY)
}

/// Failures on day 3 from 3:00 to 3:30; on day 7 a claim, from 2:00 to 2:30, that is rejected on day 8; on day 3 at 2:30 a sample that
/// the log had only on day 5 at 1:00.
fn records() -> Vec<(i64, String)> {
    let mut records = Vec::new();
    let catalogue = CatalogueRecord { rev: 1, sha256: None, text: CATALOGUE.to_owned(), override_by: None, actor: None, reason: None };
    records.push((BEGINNING, encode(&Record::Catalogue(catalogue), None, None)));
    let sample = |stamp: i64, seq: usize, outcome: &str| {
        json!({"v": 1, "type": "sample", "target": "t", "vantage": "v", "run": "r", "seq": seq, "t0": stamp, "t1": stamp, "outcome": outcome,
            "latency_us": 100_000, "period_us": 5 * MINUTE, "timeout_us": 1_000_000, "clock_error_us": 0})
        .to_string()
    };
    for day in days() {
        for minutes in (0..8 * 60).step_by(5) {
            let outcome = if day == 3 && (180..210).contains(&minutes) { "fail" } else { "ok" };
            let stamp = instant(day, minutes);
            let appended_at = if (day, minutes) == (3, 150) { instant(5, 60) + 1_000 } else { stamp };
            records.push((appended_at, sample(stamp, records.len(), outcome)));
        }
    }
    let claim = |rev: u64, state: &str, appended_at: i64| {
        let claim = json!({"v": 1, "type": "claim", "id": "T-1", "rev": rev, "service": "s", "opened_at": instant(7, 120), "state": state,
            "resolved_at": instant(7, 150)});
        (appended_at, claim.to_string())
    };
    records.extend([claim(1, "accepted", instant(7, 7 * 60) + 1), claim(2, "rejected", instant(8, 7 * 60) + 1)]);
    records.sort_by_key(|(appended_at, _)| *appended_at);
    records
}

impl World {
    /// The log, and the store with all that follows from it.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log: Vec<Logged> = (0..)
            .zip(records())
            .map(|(offset, (appended_at, text))| Logged { offset, appended_at: Time::from_us(appended_at), bytes: text.into_bytes() })
            .collect();
        fold(&dir.path().join("data"), &log);
        Self { dir, log }
    }

    /// A segment an hour.
    fn archive(&self, shelf: &Shelf) -> Archive {
        let archive = Archive::new(shelf, "main", 0);
        let mut writer = archive.writer().unwrap();
        for hour in self.log.chunk_by(|one, other| one.appended_at.us() / HOUR == other.appended_at.us() / HOUR) {
            writer.append(hour, hour.last().unwrap().offset + 1).unwrap();
        }
        drop(writer);
        archive
    }

    fn vigie(&self, args: &[&str]) -> String {
        let output = vigie(self.dir.path(), args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn prune(&self, place: &str) -> String {
        self.vigie(&["archive", "prune", "--archive", place, "--data", "data"])
    }

    fn replay(&self, place: &str) -> Output {
        vigie(self.dir.path(), &["replay", "--evidence", &format!("{place}/main/00000")])
    }
}

/// The store at `data` with what follows from `log`.
fn fold(data: &Path, log: &[Logged]) {
    let store = SqliteStore::open(&DataDir::open(data, Access::Serve).unwrap()).unwrap();
    let mut engine = Engine::new(Settings { log_epoch: 0, retain: Retain::Horizon, pace: Pace::Live }, None);
    let mut publisher = Publisher::new("main", 0, Ledger::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for records in log.chunks(500) {
        let mut batch = publisher.batch(&engine, records[0].offset, records[records.len() - 1].offset);
        for logged in records {
            let decoded = decode_appended(&logged.bytes, logged.appended_at).unwrap();
            let effects = engine.step(logged.offset, logged.appended_at, decoded.record.clone());
            publisher.record(&engine, logged, &decoded, &effects, &mut batch);
        }
        runtime.block_on(store.apply(&batch)).unwrap();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", said(output));
    output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// The segments that are there, by day and hour.
fn hours(archive: &Archive) -> BTreeSet<(i64, i64)> {
    let hour = |segment: &Segment| {
        let mut first = None;
        segment.verify(Some(&mut |logged: Logged| first = first.or(Some(logged.appended_at.us())))).unwrap();
        let since = first.unwrap() - BEGINNING;
        (since / DAY, since % DAY / HOUR)
    };
    archive.segments().unwrap().iter().map(hour).collect()
}

/// By hand, from the sentence: the hours of the day 3 around the window from 3:00 to 3:30, and that of the day 5 in which a sample of then
/// came; of the day 7 around the claim, though it was rejected; the hours in which somebody said something; what is younger.
fn kept() -> BTreeSet<(i64, i64)> {
    let old = [(0, 0), (3, 2), (3, 3), (3, 4), (5, 1), (7, 1), (7, 2), (7, 3), (7, 7), (8, 7)];
    old.into_iter().chain(days().filter(|day| *day >= 20).flat_map(|day| (0..8).map(move |hour| (day, hour)))).collect()
}

#[test]
fn after_400_days_the_hours_around_windows_are_left_and_what_is_said_of_them_is_the_same() {
    let world = World::new();
    let archive = world.archive(&Shelf::directory(&world.dir.path().join("archive")));
    let whole = lines(&world.replay("archive"));
    assert_eq!((of(&whole, "window").len(), of(&whole, "account").len()), (1, 14), "the claim's was taken back");
    let all = hours(&archive);

    let dry = world.vigie(&["archive", "prune", "--archive", "archive", "--data", "data", "--dry-run"]);
    assert!(dry.contains("would go"), "{dry}");
    assert_eq!(hours(&archive), all);
    let told = world.prune("archive");
    assert!(told.contains(&format!("pruned {} segments", all.len() - kept().len())), "{told}");
    assert_eq!(hours(&archive), kept());
    assert!(world.prune("archive").contains("nothing to prune"));
    assert_eq!(hours(&archive), kept());

    // What is told is as it was; what a hole would make otherwise is left out, and said to be.
    let output = world.replay("archive");
    let pruned = lines(&output);
    assert_eq!(of(&pruned, "window"), of(&whole, "window"));
    assert!(said(&output).contains("pruned: offsets ") && said(&output).contains("left out"), "{}", said(&output));
    assert!(pruned.iter().all(|line| whole.contains(line)), "nothing is invented");
    let months: Vec<&Value> = of(&pruned, "account").iter().map(|account| &account["month"]).collect();
    assert_eq!(months.len(), 13, "all but January 2020: {months:?}");
    assert!(!of(&pruned, "gap").is_empty() && of(&pruned, "gap").len() < of(&whole, "gap").len());

    let explain = |subject: &[&str]| vigie(world.dir.path(), &[&["explain", "--evidence", "archive/main/00000"], subject].concat());
    let id = of(&whole, "window")[0]["id"].as_str().unwrap();
    assert!(explain(&[id]).status.success(), "{}", said(&explain(&[id])));
    let at = explain(&["s", "--at", "2020-01-06T03:00:00Z"]);
    assert!(at.status.code() == Some(2) && said(&at).contains("was pruned"), "{}", said(&at));
}

#[test]
fn a_stolen_segment_is_found_in_a_pruned_archive() {
    let world = World::new();
    let archive = world.archive(&Shelf::directory(&world.dir.path().join("archive")));
    world.prune("archive");
    let segments = archive.segments().unwrap();
    for stolen in [&segments[2], &segments[segments.len() / 2]] {
        let bytes = std::fs::read(stolen.place()).unwrap();
        std::fs::remove_file(stolen.place()).unwrap();
        let output = world.replay("archive");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        let missing = format!("offsets {} to {} are missing, and no pruning says so", stolen.first, stolen.next - 1);
        assert!(said(&output).contains(&missing), "{}", said(&output));
        std::fs::write(stolen.place(), bytes).unwrap();
    }
    lines(&world.replay("archive"));
}

/// Its windows are others: evidence would go that this region's windows need.
#[test]
fn the_store_of_another_region_prunes_nothing() {
    let world = World::new();
    let archive = world.archive(&Shelf::directory(&world.dir.path().join("archive")));
    let all = hours(&archive);
    let refused = |data: &str| {
        let output = vigie(world.dir.path(), &["archive", "prune", "--archive", "archive", "--data", data]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(hours(&archive), all);
        said(&output)
    };
    let mut later = world.log.clone();
    later.iter_mut().for_each(|logged| logged.appended_at = logged.appended_at + Span::from_secs(1));
    fold(&world.dir.path().join("later"), &later);
    assert!(refused("later").contains("is it this region's?"));
    let mut other = world.log.clone();
    other.iter_mut().for_each(|logged| logged.offset += 1);
    fold(&world.dir.path().join("other"), &other);
    assert!(refused("other").contains("is it this region's?"));
    let short = vigie(world.dir.path(), &["archive", "prune", "--archive", "archive", "--data", "data", "--keep-days", "30"]);
    assert!(!short.status.success() && said(&short).contains("398"), "{}", said(&short));
}

/// A log that retention has emptied, and nobody's snapshots.
struct Emptied(Offset);

impl EvidenceLog for Emptied {
    async fn append(&self, _: &[Vec<u8>]) -> Result<Vec<Appended>, AppendError> {
        Ok(Vec::new())
    }

    async fn read(&self, from: Offset, _: usize) -> Result<Vec<Logged>, ReadError> {
        Err(ReadError::Gone { from, oldest: self.0 })
    }

    async fn bounds(&self) -> Result<Bounds, ReadError> {
        Ok(Bounds { oldest: self.0, next: self.0 })
    }
}

impl Snapshots for Emptied {
    async fn load(&self, _: &str, _: u64) -> Result<Option<Restored>, StoreError> {
        Ok(None)
    }

    async fn save(&self, _: &str, _: &Manifest, _: BTreeMap<String, Vec<u8>>, _: &Ledger) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What lies before a hole would look unknown, and what was published of it would be revised.
#[test]
fn without_a_snapshot_no_fold_begins_behind_what_was_pruned() {
    let world = World::new();
    let archive = world.archive(&Shelf::directory(&world.dir.path().join("archive")));
    let log = Emptied(world.log.len() as u64);
    let new = || Engine::new(Settings { log_epoch: 0, retain: Retain::Horizon, pace: Pace::Live }, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let whole = Archived::new(log, Some(archive.clone()));
    let begin = || runtime.block_on(start::restore("main", new, &whole, &Emptied(0), ""));
    assert_eq!(begin().unwrap().1.next, 0);
    world.prune("archive");
    let kept = archive.segments().unwrap();
    let hole = kept.windows(2).rev().find(|pair| pair[0].next < pair[1].first).unwrap();
    assert!(matches!(begin(), Err(StartError::Forgotten { oldest, .. }) if oldest == hole[1].first));
    assert!(matches!(runtime.block_on(whole.read(hole[0].next, 1)), Err(ReadError::Gone { .. })), "a hole is not skipped");
}

#[test]
fn a_bucket_is_pruned_as_a_directory_is() {
    let world = World::new();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("archive")).unwrap();
    let identity = Identity::new().unwrap();
    let store = ObjectStore::start(root.path(), 0, Some(identity.clone())).unwrap();
    describe(world.dir.path(), &store, &identity);
    let directory = world.archive(&Shelf::directory(&world.dir.path().join("archive")));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (all, bucket) = {
        let _within = runtime.enter();
        let bucket = world.archive(&Shelf::open(&world.dir.path().join("alpha.toml")).unwrap());
        (hours(&bucket), bucket)
    };
    assert_eq!(all, hours(&directory));
    world.prune("alpha.toml");
    world.prune("archive");
    let _within = runtime.enter();
    assert_eq!(hours(&bucket), kept());
    let (one, other) = (world.replay("alpha.toml"), world.replay("archive"));
    assert_eq!((lines(&one), said(&one)), (lines(&other), said(&other)));
    bucket.shelf().remove(&format!("{:020}-{:020}.ndjson.gz", 0, bucket.segments().unwrap()[0].next)).unwrap();
    assert!(said(&world.replay("alpha.toml")).contains("no pruning says so"));
}
