//! What pruning leaves of segments: files of lines, `FIRST-NEXT-SHA256.pruned.ndjson`, a line for each segment.
//!
//! A file's name holds the hash of its bytes: whoever writes one never writes over another's, one that comes twice is the same, and a
//! changed one is found.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use vigie_contract::Time;

use super::{ArchiveError, Shelf};
use crate::core::digest::sha256_hex;
use crate::port::Offset;

const SUFFIX: &str = ".pruned.ndjson";

/// What is left of a segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pruned {
    /// The first offset that it covered.
    pub first_offset: Offset,
    /// The first offset that it did not cover.
    pub next_offset: Offset,
    /// How many records it had.
    pub records: u64,
    /// Their earliest append time.
    pub first_appended_us: i64,
    /// Their latest.
    pub last_appended_us: i64,
    /// The earliest instant that they spoke of.
    pub oldest_us: i64,
    /// The hash before it.
    pub previous_sha256: String,
    /// Its own, which the segment after it goes on from.
    pub sha256: String,
}

impl Pruned {
    /// The name of its segment.
    #[must_use]
    pub fn segment(&self) -> String {
        super::segment_name(self.first_offset, self.next_offset)
    }

    /// Its earliest and its latest append time.
    #[must_use]
    pub fn appended(&self) -> (Time, Time) {
        (Time::from_us(self.first_appended_us), Time::from_us(self.last_appended_us))
    }
}

/// What was pruned from `shelf`, whether or not its segments are gone yet, in order and each once.
pub fn pruned(shelf: &Shelf) -> Result<BTreeSet<Pruned>, ArchiveError> {
    let mut all = BTreeSet::new();
    for name in shelf.names()?.iter().filter(|name| is_record(name)) {
        all.extend(read(shelf, name)?);
    }
    Ok(all)
}

/// Whether a file of this name says what was pruned.
pub(super) fn is_record(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// What the file `name` says.
pub(super) fn read(shelf: &Shelf, name: &str) -> Result<Vec<Pruned>, ArchiveError> {
    let damaged = |why: String| ArchiveError::Damaged { path: shelf.place(name), why };
    let bytes = shelf.get(name)?;
    let hash = sha256_hex(&bytes);
    if name.strip_suffix(SUFFIX).and_then(|stem| stem.rsplit('-').next()) != Some(&hash) {
        return Err(damaged("its hash is another than its name says".to_owned()));
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))).collect()
}

/// Writes what will have been pruned; it is durable when this returns.
pub(super) fn write(shelf: &Shelf, lines: &[&Pruned]) -> Result<(), ArchiveError> {
    let Some((first, last)) = lines.first().zip(lines.last()) else { return Ok(()) };
    let mut bytes = Vec::new();
    for line in lines {
        let unwritten = |error: serde_json::Error| ArchiveError::Damaged { path: shelf.place(&line.segment()), why: error.to_string() };
        serde_json::to_writer(&mut bytes, line).map_err(unwritten)?;
        bytes.push(b'\n');
    }
    let name = format!("{:020}-{:020}-{}{SUFFIX}", first.first_offset, last.next_offset, sha256_hex(&bytes));
    Ok(shelf.put(&name, &bytes)?)
}

/// Counts what was pruned from a shelf, and reads each file that says so once.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    read: HashSet<String>,
    records: BTreeMap<(Offset, Offset), u64>,
}

impl Tally {
    /// How many records were in segments that are gone.
    pub fn count(&mut self, shelf: &Shelf) -> Result<u64, ArchiveError> {
        let names: HashSet<String> = shelf.names()?.into_iter().collect();
        for name in names.iter().filter(|name| is_record(name)) {
            if !self.read.contains(name) {
                let lines = read(shelf, name)?;
                self.records.extend(lines.iter().map(|line| ((line.first_offset, line.next_offset), line.records)));
                self.read.insert(name.clone());
            }
        }
        let is_gone = |(first, next): (Offset, Offset)| !names.contains(&super::segment_name(first, next));
        Ok(self.records.iter().filter(|(extent, _)| is_gone(**extent)).map(|(_, records)| records).sum())
    }
}
