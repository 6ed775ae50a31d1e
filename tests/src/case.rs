//! Cases of evidence and what must come of it (SPEC §8 "conformance").

use std::path::{Path, PathBuf};

use vigie_contract::Time;

/// One directory: `catalogue.toml`, `evidence.ndjson`, `expected.ndjson` and a `NOTE`.
#[derive(Clone, Debug)]
pub struct Case {
    /// The directory's name.
    pub name: String,
    /// The catalogue's text.
    pub catalogue: String,
    /// NDJSON.
    pub evidence: String,
    /// From the NOTE's line `run with --until US`.
    pub until: Option<Time>,
    /// NDJSON, in order.
    pub expected: String,
}

/// The repository's own cases, and those of the directories that `VIGIE_CONFORMANCE` names, separated by colons.
///
/// # Panics
/// If a directory or file cannot be read.
#[must_use]
pub fn cases() -> Vec<Case> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let further = std::env::var("VIGIE_CONFORMANCE").unwrap_or_default();
    let further = further.split(':').filter(|path| !path.is_empty()).map(PathBuf::from);
    std::iter::once(own).chain(further).flat_map(|directory| cases_in(&directory)).collect()
}

fn cases_in(directory: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("expected.ndjson").exists()).collect();
    paths.sort();
    paths.iter().map(|path| case(path)).collect()
}

fn case(path: &Path) -> Case {
    let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_else(|error| panic!("{}/{file}: {error}", path.display()));
    let note = std::fs::read_to_string(path.join("NOTE")).unwrap_or_default();
    let until = note.lines().find_map(|line| Some(line.split_once("run with --until ")?.1.split_whitespace().next()?.to_owned()));
    Case {
        name: path.display().to_string(),
        catalogue: read("catalogue.toml"),
        evidence: read("evidence.ndjson"),
        until: until.map(|us| Time::from_us(us.trim_end_matches(['.', ')', '`']).parse().unwrap())),
        expected: read("expected.ndjson"),
    }
}
