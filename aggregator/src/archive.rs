//! The log's archive (DESIGN §4): what retention deletes from the log is kept here, byte for byte, and can be folded again.
//!
//! A shelf for each group and log epoch, `GROUP/EPOCH/`, holds segments named after the offsets they cover, `FIRST-NEXT.ndjson.gz`.
//! A segment is gzip of lines: a head that names group, epoch, first offset and the hash of the segment before; a line for each record,
//! `{"offset":…,"appended_at":…,"record":…}` with the record as it was appended (`record_base64` where it is not one line of JSON); and a
//! foot with the number of records, the next offset and the hash. The hash runs from segment to segment: SHA-256 over the hash before and
//! every record's line. A segment that is not whole bears another name; one that is there never changes.
//!
//! What is old and far from every window may be pruned ([`prune()`]). What is left of a pruned segment is a line with its offsets, append
//! times, number of records, and the hash before it and after it, in a file that is durable before the segment is deleted ([`Pruned`]); so
//! [`Chain`] tells a hole that was made by pruning from one that damage or theft has made.
//!
//! Calls block: they read and write files, or a bucket's objects.

mod archived;
#[cfg(feature = "s3")]
mod bucket;
mod chain;
mod prune;
mod pruned;
mod shelf;

use std::cmp::Reverse;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use vigie_contract::Time;

pub use archived::Archived;
#[cfg(feature = "s3")]
pub use bucket::BucketError;
pub use chain::{Chain, Piece, pieces};
pub use prune::{Done, Survey, prune, survey};
pub use pruned::{Pruned, Tally, pruned};
pub use shelf::{Hold, Shelf, ShelfError};

use crate::core::digest::hex;
use crate::port::{Logged, Offset};

/// The version of the format.
const FORMAT: u32 = 1;
/// The hash before the first segment.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The segments of one group's log.
#[derive(Clone, Debug)]
pub struct Archive {
    shelf: Shelf,
    group: String,
    log_epoch: u64,
}

/// A segment of an archive.
#[derive(Clone, Debug)]
pub struct Segment {
    shelf: Shelf,
    name: String,
    /// The first offset it covers.
    pub first: Offset,
    /// The first offset it does not cover.
    pub next: Offset,
}

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Where it stands does not do what it is asked.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// What is there is not what was written.
    #[error("{} is damaged: {why}; take it from a copy", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// Something that was there is there no more, and no pruning says so.
    #[error("{} follows what is not here{}; take it from a copy", path.display(), said(*missing))]
    Missing {
        /// What cannot be connected.
        path: PathBuf,
        /// Which offsets there are none of, before it.
        missing: Option<(Offset, Offset)>,
    },
}

fn said(missing: Option<(Offset, Offset)>) -> String {
    match missing {
        Some((from, to)) => format!(": offsets {from} to {} are missing, and no pruning says so", to - 1),
        None => ": the hash before it is of nothing that lies before it".to_owned(),
    }
}

/// What a segment says of itself, once all of it was read and is as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The hash of the segment before.
    pub previous_sha256: String,
    /// Its own.
    pub sha256: String,
    /// How many records it has.
    pub records: u64,
}

#[derive(Serialize, Deserialize)]
struct Head {
    archive: u32,
    group: String,
    log_epoch: u64,
    first_offset: Offset,
    previous_sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    offset: Offset,
    appended_at: i64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    record: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_base64: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Foot {
    records: u64,
    next_offset: Offset,
    sha256: String,
}

fn segment_name(first: Offset, next: Offset) -> String {
    format!("{first:020}-{next:020}.ndjson.gz")
}

/// The whole segments on the shelf of one group and epoch, in order. Of two that overlap, as two writers leave them where nothing keeps
/// them apart, the second only has what the first has not.
pub fn segments(shelf: &Shelf) -> Result<Vec<Segment>, ArchiveError> {
    let mut segments = all_segments(shelf, shelf.names()?);
    let mut covered = 0;
    segments.retain(|segment| {
        let is_news = segment.next > covered;
        covered = covered.max(segment.next);
        is_news
    });
    Ok(segments)
}

/// Those of `names` that are whole segments, in order, those that have no news as well.
fn all_segments(shelf: &Shelf, names: Vec<String>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = names.into_iter().filter_map(|name| Segment::named(shelf, name)).collect();
    segments.sort_unstable_by_key(|segment| (segment.first, Reverse(segment.next)));
    segments
}

/// The epochs of the logs that are archived on a group's shelf and where, in order.
pub fn epochs(shelf: &Shelf) -> Result<Vec<(u64, Shelf)>, ArchiveError> {
    let epoch = |name: String| Some((name.parse().ok()?, shelf.below(&name)));
    let mut epochs: Vec<(u64, Shelf)> = shelf.names()?.into_iter().filter_map(epoch).collect();
    epochs.sort_unstable_by_key(|(epoch, _)| *epoch);
    Ok(epochs)
}

impl Archive {
    /// The archive of a group's log on the shelf `root`, which need not be there yet.
    #[must_use]
    pub fn new(root: &Shelf, group: &str, log_epoch: u64) -> Self {
        Self { shelf: root.below(group).below(&format!("{log_epoch:05}")), group: group.to_owned(), log_epoch }
    }

