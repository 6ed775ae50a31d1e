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
    assert_live_only(&text, &["x"]);
}

#[test]
fn two_attempts_must_fit_into_a_period() {
    let timeout =
        |timeout: &str| edited("timeout = \"2s\"\ncheck = { kind = \"s3\"", &format!("timeout = {timeout}\ncheck = {{ kind = \"s3\""));
    assert_live_only(&timeout("4_449_999"), &[]);
    assert_live_only(&timeout("4_450_000"), &["x"]);
    let text = edited(
        "period = \"10s\"\ntimeout = \"2s\"\ncheck = { kind = \"s3\"",
        "period = \"25h\"\ntimeout = \"2s\"\ncheck = { kind = \"s3\"",
    );
    assert_live_only(&text, &["x"]);
}

#[test]
fn a_vantage_must_be_declared() {
    assert_live_only(&edited("vantages = [\"az05\"]", "vantages = [\"az5\"]"), &["x"]);
    assert_live_only(&edited("vantages = [\"az05\"]", "vantages = [\"elsewhere\"]"), &["x"]);
}

#[test]
fn a_contractual_service_must_say_since_when() {
    let text = edited("since = 2026-01-01T00:00:00+01:00\n", "");
    assert_live_only(&text, &["x"]);
    let target = "[[service]]\nid = \"dashboard\"\nindicator = \"IC-INFRA-SNC-10.2\"\nneeds = \"s3-fr1\"\ncontractual = false\n";
    assert_live_only(&format!("{SOUND}{target}"), &[]);
}

#[test]
fn an_unreadable_since_is_not_a_missing_one() {
    assert_problems(&edited("since = 2026-01-01T00:00:00+01:00", "since = 2026-01-01"), Live, &["x"]);
}

#[test]
fn a_vantage_needs_two_anchors() {
    assert_live_only(
        &edited("id = \"az06\"\nanchors = [\"anchor-az06\", \"anchor-az07\"]", "id = \"az06\"\nanchors = [\"anchor-az06\"]"),
        &["x"],
    );
    assert_live_only(&edited("id = \"az06\"\nanchors = [\"anchor-az06\", \"anchor-az07\"]", "id = \"az06\""), &["x"]);
    let none = SOUND.replace("anchors = [\"anchor-az06\", \"anchor-az07\"]\n", "");
    assert_live_only(&none, &["x"]);
}

#[test]
fn anchors_must_be_accounted() {
    let text = edited("{ all = [\"s3-fr1\", { any = [\"anchor-az06\", \"anchor-az07\"] }] }", "\"inner\"");
    let inner = "[[service]]\nid = \"inner\"\nindicator = \"IC-INFRA-SNC-10.2\"\ncontractual = false\nneeds = ";
    assert_live_only(&format!("{text}{inner}\"anchor-az07\"\n"), &["x"]);
    assert_live_only(&format!("{text}{inner}{{ any = [\"anchor-az06\", \"anchor-az07\"] }}\n"), &[]);
}

#[test]
fn no_service_spans_groups() {
    assert_live_only(&edited("group = \"main\"", "group = \"side\""), &["x"]);
}

#[test]
fn anchors_inside_the_region_are_a_warning() {
    let text = edited("outside = true", "outside = false");
    assert_live_only(&text, &["x"]);
    assert!(Catalogue::read(&text, Live).is_ok());
}

#[test]
fn an_until_that_ends_nothing_is_a_warning() {
    let later = "\n[[service]]\nid = \"s3/fr1\"\nneeds = { all = [\"anchor-az06\", \"anchor-az07\"] }\nsince = 2026-06-01T00:00:00Z\n";
    let text = format!("{SOUND}{later}");
    assert_live_only(&text, &["x"]);
    assert!(Catalogue::read(&text, Live).is_ok());
}

#[test]
fn what_live_asks_for_comes_with_the_other_mistakes() {
    let text = edited("down_quorum = 2", "down_quorum = 9")
        .replace("timeout = \"2s\"\ncheck = { kind = \"tcp\" }\n", "")
        .replace("needs = {", "needs = \"nobody\" #");
    assert_problems(&text, Live, &["x"]);
}
