use super::{assert_problems, edited};
use crate::catalogue::Strictness::Replay;

#[track_caller]
fn assert_edit(from: &str, to: &str, expected: &[&str]) {
    assert_problems(&edited(from, to), Replay, expected);
}

#[test]
fn unknown_keys() {
    assert_edit("tenant =", "tennant =", &["x"]);
    assert_edit("down_quorum =", "qourum =", &["x"]);
    assert_edit("\"anchor-az07\"] }] }", "\"anchor-az07\"], of = [] }] }", &["x"]);
    assert_edit("needs = { all", "needs = { every", &["x"]);
    assert_edit("tenant = \"acme\"", "[[services]]\nid = 3", &["x"]);
}

#[test]
fn missing_keys() {
    assert_problems("[[indicator]]\n[[target]]\n[[service]]\n[[vantage]]\n", Replay, &["x"]);
}

#[test]
fn wrong_shapes() {
    let text = "tenant = 5\ntimezone = []\nsettle = true\nindicator = 1\ntarget = [1]\n[vantage]\nid = \"v\"\n[[service]]\nid = \"\"\nneeds = 5\nsince = 1\ncontractual = \"yes\"\ngroup = \"\"\n";
    assert_problems(text, Replay, &["x"]);
}

#[test]
fn dangling_names() {
    assert_edit("indicator = \"IC-INFRA-SNC-10.2\"", "indicator = \"IC-INFRA-SNC-10.3\"", &["x"]);
    assert_edit("\"s3-fr1\", {", "\"s3-fr2\", {", &["x"]);
    assert_edit("id = \"az05\"\nanchors = [\"anchor-az06\"", "id = \"az05\"\nanchors = [\"completely-else\"", &["x"]);
}

#[test]
fn names_that_mean_two_things() {
    let text = edited("id = \"anchor-az07\"\nvantages", "id = \"s3/fr1\"\nvantages").replace("\"anchor-az07\"", "\"s3/fr1\"");
    assert_problems(&text, Replay, &["x"]);
    assert_edit("down_quorum = 2", "down_quorum = 2\n[[target]]\nid=\"x\"\nvantages = [\"az05\", \"az06\", \"az05\"]", &["x"]);
}

#[test]
fn cycles() {
    let text = r#"indicator = [{ id = "i", objective = 97 }]
target = [{ id = "t", vantages = ["a"] }]
service = [
    { id = "outside", indicator = "i", needs = "a" },
    { id = "a", indicator = "i", needs = { all = ["t", "b"] } },
    { id = "b", indicator = "i", needs = "c" },
    { id = "c", indicator = "i", needs = { any = ["t", "a"] } },
    { id = "self", indicator = "nope", needs = "self" },
    { id = "v", indicator = "i", needs = "t" },
    { id = "v", needs = "w", since = 2026-01-01T00:00:00Z },
    { id = "w", indicator = "i", needs = "v" },
]
"#;
    assert_problems(text, Replay, &["x"]);
}

#[test]
fn quorums_and_counts() {
    assert_edit("down_quorum = 2", "down_quorum = 3", &["x"]);
    assert_edit("down_quorum = 2", "down_quorum = 0", &["x"]);
    assert_edit("down_quorum = 2", "down_quorum = -1", &["x"]);
    assert_edit("down_quorum = 2", "down_quorum = 99999999999999999999", &["x"]);
    assert_edit("down_quorum = 2", "down_quorum = 1.5", &["x"]);
    let at_least = |k: &str| {
        edited("{ any = [\"anchor-az06\", \"anchor-az07\"] }", &format!("{{ at_least = {k}, of = [\"anchor-az06\", \"anchor-az07\"] }}"))
    };
    assert_problems(&at_least("1"), Replay, &[]);
    assert_problems(&at_least("2"), Replay, &[]);
    assert_problems(&at_least("0"), Replay, &["x"]);
    assert_problems(&at_least("3"), Replay, &["x"]);
    assert_edit("{ any =", "{ of =", &["x"]);
}

#[test]
fn empty_lists() {
    assert_edit("{ any = [\"anchor-az06\", \"anchor-az07\"] }", "{ any = [] }", &["x"]);
    assert_edit("vantages = [\"az05\"]", "vantages = []", &["x"]);
}

#[test]
fn versions_that_clash() {
    let target = "[[target]]\nid = \"t\"\nvantages = [\"a\"]\n";
    assert_problems(&format!("{target}{target}"), Replay, &["x"]);
    let march = format!("{target}since = 2026-03-01T00:00:00Z\n");
    let same_instant = format!("{target}since = 2026-03-01T01:00:00+01:00\n");
    assert_problems(&format!("{march}{target}{same_instant}"), Replay, &["x"]);
}

#[test]
fn mistakes_in_a_clashing_version_are_told_too() {
    assert_edit(
        "contractual = true\n",
        "contractual = true\n[[service]]\nid = \"s3/fr1\"\nsince = 2026-01-01T00:00:00+01:00\nneeds = \"nobody\"\n",
        &["x"],
    );
}