    /// Where its segments stand.
    #[must_use]
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Its whole segments, in order.
    pub fn segments(&self) -> Result<Vec<Segment>, ArchiveError> {
        segments(&self.shelf)
    }

    /// Writes on where the archive ends; one process at a time.
    pub fn writer(&self) -> Result<Writer, ArchiveError> {
        let hold = self.shelf.hold("lock")?;
        let (next, hash) = match self.segments()?.last() {
            Some(last) => (last.next, last.verify(None)?.sha256),
            None => (0, NO_HASH.to_owned()),
        };
        Ok(Writer { archive: self.clone(), next, hash, _hold: hold })
    }

    /// The records of the segment that covers `from`, from there on; none where the archive has a hole or ends.
    pub fn read(&self, from: Offset) -> Result<Vec<Logged>, ArchiveError> {
        let segments = self.segments()?;
        let Some(segment) = segments.iter().find(|segment| segment.first <= from && from < segment.next) else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        segment.verify(Some(&mut |logged| {
            if logged.offset >= from {
                records.push(logged);
            }
        }))?;
        Ok(records)
    }
}

impl Segment {
    fn named(shelf: &Shelf, name: String) -> Option<Self> {
        let (first, next) = name.strip_suffix(".ndjson.gz")?.split_once('-')?;
        let (first, next) = (first.parse().ok()?, next.parse().ok()?);
        Some(Self { shelf: shelf.clone(), name, first, next })
    }

    /// How people name it.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        self.shelf.place(&self.name)
    }

    /// Gives the records to `visit`, in order; an error if the segment is not what was written.
    pub fn verify(&self, mut visit: Option<&mut dyn FnMut(Logged)>) -> Result<Seal, ArchiveError> {
        let damaged = |why: String| ArchiveError::Damaged { path: self.place(), why };
        let bytes = self.shelf.get(&self.name)?;
        let mut lines = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(bytes.as_slice()));
        let mut line = Vec::new();
        let mut read = |line: &mut Vec<u8>| {
            line.clear();
            lines.read_until(b'\n', line).map_err(|error| damaged(error.to_string()))
        };
        read(&mut line)?;
        let head: Head = serde_json::from_slice(&line).map_err(|error| damaged(format!("its head: {error}")))?;
        if head.archive != FORMAT {
            return Err(damaged(format!("format {}, this vigie knows {FORMAT}", head.archive)));
        }
        let mut hash = Sha256::new();
        hash.update(head.previous_sha256.as_bytes());
        let mut records = 0;
        loop {
            if read(&mut line)? == 0 {
                return Err(damaged("it ends without a foot".to_owned()));
            }
            let Ok(record) = serde_json::from_slice::<Line<'_>>(&line) else { break };
            hash.update(&line);
            records += 1;
            if let Some(visit) = visit.as_mut() {
                visit(record.logged().map_err(damaged)?);
            }
        }
        let foot: Foot = serde_json::from_slice(&line).map_err(|error| damaged(format!("after {records} records: {error}")))?;
        let hash = hex(&hash.finalize());
        let after = read(&mut line)?;
        match () {
            () if after > 0 => Err(damaged("there is something after its foot".to_owned())),
            () if foot.records != records => Err(damaged(format!("{records} records of {}", foot.records))),
            () if foot.sha256 != hash => Err(damaged("its hash is another".to_owned())),
            () if (head.first_offset, foot.next_offset) != (self.first, self.next) => Err(damaged("its name is another's".to_owned())),
            () => Ok(Seal { previous_sha256: head.previous_sha256, sha256: hash, records }),
        }
    }
}

impl Line<'_> {
    fn logged(&self) -> Result<Logged, String> {
        let bytes = match (self.record, &self.record_base64) {
            (Some(record), None) => record.get().as_bytes().to_vec(),
            (None, Some(text)) => BASE64_STANDARD.decode(text).map_err(|error| format!("offset {}: {error}", self.offset))?,
            _ => return Err(format!("offset {} has not one record", self.offset)),
        };
        Ok(Logged { offset: self.offset, appended_at: Time::from_us(self.appended_at), bytes })
    }
}

