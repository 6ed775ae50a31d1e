use super::{SOUND, assert_problems, edited};
use crate::catalogue::Catalogue;
use crate::catalogue::Strictness::{Live, Replay};

#[track_caller]
fn assert_live_only(text: &str, expected: &[&str]) {
    assert_problems(text, Live, expected);
    assert_problems(text, Replay, &[]);
}

#[test]
fn a_target_must_say_how_it_is_probed() {
    let text = edited("period = \"10s\"\ntimeout = \"2s\"\ncheck = { kind = \"tcp\" }\n", "");
    assert_live_only(
        &text,
        &[
            "38:1 target `anchor-az07` has no `period` (`period` is missing); a probe needs `period` to measure it",
            "38:1 target `anchor-az07` has no `timeout` (`timeout` is missing); a probe needs `timeout` to measure it",
            "38:1 target `anchor-az07` has no `check` (`check` is missing); a probe needs `check` to measure it",
        ],
    );
}

#[test]
fn two_attempts_must_fit_into_a_period() {
    let timeout =
        |timeout: &str| edited("timeout = \"2s\"\ncheck = { kind = \"s3\"", &format!("timeout = {timeout}\ncheck = {{ kind = \"s3\""));
    assert_live_only(&timeout("4_449_999"), &[]);
    assert_live_only(
        &timeout("4_450_000"),
        &[
            "27:10 two attempts at `s3-fr1` do not fit into its period (must exceed 10s); 2 · timeout + 1.1s < period: lengthen the period or shorten the timeout of 4s450ms",
        ],
    );
    let text = edited(
        "period = \"10s\"\ntimeout = \"2s\"\ncheck = { kind = \"s3\"",
        "period = \"25h\"\ntimeout = \"2s\"\ncheck = { kind = \"s3\"",
    );
    assert_live_only(&text, &["27:10 the period and timeout of `s3-fr1` cannot exceed 24h (too long)"]);
}

#[test]
fn a_vantage_must_be_declared() {
    assert_live_only(
        &edited("vantages = [\"az05\"]", "vantages = [\"az5\"]"),
        &["33:13 vantage `az5` is not declared (a silent voter, if it is a typo); did you mean `az05`?"],
    );
    assert_live_only(
        &edited("vantages = [\"az05\"]", "vantages = [\"elsewhere\"]"),
        &[
            r#"33:13 vantage `elsewhere` is not declared (a silent voter, if it is a typo); add [[vantage]] with id = "elsewhere" and its anchors"#,
        ],
    );
}

#[test]
fn a_contractual_service_must_say_since_when() {
    let text = edited("since = 2026-01-01T00:00:00+01:00\n", "");
    assert_live_only(
        &text,
        &[
            "45:1 contractual service `s3/fr1` has no `since` (`since` is missing); write the instant from which the contract measures it, or `contractual = false`",
        ],
    );
    let target = "[[service]]\nid = \"dashboard\"\nindicator = \"IC-INFRA-SNC-10.2\"\nneeds = \"s3-fr1\"\ncontractual = false\n";
    assert_live_only(&format!("{SOUND}{target}"), &[]);
}

#[test]
fn an_unreadable_since_is_not_a_missing_one() {
    assert_problems(
        &edited("since = 2026-01-01T00:00:00+01:00", "since = 2026-01-01"),
        Live,
        &[
            "49:9 `since`: a date-time needs a date, a time and an offset (which instant this is depends on where one stands); write 2026-01-01T00:00:00+01:00, with the offset you mean",
        ],
    );
}