#[test]
fn what_a_service_cannot_change() {
    let later = "\n[[service]]\nid = \"s3/fr1\"\nneeds = \"s3-fr1\"\nsince = 2026-06-01T00:00:00Z\n";
    let text = format!("{}{later}indicator = \"other\"\nstable_up = \"31s\"\ncontractual = false\ngroup = \"side\"\n", super::SOUND);
    assert_problems(&text, Replay, &["x"]);
    let text = format!("{}{later}indicator = \"IC-INFRA-SNC-10.2\"\nstable_up = \"30s\"\ncontractual = true\n", super::SOUND);
    assert_problems(&text, Replay, &[]);
}

#[test]
fn a_service_that_ends_before_it_begins() {
    assert_edit("until = 2027", "until = 2026", &["x"]);
}

#[test]
fn date_times() {
    assert_edit("since = 2026-01-01T00:00:00+01:00", "since = 2026-01-01T00:00:00", &["x"]);
    assert_edit("since = 2026-01-01T00:00:00+01:00", "since = 2026-01-01", &["x"]);
    assert_edit("since = 2026-01-01T00:00:00+01:00", "since = 00:00:00", &["x"]);
    assert_edit("since = 2026-01-01T00:00:00+01:00", "since = \"New Year\"", &["x"]);
    assert_edit("until = 2027-01-01T00:00:00+01:00", "until = 9999-12-31T00:00:00Z", &["x"]);
    assert_edit("since = 2026-01-01T00:00:00+01:00", "since = 2026-02-30T00:00:00Z", &["x"]);
}

#[test]
fn an_unclear_since_is_told_once() {
    let target = "[[target]]\nid = \"t\"\nvantages = [\"a\"]\n";
    assert_problems(&format!("{target}{target}since = 2026-03-01\n"), Replay, &["x"]);
}

#[test]
fn a_later_version_of_an_indicator_begins_with_a_month() {
    let later = |since: &str| {
        edited(
            "[[vantage]]\nid = \"az05\"",
            &format!("[[indicator]]\nid = \"IC-INFRA-SNC-10.2\"\nobjective = 99\nsince = {since}\n[[vantage]]\nid = \"az05\""),
        )
    };
    assert_problems(&later("2026-11-01T00:00:00+01:00"), Replay, &[]);
    assert_problems(&later("2026-11-01T00:00:00Z"), Replay, &["x"]);
    assert_problems(&later("2026-10-31T23:00:00.000001Z"), Replay, &["x"]);
}

#[test]
fn objectives_durations_and_zones() {
    for objective in ["\"99.99999\"", "100.01", "-1", "nan", "1e1", "\"99,9\"", "\"\"", "true"] {
        let found = super::read(&edited("\"99.99\"", objective), Replay);
        assert_eq!(found.len(), 1, "{objective}: {found:?}");
        assert!(found[0].starts_with("11:13 `objective`"), "{objective}: {found:?}");
    }
    assert_edit("\"99.99\"", "\"99.99999\"", &["x"]);
    assert_edit("\"maintenance\", ", "\"maintenence\", ", &["x"]);
    assert_edit("settle = \"3s\"", "settle = \"3\"", &["x"]);
    assert_edit("settle = \"3s\"", "settle = -1", &["x"]);
    assert_edit("settle = \"3s\"", "settle = \"3 seconds\"", &["x"]);
    assert_edit("settle = \"3s\"", "settle = \"4000d\"", &["x"]);
    assert_edit("late_horizon = \"96h\"", "late_horizon = 0", &["x"]);
    assert_edit("Europe/Paris", "Europe/Pariss", &["x"]);
    assert_edit("region = \"fr1\" }", "region = nan }", &["x"]);
}

#[test]
fn toml_that_is_none() {
    assert_edit("tenant = \"acme\"", "tenant = \"acme", &["x"]);
    assert_edit("tenant = \"acme\"", "tenant = \"acme\"\ntenant = \"other\"", &["x"]);
    assert_edit("[[target]]\nid = \"s3-fr1\"", "[[target]\nid = \"s3-fr1\"", &["x"]);
    // What the parser lost proves nothing: no dangling name is claimed, but what can be read is looked through.
    assert_edit("id = \"anchor-az07\"\nvantages = [\"az05\", \"az06\"]", "id = anchor-az07\nvantages = [\"az05\", \"az05\"]", &["x"]);
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_text() {
    let text = edited("\"99.99\"", "\"100.5\"")
        .replace("Europe/Paris", "Europe/Atlantis")
        .replace("down_quorum = 2", "down_quorum = 5")
        .replace("\"s3-fr1\", {", "\"s3-fr9\", {")
        .replace("until = 2027-01-01T00:00:00+01:00", "until = 2027-01-01");
    assert_problems(&text, Replay, &["x"]);
}

#[test]
fn columns_count_characters() {
    assert_problems("\"é\" = 1\n\"éé\" = { }\ntenant = 'é' # é\nsettle = 'é'\n", Replay, &["x"]);
}
