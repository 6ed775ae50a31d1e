//! The log's archive (DESIGN §4): what retention deletes from the log is kept here, byte for byte, and can be folded again.
//!
//! A directory for each group and log epoch, `GROUP/EPOCH/`, holds segments named after the offsets they cover, `FIRST-NEXT.ndjson.gz`.
//! A segment is gzip of lines: a head that names group, epoch, first offset and the hash of the segment before; a line for each record,
//! `{"offset":…,"appended_at":…,"record":…}` with the record as it was appended (`record_base64` where it is not one line of JSON); and a
//! foot with the number of records, the next offset and the hash. The hash runs from segment to segment: SHA-256 over the hash before and
//! every record's line. A segment that is not whole bears another name; one that is there never changes.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use vigie_contract::Time;

use crate::core::digest::hex;
use crate::port::{Bounds, EvidenceLog, Logged, Offset};

/// The version of the format.
const FORMAT: u32 = 1;
/// The hash before the first segment.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The segments of one group's log.
#[derive(Clone, Debug)]
pub struct Archive {
    dir: PathBuf,
    group: String,
    log_epoch: u64,
}

/// A segment of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it lies.
    pub path: PathBuf,
    /// The first offset it covers.
    pub first: Offset,
    /// The first offset it does not cover.
    pub next: Offset,
}

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk says no.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// What is there is not what was written.
    #[error("{} is damaged: {why}; take it from a copy", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// Somebody else archives the same log here.
    #[error("{} is written by another process", .0.display())]
    Taken(PathBuf),
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

fn failed(path: &Path) -> impl Fn(io::Error) -> ArchiveError + '_ {
    move |cause| ArchiveError::Io { path: path.to_owned(), cause }
}

/// The whole segments in the directory of one group and epoch, in order.
pub fn segments(dir: &Path) -> Result<Vec<Segment>, ArchiveError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(dir))?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        segments.extend(Segment::named(&entry.map_err(failed(dir))?.path()));
    }
    segments.sort_unstable_by_key(|segment| segment.first);
    Ok(segments)
}

/// The epochs of the logs that are archived in a group's directory and where, in order.
pub fn epochs(dir: &Path) -> Result<Vec<(u64, PathBuf)>, ArchiveError> {
    let mut epochs = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        let epoch = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        epochs.extend(epoch.map(|epoch| (epoch, path)));
    }
    epochs.sort_unstable();
    Ok(epochs)
}

impl Archive {
    /// The archive of a group's log in `dir`, which need not be there yet.
    #[must_use]
    pub fn new(dir: &Path, group: &str, log_epoch: u64) -> Self {
        Self { dir: dir.join(group).join(format!("{log_epoch:05}")), group: group.to_owned(), log_epoch }
    }

    /// Its whole segments, in order.
    pub fn segments(&self) -> Result<Vec<Segment>, ArchiveError> {
        segments(&self.dir)
    }

    /// Writes on where the archive ends; one process at a time.
    pub fn writer(&self) -> Result<Writer, ArchiveError> {
        fs::create_dir_all(&self.dir).map_err(failed(&self.dir))?;
        let path = self.dir.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ArchiveError::Taken(self.dir.clone())),
            Err(fs::TryLockError::Error(cause)) => return Err(ArchiveError::Io { path, cause }),
        }
        let segments = self.segments()?;
        let (next, hash) = match segments.last() {
            Some(last) => (last.next, last.verify(None)?),
            None => (0, NO_HASH.to_owned()),
        };
        Ok(Writer { archive: self.clone(), next, hash, _lock: lock })
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
    fn named(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".ndjson.gz")?;
        let (first, next) = name.split_once('-')?;
        Some(Self { path: path.to_owned(), first: first.parse().ok()?, next: next.parse().ok()? })
    }

    /// Gives the records to `visit`, in order; an error if the segment is not what was written. Answers its hash.
    pub fn verify(&self, mut visit: Option<&mut dyn FnMut(Logged)>) -> Result<String, ArchiveError> {
        let damaged = |why: String| ArchiveError::Damaged { path: self.path.clone(), why };
        let file = File::open(&self.path).map_err(failed(&self.path))?;
        let mut lines = BufReader::with_capacity(1 << 16, MultiGzDecoder::new(file));
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
            () => Ok(hash),
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
    _lock: File,
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
        let dir = &self.archive.dir;
        let (part, name) = (dir.join("part"), dir.join(format!("{:020}-{next:020}.ndjson.gz", self.next)));
        let write = || -> io::Result<String> {
            let mut out = GzEncoder::new(BufWriter::new(File::create(&part)?), Compression::default());
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
            let file = out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            fs::rename(&part, &name)?;
            File::open(dir)?.sync_all()?;
            Ok(hash)
        };
        self.hash = write().map_err(failed(&name))?;
        self.next = next;
        Ok(())
    }
}

fn line_of(logged: &Logged) -> Line<'_> {
    // A line break within a record would part it from the line it stands in.
    let one_line = std::str::from_utf8(&logged.bytes).ok().filter(|text| !text.contains(['\n', '\r']) && text.trim() == *text);
    let record = one_line.and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    let record_base64 = record.is_none().then(|| BASE64_STANDARD.encode(&logged.bytes));
    Line { offset: logged.offset, appended_at: logged.appended_at.us(), record, record_base64 }
}

