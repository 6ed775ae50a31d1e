//! What people do wrong: a clear error that names place and mend, exit status 2, and nothing on standard output.

use std::path::Path;
use std::process::Command;

use vigie_tests::program::{binary, vigie};
use vigie_tests::region::{Region, Web, start_aggregator_at, write_catalogue};

#[track_caller]
fn refuses(dir: &Path, args: &[&str], expected: &[&str]) {
    let output = vigie(dir, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    for expected in expected {
        assert!(errors.contains(expected), "{args:?}: expected {expected:?} in:\n{errors}");
    }
}

#[test]
fn mistakes_about_a_region_that_runs() {
    let region = Region::start();
    let (dir, listen) = (region.dir.path(), region.aggregator.address.to_string());
    refuses(dir, &["report", "--data", "data", "--month", "2026-13"], &["2026-13"]);
    refuses(dir, &["report", "--data", "data", "--month", "1999-01"], &["1999-01", "there are"]);
    refuses(dir, &["windows", "--data", "data", "--service", "nobody"], &["nobody"]);
    refuses(dir, &["run", "--catalogue", "c.toml", "--listen", &listen, "--data", "other"], &["cannot listen on", "--listen"]);
    refuses(
        dir,
        &["aggregate", "--catalogue", "c.toml", "--listen", "127.0.0.1:0", "--data", "data"],
        &["served by a process that runs", "--data"],
    );
    refuses(
        dir,
        &[
            "probe",
            "--catalogue",
            "c.toml",
            "--vantage",
            "w",
            "--aggregator",
            "http://127.0.0.1:1",
            "--token-file",
            "t",
            "--listen",
            "127.0.0.1:0",
        ],
        &["t"],
    );
    refuses(
        dir,
        &["claim", "open", "--data", "data", "--id", "T", "--service", "nobody", "--actor", "a", "--reason", "r", "--yes"],
        &["nobody"],
    );
    refuses(dir, &["claim", "accept", "--data", "data", "--id", "T", "--actor", "a", "--reason", "r", "--yes"], &["there is no claim T"]);
    refuses(dir, &["claim", "open", "--data", "data", "--id", "T", "--service", "a/r1", "--actor", "a", "--reason", "r"], &["--yes"]);
}

#[test]
fn mistakes_about_directories_and_disks() {
    let dir = tempfile::tempdir().unwrap();
    let (at, web) = (dir.path(), Web::start());
    write_catalogue(&at.join("c.toml"), &["v"], &[("a", web.address), ("b", web.address)]);
    let run = |data: &'static str| vec!["run", "--catalogue", "c.toml", "--listen", "127.0.0.1:0", "--data", data];
    std::fs::create_dir(at.join("foreign")).unwrap();
    std::fs::write(at.join("foreign/letter"), "dear").unwrap();
    refuses(at, &run("foreign"), &["foreign", "is not empty", "--data"]);
    std::fs::write(at.join("file"), "").unwrap();
    refuses(at, &run("file"), &["file", "--data"]);
    refuses(at, &run("/proc/vigie"), &["/proc/vigie", "--data"]);
    std::fs::create_dir(at.join("garbage")).unwrap();
    std::fs::write(at.join("garbage/vigie.db"), "garbage ".repeat(1_000)).unwrap();
    refuses(at, &run("garbage"), &["garbage/vigie.db", "not a store of vigie's"]);
    refuses(at, &["windows", "--data", "nowhere"], &["no vigie.db in nowhere"]);

    // A store of a later version.
    std::fs::create_dir(at.join("later")).unwrap();
    let later = rusqlite::Connection::open(at.join("later/vigie.db")).unwrap();
    later.execute_batch(&format!("CREATE TABLE t (x); PRAGMA application_id = {}; PRAGMA user_version = 99", 0x7669_6769)).unwrap();
    drop(later);
    refuses(at, &run("later"), &["later version of vigie", "99"]);

    // A full disk at the start: a small one of memory, where we may mount it.
    std::fs::create_dir(at.join("small")).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "tmpfs", "small"]).current_dir(at).status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("not tested: a full disk, since this user may not mount one");
        return;
    }
    refuses(at, &run("small/data"), &["no room on the disk", "small/data"]);
    assert!(Command::new("umount").arg("small").current_dir(at).status().unwrap().success());
}

#[test]
fn a_backup_is_restored_by_one_command_each() {
    let region = Region::start();
    region.break_web();
    let id = region.mend_web();
    let dir = region.dir.path();
    region.vigie(&["backup", "copy"]);
    refuses(dir, &["backup", "--data", "data", "copy"], &["copy", "exists"]);
    region.aggregator.kill();
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    let restored = vigie(dir, &["restore", "--data", "data", "copy"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    refuses(dir, &["restore", "--data", "data", "copy"], &["not empty"]);
    let aggregator = start_aggregator_at(dir, "127.0.0.1:0");
    assert_eq!(aggregator.json(&format!("/api/v1/windows/{id}"))["id"], id.as_str());
}

#[test]
fn completions_and_the_manual_come_from_the_command_line_itself() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = vigie(dir.path(), &["completions", shell]);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("aggregate"), "{shell}");
    }
    let manual = vigie(dir.path(), &["man"]);
    assert!(manual.status.success() && String::from_utf8_lossy(&manual.stdout).starts_with(".ie"), "{:?}", binary());
}
