//! What people do wrong: a clear error that names place and mend, exit status 2, and nothing on standard output.

use std::path::Path;

use vigie_aggregator::sqlite::{Access, DataDir};
use vigie_tests::disk::Disk;
use vigie_tests::program::{TOKEN, binary, vigie, wait_for};
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
    refuses(dir, &["run", "--catalogue", "c.toml", "--spool-mib", "15"], &["--spool-mib", "15", "16.."]);
    refuses(dir, &["run", "--catalogue", "c.toml", "--listen", &listen, "--data", "other"], &["cannot listen on", "--listen"]);
    refuses(
        dir,
        &["aggregate", "--catalogue", "c.toml", "--listen", "127.0.0.1:0", "--data", "data"],
        &["served by a process that runs", "--data"],
    );
    let probe = |vantage: &'static str, token_file: &'static str| {
        let probe = ["probe", "--catalogue", "c.toml", "--aggregator", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"];
        [&probe[..], &["--vantage", vantage, "--token-file", token_file]].concat()
    };
    refuses(dir, &probe("v", "t"), &["cannot read the secret in t: "]);
    std::fs::write(dir.join("token"), TOKEN).unwrap();
    refuses(dir, &probe("w", "token"), &["the catalogue has no vantage `w`", "--vantage one of v"]);
    refuses(
        dir,
        &["claim", "open", "--data", "data", "--id", "T", "--service", "nobody", "--actor", "a", "--reason", "r", "--yes"],
        &["nobody"],
    );
    refuses(dir, &["claim", "accept", "--data", "data", "--id", "T", "--actor", "a", "--reason", "r", "--yes"], &["there is no claim T"]);
    refuses(dir, &["claim", "open", "--data", "data", "--id", "T", "--service", "a/r1", "--actor", "a", "--reason", "r"], &["--yes"]);
    #[rustfmt::skip]
    let late = region.vigie(&["exclude", "approve", "--id", "M", "--kind", "maintenance", "--service", "a/r1", "--start",
        "2026-02-01T00:00:00Z", "--end", "2026-02-02T00:00:00Z", "--approved-by", "boss", "--reason", "works", "--yes"]);
    assert!(late.contains("this will not count"), "{late}");
    // A file of the catalogue that cannot be used changes nothing, and is counted.
    std::fs::write(dir.join("c.toml"), "nonsense").unwrap();
    wait_for("the refusal", || (region.aggregator.metric("vigie_catalogue_refused_total") == 1.0).then_some(()));
    assert!(region.is_all("up"));
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

    // A full disk at the start.
    let Some(_disk) = Disk::mount(&at.join("small"), 16) else { return };
    refuses(at, &run("small/data"), &["no room on the disk", "small/data"]);
}

#[test]
fn a_backup_is_restored_by_one_command_each() {
    let region = Region::start();
    region.break_web();
    let id = region.mend_web();
    let dir = region.dir.path();
    region.vigie(&["backup", "copy"]);
    refuses(dir, &["backup", "--data", "data", "copy"], &["cannot use the file copy", "exists"]);
    refuses(dir, &["backup", "--data", "data", "nowhere/copy"], &["cannot use the file nowhere/copy"]);
    refuses(dir, &["restore", "--data", "new", "data/vigie.db"], &["data/vigie.db", "vigie backup"]);
    refuses(dir, &["restore", "--data", "new", "c.toml"], &["c.toml is not a store of vigie's"]);
    // What was published after the backup stays in the world, and is never said again with other words.
    let cut = |region: &Region| {
        region.break_web();
        region.webs[2].set_up(true);
        wait_for("two closed windows", || {
            let windows = region.aggregator.json("/api/v1/windows?status=closed&service=web/r1");
            (windows["windows"].as_array().unwrap().len() == 2).then_some(())
        });
    };
    cut(&region);
    let Region { dir, webs, aggregator, probe } = region;
    let (address, dir) = (aggregator.address.to_string(), dir.path());
    aggregator.kill();
    let versions = |data: &str| -> Vec<(i64, String)> {
        let db = rusqlite::Connection::open(dir.join(data).join("vigie.db")).unwrap();
        let mut select = db.prepare("SELECT ver, id FROM windows ORDER BY ver").unwrap();
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    };
    let before = versions("data");
    std::fs::rename(dir.join("data"), dir.join("damaged")).unwrap();
    std::fs::create_dir_all(dir.join("data/lost+found")).unwrap();
    let restored = vigie(dir, &["restore", "--data", "data", "copy"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let kept = versions("data");
    refuses(dir, &["restore", "--data", "data", "copy"], &["data is not empty"]);
    let aggregator = start_aggregator_at(dir, &address);
    wait_for("the end of catching up", || (aggregator.get("/readyz").0 == 200).then_some(()));
    assert!(!aggregator.log().contains("snapshot"), "the snapshot is still of use: {}", aggregator.log());
    assert_eq!(aggregator.json(&format!("/api/v1/windows/{id}"))["id"], id.as_str());
    let region = Region { dir: tempfile::tempdir().unwrap(), webs, aggregator, probe };
    cut(&region);
    assert!(region.aggregator.stop().success());
    let after: Vec<_> = versions("data").split_off(kept.len());
    let highest = before.last().unwrap().0;
    assert!(!after.is_empty() && after.iter().all(|(ver, _)| *ver > highest), "{before:?} {after:?}");
}

#[test]
fn a_store_that_cannot_be_gone_on_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (at, web) = (dir.path(), Web::start());
    write_catalogue(&at.join("c.toml"), &["v"], &[("a", web.address), ("b", web.address)]);
    drop(DataDir::open(&at.join("data"), Access::Serve).unwrap());
    let set = |sql: &str| rusqlite::Connection::open(at.join("data/vigie.db")).unwrap().execute_batch(sql).unwrap();
    // In the year 2100 somebody's clock was wrong.
    set("UPDATE evidence_state SET appended_us = 4102444800000000");
    let run = ["run", "--catalogue", "c.toml", "--listen", "127.0.0.1:0", "--data", "data"];
    refuses(at, &run, &["data was last written at 2100-01-01", "wait until", "vigie restore"]);
    set("PRAGMA user_version = 99");
    refuses(at, &["restore", "--data", "new", "data/vigie.db"], &["later version of vigie", "99"]);
    assert!(!at.join("new").exists());
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
