//! Samples on disk until the log has them: bounded, checksummed, two lanes (DESIGN §5).
//!
//! A directory of segments, each an append-only file of records (length, CRC-32, bytes) with a file beside it that lists which of them
//! were delivered. A segment goes when all of it is delivered, or when the spool is full and it is the oldest: what is lost with it
//! is counted. A record that was only half written when the power went is cut off at the next start.
//!
//! The live lane is the tail of what this process made and is delivered from memory; whatever lies before [`Spool::live_from`] and is
//! not delivered is the backlog, read from disk, oldest first.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A segment is sealed at this size.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Length and checksum before each record.
const HEADER_BYTES: u64 = 8;
/// No record is longer; a length beyond it is damage.
const MOST_RECORD_BYTES: u32 = 1 << 20;

/// Where a sample lies: its segment, and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    segment: u64,
    place: u32,
}

/// What is on disk, and which of it was delivered.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    most_bytes: u64,
    segments: BTreeMap<u64, Segment>,
    /// The segment that is written, if one is.
    open: Option<Writer>,
    next_segment: u64,
    live_from: Position,
    /// Samples that were lost with an old segment.
    dropped: u64,
    /// Holds the directory for this process.
    _lock: nix::fcntl::Flock<File>,
}

#[derive(Debug)]
struct Segment {
    count: u32,
    bytes: u64,
    delivered: Ranges,
}

#[derive(Debug)]
struct Writer {
    segment: u64,
    file: File,
    is_dirty: bool,
}

