use super::{SOUND, edited, sound};
use crate::catalogue::{Change, ChangeKind};
use crate::time::Time;

fn changes(old: &str, new: &str) -> Vec<Change> {
    sound(new).changes_from(&sound(old))
}

#[track_caller]
fn assert_changes(new: &str, expected: &[&str]) {
    let told: Vec<_> = changes(SOUND, new).iter().map(ToString::to_string).collect();
    assert_eq!(told, expected);
}

#[test]
fn the_same_meaning_is_no_change() {
    assert_changes(SOUND, &[]);
    assert_changes(&format!("# a comment\n{SOUND}"), &[]);
    assert_changes(&edited("settle = \"3s\"", "settle = 3_000_000"), &[]);
    assert_changes(&edited("[\"maintenance\", \"throttling\"]", "[\"throttling\", \"maintenance\"]"), &[]);
    assert_changes(&edited("{ any = [\"anchor-az06\", \"anchor-az07\"] }", "{ any = [\"anchor-az07\", \"anchor-az06\"] }"), &[]);
    assert_changes(&edited("down_quorum = 2\n", ""), &[]);
}

#[test]
fn additions() {
    let new = "[[target]]\nid = \"new\"\nvantages = [\"az07\"]\n[[service]]\nid = \"new\"\nindicator = \"IC-INFRA-SNC-10.2\"\nneeds = \"s3-fr1\"\n";
    assert_changes(&format!("{SOUND}{new}"), &["vantage `az07`: added", "target `new`: added", "service `new`: added"]);
    assert!(changes(SOUND, &format!("{SOUND}{new}")).iter().all(|change| !change.moves_the_past_before(Time::LATEST)));
}

#[test]
fn removals_move_the_past() {
    let found = changes(&format!("{SOUND}[[target]]\nid = \"old\"\nvantages = [\"az05\"]\n"), SOUND);
    assert_eq!(found, [Change { what: "target `old`".to_owned(), kind: ChangeKind::Removed, from: None }]);
    assert!(found[0].moves_the_past_before(Time::EARLIEST));
    assert_eq!(found[0].to_string(), "target `old`: removed for all time, the past included");
}

#[test]
fn globals_are_for_all_time() {
    let text = SOUND
        .replace("\"acme\"", "\"other\"")
        .replace("Europe/Paris", "UTC")
        .replace("settle = \"3s\"", "settle = \"4s\"")
        .replace("\"15m\"", "\"16m\"")
        .replace("\"96h\"", "\"97h\"");
    let all = ["tenant", "timezone", "settle", "claim_horizon", "late_horizon"]
        .map(|key| format!("`{key}`: changed for all time, the past included"));
    assert_changes(&text, &all.each_ref().map(String::as_str));
}

#[test]
fn an_edit_in_place_is_for_all_time() {
    let all_time = ": changed for all time, the past included";
    for (from, to, what) in [
        ("\"99.99\"", "\"99.98\"", "indicator `IC-INFRA-SNC-10.2`"),
        ("\"maintenance\", ", "", "indicator `IC-INFRA-SNC-10.2`"),
        ("id = \"az05\"\nanchors = [\"anchor-az06\", ", "id = \"az05\"\nanchors = [\"s3-fr1\", ", "vantage `az05`"),
        ("down_quorum = 2", "down_quorum = 1", "target `s3-fr1`"),
        ("\"150ms\"", "\"151ms\"", "target `s3-fr1`"),
        ("vantages = [\"az05\"]", "vantages = [\"az06\"]", "target `anchor-az06`"),
        ("{ any =", "{ all =", "service `s3/fr1`"),
        ("since = 2026-01-01", "since = 2026-01-02", "service `s3/fr1`"),
        ("stable_up = \"30s\"\ncontractual", "stable_up = \"31s\"\ncontractual", "service `s3/fr1`"),
        ("contractual = true", "contractual = false", "service `s3/fr1`"),
    ] {
        assert_changes(&edited(from, to), &[&format!("{what}{all_time}")]);
    }
}

