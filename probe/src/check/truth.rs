//! The truth tables that the tests go through, as `probe/README.md` shows them: what a fault must end as. The test that compares them writes
//! the file anew where `VIGIE_WRITE` is set: `VIGIE_WRITE=1 cargo test -p vigie-probe --lib truth`.

use std::fmt::{Debug, Write};
use std::path::Path;

use vigie_contract::Reason;

use super::{Finding, Phase};

const HEAD: &str = "\
# Truth tables

What a check must say of a fault: the data of the probe's own tests, printed by one of them, which fails when this file is not what they go
through. Faults are named as the tests name them, mostly by the counterparts in `tests/counterparts`. `void` is no evidence, with whose doing
it was; why each ends as it does says the check's file in `src/check/`. The phase is the one that an attempt ended in.
";

/// A table: its title, what its columns are, its rows.
pub(crate) struct Truth {
    pub(crate) title: &'static str,
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
}

pub(crate) const fn fail(reason: Reason) -> Finding {
    Finding::Fail(reason)
}

pub(crate) const fn void(reason: Reason) -> Finding {
    Finding::Void(reason)
}

/// A fault as the tests write it.
pub(crate) fn fault(fault: &impl Debug) -> String {
    format!("`{fault:?}`")
}

/// An outcome with its reason.
pub(crate) fn outcome(finding: Finding) -> String {
    match finding {
        Finding::Ok => "ok".to_owned(),
        Finding::Fail(reason) => format!("fail {}", word(reason)),
        Finding::Void(reason) => format!("void {}", word(reason)),
    }
}

/// As samples have it.
fn word(reason: Reason) -> String {
    serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned()
}

pub(crate) fn phase(phase: Phase) -> String {
    phase.as_str().to_owned()
}

/// What is met, how that ends, and in which phase.
pub(crate) fn row(met: impl Into<String>, finding: Finding, end: Phase) -> Vec<String> {
    vec![met.into(), outcome(finding), phase(end)]
}

fn printed() -> String {
    let mut text = HEAD.to_owned();
    let tables = [
        super::api::truth(),
        super::backup::truth(),
        super::compute::truth(),
        super::console::truth(),
        super::dns::truth(),
        super::exec::truth(),
        super::http::truth(),
        super::internet::truth(),
        super::network::truth(),
        super::s3::truth(),
        super::storage::truth(),
        super::tcp::truth(),
        super::tls::truth(),
        super::ways::truth(),
    ];
    for table in tables.into_iter().flatten() {
        let rule = "|---".repeat(table.columns.len());
        write!(text, "\n## {}\n\n| {} |\n{rule}|\n", table.title, table.columns.join(" | ")).unwrap();
        for row in table.rows {
            writeln!(text, "| {} |", row.join(" | ")).unwrap();
        }
    }
    text
}

#[test]
fn the_readme_has_the_tables_that_the_tests_go_through() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let printed = printed();
    if std::env::var_os("VIGIE_WRITE").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    assert!(known == printed, "probe/README.md is not what the tests go through: VIGIE_WRITE=1 cargo test -p vigie-probe --lib truth");
}