/// Why there is no spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another probe has it.
    #[error("the spool {} belongs to a probe that runs: give each vantage its own --spool", .0.display())]
    Taken(PathBuf),
    /// The directory cannot be used.
    #[error("cannot use the spool {}: {cause}; give --spool a directory that this user may write to", path.display())]
    Unusable {
        /// The directory or file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

/// Disjoint ascending ranges of places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    fn insert(&mut self, from: u32, to: u32) {
        let first = self.0.partition_point(|(_, end)| *end < from);
        let last = self.0.partition_point(|(start, _)| *start <= to);
        let merged = self.0[first..last].iter().fold((from, to), |merged, range| (merged.0.min(range.0), merged.1.max(range.1)));
        self.0.splice(first..last, [merged]);
    }

    fn contains(&self, place: u32) -> bool {
        let next = self.0.partition_point(|(_, end)| *end <= place);
        self.0.get(next).is_some_and(|(start, _)| *start <= place)
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

impl Spool {
    /// Opens the spool in `dir`, which is made if it is missing; what earlier processes left in it is the backlog.
    pub(crate) fn open(dir: &Path, most_bytes: u64) -> Result<Self, SpoolError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |cause| SpoolError::Unusable { path, cause }
        };
        fs::create_dir_all(dir).map_err(unusable(dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(unusable(&lock_path))?;
        let lock =
            nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|_| SpoolError::Taken(dir.to_owned()))?;
        let mut segments = BTreeMap::new();
        let mut newest = 0;
        for entry in fs::read_dir(dir).map_err(unusable(dir))? {
            let path = entry.map_err(unusable(dir))?.path();
            let Some(number) = segment_number(&path) else { continue };
            newest = newest.max(number);
            let segment = recover(&path).map_err(unusable(&path))?;
            if segment.is_done() {
                remove(dir, number);
            } else {
                segments.insert(number, segment);
            }
        }
        let next_segment = newest + 1;
        let live_from = Position { segment: next_segment, place: 0 };
        Ok(Self { dir: dir.to_owned(), most_bytes, segments, open: None, next_segment, live_from, dropped: 0, _lock: lock })
    }

    /// Appends records and says where each lies. On an error none of them is in the spool, and it is as it was before.
    pub(crate) fn append(&mut self, records: &[Bytes]) -> io::Result<Vec<Position>> {
        let mut block = Vec::with_capacity(records.iter().map(|record| record.len() + HEADER_BYTES as usize).sum());
        for record in records {
            block.extend_from_slice(&(record.len() as u32).to_le_bytes());
            block.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
            block.extend_from_slice(record);
        }
        self.make_room(block.len() as u64);
        let number = self.writable()?;
        let (Some(writer), Some(segment)) = (&mut self.open, self.segments.get_mut(&number)) else {
            return Err(io::Error::other("the open segment is gone"));
        };
        if let Err(error) = writer.file.write_all(&block) {
            // What was half written must not stand before the next record.
            if writer.file.set_len(segment.bytes).and_then(|()| writer.file.seek(SeekFrom::End(0)).map(|_| ())).is_err() {
                self.open = None;
            }
            return Err(error);
        }
        writer.is_dirty = true;
        let first = segment.count;
        segment.count += records.len() as u32;
        segment.bytes += block.len() as u64;
        Ok((first..segment.count).map(|place| Position { segment: number, place }).collect())
    }

    /// A handle to what was written since the last call, to be synced without holding the spool.
    pub(crate) fn unsynced(&mut self) -> Option<File> {
        let writer = self.open.as_mut().filter(|writer| writer.is_dirty)?;
        writer.is_dirty = false;
        writer.file.try_clone().ok()
    }

    /// Notes that these were delivered. A note that cannot be written only means that they are delivered again after a restart.
    pub(crate) fn delivered(&mut self, positions: &[Position]) {
        let mut rest = positions;
        while let Some(first) = rest.first() {
            let run =
                rest.iter().enumerate().take_while(|(i, at)| at.segment == first.segment && at.place == first.place + *i as u32).count();
            let (from, to) = (first.place, first.place + run as u32);
            rest = &rest[run..];
            let Some(segment) = self.segments.get_mut(&first.segment) else { continue };
            segment.delivered.insert(from, to);
            let is_open = self.open.as_ref().is_some_and(|writer| writer.segment == first.segment);
            if segment.is_done() && !is_open {
                self.segments.remove(&first.segment);
                remove(&self.dir, first.segment);
            } else {
                let note = OpenOptions::new().create(true).append(true).open(delivered_path(&self.dir, first.segment));
                let _ = note.and_then(|mut file| file.write_all(&[from.to_le_bytes(), to.to_le_bytes()].concat()));
            }
        }
    }

    /// Gives what lies before the next record to append to the backlog: the live lane could not deliver it.
    pub(crate) fn leave_to_backlog(&mut self, until: Position) {
        self.live_from = self.live_from.max(Position { segment: until.segment, place: until.place + 1 });
    }

    /// The oldest undelivered records of the backlog, at most `most` of them; empty if there is none.
    pub(crate) fn backlog(&mut self, most: usize) -> Vec<(Position, Bytes)> {
        let live_from = self.live_from;
        let candidates: Vec<u64> = self.segments.range(..=live_from.segment).map(|(number, _)| *number).collect();
        for number in candidates {
            let Some(segment) = self.segments.get(&number) else { continue };
            let end = if number == live_from.segment { live_from.place.min(segment.count) } else { segment.count };
            let wanted: Vec<u32> = (0..end).filter(|place| !segment.delivered.contains(*place)).take(most).collect();
            if wanted.is_empty() {
                continue;
            }
            match read(&segment_path(&self.dir, number), &wanted) {
                Ok(records) if !records.is_empty() => {
                    return records.into_iter().map(|(place, bytes)| (Position { segment: number, place }, bytes)).collect();
                }
                // Damaged since it was opened: it cannot be delivered, and is not kept for ever.
                _ => self.drop_segment(number),
            }
        }
        Vec::new()
    }

    /// Samples on disk that are not delivered.
    pub(crate) fn spooled(&self) -> u64 {
        self.segments.values().map(|segment| u64::from(segment.count - segment.delivered.len())).sum()
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// Samples that were lost because the spool was full or damaged.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops the oldest segments until `bytes` more fit.
    fn make_room(&mut self, bytes: u64) {
        while self.bytes() + bytes > self.most_bytes {
            let Some((&oldest, _)) = self.segments.first_key_value() else { return };
            if self.open.as_ref().is_some_and(|writer| writer.segment == oldest) {
                self.open = None;
            }
            self.drop_segment(oldest);
        }
    }

    fn drop_segment(&mut self, number: u64) {
        if let Some(segment) = self.segments.remove(&number) {
            self.dropped += u64::from(segment.count - segment.delivered.len());
            remove(&self.dir, number);
        }
    }

    /// The segment to write to; a new one when the last is full.
    fn writable(&mut self) -> io::Result<u64> {
        if let Some(writer) = &self.open
            && self.segments.get(&writer.segment).is_some_and(|segment| segment.bytes < SEGMENT_BYTES)
        {
            return Ok(writer.segment);
        }
        let number = self.next_segment;
        let file = OpenOptions::new().create_new(true).write(true).open(segment_path(&self.dir, number))?;
        // The name must survive the machine, too.
        File::open(&self.dir)?.sync_all()?;
        self.next_segment += 1;
        if let Some(sealed) = self.open.replace(Writer { segment: number, file, is_dirty: false })
            && sealed.is_dirty
        {
            let _ = sealed.file.sync_data();
        }
        self.segments.insert(number, Segment { count: 0, bytes: 0, delivered: Ranges::default() });
        let done: Vec<u64> = self.segments.iter().filter(|(at, segment)| **at != number && segment.is_done()).map(|(at, _)| *at).collect();
        for at in done {
            self.segments.remove(&at);
            remove(&self.dir, at);
        }
        Ok(number)
    }
}

impl Segment {
    fn is_done(&self) -> bool {
        self.delivered.len() >= self.count
    }
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.samples"))
}

fn delivered_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.delivered"))
}

