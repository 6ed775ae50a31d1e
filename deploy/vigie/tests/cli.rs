//! The binary as people call it: what it prints where, and how it exits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic: that is how it fails")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn case(name: &str, file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance").join(name).join(file).display().to_string()
}

fn vigie(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vigie")).args(args).output().unwrap()
}

fn written(dir: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Fails with status 2, says `expected` on standard error and nothing on standard output.
#[track_caller]
fn assert_refuses(args: &[&str], expected: &[&str]) {
    let output = vigie(args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(output.stdout.is_empty());
    for expected in expected {
        assert!(errors.contains(expected), "expected {expected:?} in:\n{errors}");
    }
}

#[test]
fn replay_prints_exactly_what_is_expected() {
    for name in ["01-plain", "13-claim-before", "17-dst-autumn", "32-latency"] {
        let output = vigie(&["replay", "--catalogue", &case(name, "catalogue.toml"), "--evidence", &case(name, "evidence.ndjson")]);
        assert_eq!(output.status.code(), Some(0));
        let found = String::from_utf8(output.stdout).unwrap();
        let parse = |text: &str| text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect::<Vec<_>>();
        assert_eq!(parse(&found), parse(&std::fs::read_to_string(case(name, "expected.ndjson")).unwrap()), "{name}");
    }
}

#[test]
fn unreadable_input_says_everything_at_once_and_prints_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broken = written(&dir, "broken.toml", "settle = \"3\"\nzone = 5\n");
    let evidence = written(&dir, "evidence.ndjson", b"nonsense\n{\"v\":1}\n[1]\n\xff\n");
    let (broken, evidence) = (broken.to_str().unwrap(), evidence.to_str().unwrap());
    let places = ["line 1: not a JSON object", "line 3: not a JSON object", "line 4: not a JSON object: byte 1 is not UTF-8"];
    assert_refuses(&["replay", "--catalogue", &case("01-plain", "catalogue.toml"), "--evidence", evidence], &places);
    let all = [&places[..], &["broken.toml:1:10", "a duration in quotes needs a unit", "broken.toml:2:1", "unknown key `zone`"]].concat();
    assert_refuses(&["replay", "--catalogue", broken, "--evidence", evidence], &all);
    assert_refuses(&["replay", "--catalogue", "/nowhere/c.toml", "--evidence", "/nowhere/e"], &["/nowhere/c.toml", "/nowhere/e"]);
    assert_refuses(&["replay", "--evidence", evidence, "--until", "9223372036854775807"], &["--until"]);
    let latin = written(&dir, "latin.toml", b"tenant = \"caf\xe9\"\n");
    assert_refuses(&["check", latin.to_str().unwrap()], &["not UTF-8 at byte 14"]);
}

#[test]
fn refused_records_are_named_and_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let sound = std::fs::read_to_string(case("01-plain", "evidence.ndjson")).unwrap();
    let plain = vigie(&["replay", "--catalogue", &case("01-plain", "catalogue.toml"), "--evidence", &case("01-plain", "evidence.ndjson")]);
    let evidence = written(&dir, "evidence.ndjson", format!("{{\"v\":1,\"type\":\"weather\",\"appended_at\":0}}\n\n{sound}"));
    let output = vigie(&["replay", "--catalogue", &case("01-plain", "catalogue.toml"), "--evidence", evidence.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, plain.stdout);
    assert!(String::from_utf8(output.stderr).unwrap().contains("line 1: refused: unknown_type"));
}

#[test]
fn a_line_longer_than_any_record_is_unreadable_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let evidence = written(&dir, "long.ndjson", [vec![b'{'; (64 << 20) + 10], b"\n7\n".to_vec()].concat());
    let places = ["line 1: not a JSON object", "line 2: not a JSON object"];
    assert_refuses(&["replay", "--catalogue", &case("01-plain", "catalogue.toml"), "--evidence", evidence.to_str().unwrap()], &places);
}

#[test]
fn check_draws_mistakes_like_a_compiler() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        written(&dir, "c.toml", "[[target]]\nid = \"t\"\nvantages = [\"az05\", \"az05\"]\nperiod = \"3s\"\ntimeout = \"1s\"\ncheck = {}\n");
    let drawing =
        "3 | vantages = [\"az05\", \"az05\"]\n  |             ------  ^^^^^^ again here\n  |             |\n  |             first here";
    assert_refuses(&["check", path.to_str().unwrap()], &["c.toml:3:21", drawing, "2 · timeout + 1.1s < period"]);
}