/// Appends segments to an archive; nobody else does while it lives.
#[derive(Debug)]
pub struct Writer {
    archive: Archive,
    next: Offset,
    hash: String,
    _hold: Hold,
}

impl Writer {
    /// The first offset that is not archived.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Leaves out what is to be had no more: the archive has a hole there, which the names of its segments show.
    pub fn skip_to(&mut self, next: Offset) {
        self.next = next;
    }

    /// Writes `records`, which lie in `[self.next(), next)`, as a segment; it is durable when this returns.
    pub fn append(&mut self, records: &[Logged], next: Offset) -> Result<(), ArchiveError> {
        let name = segment_name(self.next, next);
        let unwritten = |error: io::Error| ArchiveError::Damaged { path: self.archive.shelf.place(&name), why: error.to_string() };
        let (bytes, hash) = self.segment(records, next).map_err(unwritten)?;
        self.archive.shelf.put(&name, &bytes)?;
        (self.hash, self.next) = (hash, next);
        Ok(())
    }

    /// The bytes of the segment of `records`, and its hash.
    fn segment(&self, records: &[Logged], next: Offset) -> io::Result<(Vec<u8>, String)> {
        let mut out = GzEncoder::new(Vec::new(), Compression::default());
        let head = Head {
            archive: FORMAT,
            group: self.archive.group.clone(),
            log_epoch: self.archive.log_epoch,
            first_offset: self.next,
            previous_sha256: self.hash.clone(),
        };
        let mut line = serde_json::to_vec(&head)?;
        line.push(b'\n');
        out.write_all(&line)?;
        let mut hash = Sha256::new();
        hash.update(self.hash.as_bytes());
        for logged in records {
            line.clear();
            serde_json::to_writer(&mut line, &line_of(logged))?;
            line.push(b'\n');
            hash.update(&line);
            out.write_all(&line)?;
        }
        let hash = hex(&hash.finalize());
        serde_json::to_writer(&mut out, &Foot { records: records.len() as u64, next_offset: next, sha256: hash.clone() })?;
        out.write_all(b"\n")?;
        Ok((out.finish()?, hash))
    }
}

fn line_of(logged: &Logged) -> Line<'_> {
    // A line break within a record would part it from the line it stands in.
    let one_line = std::str::from_utf8(&logged.bytes).ok().filter(|text| !text.contains(['\n', '\r']) && text.trim() == *text);
    let record = one_line.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    let record_base64 = record.is_none().then(|| BASE64_STANDARD.encode(&logged.bytes));
    Line { offset: logged.offset, appended_at: logged.appended_at.us(), record, record_base64 }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn logged(offset: Offset, bytes: &[u8]) -> Logged {
        Logged { offset, appended_at: Time::from_us(1_000 * offset as i64), bytes: bytes.to_vec() }
    }

    #[test]
    fn every_byte_comes_back_and_a_changed_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::new(&Shelf::directory(dir.path()), "main", 3);
        let records = [
            logged(0, b"{\"v\":1,\"type\":\"tick\"}"),
            logged(1, b"{ \"v\" : 1.0e0, \"v\":2 }"),
            logged(2, b""),
            logged(3, b"not json \xff\n"),
            logged(4, b" {}"),
            logged(7, "{\"é\":\"\u{1f600}\"}".as_bytes()),
        ];
        let mut writer = archive.writer().unwrap();
        assert!(matches!(archive.writer(), Err(ArchiveError::Shelf(ShelfError::Taken(_)))));
        writer.append(&records[..4], 4).unwrap();
        writer.append(&records[4..], 8).unwrap();
        drop(writer);
        let writer = archive.writer().unwrap();
        assert_eq!(writer.next(), 8);
        drop(writer);
        let mut read = archive.read(0).unwrap();
        read.extend(archive.read(4).unwrap());
        assert_eq!(read, records);
        assert_eq!(archive.read(6).unwrap(), records[5..]);
        assert_eq!(archive.read(8).unwrap(), []);

        let segments = archive.segments().unwrap();
        let whole = fs::read(segments[1].place()).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(segments[1].place(), &bytes).unwrap();
            assert!(archive.read(4).is_err(), "byte {at}");
        }
        fs::write(segments[1].place(), &whole[..whole.len() - 20]).unwrap();
        assert!(archive.read(4).is_err() && archive.writer().is_err());
        assert_eq!(archive.read(0).unwrap(), records[..4]);
    }
}
