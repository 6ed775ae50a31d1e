//! `vigie durability`: objects are written, looked at from two vantages, and what that shows is told.

use std::path::Path;

use serde_json::Value;
use vigie_counterparts::identity::Identity;
use vigie_counterparts::object_store::{ACCESS_KEY, ObjectStore, SECRET_KEY};
use vigie_tests::program::vigie;

const DAY_US: i64 = 86_400_000_000;

/// What it prints; it must succeed.
#[track_caller]
fn durability(dir: &Path, args: &str) -> String {
    let args: Vec<&str> = std::iter::once("durability").chain(args.split(' ')).collect();
    let output = vigie(dir, &args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Why it does not; nothing on standard output.
#[track_caller]
fn refused(dir: &Path, args: &str) -> String {
    let args: Vec<&str> = std::iter::once("durability").chain(args.split(' ')).collect();
    let output = vigie(dir, &args);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn describe(dir: &Path, store: &ObjectStore, identity: &Identity) {
    std::fs::write(dir.join("access"), ACCESS_KEY).unwrap();
    std::fs::write(dir.join("secret"), SECRET_KEY).unwrap();
    std::fs::write(dir.join("ca.pem"), &identity.pem).unwrap();
    let place = |name: &str| dir.join(name).display().to_string();
    let text = format!(
        r#"
[[indicator]]
id = "I"
objective = "99.99"
[[vantage]]
id = "az05"
[[vantage]]
id = "az06"
[[target]]
id = "s3"
vantages = ["az05", "az06"]
period = "10s"
timeout = "2s"
[target.check]
kind = "s3"
endpoint = "https://{}"
bucket = "canary"
region = "fr1"
access_key = {{ file = "{}" }}
secret_key = {{ file = "{}" }}
ca = "{}"
[[service]]
id = "s"
indicator = "I"
needs = "s3"
"#,
        store.address,
        place("access"),
        place("secret"),
        place("ca.pem")
    );
    std::fs::write(dir.join("c.toml"), text).unwrap();
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Adds to a journal what was last looked at, once more so much later.
fn repeat(journal: &Path, count: usize, later_us: i64) {
    use std::io::Write;
    let old = lines(journal);
    let mut file = std::fs::OpenOptions::new().append(true).open(journal).unwrap();
    for mut look in old[old.len() - count..].iter().cloned() {
        look["at_us"] = (look["at_us"].as_i64().unwrap() + later_us).into();
        writeln!(file, "{look}").unwrap();
    }
}

const PLACE: &str = "--catalogue c.toml --target s3 --bucket kept";

#[test]
fn objects_are_written_looked_at_and_reported() {
    let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, bucket) = (dir.path(), root.path().join("kept"));
    std::fs::create_dir(&bucket).unwrap();
    let identity = Identity::new().unwrap();
    let store = ObjectStore::start(root.path(), 0, Some(identity.clone())).unwrap();
    describe(dir, &store, &identity);
    let said = durability(dir, &format!("create {PLACE} --manifest m --objects 3"));
    assert!(said.contains("3 objects written into bucket kept"), "{said}");
    durability(dir, &format!("create {PLACE} --manifest m --objects 1 --prefix more/"));
    let objects = lines(&dir.join("m"));
    assert_eq!(objects.len(), 4);
    let file = |at: usize| bucket.join(objects[at]["key"].as_str().unwrap());
    assert!((0..4).all(|at| std::fs::read(file(at)).unwrap().len() == 1_024));
    assert!(objects[3]["key"].as_str().unwrap().starts_with("more/"));

    let look =
        |vantage: &str, more: &str| durability(dir, &format!("check {PLACE} --manifest m --journal {vantage} --vantage {vantage}{more}"));
    assert_eq!(look("az05", ""), "4 objects looked at: present 4\n");
    let seen = |journal: &str| lines(&dir.join(journal)).iter().map(|look| look["key"].clone()).collect::<Vec<_>>();
    assert_eq!(look("az06", " --how head --sample 3"), "3 objects looked at: present 3\n");
    look("az06", " --how head --sample 1");
    assert_eq!(seen("az06"), seen("az05"), "first what it has not seen yet");

    std::fs::remove_file(file(0)).unwrap();
    std::fs::write(file(1), [0; 1_024]).unwrap();
    for vantage in ["az05", "az06"] {
        assert_eq!(look(vantage, ""), "4 objects looked at: absent 1, altered 1, present 2\n");
    }
    let report = || durability(dir, "report --manifest m --journal az05 --journal az06");
    let at_once = report();
    assert!(at_once.contains("lost          0\n") && at_once.contains("suspected     2\n"), "{at_once}");
    for vantage in ["az05", "az06"] {
        repeat(&dir.join(vantage), 4, DAY_US);
    }
    // A line that a crash has cut short, and what is appended after it.
    let cut = std::fs::read_to_string(dir.join("az05")).unwrap() + "{\"at_us\":1";
    std::fs::write(dir.join("az05"), cut).unwrap();
    std::fs::write(dir.join("secret"), "another").unwrap();
    assert_eq!(look("az05", ""), "4 objects looked at: refused 4\n");
    let report = report();
    assert!(report.contains("objects       4 in the manifest, 4 of them read and right at least once\n"), "{report}");
    assert!(report.contains("vantages      az05, az06\n"), "{report}");
    assert!(report.contains("lost          2\n") && report.contains("suspected     0\n"), "{report}");
    assert!(report.contains(&format!("{}: absent from ", objects[0]["key"].as_str().unwrap())), "{report}");
    assert!(report.contains("refused 4"), "{report}");
    // Two objects of which it is known that they were there for a day: 6.3 / 0.0055 years.
    assert!(report.contains("upper bound   ") && report.contains("e3 losses per object and year, at a confidence of 95 %"), "{report}");
    assert!(report.contains("It does not show that the promised 99.9999999 % are kept"), "{report}");
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    std::fs::create_dir(root.path().join("kept")).unwrap();
    let identity = Identity::new().unwrap();
    let store = ObjectStore::start(root.path(), 0, Some(identity.clone())).unwrap();
    describe(dir, &store, &identity);
    durability(dir, &format!("create {PLACE} --manifest m --objects 1"));
    let check = |place: &str, vantage: &str| refused(dir, &format!("check {place} --manifest m --journal j --vantage {vantage}"));
    assert!(check(PLACE, "az99").contains("no vantage `az99`"));
    assert!(check("--catalogue c.toml --target s4", "az05").contains("no target `s4`"));
    assert!(check("--catalogue c.toml --target s3", "az05").contains("say --bucket kept"));
    assert!(!dir.join("j").exists());
    assert!(refused(dir, "report --manifest m --journal j").contains("cannot read j"));
    std::fs::write(dir.join("j"), "").unwrap();
    assert!(durability(dir, "report --manifest m --journal j").contains("no object was read and found right yet"));
    std::fs::write(dir.join("m"), "{}\n").unwrap();
    assert!(refused(dir, "report --manifest m --journal j").contains("m, line 1"));
    drop(store);
    assert!(refused(dir, &format!("create {PLACE} --manifest n --objects 1")).contains("refused"));
}
