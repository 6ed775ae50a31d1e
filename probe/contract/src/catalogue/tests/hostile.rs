use super::{SOUND, assert_problems, read};
use crate::catalogue::Strictness::{Live, Replay};

const DEEP: usize = 100_000;

/// Texts that nest so deep that a recursion over them would overflow the stack are refused in a few words.
#[track_caller]
fn assert_refused(text: &str) {
    let found = read(text, Live);
    assert!(!found.is_empty(), "accepted");
    assert!(found.iter().all(|problem| problem.len() < 1000), "{} bytes", found.iter().map(String::len).max().unwrap());
}

#[test]
fn deep_nesting() {
    assert_refused(&format!("a = {}", "[".repeat(DEEP)));
    assert_refused(&format!("a = {}{}", "[".repeat(DEEP), "]".repeat(DEEP)));
    assert_refused(&format!("a = {}1{}", "{ a = ".repeat(DEEP), " }".repeat(DEEP)));
    assert_refused(&format!("a{} = 1", ".a".repeat(DEEP)));
    assert_refused(&format!("[a{}]", ".a".repeat(DEEP)));
    assert_refused(&format!("[[a{}]]", ".a".repeat(DEEP)));
    let needs = |open: &str, close: &str| {
        let needs = format!("needs = {}\"s3-fr1\"{}", open.repeat(DEEP), close.repeat(DEEP));
        SOUND.replace("needs = {", &format!("{needs}#"))
    };
    assert_refused(&needs("{ all = [", "] }"));
    assert_refused(&SOUND.replace("check = { kind = \"tcp\" }", &format!("check = {{ a = {}{} }}", "[".repeat(DEEP), "]".repeat(DEEP))));
    assert_refused(&SOUND.replace("check = { kind = \"tcp\" }", &format!("check{} = 1", ".a".repeat(DEEP))));
}

/// Dotted headers are each within the limit, yet together nest deep.
#[test]
fn nesting_in_instalments() {
    let text = format!("[a{}]\nb{} = {}1{}\n", ".a".repeat(70), ".b".repeat(70), "[".repeat(70), "]".repeat(70));
    assert_refused(&text);
}

#[test]
fn numbers() {
    for number in [
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1e400",
        "inf",
        "-inf",
        "nan",
        "0xffffffffffffffff",
        "1.5",
        "+-5",
    ] {
        assert_refused(&SOUND.replace("settle = \"3s\"", &format!("settle = {number}")));
        assert_refused(&SOUND.replace("down_quorum = 2", &format!("down_quorum = {number}")));
        // One and a half percent is a strange objective, but one.
        if number != "1.5" {
            assert_refused(&SOUND.replace("objective = \"99.99\"", &format!("objective = {number}")));
        }
    }
    for duration in ["9223372036854775807s", "99999999999999999999us", "1d9223372036854775807us", "१s", "1é", "1h ", " "] {
        let found = read(&SOUND.replace("settle = \"3s\"", &format!("settle = \"{duration}\"")), Live);
        assert_eq!(found.len(), usize::from(duration != "1h "), "{duration}: {found:?}");
    }
    for instant in ["0000-01-01T00:00:00+23:59", "9999-12-31T23:59:60-23:59", "2026-01-01T00:00:00+99:99"] {
        assert_refused(&SOUND.replace("since = 2026-01-01T00:00:00+01:00", &format!("since = {instant}")));
    }
}

#[test]
fn a_chain_of_services_as_long_as_it_likes() {
    use std::fmt::Write;
    let mut text = "indicator = [{ id = \"i\", objective = 1 }]\ntarget = [{ id = \"t\", vantages = [\"a\"] }]\n".to_owned();
    text += "[[service]]\nid = \"0\"\nindicator = \"i\"\nneeds = \"t\"\n";
    for n in 1..20_000 {
        write!(text, "[[service]]\nid = \"{n}\"\nindicator = \"i\"\nneeds = \"{}\"\n", n - 1).unwrap();
    }
    let catalogue = super::sound(&text);
    assert_eq!(catalogue.reach(19_999).len(), 20_000);
    let ring = text.replace("needs = \"t\"", "needs = \"19999\"");
    assert_problems(
        &ring,
        Replay,
        &[
            "4:6 services need each other: 0 → 19999 → 19998 → 19997 → 19996 → 19995 → 19994 → 19993 → … 20000 services … → 0 (part of a cycle); take one of these needs away",
        ],
    );
}

#[test]
fn ten_thousand_mistakes_are_told_in_good_time() {
    let names: Vec<_> = (0..10_000).map(|n| format!("\"nobody{n}\"")).collect();
    let text = SOUND.replace("\"s3-fr1\", {", &format!("{}, {{", names.join(", ")));
    assert_eq!(read(&text, Live).len(), 10_000);
    let text = SOUND.replace("vantages = [\"az05\"]", &format!("vantages = [{}]", names.join(", ")));
    assert_eq!(read(&text, Live).len(), 10_000);
    let text = SOUND.replace("vantages = [\"az05\"]", &format!("vantages = [{}]", vec!["\"az05\""; 10_000].join(", ")));
    assert_eq!(read(&text, Live).len(), 9_999);
}

#[test]
fn odd_texts() {
    for text in ["\0", "\u{feff}", "=", "[", "[[", "\"", "'''", "a", "a =", "\r", "[[target]", "[target]\n[[target]]", "\u{202e}=1"] {
        for strictness in [Replay, Live] {
            read(text, strictness);
        }
    }
}