fn segment_number(path: &Path) -> Option<u64> {
    (path.extension()? == "samples").then_some(())?;
    path.file_stem()?.to_str()?.parse().ok()
}

fn remove(dir: &Path, number: u64) {
    // First the samples: a list of deliveries without them is harmless, the other way round they would be delivered twice.
    let _ = fs::remove_file(segment_path(dir, number));
    let _ = fs::remove_file(delivered_path(dir, number));
}

/// The length of the sound records in a segment, one after the other from its start.
fn scan(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, tail) = rest.split_at_checked(HEADER_BYTES as usize)?;
        let length = u32::from_le_bytes(header[..4].try_into().ok()?);
        let sum = u32::from_le_bytes(header[4..].try_into().ok()?);
        let (record, tail) = tail.split_at_checked(length.min(MOST_RECORD_BYTES) as usize)?;
        (length <= MOST_RECORD_BYTES && crc32fast::hash(record) == sum).then_some(())?;
        rest = tail;
        Some(record)
    })
}

/// Reads what an earlier process left, and cuts off what it did not finish.
fn recover(path: &Path) -> io::Result<Segment> {
    let bytes = fs::read(path)?;
    let (mut count, mut sound) = (0, 0);
    for record in scan(&bytes) {
        count += 1;
        sound += HEADER_BYTES + record.len() as u64;
    }
    if sound < bytes.len() as u64 {
        tracing::warn!(spool = %path.display(), lost_bytes = bytes.len() as u64 - sound, "cut off an unfinished record");
        OpenOptions::new().write(true).open(path)?.set_len(sound)?;
    }
    let mut delivered = Ranges::default();
    for range in fs::read(path.with_extension("delivered")).unwrap_or_default().chunks_exact(8) {
        let bound = |at: usize| range[at..at + 4].try_into().map_or(0, u32::from_le_bytes).min(count);
        if bound(0) < bound(4) {
            delivered.insert(bound(0), bound(4));
        }
    }
    Ok(Segment { count, bytes: sound, delivered })
}

