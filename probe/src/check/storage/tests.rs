use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use vigie_contract::Span;
use vigie_counterparts::disk::{Disk, Fault, Operation};

use super::*;
use crate::check::bench::{Bench, phases};
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

fn fails(operation: Operation, errno: Errno) -> Fault {
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

#[tokio::test]
async fn what_a_disk_answers_ends_where_the_table_says() {
    let (unhealthy, corrupt) = (Finding::Fail(Reason::Unhealthy), Finding::Fail(Reason::Corrupt));
    let (timeout, internal) = (Finding::Fail(Reason::Timeout), Finding::Void(Reason::Internal));
    let (open, write) = (Operation::Open, Operation::Write);
    let (sync, read) = (Operation::Sync, Operation::Read);
    let table: Vec<(Vec<Fault>, Finding, &str)> = vec![
        (vec![fails(open, Errno::EIO)], unhealthy, "open"),
        (vec![fails(write, Errno::EIO)], unhealthy, "open write read"),
        (vec![fails(sync, Errno::EIO)], unhealthy, "open write sync read"),
        (vec![fails(read, Errno::EIO)], unhealthy, "open read"),
        (vec![fails(open, Errno::ENXIO)], unhealthy, "open"),
        (vec![fails(open, Errno::ESTALE)], unhealthy, "open"),
        (vec![fails(write, Errno::ENODEV)], unhealthy, "open write read"),
        (vec![fails(write, Errno::EREMOTEIO)], unhealthy, "open write read"),
        (vec![fails(sync, Errno::ENOLINK)], unhealthy, "open write sync read"),
        (vec![fails(read, Errno::ENODATA)], unhealthy, "open read"),
        (vec![fails(write, Errno::ETIMEDOUT)], timeout, "open write read"),
        (vec![fails(sync, Errno::ETIME)], timeout, "open write sync read"),
        (vec![fails(read, Errno::EILSEQ)], corrupt, "open read"),
        (vec![Fault::Flip], corrupt, "open read"),
        (vec![Fault::Lose], corrupt, "open write sync read"),
        (vec![Fault::ReadOnly], internal, "open read"),
        (vec![fails(sync, Errno::EROFS)], internal, "open write sync read"),
        (vec![Fault::ReadOnly, Fault::Flip], corrupt, "open read"),
        (vec![Fault::ReadOnly, fails(read, Errno::EIO)], unhealthy, "open read"),
        (vec![fails(write, Errno::ENOSPC)], internal, "open write read"),
        (vec![fails(write, Errno::EDQUOT)], internal, "open write read"),
        (vec![fails(open, Errno::EACCES)], internal, "open"),
        (vec![fails(open, Errno::EINVAL)], internal, "open"),
        (vec![fails(open, Errno::EMFILE)], Finding::Void(Reason::Descriptors), "open"),
        (vec![fails(open, Errno::ENFILE)], Finding::Void(Reason::Descriptors), "open"),
    ];
    for (faults, expected, reached) in table {
        let Some((_dir, disk)) = disk() else { return };
        let bench = bench(disk.path());
        assert_eq!(bench.first().await, Finding::Ok);
        faults.iter().for_each(|fault| disk.break_down(*fault));
        let (found, trace) = bench.attempt(false).await;
        assert_eq!((found, phases(&trace).as_str()), (expected, reached), "{faults:?}");
        assert_eq!(bench.retry().await, expected, "{faults:?}: the second attempt finds it too");
        disk.mend();
        assert_eq!(bench.first().await, Finding::Ok, "{faults:?}: mended");
    }
}

#[tokio::test]
async fn a_disk_that_hangs_is_reported_while_it_hangs() {
    let table = [
        (vec![], Operation::Open, "open"),
        (vec![], Operation::Read, "open read"),
        (vec![], Operation::Write, "open write read"),
        (vec![], Operation::Sync, "open write sync read"),
        (vec![Fault::ReadOnly], Operation::Read, "open read"),
    ];
    for (faults, operation, reached) in table {
        let Some((_dir, disk)) = disk() else { return };
        let bench = bench(disk.path());
        assert_eq!(bench.first().await, Finding::Ok);
        faults.iter().for_each(|fault| disk.break_down(*fault));
        disk.break_down(Fault::Hang(operation));
        let (found, trace) = bench.attempt_until(hangs(&disk)).await;
        assert_eq!((found, phases(&trace).as_str()), (Finding::Fail(Reason::Hung), reached), "{operation:?}");
        // No further attempt gets to the disk, and each says so in its time.
        for attempt in 1..4 {
            let (found, trace) = bench.attempt_until(std::future::ready(())).await;
            assert_eq!((found, phases(&trace).as_str()), (Finding::Fail(Reason::Hung), ""), "{operation:?}, attempt {attempt}");
        }
        // The answer that comes now is nobody's.
        disk.mend();
        let (found, trace) = bench.attempt(false).await;
        assert_eq!((found, phases(&trace).as_str()), (Finding::Ok, "open write sync read"), "{operation:?}");
    }
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_no_other_and_no_timer() {
    let (Some((_dir, sick)), Some((_other_dir, well))) = (disk(), disk()) else { return };
    sick.break_down(Fault::Hang(Operation::Open));
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
    disk.break_down(Fault::Slow(Operation::Sync, Duration::from_millis(30)));
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

#[tokio::test]
async fn what_somebody_in_the_guest_did_is_no_failure() {
    let Some((_dir, disk)) = disk() else { return };
    let steady = bench(disk.path());
    assert_eq!(steady.first().await, Finding::Ok);
    disk.empty();
    assert_eq!(steady.first().await, Finding::Ok, "a file that is gone is laid out anew");
    disk.tamper(|content| content.truncate(5_000));
    assert_eq!(steady.first().await, Finding::Ok, "so is a file that is too short");
    disk.tamper(|content| content.iter_mut().for_each(|byte| *byte ^= 4));
    assert_eq!(bench(disk.path()).first().await, Finding::Ok, "a process that has just begun knows no block");
    disk.tamper(|content| content.extend([0]));
    assert_eq!(steady.first().await, Finding::Void(Reason::Internal), "a longer file is somebody else's");
    disk.tamper(|content| assert_eq!(content.len(), 32_769));
}

#[tokio::test]
async fn another_probe_of_the_same_name_is_no_corruption() {
    let Some((_dir, disk)) = disk() else { return };
    let (one, other) = (bench(disk.path()), bench(disk.path()));
    assert_eq!([one.first().await, other.first().await], [Finding::Ok; 2]);
    assert_eq!(one.first().await, Finding::Void(Reason::Internal));
}

#[tokio::test]
async fn a_directory_without_a_disk_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    for mount in [PathBuf::from("/dev/shm"), dir.path().to_owned(), absent] {
        let (found, trace) = bench(&mount).attempt(false).await;
        assert_eq!((found, phases(&trace).as_str()), (Finding::Void(Reason::Internal), "open"), "{}", mount.display());
        assert!(!mount.join("vigie@az05@disk%2Faz05").exists(), "{}", mount.display());
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