/// A log whose archive answers for what retention has deleted from it.
pub struct Archived<L> {
    log: L,
    archive: Option<Archive>,
}

impl<L> Archived<L> {
    /// `log` with `archive` before it.
    pub fn new(log: L, archive: Option<Archive>) -> Self {
        Self { log, archive }
    }
}

impl<L: EvidenceLog> EvidenceLog for Archived<L> {
    async fn append(&self, records: &[Vec<u8>]) -> Result<Vec<crate::port::Appended>, crate::port::AppendError> {
        self.log.append(records).await
    }

    async fn read(&self, from: Offset, most: usize) -> Result<Vec<Logged>, crate::port::ReadError> {
        use crate::port::ReadError;
        match (self.log.read(from, most).await, &self.archive) {
            (Err(gone @ ReadError::Gone { .. }), Some(archive)) => {
                let archive = archive.clone();
                let read = tokio::task::spawn_blocking(move || archive.read(from)).await;
                let records = read.map_err(|error| ReadError::Unavailable(error.into()))?;
                let records = records.map_err(|error| ReadError::Unavailable(error.into()))?;
                if records.is_empty() { Err(gone) } else { Ok(records) }
            }
            (read, _) => read,
        }
    }

    fn commit(&self, next: Offset) {
        self.log.commit(next);
    }

    async fn bounds(&self) -> Result<Bounds, crate::port::ReadError> {
        let bounds = self.log.bounds().await?;
        let archived = self.archive.as_ref().and_then(|archive| archive.segments().ok()).unwrap_or_default();
        // What reaches to the log without a hole; what lies before one cannot be folded.
        let reached = |oldest: Offset, segment: &Segment| (segment.next >= oldest).then(|| oldest.min(segment.first));
        let oldest = archived.iter().rev().try_fold(bounds.oldest, |oldest, segment| reached(oldest, segment).ok_or(oldest));
        let oldest = oldest.unwrap_or_else(|oldest| oldest);
        Ok(Bounds { oldest, ..bounds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(offset: Offset, bytes: &[u8]) -> Logged {
        Logged { offset, appended_at: Time::from_us(1_000 * offset as i64), bytes: bytes.to_vec() }
    }

    #[test]
    fn every_byte_comes_back_and_a_changed_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::new(dir.path(), "main", 3);
        let records = [
            logged(0, b"{\"v\":1,\"type\":\"tick\"}"),
            logged(1, b"{ \"v\" : 1.0e0, \"v\":2 }"),
            logged(2, b""),
            logged(3, b"not json \xff\n"),
            logged(4, b" {}"),
            logged(7, "{\"é\":\"\u{1f600}\"}".as_bytes()),
        ];
        let mut writer = archive.writer().unwrap();
        assert!(matches!(archive.writer(), Err(ArchiveError::Taken(_))));
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
        let whole = fs::read(&segments[1].path).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&segments[1].path, &bytes).unwrap();
            assert!(archive.read(4).is_err(), "byte {at}");
        }
        fs::write(&segments[1].path, &whole[..whole.len() - 20]).unwrap();
        assert!(archive.read(4).is_err() && archive.writer().is_err());
        assert_eq!(archive.read(0).unwrap(), records[..4]);
    }

    /// A log that retention has cut before `oldest`.
    struct Cut {
        oldest: Offset,
        records: Vec<Logged>,
    }

    impl EvidenceLog for Cut {
        async fn append(&self, _: &[Vec<u8>]) -> Result<Vec<crate::port::Appended>, crate::port::AppendError> {
            Ok(Vec::new())
        }

        async fn read(&self, from: Offset, most: usize) -> Result<Vec<Logged>, crate::port::ReadError> {
            if from < self.oldest {
                return Err(crate::port::ReadError::Gone { from, oldest: self.oldest });
            }
            Ok(self.records[from as usize..].iter().take(most).cloned().collect())
        }

        async fn bounds(&self) -> Result<Bounds, crate::port::ReadError> {
            Ok(Bounds { oldest: self.oldest, next: self.records.len() as u64 })
        }
    }

    #[test]
    fn an_archive_answers_for_what_retention_has_cut_and_never_over_a_hole() {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<Logged> = (0..12).map(|offset| logged(offset, b"{}")).collect();
        let archive = Archive::new(dir.path(), "main", 0);
        let mut writer = archive.writer().unwrap();
        writer.append(&records[..3], 3).unwrap();
        writer.skip_to(5);
        writer.append(&records[5..7], 7).unwrap();
        writer.append(&records[7..9], 9).unwrap();
        drop(writer);
        let of = |oldest| Archived::new(Cut { oldest, records: records.clone() }, Some(archive.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let whole = of(8);
            assert_eq!(whole.bounds().await.unwrap(), Bounds { oldest: 5, next: 12 }, "what lies before the hole cannot be folded");
            assert_eq!(whole.read(5, 9).await.unwrap(), records[5..7]);
            assert_eq!(whole.read(7, 9).await.unwrap(), records[7..9]);
            assert_eq!(whole.read(9, 9).await.unwrap(), records[9..]);
            assert!(whole.read(3, 9).await.is_err(), "a hole is not skipped");
            assert_eq!(of(10).bounds().await.unwrap().oldest, 10, "an archive that does not reach to the log is of no use");
            assert_eq!(of(3).bounds().await.unwrap().oldest, 0);
        });
    }
}