#[test]
fn a_vantage_needs_two_anchors() {
    assert_live_only(
        &edited("id = \"az06\"\nanchors = [\"anchor-az06\", \"anchor-az07\"]", "id = \"az06\"\nanchors = [\"anchor-az06\"]"),
        &["20:11 vantage `az06` has 1 anchor (at least two are needed); without them, a cut-off probe cannot be told from an outage"],
    );
    assert_live_only(
        &edited("id = \"az06\"\nanchors = [\"anchor-az06\", \"anchor-az07\"]", "id = \"az06\""),
        &["18:1 vantage `az06` has 0 anchors (at least two are needed); without them, a cut-off probe cannot be told from an outage"],
    );
    let none = SOUND.replace("anchors = [\"anchor-az06\", \"anchor-az07\"]\n", "");
    assert_live_only(
        &none,
        &[
            "14:1 vantage `az05` has 0 anchors (at least two are needed); without them, a cut-off probe cannot be told from an outage",
            "17:1 vantage `az06` has 0 anchors (at least two are needed); without them, a cut-off probe cannot be told from an outage",
        ],
    );
}

#[test]
fn anchors_must_be_accounted() {
    let text = edited("{ all = [\"s3-fr1\", { any = [\"anchor-az06\", \"anchor-az07\"] }] }", "\"inner\"");
    let inner = "[[service]]\nid = \"inner\"\nindicator = \"IC-INFRA-SNC-10.2\"\ncontractual = false\nneeds = ";
    assert_live_only(
        &format!("{text}{inner}\"anchor-az07\"\n"),
        &[
            "16:12 no counted service needs the anchor `anchor-az06` (gates, but is not accounted); what gates a vantage must itself be accounted: let a contractual service need it",
            "20:12 no counted service needs the anchor `anchor-az06` (gates, but is not accounted); what gates a vantage must itself be accounted: let a contractual service need it",
        ],
    );
    assert_live_only(&format!("{text}{inner}{{ any = [\"anchor-az06\", \"anchor-az07\"] }}\n"), &[]);
}

#[test]
fn no_service_spans_groups() {
    assert_live_only(
        &edited("group = \"main\"", "group = \"side\""),
        &[
            "46:6 service `s3/fr1` of group `side` needs `s3-fr1` of group `main` (spans groups); give both the same `group`: no service spans groups",
            "46:6 service `s3/fr1` of group `side` needs `anchor-az06` of group `main` (spans groups); give both the same `group`: no service spans groups",
            "46:6 service `s3/fr1` of group `side` needs `anchor-az07` of group `main` (spans groups); give both the same `group`: no service spans groups",
        ],
    );
}

#[test]
fn anchors_inside_the_region_are_a_warning() {
    let text = edited("outside = true", "outside = false");
    assert_live_only(
        &text,
        &[
            "16:11 warning: all anchors are inside the region (and so are those of every other vantage); add one beyond it, and say so in its check: outside = true",
        ],
    );
    assert!(Catalogue::read(&text, Live).is_ok());
}

#[test]
fn an_until_that_ends_nothing_is_a_warning() {
    let later = "\n[[service]]\nid = \"s3/fr1\"\nneeds = { all = [\"anchor-az06\", \"anchor-az07\"] }\nsince = 2026-06-01T00:00:00Z\n";
    let text = format!("{SOUND}{later}");
    assert_live_only(
        &text,
        &[
            "50:9 warning: this `until` does not end service `s3/fr1` (a later version follows); a service ends by the `until` of its last version [55:1 the last version]",
        ],
    );
    assert!(Catalogue::read(&text, Live).is_ok());
}

#[test]
fn what_live_asks_for_comes_with_the_other_mistakes() {
    let text = edited("down_quorum = 2", "down_quorum = 9")
        .replace("timeout = \"2s\"\ncheck = { kind = \"tcp\" }\n", "")
        .replace("needs = {", "needs = \"nobody\" #");
    assert_problems(
        &text,
        Live,
        &[
            "25:15 `down_quorum`: a quorum of 9 is out of range (2 vantages assigned); write a number from 1 to 2, or leave it out for 2",
            "38:1 target `anchor-az07` has no `timeout` (`timeout` is missing); a probe needs `timeout` to measure it",
            "38:1 target `anchor-az07` has no `check` (`check` is missing); a probe needs `check` to measure it",
            "46:9 there is no target or service `nobody` (unknown name); define it, or name one that is defined",
        ],
    );
}
