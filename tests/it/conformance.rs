//! Every conformance case, line by line and field by field (SPEC §8).

use serde_json::Value;
use vigie_tests::case::cases;
use vigie_tests::fold::{batch, catalogue, lines};
use vigie_tests::oracle;

#[test]
fn every_case_matches() {
    let mut failures = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 69, "the repository's own cases are there");
    for case in &cases {
        let evidence: Vec<String> = case.evidence.lines().map(str::to_owned).collect();
        let engine = batch(Some(&catalogue(&case.catalogue)), &evidence, case.until);
        let found: Vec<Value> = lines(&engine).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = case.expected.lines().filter(|line| !line.trim().is_empty());
        let expected: Vec<Value> = expected.map(|line| serde_json::from_str(line).unwrap()).collect();
        if let Some(at) = (0..found.len().max(expected.len())).find(|&at| found.get(at) != expected.get(at)) {
            failures.push(format!("{}: line {}\n  found    {:?}\n  expected {:?}", case.name, at + 1, found.get(at), expected.get(at)));
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// The model that the engine is compared with must itself be right. It is quadratic: the large cases are for `VIGIE_SLOW`.
#[test]
fn the_slow_model_matches_too() {
    let slow = std::env::var_os("VIGIE_SLOW").is_some();
    for case in cases().iter().filter(|case| slow || case.evidence.lines().count() < 700) {
        let found = oracle::replay(Some(&case.catalogue), &case.evidence, case.until.map(vigie_contract::Time::us));
        let expected = case.expected.lines().filter(|line| !line.trim().is_empty());
        let expected: Vec<Value> = expected.map(|line| serde_json::from_str(line).unwrap()).collect();
        for at in 0..found.len().max(expected.len()) {
            assert_eq!(found.get(at), expected.get(at), "{}: line {}", case.name, at + 1);
        }
    }
}
