use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use vigie_contract::Span;
use vigie_counterparts::disk::Operation::{Open, Read, Sync, Write};
use vigie_counterparts::disk::{Disk, Fault, Operation};

use super::*;
use crate::check::bench::{Bench, phases};
use crate::check::truth::{self, Truth, fail, void};
use crate::check::{Phase, validate};

const TARGET: &str = "disk/az05";

fn bench(mount: &Path) -> Bench {
    Bench::new(TARGET, &json!({"kind": "storage", "mount": mount}))
}

/// A disk that may break down, and the directory that it is mounted in, which outlives it.
fn disk() -> Option<(TempDir, Disk)> {
    let dir = tempfile::tempdir().unwrap();
    Disk::mount(&dir.path().join("disk")).map(|disk| (dir, disk))
}

/// Waits until something hangs.
async fn hangs(disk: &Disk) {
    while disk.hanging().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const fn fails(operation: Operation, errno: Errno) -> Fault {
    Fault::Fail(operation, errno as i32)
}

#[tokio::test]
async fn a_disk_is_written_to_and_read_from_within_bounds() {
    let Some((_dir, disk)) = disk() else { return };
    let bench = bench(disk.path());
    let mut seen = Vec::new();
    for visit in 0..20 {
        let (found, trace) = bench.attempt(false).await;
        assert_eq!((found, phases(&trace).as_str()), (Finding::Ok, "open write sync read"), "visit {visit}");
        disk.tamper(|content| seen.push(content.clone()));
    }
    assert_eq!(disk.names(), ["vigie@az05@disk%2Faz05"]);
    assert!(seen.iter().all(|content| content.len() == 32_768));
    for pair in seen.windows(2) {
        let changed = pair[0].chunks(4_096).zip(pair[1].chunks(4_096)).filter(|(before, after)| before != after);
        assert_eq!(changed.count(), 1, "each visit writes one block");
    }
    assert!(seen[19].chunks(4_096).all(|block| block.iter().any(|byte| *byte != 0)), "all places are taken in turn");
}

/// What a disk does wrong, how the attempt ends, in which phase, and which phases it came to. A second one ends so too.
type Row = (&'static [Fault], Finding, Phase, &'static str);

const ANSWERS_TABLE: [Row; 26] = [
    (&[Fault::Slow(Sync, Duration::from_millis(1))], Finding::Ok, Phase::Read, "open write sync read"),
    (&[fails(Open, Errno::EIO)], fail(Reason::Unhealthy), Phase::Open, "open"),
    (&[fails(Write, Errno::EIO)], fail(Reason::Unhealthy), Phase::Write, "open write read"),
    (&[fails(Sync, Errno::EIO)], fail(Reason::Unhealthy), Phase::Sync, "open write sync read"),
    (&[fails(Read, Errno::EIO)], fail(Reason::Unhealthy), Phase::Read, "open read"),
    (&[fails(Open, Errno::ENXIO)], fail(Reason::Unhealthy), Phase::Open, "open"),
    (&[fails(Open, Errno::ESTALE)], fail(Reason::Unhealthy), Phase::Open, "open"),
    (&[fails(Write, Errno::ENODEV)], fail(Reason::Unhealthy), Phase::Write, "open write read"),
    (&[fails(Write, Errno::EREMOTEIO)], fail(Reason::Unhealthy), Phase::Write, "open write read"),
    (&[fails(Sync, Errno::ENOLINK)], fail(Reason::Unhealthy), Phase::Sync, "open write sync read"),
    (&[fails(Read, Errno::ENODATA)], fail(Reason::Unhealthy), Phase::Read, "open read"),
    (&[fails(Write, Errno::ETIMEDOUT)], fail(Reason::Timeout), Phase::Write, "open write read"),
    (&[fails(Sync, Errno::ETIME)], fail(Reason::Timeout), Phase::Sync, "open write sync read"),
    (&[fails(Read, Errno::EILSEQ)], fail(Reason::Corrupt), Phase::Read, "open read"),
    (&[Fault::Flip], fail(Reason::Corrupt), Phase::Read, "open read"),
    (&[Fault::Lose], fail(Reason::Corrupt), Phase::Read, "open write sync read"),
    (&[Fault::ReadOnly], void(Reason::Internal), Phase::Read, "open read"),
    (&[fails(Sync, Errno::EROFS)], void(Reason::Internal), Phase::Read, "open write sync read"),
    (&[Fault::ReadOnly, Fault::Flip], fail(Reason::Corrupt), Phase::Read, "open read"),
    (&[Fault::ReadOnly, fails(Read, Errno::EIO)], fail(Reason::Unhealthy), Phase::Read, "open read"),
    (&[fails(Write, Errno::ENOSPC)], void(Reason::Internal), Phase::Write, "open write read"),
    (&[fails(Write, Errno::EDQUOT)], void(Reason::Internal), Phase::Write, "open write read"),
    (&[fails(Open, Errno::EACCES)], void(Reason::Internal), Phase::Open, "open"),
    (&[fails(Open, Errno::EINVAL)], void(Reason::Internal), Phase::Open, "open"),
    (&[fails(Open, Errno::EMFILE)], void(Reason::Descriptors), Phase::Open, "open"),
    (&[fails(Open, Errno::ENFILE)], void(Reason::Descriptors), Phase::Open, "open"),
];

const HANGS_TABLE: [Row; 5] = [
    (&[Fault::Hang(Open)], fail(Reason::Hung), Phase::Open, "open"),
    (&[Fault::Hang(Read)], fail(Reason::Hung), Phase::Read, "open read"),
    (&[Fault::Hang(Write)], fail(Reason::Hung), Phase::Write, "open write read"),
    (&[Fault::Hang(Sync)], fail(Reason::Hung), Phase::Sync, "open write sync read"),
    (&[Fault::ReadOnly, Fault::Hang(Read)], fail(Reason::Hung), Phase::Read, "open read"),
];

#[tokio::test]
async fn what_a_disk_answers_ends_where_the_table_says() {
    for (faults, found, phase, reached) in ANSWERS_TABLE {
        let Some((_dir, disk)) = disk() else { return };
        let bench = bench(disk.path());
        assert_eq!(bench.first().await, Finding::Ok);
        faults.iter().for_each(|fault| disk.break_down(*fault));
        let (met, trace) = bench.attempt(false).await;
        assert_eq!((met, trace.last, phases(&trace).as_str()), (found, Some(phase), reached), "{faults:?}");
        assert_eq!(bench.retry().await, found, "{faults:?}: the second attempt finds it too");
        disk.mend();
        assert_eq!(bench.first().await, Finding::Ok, "{faults:?}: mended");
    }
}

#[tokio::test]
async fn a_disk_that_hangs_is_reported_while_it_hangs() {
    for (faults, found, phase, reached) in HANGS_TABLE {
        let Some((_dir, disk)) = disk() else { return };
        let bench = bench(disk.path());
        assert_eq!(bench.first().await, Finding::Ok);
        faults.iter().for_each(|fault| disk.break_down(*fault));
        let (met, trace) = bench.attempt_until(hangs(&disk)).await;
        assert_eq!((met, trace.last, phases(&trace).as_str()), (found, Some(phase), reached), "{faults:?}");
        // No further attempt gets to the disk, and each says so in its time.
        for attempt in 1..4 {
            let (met, trace) = bench.attempt_until(std::future::ready(())).await;
            assert_eq!((met, phases(&trace).as_str()), (found, ""), "{faults:?}, attempt {attempt}");
        }
        // The answer that comes now is nobody's.
        disk.mend();
        let (met, trace) = bench.attempt(false).await;
        assert_eq!((met, phases(&trace).as_str()), (Finding::Ok, "open write sync read"), "{faults:?}");
    }
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_no_other_and_no_timer() {
    let (Some((_dir, sick)), Some((_other_dir, well))) = (disk(), disk()) else { return };
    sick.break_down(Fault::Hang(Open));
    let (held_up, measured) = (bench(sick.path()), bench(well.path()));
    let meanwhile = async {
        hangs(&sick).await;
        assert_eq!(measured.first().await, Finding::Ok);
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(held_up.attempt_until(meanwhile).await.0, Finding::Fail(Reason::Hung));
}

#[tokio::test]
async fn slow_but_right_is_a_latency() {
    let Some((_dir, disk)) = disk() else { return };
    disk.break_down(Fault::Slow(Sync, Duration::from_millis(30)));
    let (found, trace) = bench(disk.path()).attempt(false).await;
    assert_eq!(found, Finding::Ok);
    let sync = trace.phases().find(|(phase, _)| *phase == Phase::Sync).unwrap().1;
    assert!(sync >= Span::from_us(30_000), "{sync}");
}

#[tokio::test]
async fn what_rots_between_visits_is_corrupt_until_both_attempts_have_seen_it() {
    let Some((_dir, disk)) = disk() else { return };
    let steady = bench(disk.path());
    assert_eq!(steady.first().await, Finding::Ok);
    disk.tamper(|content| content.iter_mut().for_each(|byte| *byte ^= 4));
    let (found, trace) = steady.attempt(false).await;
    assert_eq!((found, phases(&trace).as_str()), (Finding::Fail(Reason::Corrupt), "open read"));
    assert_eq!(steady.first().await, Finding::Fail(Reason::Corrupt), "an attempt that was excused forgets nothing");
    assert_eq!(steady.retry().await, Finding::Fail(Reason::Corrupt));
    assert_eq!([steady.first().await, steady.first().await], [Finding::Ok; 2]);
    // An old block in the place of the last one was written by us, and is not what we wrote last.
    let mut old = Vec::new();
    disk.tamper(|content| old.clone_from(content));
    for _ in 0..8 {
        assert_eq!(steady.first().await, Finding::Ok);
    }
    disk.tamper(|content| content.clone_from(&old));
    assert_eq!(steady.first().await, Finding::Fail(Reason::Corrupt));
}

type Deed = fn(&Disk);
type End = (Finding, Phase);

/// What somebody in the guest did to the file between two visits, how the slot then ends and in which phase: to the process that made the
/// first, and to one that has just begun and knows no block.
const DEEDS_TABLE: [(&str, Deed, [End; 2]); 5] = [
    ("left it alone", |_| {}, [(Finding::Ok, Phase::Read), (Finding::Ok, Phase::Read)]),
    ("took it away", Disk::empty, [(Finding::Ok, Phase::Read), (Finding::Ok, Phase::Read)]),
    ("cut it short", |disk| disk.tamper(|content| content.truncate(5_000)), [(Finding::Ok, Phase::Read), (Finding::Ok, Phase::Read)]),
    (
        "changed every byte, or the disk did",
        |disk| disk.tamper(|content| content.iter_mut().for_each(|byte| *byte ^= 4)),
        [(fail(Reason::Corrupt), Phase::Read), (Finding::Ok, Phase::Read)],
    ),
    (
        "made it longer: it is somebody else's",
        |disk| disk.tamper(|content| content.push(0)),
        [(void(Reason::Internal), Phase::Open), (void(Reason::Internal), Phase::Open)],
    ),
];

#[tokio::test]
async fn what_somebody_in_the_guest_did_ends_where_the_table_says() {
    for (deed, act, expected) in DEEDS_TABLE {
        for (is_new, (found, phase)) in [false, true].into_iter().zip(expected) {
            let Some((_dir, disk)) = disk() else { return };
            let known = bench(disk.path());
            assert_eq!(known.first().await, Finding::Ok);
            act(&disk);
            let left = content(&disk);
            let visitor = if is_new { bench(disk.path()) } else { known };
            let (met, trace) = visitor.slot().await;
            assert_eq!((met, trace.last), (found, Some(phase)), "{deed}, a new process: {is_new}");
            let is_touched = content(&disk) != left;
            assert_eq!(is_touched, found == Finding::Ok, "{deed}, a new process: {is_new}");
        }
    }
}

/// Of its one file.
fn content(disk: &Disk) -> Vec<u8> {
    let mut all = Vec::new();
    disk.tamper(|content| all.clone_from(content));
    all
}

/// Another process that has the probe's name has visited, too.
const SHARED: (&str, Finding, Phase) = ("another probe of the same vantage and target", void(Reason::Internal), Phase::Read);

#[tokio::test]
async fn another_probe_of_the_same_name_is_no_corruption() {
    let Some((_dir, disk)) = disk() else { return };
    let (one, other) = (bench(disk.path()), bench(disk.path()));
    assert_eq!([one.first().await, other.first().await], [Finding::Ok; 2]);
    let (what, found, phase) = SHARED;
    let (met, trace) = one.attempt(false).await;
    assert_eq!((met, trace.last), (found, Some(phase)), "{what}");
}

/// Where the disk should be, given a directory that is there.
type Mount = fn(&Path) -> PathBuf;

/// What is there instead, and how the attempt ends.
const MOUNTS_TABLE: [(&str, Mount, Finding, Phase); 3] = [
    ("a directory of another disk", Path::to_owned, void(Reason::Internal), Phase::Open),
    ("a file system in memory", |_| PathBuf::from("/dev/shm"), void(Reason::Internal), Phase::Open),
    ("nothing", |dir| dir.join("absent"), void(Reason::Internal), Phase::Open),
];

#[tokio::test]
async fn a_directory_without_a_disk_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (what, mount, found, phase) in MOUNTS_TABLE {
        let mount = mount(dir.path());
        let (met, trace) = bench(&mount).attempt(false).await;
        assert_eq!((met, trace.last, phases(&trace).as_str()), (found, Some(phase), "open"), "{what}");
        assert!(!mount.join("vigie@az05@disk%2Faz05").exists(), "{what}");
    }
}

#[test]
fn a_block_that_cannot_be_used_says_why() {
    let error = |check| validate(&check).unwrap_err().to_string();
    assert!(error(json!({"kind": "storage"})).contains("mount"));
    assert!(error(json!({"kind": "storage", "mount": "mnt/canary"})).contains("absolute"));
    assert!(error(json!({"kind": "storage", "mount": "/mnt/canary", "space": 1})).contains("space"));
    validate(&json!({"kind": "storage", "mount": "/mnt/canary"})).unwrap();
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    // By the error's name, not its number.
    let fault = |fault: &Fault| match fault {
        Fault::Fail(operation, errno) => format!("`Fail({operation:?}, {:?})`", Errno::from_raw(*errno)),
        other => truth::fault(other),
    };
    let answer = |(faults, finding, phase, reached): &Row| {
        let faults: Vec<_> = faults.iter().map(fault).collect();
        vec![faults.join(", "), truth::outcome(*finding), truth::phase(*phase), (*reached).to_owned()]
    };
    let deed = |(deed, _, [(known, ends), (new, begins)]): &(&str, Deed, [End; 2])| {
        vec![(*deed).to_owned(), truth::outcome(*known), truth::phase(*ends), truth::outcome(*new), truth::phase(*begins)]
    };
    let place = |(what, finding, phase): (&str, Finding, Phase)| truth::row(what, finding, phase);
    let places = MOUNTS_TABLE.map(|(what, _, finding, phase)| (what, finding, phase)).into_iter().chain([SHARED]);
    vec![
        Truth {
            title: "storage: the disk does so",
            columns: &["fault", "outcome", "phase", "came to"],
            rows: ANSWERS_TABLE.iter().chain(&HANGS_TABLE).map(answer).collect(),
        },
        Truth {
            title: "storage: between two visits, somebody",
            columns: &["and the file", "outcome", "phase", "outcome to a new process", "phase"],
            rows: DEEDS_TABLE.iter().map(deed).collect(),
        },
        Truth { title: "storage: where the disk should be", columns: &["there is", "outcome", "phase"], rows: places.map(place).collect() },
    ]
}
