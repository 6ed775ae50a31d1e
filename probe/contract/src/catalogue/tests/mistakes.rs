use super::{assert_problems, edited};
use crate::catalogue::Strictness::Replay;

#[track_caller]
fn assert_edit(from: &str, to: &str, expected: &[&str]) {
    assert_problems(&edited(from, to), Replay, expected);
}

#[test]
fn unknown_keys() {
    assert_edit("tenant =", "tennant =", &["1:1 unknown key `tennant` in the catalogue (unknown key); did you mean `tenant`?"]);
    assert_edit(
        "down_quorum =",
        "qourum =",
        &[
            "25:1 unknown key `qourum` in this [[target]] (unknown key); it may have: id, since, vantages, down_quorum, latency_objective, period, timeout, check, group",
        ],
    );
    assert_edit(
        "\"anchor-az07\"] }] }",
        "\"anchor-az07\"], of = [] }] }",
        &[
            "48:28 `needs` has no such expression (not an expression); write a name, { all = […] }, { any = […] } or { at_least = k, of = […] }",
        ],
    );
    assert_edit(
        "needs = { all",
        "needs = { every",
        &[
            "48:9 `needs` has no such expression (not an expression); write a name, { all = […] }, { any = […] } or { at_least = k, of = […] }",
            "48:11 unknown key `every` in this `needs` (unknown key); it may have: all, any, at_least, of",
        ],
    );
    assert_edit(
        "tenant = \"acme\"",
        "[[services]]\nid = 3",
        &["1:3 unknown key `services` in the catalogue (unknown key); did you mean `service`?"],
    );
}

#[test]
fn missing_keys() {
    assert_problems(
        "[[indicator]]\n[[target]]\n[[service]]\n[[vantage]]\n",
        Replay,
        &[
            "1:1 this [[indicator]] has no `id` (`id` is missing); add `id = …`",
            "1:1 this [[indicator]] has no `objective` (`objective` is missing); add `objective = …`",
            "2:1 this [[target]] has no `id` (`id` is missing); add `id = …`",
            "2:1 this [[target]] has no `vantages` (`vantages` is missing); add `vantages = …`",
            "3:1 this [[service]] has no `id` (`id` is missing); add `id = …`",
            "3:1 this [[service]] has no `needs` (`needs` is missing); add `needs = …`",
            "4:1 this [[vantage]] has no `id` (`id` is missing); add `id = …`",
        ],
    );
}

#[test]
fn wrong_shapes() {
    let text = "tenant = 5\ntimezone = []\nsettle = true\nindicator = 1\ntarget = [1]\n[vantage]\nid = \"v\"\n[[service]]\nid = \"\"\nneeds = 5\nsince = 1\ncontractual = \"yes\"\ngroup = \"\"\n";
    assert_problems(
        text,
        Replay,
        &[
            "1:10 `tenant` must be a string (expected a string, found integer)",
            "2:12 `timezone` must be a string (expected a string, found array)",
            r#"3:10 `settle` must be a duration such as "10s", or whole microseconds (expected a duration such as "10s", or whole microseconds, found boolean)"#,
            "4:13 `indicator` must be a list of tables (expected a list of tables, found integer); begin every block with [[indicator]], in double brackets",
            "5:11 `target` must be a list of tables (expected a list of tables, found integer); begin every block with [[target]], in double brackets",
            "6:1 `vantage` must be a list of tables (expected a list of tables, found table); begin every block with [[vantage]], in double brackets",
            "9:6 `id`: a name cannot be empty (empty)",
            "10:9 `needs` must be a name or an expression (expected a name or an expression, found integer); write a name, { all = […] }, { any = […] } or { at_least = k, of = […] }",
            "11:9 `since` must be a date-time such as 2026-01-01T00:00:00+01:00 (expected a date-time such as 2026-01-01T00:00:00+01:00, found integer)",
            "12:15 `contractual` must be `true` or `false` (expected `true` or `false`, found string)",
            "13:9 `group`: a name cannot be empty (empty)",
        ],
    );
}