#[test]
fn check_refuses_what_would_hammer_a_host() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..10_000).map(|number| format!("t{number}")).collect();
    let mut text = "[[vantage]]\nid = \"v\"\nanchors = [\"t0\", \"t1\"]\n[[indicator]]\nid = \"I\"\nobjective = 99\n".to_owned()
        + &format!("[[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = {{ all = {ids:?} }}\nsince = 2026-01-01T00:00:00Z\n");
    for id in &ids {
        let _ = write!(text, "[[target]]\nid = \"{id}\"\nvantages = [\"v\"]\nperiod = \"1250ms\"\ntimeout = \"50ms\"\n");
        let _ = writeln!(text, "check = {{ kind = \"http\", url = \"https://api.example/{id}\", outside = true }}");
    }
    let path = written(&dir, "c.toml", text);
    let expected =
        "too much for host `api.example` over HTTP from vantage `v`, second attempts included: 16000 requests a second by 10000 targets";
    assert_refuses(&["check", path.to_str().unwrap()], &[expected, "the ceiling is 20: `t0` 1.6, `t1` 1.6, `t10` 1.6 …"]);
}

#[test]
fn check_against_says_what_changes_and_from_when() {
    let dir = tempfile::tempdir().unwrap();
    let base = "[[vantage]]\nid = \"v\"\nanchors = [\"a\", \"b\"]\n[[indicator]]\nid = \"I\"\nobjective = 99\n".to_owned()
        + "[[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = { all = [\"a\", \"b\"] }\nsince = 2026-01-01T00:00:00Z\n"
        + "[[target]]\nid = \"a\"\nvantages = [\"v\"]\nperiod = \"10s\"\ntimeout = \"2s\"\ncheck = { kind = \"tcp\", address = \"192.0.2.1:443\", outside = true }\n"
        + "[[target]]\nid = \"b\"\nvantages = [\"v\"]\nperiod = \"10s\"\ntimeout = \"2s\"\ncheck = { kind = \"tcp\", address = \"192.0.2.2:443\" }\n";
    let told = |new: &str| {
        let (old, new) = (written(&dir, "old.toml", &base), written(&dir, "new.toml", new));
        let output = vigie(&["check", new.to_str().unwrap(), "--against", old.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(told(&base), "nothing changes\n");
    assert!(told(&base.replace("\"10s\"", "\"20s\"")).contains("target `a`: changed for probes and people only"));
    let until = told(&base.replace("since = 2026-01-01T00:00:00Z", "since = 2026-01-01T00:00:00Z\nuntil = 2027-01-01T00:00:00Z"));
    assert!(until.contains("service `s`: changed from 2027-01-01T00:00:00Z") && until.contains("by 2027-01-01T00:00:00Z"), "{until}");
    assert!(told(&base.replace("{ all", "{ any")).contains("changes the past"));
}

#[test]
fn explain_tells_both_forms_in_both_languages_and_as_json() {
    let source =
        ["--catalogue", &case("01-plain", "catalogue.toml"), "--evidence", &case("01-plain", "evidence.ndjson")].map(str::to_owned);
    let told = |args: &[&str]| {
        let output = vigie(&[&["explain"], args, &source.each_ref().map(String::as_str)].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = std::fs::read_to_string(case("01-plain", "expected.ndjson")).unwrap();
    let windows = expected.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let window = windows.into_iter().find(|line| line["type"] == "window").unwrap();
    let (id, onset) = (window["id"].as_str().unwrap(), window["onset_us"].as_i64().unwrap());
    assert!(told(&[id]).contains("svc was unavailable from 1970-01-01"));
    assert!(told(&[id, "--lang", "fr"]).contains("svc indisponible de 1970-01-01"));
    let story: serde_json::Value = serde_json::from_str(&told(&[id, "--json"])).unwrap();
    assert_eq!(story["window"]["end_us"], window["end_us"]);
    let at = onset.to_string();
    let moment: serde_json::Value = serde_json::from_str(&told(&["svc", "--at", &at, "--json"])).unwrap();
    assert_eq!((moment["counted"].as_str(), moment["window"]["id"].as_str()), (Some("down"), Some(id)));
    assert!(told(&["svc", "--at", "1970-01-01T00:00:20Z"]).contains("No window covers this instant: the service was seen to work."));
    let refuses =
        |args: &[&str], expected: &str| assert_refuses(&[&["explain"], args, &source.each_ref().map(String::as_str)].concat(), &[expected]);
    refuses(&["svc"], "say --at TIME");
    refuses(&["svc", "--at", "yesterday"], "--at yesterday is no instant");
    refuses(&["nobody", "--at", "0"], "there is no service `nobody`; there are: svc");
    refuses(&["5b4e"], "there is no window `5b4e`");
}