#[test]
fn the_default_of_stable_up_reaches_the_services_that_rely_on_it() {
    let relying = SOUND.replace("stable_up = \"30s\"\ncontractual", "contractual");
    assert!(changes(SOUND, &relying).is_empty());
    let found = changes(&relying, &relying.replace("stable_up = \"30s\"", "stable_up = \"60s\""));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].what, "service `s3/fr1`");
}

#[test]
fn what_only_probes_and_people_read() {
    let only = "changed for probes and people only";
    assert_changes(&edited("bucket = \"canary\"", "bucket = \"other\""), &[&format!("target `s3-fr1`: {only}")]);
    assert_changes(&edited("Disponibilité", "Disponibilite"), &[&format!("indicator `IC-INFRA-SNC-10.2`: {only}")]);
    let found = changes(SOUND, &edited("bucket = \"canary\"", "bucket = \"other\""));
    assert!(!found[0].moves_the_past_before(Time::LATEST));
}

#[test]
fn a_new_version_changes_from_its_since() {
    let version = "[[target]]\nid = \"s3-fr1\"\nvantages = [\"az05\"]\nsince = 2026-06-01T00:00:00Z\n";
    let new = format!("{SOUND}{version}");
    assert_changes(&new, &["target `s3-fr1`: changed from 2026-06-01T00:00:00Z"]);
    let change = &changes(SOUND, &new)[0];
    let june = change.from.unwrap();
    assert!(!change.moves_the_past_before(june));
    assert!(change.moves_the_past_before(june + crate::Span::from_us(1)));

    // Moving that version to July changes June.
    let moved = changes(&new, &new.replace("2026-06", "2026-07"));
    assert_eq!(moved[0].from, Some(june));
}

#[test]
fn the_start_of_a_target_version_matters_by_itself() {
    // It bounds backdating (SPEC §3.4).
    let same = "[[target]]\nid = \"anchor-az06\"\nvantages = [\"az05\"]\nsince = 2026-06-01T00:00:00Z\n";
    assert_changes(&format!("{SOUND}{same}"), &["target `anchor-az06`: changed from 2026-06-01T00:00:00Z"]);
    let same = "[[service]]\nid = \"s3/fr1\"\nneeds = { all = [\"s3-fr1\", { any = [\"anchor-az06\", \"anchor-az07\"] }] }\nsince = 2026-06-01T00:00:00Z\nuntil = 2027-01-01T00:00:00+01:00\n";
    assert_changes(&format!("{SOUND}{same}"), &[]);
}

#[test]
fn another_end_changes_from_the_earlier_one() {
    let until = |year: &str| edited("until = 2027-01-01", &format!("until = {year}-01-01"));
    assert_changes(&until("2028"), &["service `s3/fr1`: changed from 2026-12-31T23:00:00Z"]);
    assert_changes(&edited("until = 2027-01-01T00:00:00+01:00\n", ""), &["service `s3/fr1`: changed from 2026-12-31T23:00:00Z"]);
    assert_changes(
        &edited("until = 2027-01-01T00:00:00+01:00", "until = 2026-09-01T00:00:00Z"),
        &["service `s3/fr1`: changed from 2026-09-01T00:00:00Z"],
    );
}

#[test]
fn without_since_whatever_a_version_reaches_may_move_the_start() {
    let open = edited("since = 2026-01-01T00:00:00+01:00\n", "");
    let later = "[[target]]\nid = \"new\"\nvantages = [\"az05\"]\n[[service]]\nid = \"s3/fr1\"\nneeds = \"new\"\nsince = 2026-06-01T00:00:00Z\nuntil = 2027-01-01T00:00:00+01:00\n";
    let told: Vec<_> = changes(&open, &format!("{open}{later}")).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["target `new`: added", "service `s3/fr1`: changed for all time, the past included"]);
    assert_changes(&format!("{SOUND}{later}"), &["target `new`: added", "service `s3/fr1`: changed from 2026-06-01T00:00:00Z"]);
}