#[test]
fn dangling_names() {
    assert_edit(
        "indicator = \"IC-INFRA-SNC-10.2\"",
        "indicator = \"IC-INFRA-SNC-10.3\"",
        &["47:13 there is no indicator `IC-INFRA-SNC-10.3` (unknown name); did you mean `IC-INFRA-SNC-10.2`?"],
    );
    assert_edit("\"s3-fr1\", {", "\"s3-fr2\", {", &["48:18 there is no target or service `s3-fr2` (unknown name); did you mean `s3-fr1`?"]);
    assert_edit(
        "id = \"az05\"\nanchors = [\"anchor-az06\"",
        "id = \"az05\"\nanchors = [\"completely-else\"",
        &["16:12 there is no target `completely-else` (unknown name); define it, or name one that is defined"],
    );
}

#[test]
fn names_that_mean_two_things() {
    let text = edited("id = \"anchor-az07\"\nvantages", "id = \"s3/fr1\"\nvantages").replace("\"anchor-az07\"", "\"s3/fr1\"");
    assert_problems(
        &text,
        Replay,
        &[
            "46:6 `s3/fr1` is the id of a target and of a service (the service); rename one of them: `needs` could mean either [39:6 the target]",
        ],
    );
    assert_edit(
        "down_quorum = 2",
        "down_quorum = 2\n[[target]]\nid=\"x\"\nvantages = [\"az05\", \"az06\", \"az05\"]",
        &["28:29 `vantages` names `az05` twice (again here); each counts once: remove one [28:13 first here]"],
    );
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
    assert_problems(
        text,
        Replay,
        &[
            "5:12 services need each other: a → b → c → a (part of a cycle); take one of these needs away",
            "8:12 services need each other: self → self (part of a cycle); take one of these needs away",
            "8:32 there is no indicator `nope` (unknown name); define it, or name one that is defined",
            "9:12 services need each other: v → w → v (part of a cycle); take one of these needs away",
        ],
    );
}

#[test]
fn quorums_and_counts() {
    assert_edit(
        "down_quorum = 2",
        "down_quorum = 3",
        &["25:15 `down_quorum`: a quorum of 3 is out of range (2 vantages assigned); write a number from 1 to 2, or leave it out for 2"],
    );
    assert_edit(
        "down_quorum = 2",
        "down_quorum = 0",
        &["25:15 `down_quorum`: a quorum of 0 is out of range (2 vantages assigned); write a number from 1 to 2, or leave it out for 2"],
    );
    assert_edit("down_quorum = 2", "down_quorum = -1", &["25:15 `down_quorum`: a count cannot be negative (negative)"]);
    assert_edit(
        "down_quorum = 2",
        "down_quorum = 99999999999999999999",
        &["25:15 `down_quorum` must be a whole number (expected a whole number, found more than 64 bits hold)"],
    );
    assert_edit(
        "down_quorum = 2",
        "down_quorum = 1.5",
        &["25:15 `down_quorum` must be a whole number (expected a whole number, found float)"],
    );
    let at_least = |k: &str| {
        edited("{ any = [\"anchor-az06\", \"anchor-az07\"] }", &format!("{{ at_least = {k}, of = [\"anchor-az06\", \"anchor-az07\"] }}"))
    };
    assert_problems(&at_least("1"), Replay, &[]);
    assert_problems(&at_least("2"), Replay, &[]);
    assert_problems(&at_least("0"), Replay, &["48:41 `at_least`: 0 of 2 is out of range (1 to 2); write a number from 1 to 2"]);
    assert_problems(&at_least("3"), Replay, &["48:41 `at_least`: 3 of 2 is out of range (1 to 2); write a number from 1 to 2"]);
    assert_edit(
        "{ any =",
        "{ of =",
        &[
            "48:28 `needs` has no such expression (not an expression); write a name, { all = […] }, { any = […] } or { at_least = k, of = […] }",
        ],
    );
}

