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
use std::io::{self, Seek, SeekFrom, Write};
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

impl Position {
    pub(crate) const FIRST: Self = Self { segment: 0, place: 0 };

    /// The earliest position behind this one.
    pub(crate) fn next(self) -> Self {
        Self { place: self.place + 1, ..self }
    }
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
    /// Sealed since the last sync.
    sealed: Vec<File>,
    /// The segment that the backlog is being delivered from, read once.
    draining: Option<(u64, Vec<Bytes>)>,
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
    /// Another vantage's samples are in it: nobody would take them from this one.
    #[error("the spool {} holds samples of vantage {theirs}: give --spool another directory, or let {theirs}'s probe deliver them first", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The other vantage.
        theirs: String,
    },
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
    /// How many of them were not there before.
    fn insert(&mut self, from: u32, to: u32) -> u32 {
        let before = self.len();
        let first = self.0.partition_point(|(_, end)| *end < from);
        let last = self.0.partition_point(|(start, _)| *start <= to);
        let merged = self.0[first..last].iter().fold((from, to), |merged, range| (merged.0.min(range.0), merged.1.max(range.1)));
        self.0.splice(first..last, [merged]);
        self.len() - before
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
    /// Opens the spool of `vantage` in `dir`, which is made if it is missing; what earlier processes left in it is the backlog.
    pub(crate) fn open(dir: &Path, vantage: &str, most_bytes: u64) -> Result<Self, SpoolError> {
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
        let owner = dir.join("vantage");
        let theirs = fs::read_to_string(&owner).unwrap_or_default();
        if !segments.is_empty() && !theirs.is_empty() && theirs != vantage {
            return Err(SpoolError::Foreign { path: dir.to_owned(), theirs });
        }
        if theirs != vantage {
            fs::write(&owner, vantage).map_err(unusable(&owner))?;
        }
        let next_segment = newest + 1;
        Ok(Self {
            dir: dir.to_owned(),
            most_bytes,
            segments,
            open: None,
            next_segment,
            live_from: Position { segment: next_segment, place: 0 },
            sealed: Vec::new(),
            draining: None,
            dropped: 0,
            _lock: lock,
        })
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

    /// Handles to what was written since the last call, to be synced without holding the spool.
    pub(crate) fn unsynced(&mut self) -> io::Result<Vec<File>> {
        let mut files = std::mem::take(&mut self.sealed);
        if let Some(writer) = self.open.as_mut().filter(|writer| writer.is_dirty) {
            files.push(writer.file.try_clone()?);
            writer.is_dirty = false;
        }
        Ok(files)
    }

    /// Notes that these were delivered, and says of how many that was news: one may be delivered twice, or dropped on its way. A note
    /// that cannot be written only means that they are delivered again after a restart.
    pub(crate) fn delivered(&mut self, positions: &[Position]) -> u64 {
        let mut news = 0;
        let mut rest = positions;
        while let Some(first) = rest.first() {
            let run =
                rest.iter().enumerate().take_while(|(i, at)| at.segment == first.segment && at.place == first.place + *i as u32).count();
            let (from, to) = (first.place, first.place + run as u32);
            rest = &rest[run..];
            let Some(segment) = self.segments.get_mut(&first.segment) else { continue };
            news += u64::from(segment.delivered.insert(from, to));
            let is_open = self.open.as_ref().is_some_and(|writer| writer.segment == first.segment);
            if segment.is_done() && !is_open {
                self.segments.remove(&first.segment);
                remove(&self.dir, first.segment);
            } else {
                let note = OpenOptions::new().create(true).append(true).open(delivered_path(&self.dir, first.segment));
                let _ = note.and_then(|mut file| file.write_all(&[from.to_le_bytes(), to.to_le_bytes()].concat()));
            }
        }
        news
    }

    /// Gives what lies before the next record to append to the backlog: the live lane could not deliver it.
    pub(crate) fn leave_to_backlog(&mut self, until: Position) {
        self.live_from = self.live_from.max(until.next());
    }

    /// The oldest undelivered records of the backlog from `from` on that can be read, at most `most` of them; empty if there is none. A
    /// disk that cannot be read now is an error, to be tried again; what can be read and is not there any more was damaged, and is dropped.
    pub(crate) fn backlog(&mut self, from: Position, most: usize) -> io::Result<Vec<(Position, Bytes)>> {
        let live_from = self.live_from;
        let mut unreadable = None;
        let candidates: Vec<u64> =
            self.segments.range(from.segment..=live_from.segment.max(from.segment)).map(|(number, _)| *number).collect();
        for number in candidates {
            let Some(segment) = self.segments.get(&number) else { continue };
            let end = if number == live_from.segment { live_from.place.min(segment.count) } else { segment.count };
            let first = if number == from.segment { from.place } else { 0 };
            let wanted: Vec<u32> = (first..end).filter(|place| !segment.delivered.contains(*place)).take(most).collect();
            if wanted.is_empty() {
                continue;
            }
            let records = match self.records(number, end as usize) {
                Ok(records) => records,
                Err(error) => {
                    unreadable = Some(error);
                    continue;
                }
            };
            let sound = wanted
                .iter()
                .filter_map(|place| Some((Position { segment: number, place: *place }, records.get(*place as usize)?.clone())));
            let sound: Vec<_> = sound.collect();
            if !sound.is_empty() {
                return Ok(sound);
            }
            tracing::error!(segment = number, "a segment of the spool was damaged: what is left of it is lost");
            self.drop_segment(number);
        }
        self.draining = None;
        unreadable.map_or(Ok(Vec::new()), Err)
    }

    /// The records of a segment, the first `count` of them at least if they are sound; read from the disk once.
    fn records(&mut self, number: u64, count: usize) -> io::Result<&[Bytes]> {
        let is_read = self.draining.as_ref().is_some_and(|(known, records)| *known == number && records.len() >= count);
        if !is_read {
            let whole = match fs::read(segment_path(&self.dir, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::new(),
                read => Bytes::from(read?),
            };
            self.draining = Some((number, scan(&whole).map(|record| whole.slice_ref(record)).collect()));
        }
        Ok(self.draining.as_ref().map_or(&[], |(_, records)| records))
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
            self.drop_segment(oldest);
        }
    }

    fn drop_segment(&mut self, number: u64) {
        if self.open.as_ref().is_some_and(|writer| writer.segment == number) {
            self.open = None;
        }
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
        // Never the same name twice, even if this one does not come to be used.
        let number = self.next_segment;
        self.next_segment += 1;
        let path = segment_path(&self.dir, number);
        let file = OpenOptions::new().create_new(true).write(true).open(&path)?;
        // The name must survive the machine, too.
        if let Err(error) = File::open(&self.dir).and_then(|dir| dir.sync_all()) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let sealed = self.open.replace(Writer { segment: number, file, is_dirty: false });
        self.sealed.extend(sealed.filter(|sealed| sealed.is_dirty).map(|sealed| sealed.file));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn records(numbers: std::ops::Range<u32>) -> Vec<Bytes> {
        numbers.map(|number| Bytes::from(format!("record {number}"))).collect()
    }

    fn left(spool: &mut Spool) -> Vec<Bytes> {
        let mut all = Vec::new();
        loop {
            let batch = spool.backlog(Position::FIRST, 7).unwrap();
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
        let mut spool = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
        let positions = spool.append(&records(0..20)).unwrap();
        spool.delivered(&positions[..5]);
        spool.delivered(&positions[10..12]);
        assert_eq!(spool.spooled(), 13);
        assert!(spool.backlog(Position::FIRST, 100).unwrap().is_empty(), "the live lane has it");
        drop(spool);
        let mut spool = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
        spool.append(&records(20..21)).unwrap();
        let mut expected = records(5..10);
        expected.extend(records(12..20));
        assert_eq!(left(&mut spool), expected);
        assert_eq!(spool.spooled(), 1);
    }

    #[test]
    fn what_the_live_lane_gives_up_is_backlog_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
        let positions = spool.append(&records(0..20)).unwrap();
        spool.leave_to_backlog(positions[7]);
        assert_eq!(left(&mut spool), records(0..8));
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_nothing_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
        spool.append(&records(0..3)).unwrap();
        drop(spool);
        let path = segment_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut spool = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
            let sound = scan(&whole[..cut]).count() as u32;
            assert_eq!(spool.backlog(Position::FIRST, 10).unwrap().len(), sound as usize);
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
        let mut spool = Spool::open(dir.path(), "az05", 3 * SEGMENT_BYTES).unwrap();
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
        let _first = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
        assert!(matches!(Spool::open(dir.path(), "az05", 1 << 30), Err(SpoolError::Taken(_))));
    }

    #[test]
    fn a_spool_belongs_to_a_vantage_until_it_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let positions = Spool::open(dir.path(), "az05", 1 << 30).unwrap().append(&records(0..2)).unwrap();
        let foreign = Spool::open(dir.path(), "az06", 1 << 30).unwrap_err();
        assert!(matches!(&foreign, SpoolError::Foreign { theirs, .. } if theirs == "az05"), "{foreign}");
        Spool::open(dir.path(), "az05", 1 << 30).unwrap().delivered(&positions);
        Spool::open(dir.path(), "az06", 1 << 30).unwrap();
    }

    #[test]
    fn a_segment_that_cannot_be_read_now_is_kept_and_does_not_hold_up_the_next() {
        let dir = tempfile::tempdir().unwrap();
        Spool::open(dir.path(), "az05", 1 << 30).unwrap().append(&records(0..2)).unwrap();
        Spool::open(dir.path(), "az05", 1 << 30).unwrap().append(&records(2..4)).unwrap();
        let mut spool = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
        let (path, aside) = (segment_path(dir.path(), 1), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        // Reading a directory is an error, as a disk's or one for want of descriptors.
        fs::create_dir(&path).unwrap();
        let batch = spool.backlog(Position::FIRST, 10).unwrap();
        assert_eq!(batch.iter().map(|(_, record)| record.clone()).collect::<Vec<_>>(), records(2..4));
        spool.delivered(&batch.iter().map(|(at, _)| *at).collect::<Vec<_>>());
        spool.backlog(Position::FIRST, 10).unwrap_err();
        assert_eq!((spool.dropped(), spool.spooled()), (0, 2));
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert_eq!(left(&mut spool), records(0..2));
    }

    #[test]
    fn a_segment_that_is_gone_is_counted_as_dropped() {
        let dir = tempfile::tempdir().unwrap();
        Spool::open(dir.path(), "az05", 1 << 30).unwrap().append(&records(0..3)).unwrap();
        let mut spool = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
        fs::remove_file(segment_path(dir.path(), 1)).unwrap();
        assert!(left(&mut spool).is_empty());
        assert_eq!((spool.dropped(), spool.spooled()), (3, 0));
    }

    #[test]
    fn a_name_that_is_taken_costs_one_write_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), "az05", 1 << 30).unwrap();
        fs::write(segment_path(dir.path(), 1), "").unwrap();
        spool.append(&records(0..1)).unwrap_err();
        spool.append(&records(0..1)).unwrap();
    }

    #[test]
    fn what_is_delivered_twice_or_dropped_on_its_way_is_news_once_or_never() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path(), "az05", SEGMENT_BYTES).unwrap();
        let first = spool.append(&records(0..10)).unwrap();
        assert_eq!(spool.delivered(&first[..6]), 6);
        assert_eq!(spool.delivered(&first[4..8]), 2);
        spool.append(&[Bytes::from(vec![b'x'; MOST_RECORD_BYTES as usize])]).unwrap();
        for _ in 0..4 {
            spool.append(&[Bytes::from(vec![b'x'; MOST_RECORD_BYTES as usize - 8])]).unwrap();
        }
        assert!(spool.dropped() >= 2);
        assert_eq!(spool.delivered(&first), 0);
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