/// The records at these ascending places.
fn read(path: &Path, places: &[u32]) -> io::Result<Vec<(u32, Bytes)>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mut wanted = places.iter().peekable();
    let numbered = (0..).zip(scan(&bytes));
    Ok(numbered
        .filter(|(place, _)| wanted.next_if_eq(&place).is_some())
        .map(|(place, record)| (place, Bytes::copy_from_slice(record)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(numbers: std::ops::Range<u32>) -> Vec<Bytes> {
        numbers.map(|number| Bytes::from(format!("record {number}"))).collect()
    }

    fn left(spool: &mut Spool) -> Vec<Bytes> {
        let mut all = Vec::new();
        loop {
            let batch = spool.backlog(7);
            if batch.is_empty() {
                return all;
            }
            spool.delivered(&batch.iter().map(|(at, _)| *at).collect::<Vec<_>>());
            all.extend(batch.into_iter().map(|(_, bytes)| bytes));
        }
    }

    #[test]
    fn what_was_not_delivered_is_the_next_process_backlog() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 30).unwrap();
        let positions = spool.append(&records(0..20)).unwrap();
        spool.delivered(&positions[..5]);
        spool.delivered(&positions[10..12]);
        assert_eq!(spool.spooled(), 13);
        assert!(spool.backlog(100).is_empty(), "the live lane has it");
        drop(spool);
        let mut spool = Spool::open(dir.path(), 1 << 30).unwrap();
        spool.append(&records(20..21)).unwrap();
        let mut expected = records(5..10);
        expected.extend(records(12..20));
        assert_eq!(left(&mut spool), expected);
        assert_eq!(spool.spooled(), 1);
    }

    #[test]
    fn what_the_live_lane_gives_up_is_backlog_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 30).unwrap();
        let positions = spool.append(&records(0..20)).unwrap();
        spool.leave_to_backlog(positions[7]);
        assert_eq!(left(&mut spool), records(0..8));
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_nothing_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 1 << 30).unwrap();
        spool.append(&records(0..3)).unwrap();
        drop(spool);
        let path = segment_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut spool = Spool::open(dir.path(), 1 << 30).unwrap();
            let sound = scan(&whole[..cut]).count() as u32;
            assert_eq!(spool.backlog(10).len(), sound as usize);
            assert_eq!(fs::metadata(&path).map_or(0, |file| file.len()), whole[..cut].len() as u64 - (cut as u64 - scanned(&whole[..cut])));
            drop(spool);
            fs::write(&path, &whole).unwrap();
        }
    }

    fn scanned(bytes: &[u8]) -> u64 {
        scan(bytes).map(|record| HEADER_BYTES + record.len() as u64).sum()
    }

    #[test]
    fn a_full_spool_drops_its_oldest_and_counts_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), 3 * SEGMENT_BYTES).unwrap();
        let big = Bytes::from(vec![b'x'; (SEGMENT_BYTES / 4) as usize]);
        for _ in 0..40 {
            spool.append(std::slice::from_ref(&big)).unwrap();
            assert!(spool.bytes() <= 3 * SEGMENT_BYTES);
        }
        assert!(spool.dropped() > 0);
        assert_eq!(spool.dropped() + spool.spooled(), 40);
    }

    #[test]
    fn a_spool_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Spool::open(dir.path(), 1 << 30).unwrap();
        assert!(matches!(Spool::open(dir.path(), 1 << 30), Err(SpoolError::Taken(_))));
    }

    #[test]
    fn arbitrary_bytes_are_damage_not_a_crash() {
        let noise: Vec<u8> = (0..2000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for start in 0..200 {
            assert_eq!(scan(&noise[start..]).count(), 0);
        }
    }

    #[test]
    fn ranges_merge() {
        let mut ranges = Ranges::default();
        for (from, to) in [(5, 7), (1, 2), (2, 3), (9, 10), (6, 9)] {
            ranges.insert(from, to);
        }
        assert_eq!(ranges, Ranges(vec![(1, 3), (5, 10)]));
        assert!(ranges.contains(2) && !ranges.contains(3) && !ranges.contains(10));
    }
}