#[test]
fn empty_lists() {
    assert_edit(
        "{ any = [\"anchor-az06\", \"anchor-az07\"] }",
        "{ any = [] }",
        &["48:36 `any`: an empty list promises nothing (empty); name at least one target or service"],
    );
    assert_edit(
        "vantages = [\"az05\"]",
        "vantages = []",
        &["33:12 `vantages`: a target needs a vantage (nobody checks it); name at least one vantage"],
    );
}

#[test]
fn versions_that_clash() {
    let target = "[[target]]\nid = \"t\"\nvantages = [\"a\"]\n";
    assert_problems(
        &format!("{target}{target}"),
        Replay,
        &[
            "5:6 two blocks of `t` without `since` (second block); versions of one thing need different `since`; different things need different ids [2:6 first block]",
        ],
    );
    let march = format!("{target}since = 2026-03-01T00:00:00Z\n");
    let same_instant = format!("{target}since = 2026-03-01T01:00:00+01:00\n");
    assert_problems(
        &format!("{march}{target}{same_instant}"),
        Replay,
        &[
            "9:6 two versions of `t` begin at 2026-03-01T00:00:00Z (second block); versions of one thing need different `since`; different things need different ids [2:6 first block]",
        ],
    );
}

#[test]
fn mistakes_in_a_clashing_version_are_told_too() {
    assert_edit(
        "contractual = true\n",
        "contractual = true\n[[service]]\nid = \"s3/fr1\"\nsince = 2026-01-01T00:00:00+01:00\nneeds = \"nobody\"\n",
        &[
            "55:6 two versions of `s3/fr1` begin at 2025-12-31T23:00:00Z (second block); versions of one thing need different `since`; different things need different ids [46:6 first block]",
            "57:9 there is no target or service `nobody` (unknown name); define it, or name one that is defined",
        ],
    );
}

#[test]
fn what_a_service_cannot_change() {
    let later = "\n[[service]]\nid = \"s3/fr1\"\nneeds = \"s3-fr1\"\nsince = 2026-06-01T00:00:00Z\n";
    let text = format!("{}{later}indicator = \"other\"\nstable_up = \"31s\"\ncontractual = false\ngroup = \"side\"\n", super::SOUND);
    assert_problems(
        &text,
        Replay,
        &[
            "55:1 the group of `s3/fr1` cannot change from `main` to `side` (another group); write the same `group` in every block [45:1 the first block]",
            "59:13 `indicator` of service `s3/fr1` cannot change (differs from the first block's); leave `indicator` out here, or give the changed service another id [45:1 the first block]",
            "60:13 `stable_up` of service `s3/fr1` cannot change (differs from the first block's); leave `stable_up` out here, or give the changed service another id [45:1 the first block]",
            "61:15 `contractual` of service `s3/fr1` cannot change (differs from the first block's); leave `contractual` out here, or give the changed service another id [45:1 the first block]",
        ],
    );
    let text = format!("{}{later}indicator = \"IC-INFRA-SNC-10.2\"\nstable_up = \"30s\"\ncontractual = true\n", super::SOUND);
    assert_problems(&text, Replay, &[]);
}

#[test]
fn a_service_that_ends_before_it_begins() {
    assert_edit(
        "until = 2027",
        "until = 2026",
        &["50:9 service `s3/fr1` ends before it begins (the end); `until` must be later than `since` [49:9 the beginning]"],
    );
}

