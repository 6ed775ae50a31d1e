mod changes;
mod hostile;
mod live;
mod mistakes;
mod sound;

use super::{Catalogue, Problem, Severity, Strictness};

/// A catalogue that is sound, and complete enough for the live programs.
const SOUND: &str = r#"tenant = "acme"
timezone = "Europe/Paris"
settle = "3s"
stable_up = "30s"
claim_horizon = "15m"
late_horizon = "96h"

[[indicator]]
id = "IC-INFRA-SNC-10.2"
name = "Disponibilité de l'API Stockage Objet S3"
objective = "99.99"
exclusions = ["maintenance", "throttling"]

[[vantage]]
id = "az05"
anchors = ["anchor-az06", "anchor-az07"]

[[vantage]]
id = "az06"
anchors = ["anchor-az06", "anchor-az07"]

[[target]]
id = "s3-fr1"
vantages = ["az05", "az06"]
down_quorum = 2
latency_objective = "150ms"
period = "10s"
timeout = "2s"
check = { kind = "s3", endpoint = "https://s3.example", bucket = "canary", region = "fr1" }

[[target]]
id = "anchor-az06"
vantages = ["az05"]
period = "10s"
timeout = "2s"
check = { kind = "tcp", outside = true }

[[target]]
id = "anchor-az07"
vantages = ["az05", "az06"]
period = "10s"
timeout = "2s"
check = { kind = "tcp" }

[[service]]
id = "s3/fr1"
indicator = "IC-INFRA-SNC-10.2"
needs = { all = ["s3-fr1", { any = ["anchor-az06", "anchor-az07"] }] }
since = 2026-01-01T00:00:00+01:00
until = 2027-01-01T00:00:00+01:00
group = "main"
stable_up = "30s"
contractual = true
"#;

fn sound(text: &str) -> Catalogue {
    match Catalogue::read(text, Strictness::Replay) {
        Ok((catalogue, _)) => catalogue,
        Err(problems) => panic!("{}", told(text, &problems).join("\n")),
    }
}

/// Each problem on one line: place, message, label, help, and the place of the note.
fn told(text: &str, problems: &[Problem]) -> Vec<String> {
    let tell = |problem: &Problem| {
        let (line, column) = problem.line_and_column(text);
        let warning = if problem.severity == Severity::Warning { "warning: " } else { "" };
        let mut told = format!("{line}:{column} {warning}{} ({})", problem.message, problem.label);
        if let Some(help) = &problem.help {
            told.push_str("; ");
            told.push_str(help);
        }
        if let Some(note) = &problem.note {
            let (line, column) = Problem::error(&note.span, "", "").line_and_column(text);
            return format!("{told} [{line}:{column} {}]", note.label);
        }
        told
    };
    problems.iter().map(tell).collect()
}

fn read(text: &str, strictness: Strictness) -> Vec<String> {
    match Catalogue::read(text, strictness) {
        Ok((_, warnings)) => told(text, &warnings),
        Err(problems) => told(text, &problems),
    }
}

/// Reads the text and compares all problems, in order.
#[track_caller]
fn assert_problems(text: &str, strictness: Strictness, expected: &[&str]) {
    assert_eq!(read(text, strictness).join("\n"), expected.join("\n"), "in:\n{text}");
}

/// [`SOUND`] with one piece of text replaced.
#[track_caller]
fn edited(from: &str, to: &str) -> String {
    assert_eq!(SOUND.matches(from).count(), 1, "{from:?} stands once in the sound catalogue");
    SOUND.replace(from, to)
}

#[test]
fn a_group_has_its_own_services_and_the_anchors_that_gate_them() {
    let text = "[[indicator]]\nid = \"I\"\nobjective = 99\n\
        [[vantage]]\nid = \"v\"\nanchors = [\"a\", \"b\"]\n\
        [[target]]\nid = \"a\"\nvantages = [\"v\"]\n[[target]]\nid = \"b\"\nvantages = [\"v\"]\n\
        [[target]]\nid = \"x\"\ngroup = \"s3\"\nvantages = [\"v\"]\n\
        [[service]]\nid = \"one\"\nindicator = \"I\"\nneeds = \"a\"\nsince = 2026-01-01T00:00:00Z\n\
        [[service]]\nid = \"two\"\ngroup = \"s3\"\nindicator = \"I\"\nneeds = \"x\"\nsince = 2026-01-01T00:00:00Z\n\
        [[service]]\nid = \"three\"\ngroup = \"s3\"\nindicator = \"I\"\nneeds = { any = [\"two\", \"x\"] }\nsince = 2026-01-01T00:00:00Z\n";
    let catalogue = Catalogue::read(text, Strictness::Replay).unwrap().0;
    assert_eq!(catalogue.spans(), Vec::<String>::new());
    let groups = catalogue.groups_of_targets();
    assert_eq!(groups["x"].iter().copied().collect::<Vec<_>>(), ["s3"]);
    assert_eq!(groups["a"].iter().copied().collect::<Vec<_>>(), ["main", "s3"], "an anchor's samples go to every group that it gates");
    let ids = |catalogue: &Catalogue| catalogue.services.iter().map(|service| service.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&catalogue.clone().of_group("main")), ["one"]);
    let s3 = catalogue.clone().of_group("s3");
    assert_eq!((ids(&s3), s3.reach(1), s3.targets.len()), (vec!["two".to_owned(), "three".to_owned()], vec![0, 1], 3));

    let spanning = text.replace("needs = \"x\"", "needs = { all = [\"x\", \"a\"] }");
    let spanning = Catalogue::read(&spanning, Strictness::Replay).unwrap().0;
    assert_eq!(spanning.spans(), ["service two of group s3 needs target a of group main"]);
}