#[test]
fn date_times() {
    assert_edit(
        "since = 2026-01-01T00:00:00+01:00",
        "since = 2026-01-01T00:00:00",
        &[
            "49:9 `since`: a date-time needs a date, a time and an offset (which instant this is depends on where one stands); write 2026-01-01T00:00:00+01:00, with the offset you mean",
        ],
    );
    assert_edit(
        "since = 2026-01-01T00:00:00+01:00",
        "since = 2026-01-01",
        &[
            "49:9 `since`: a date-time needs a date, a time and an offset (which instant this is depends on where one stands); write 2026-01-01T00:00:00+01:00, with the offset you mean",
        ],
    );
    assert_edit(
        "since = 2026-01-01T00:00:00+01:00",
        "since = 00:00:00",
        &[
            "49:9 `since`: a date-time needs a date, a time and an offset (which instant this is depends on where one stands); write 2026-01-01T00:00:00+01:00",
        ],
    );
    assert_edit(
        "since = 2026-01-01T00:00:00+01:00",
        "since = \"New Year\"",
        &[
            "49:9 `since` must be a date-time such as 2026-01-01T00:00:00+01:00 (expected a date-time such as 2026-01-01T00:00:00+01:00, found string)",
        ],
    );
    assert_edit(
        "since = 2026-01-01T00:00:00+01:00",
        "since = 9999-12-31T00:00:00Z",
        &["49:9 `since`: there is no such instant between the years 0000 and 9999 (not in the calendar)"],
    );
    assert_edit(
        "since = 2026-01-01T00:00:00+01:00",
        "since = 2026-02-30T00:00:00Z",
        &["49:9 not TOML: invalid date, expected day between 01 and 28 (here)"],
    );
}

#[test]
fn an_unclear_since_is_told_once() {
    let target = "[[target]]\nid = \"t\"\nvantages = [\"a\"]\n";
    assert_problems(
        &format!("{target}{target}since = 2026-03-01\n"),
        Replay,
        &[
            "7:9 `since`: a date-time needs a date, a time and an offset (which instant this is depends on where one stands); write 2026-03-01T00:00:00+01:00, with the offset you mean",
        ],
    );
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
    assert_problems(
        &later("2026-11-01T00:00:00Z"),
        Replay,
        &[
            "17:9 a later version of `IC-INFRA-SNC-10.2` must begin with a month (not a local month start in Europe/Paris); 2026-11 begins at 2026-10-31T23:00:00Z, 2026-12 at 2026-11-30T23:00:00Z",
        ],
    );
    assert_problems(
        &later("2026-10-31T23:00:00.000001Z"),
        Replay,
        &[
            "17:9 a later version of `IC-INFRA-SNC-10.2` must begin with a month (not a local month start in Europe/Paris); 2026-11 begins at 2026-10-31T23:00:00Z, 2026-12 at 2026-11-30T23:00:00Z",
        ],
    );
}

#[test]
fn objectives_durations_and_zones() {
    for objective in ["\"99.99999\"", "100.01", "-1", "nan", "1e1", "\"99,9\"", "\"\"", "true"] {
        let found = super::read(&edited("\"99.99\"", objective), Replay);
        assert_eq!(found.len(), 1, "{objective}: {found:?}");
        assert!(found[0].starts_with("11:13 `objective`"), "{objective}: {found:?}");
    }
    assert_edit(
        "\"99.99\"",
        "\"99.99999\"",
        &[
            r#"11:13 `objective`: `99.99999` is not a percentage with at most four decimals (not an objective); write a decimal from 0 to 100, such as "99.99""#,
        ],
    );
    assert_edit(
        "\"maintenance\", ",
        "\"maintenence\", ",
        &["12:15 there is no exclusion of kind `maintenence` (unknown kind); did you mean `maintenance`?"],
    );
    assert_edit(
        "settle = \"3s\"",
        "settle = \"3\"",
        &[
            r#"3:10 `settle`: a duration in quotes needs a unit (not a usable duration); write "10s", "150ms", "1h30m", or whole microseconds without quotes"#,
        ],
    );
    assert_edit(
        "settle = \"3s\"",
        "settle = -1",
        &["3:10 `settle`: a duration cannot be negative (not a usable duration); durations count forwards"],
    );
    assert_edit(
        "settle = \"3s\"",
        "settle = \"3 seconds\"",
        &[r#"3:10 `settle`: not a duration (not a usable duration); write "10s", "150ms", "1h30m", or whole microseconds without quotes"#],
    );
    assert_edit(
        "settle = \"3s\"",
        "settle = \"4000d\"",
        &["3:10 `settle`: a duration cannot exceed ten years (not a usable duration); did you mean a smaller unit?"],
    );
    assert_edit("late_horizon = \"96h\"", "late_horizon = 0", &["6:16 `late_horizon`: must be longer than nothing (zero)"]);
    assert_edit(
        "Europe/Paris",
        "Europe/Pariss",
        &[
            r#"2:12 `timezone`: there is no time zone `Europe/Pariss` (unknown time zone); use an IANA name such as "Europe/Paris" or "UTC""#,
        ],
    );
    assert_edit("region = \"fr1\" }", "region = nan }", &["29:9 `check`: holds a number that does not fit 64 bits (somewhere in here)"]);
}

#[test]
fn toml_that_is_none() {
    assert_edit("tenant = \"acme\"", "tenant = \"acme", &[r#"1:15 not TOML: invalid basic string, expected `"` (here)"#]);
    assert_edit("tenant = \"acme\"", "tenant = \"acme\"\ntenant = \"other\"", &["2:1 not TOML: duplicate key (here)"]);
    assert_edit(
        "[[target]]\nid = \"s3-fr1\"",
        "[[target]\nid = \"s3-fr1\"",
        &["22:10 not TOML: unclosed array table, expected `]` (here)"],
    );
    // What the parser lost proves nothing: no dangling name is claimed, but what can be read is looked through.
    assert_edit(
        "id = \"anchor-az07\"\nvantages = [\"az05\", \"az06\"]",
        "id = anchor-az07\nvantages = [\"az05\", \"az05\"]",
        &[
            "39:6 not TOML: string values must be quoted, expected literal string (here)",
            "40:21 `vantages` names `az05` twice (again here); each counts once: remove one [40:13 first here]",
        ],
    );
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_text() {
    let text = edited("\"99.99\"", "\"100.5\"")
        .replace("Europe/Paris", "Europe/Atlantis")
        .replace("down_quorum = 2", "down_quorum = 5")
        .replace("\"s3-fr1\", {", "\"s3-fr9\", {")
        .replace("until = 2027-01-01T00:00:00+01:00", "until = 2027-01-01");
    assert_problems(
        &text,
        Replay,
        &[
            r#"2:12 `timezone`: there is no time zone `Europe/Atlantis` (unknown time zone); use an IANA name such as "Europe/Paris" or "UTC""#,
            r#"11:13 `objective`: `100.5` is not a percentage with at most four decimals (not an objective); write a decimal from 0 to 100, such as "99.99""#,
            "25:15 `down_quorum`: a quorum of 5 is out of range (2 vantages assigned); write a number from 1 to 2, or leave it out for 2",
            "48:18 there is no target or service `s3-fr9` (unknown name); did you mean `s3-fr1`?",
            "50:9 `until`: a date-time needs a date, a time and an offset (which instant this is depends on where one stands); write 2027-01-01T00:00:00+01:00, with the offset you mean",
        ],
    );
}

#[test]
fn columns_count_characters() {
    assert_problems(
        "\"é\" = 1\n\"éé\" = { }\ntenant = 'é' # é\nsettle = 'é'\n",
        Replay,
        &[
            "1:1 unknown key `é` in the catalogue (unknown key); it may have: tenant, timezone, settle, stable_up, claim_horizon, late_horizon, indicator, vantage, target, service",
            "2:1 unknown key `éé` in the catalogue (unknown key); it may have: tenant, timezone, settle, stable_up, claim_horizon, late_horizon, indicator, vantage, target, service",
            r#"4:10 `settle`: not a duration (not a usable duration); write "10s", "150ms", "1h30m", or whole microseconds without quotes"#,
        ],
    );
}
