//! Deletes what need not be kept for ever, and leaves a record of it.
//!
//! Safe at any moment: what will have been pruned is durable before the first of it is deleted, a segment whose deletion did not come to
//! pass is deleted by the next run, and the newest segment stays always, because the archive is written on from its hash. Two runs at once
//! leave what one would.

use std::collections::BTreeSet;

use vigie_contract::record::decode_appended;
use vigie_contract::{Record, Time};

use super::pruned::{Pruned, pruned, write};
use super::{ArchiveError, Segment, Shelf, ShelfError, all_segments};
use crate::core::keep::{Extent, Hours};
use crate::port::{Logged, Offset};

/// So many segments are written down together, and then deleted.
const BATCH: usize = 1_000;

/// What of a shelf is old.
#[derive(Debug, Default)]
pub struct Survey {
    /// What may go.
    going: Vec<(Segment, Pruned)>,
    /// How many old segments stay, for a window's sake or for what people said in them.
    pub kept: usize,
    /// The catalogues in what is old, by offset and append time: by them an archive is known.
    pub catalogues: Vec<(Offset, Time)>,
}

impl Survey {
    /// How many segments may go.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.going.len()
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Segments that were deleted.
    pub segments: usize,
    /// Their records.
    pub records: u64,
    /// Their offsets, and the offset after them, and their earliest and latest append time.
    pub extent: Option<(Offset, Offset, Time, Time)>,
    /// Segments that should have been, and the first reason why they were not.
    pub refused: Option<(usize, ShelfError)>,
}

/// Looks at the segments on the shelf of a group and epoch from the oldest on, up to the first that has a record younger than `cut` or
/// one at `through` or behind it. Reads them all: an error if one is not as it was written.
pub fn survey(shelf: &Shelf, hours: &Hours, cut: Time, through: Offset) -> Result<Survey, ArchiveError> {
    let mut survey = Survey::default();
    let segments = all_segments(shelf, shelf.names()?);
    let end = segments.iter().map(|segment| segment.next).max().unwrap_or(0);
    for segment in segments {
        if segment.next > through {
            break;
        }
        let (mut extent, mut catalogues) = (Extent::default(), Vec::new());
        let mut look = |logged: Logged| {
            let decoded = decode_appended(&logged.bytes, logged.appended_at).ok();
            let record = decoded.as_ref().and_then(|decoded| decoded.record.as_ref().ok());
            if let Some(Record::Catalogue(_)) = record {
                catalogues.push((logged.offset, logged.appended_at));
            }
            extent.take(logged.appended_at, record, hours);
        };
        let seal = segment.verify(Some(&mut look))?;
        if !extent.is_older_than(cut) {
            break;
        }
        survey.catalogues.extend(catalogues);
        match extent.appended.zip(extent.oldest) {
            Some(((first, last), oldest)) if segment.next < end && extent.may_go(cut, hours) => {
                let pruned = Pruned {
                    first_offset: segment.first,
                    next_offset: segment.next,
                    records: seal.records,
                    first_appended_us: first.us(),
                    last_appended_us: last.us(),
                    oldest_us: oldest.us(),
                    previous_sha256: seal.previous_sha256,
                    sha256: seal.sha256,
                };
                survey.going.push((segment, pruned));
            }
            _ => survey.kept += 1,
        }
    }
    Ok(survey)
}

/// Deletes what the survey of `shelf` found, oldest first. A place that refuses is told, and asked no further once it refuses everything.
pub fn prune(shelf: &Shelf, survey: &Survey) -> Result<Done, ArchiveError> {
    prune_with(shelf, survey, Segment::delete)
}

fn prune_with(shelf: &Shelf, survey: &Survey, delete: impl Fn(&Segment) -> Result<(), ShelfError>) -> Result<Done, ArchiveError> {
    let mut done = Done::default();
    if survey.going.is_empty() {
        return Ok(done);
    }
    let _hold = shelf.hold("prune.lock")?;
    let written: BTreeSet<Pruned> = pruned(shelf)?;
    for batch in survey.going.chunks(BATCH) {
        let new: Vec<&Pruned> = batch.iter().map(|(_, pruned)| pruned).filter(|pruned| !written.contains(pruned)).collect();
        write(shelf, &new)?;
        let before = done.segments;
        for (segment, pruned) in batch {
            match delete(segment) {
                Ok(()) => done.note(pruned),
                Err(error) => done.refused.get_or_insert((0, error)).0 += 1,
            }
        }
        if done.segments == before {
            break;
        }
    }
    Ok(done)
}

impl Done {
    fn note(&mut self, pruned: &Pruned) {
        self.segments += 1;
        self.records += pruned.records;
        let (first, last) = pruned.appended();
        let (from, to, oldest, newest) = self.extent.unwrap_or((pruned.first_offset, pruned.next_offset, first, last));
        self.extent = Some((from.min(pruned.first_offset), to.max(pruned.next_offset), oldest.min(first), newest.max(last)));
    }
}

impl Segment {
    fn delete(&self) -> Result<(), ShelfError> {
        self.shelf.remove(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::io;
    use std::path::Path;

    use vigie_contract::Span;

    use super::*;
    use crate::archive::{Archive, Chain, Piece, Tally, pieces};
    use crate::core::keep::Said;

    const HOUR: i64 = Span::HOUR.us();
    /// Everything before the hour 14 is old.
    const CUT: Time = Time::from_us(14 * HOUR);

    /// A segment an hour, of two ticks, for twenty hours; in the third there is a catalogue.
    fn archive(dir: &Path) -> Archive {
        let archive = Archive::new(&Shelf::directory(dir), "main", 0);
        let mut writer = archive.writer().unwrap();
        for hour in 0..20 {
            let record: &[u8] = if hour == 2 { br#"{"v":1,"type":"catalogue","rev":1,"text":""}"# } else { br#"{"v":1,"type":"tick"}"# };
            let logged = |half: i64| Logged {
                offset: (2 * hour + half) as u64,
                appended_at: Time::from_us(hour * HOUR + half * HOUR / 2),
                bytes: record.to_vec(),
            };
            writer.append(&[logged(0), logged(1)], 2 * hour as u64 + 2).unwrap();
        }
        archive
    }

    /// A window at the hour 8, taken back: the segments of the hours 7, 8 and 9 are not farther than an hour from it.
    fn hours() -> Hours {
        let instant = |hour: i64| Time::from_us(hour * HOUR);
        Hours::around([Said { id: "w".into(), ver: 1, onset: instant(8), end: Some(instant(8)), as_of: instant(9), retracted: true }])
    }

    fn look(archive: &Archive) -> Survey {
        survey(archive.shelf(), &hours(), CUT, Offset::MAX).unwrap()
    }

    fn left(archive: &Archive) -> Vec<u64> {
        archive.segments().unwrap().iter().map(|segment| segment.first / 2).collect()
    }

    fn files(archive: &Archive) -> Vec<String> {
        archive.shelf().names().unwrap().into_iter().filter(|name| name.ends_with(".pruned.ndjson")).collect()
    }

    fn refused() -> ShelfError {
        ShelfError::Disk { path: "there".into(), cause: io::Error::from(io::ErrorKind::PermissionDenied) }
    }

    /// The end of the chain over everything that is there.
    fn check(archive: &Archive) -> Result<Vec<(Offset, Offset)>, ArchiveError> {
        let mut chain = Chain::default();
        for piece in pieces(archive.shelf())? {
            match piece {
                Piece::Segment(segment) => chain.segment(&segment, &segment.verify(None)?),
                Piece::Pruned(pruned) => chain.pruned(archive.shelf(), &pruned),
            }
        }
        chain.end()
    }

    const KEPT: [u64; 10] = [2, 7, 8, 9, 14, 15, 16, 17, 18, 19];

    #[test]
    fn what_goes_is_written_down_and_the_rest_still_hangs_together() {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive(dir.path());
        let survey = look(&archive);
        assert_eq!((survey.segments(), survey.kept, survey.catalogues.len()), (10, 4, 2));
        let done = prune(archive.shelf(), &survey).unwrap();
        assert_eq!((done.segments, done.records, done.refused.is_none()), (10, 20, true));
        assert_eq!(left(&archive), KEPT);
        let written = pruned(archive.shelf()).unwrap();
        assert_eq!(written.iter().map(|line| line.first_offset / 2).collect::<Vec<_>>(), [0, 1, 3, 4, 5, 6, 10, 11, 12, 13]);
        assert_eq!(check(&archive).unwrap(), []);
        assert_eq!(Tally::default().count(archive.shelf()).unwrap(), 20);
        assert_eq!(archive.writer().unwrap().next(), 40, "it is written on where it ended");
        // Once more: nothing is old, and nothing changes.
        assert_eq!(look(&archive).segments(), 0);
        // Everything is old: the newest stays, from which it is written on.
        let all = survey_all(&archive);
        prune(archive.shelf(), &all).unwrap();
        assert_eq!(left(&archive), [2, 7, 8, 9, 19]);
        assert_eq!(check(&archive).unwrap(), []);
    }

    fn survey_all(archive: &Archive) -> Survey {
        survey(archive.shelf(), &hours(), Time::FOREVER, Offset::MAX).unwrap()
    }

    #[test]
    fn what_the_store_has_not_taken_stays() {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive(dir.path());
        assert_eq!(survey(archive.shelf(), &Hours::default(), CUT, 4).unwrap().segments(), 2);
        assert_eq!(survey(archive.shelf(), &Hours::default(), CUT, 3).unwrap().segments(), 1);
        assert_eq!(survey(archive.shelf(), &Hours::default(), CUT, 0).unwrap().segments(), 0);
    }

    #[test]
    fn killed_after_any_deletion_it_is_whole_and_the_next_run_ends_it() {
        for deletions in 0..=10 {
            let dir = tempfile::tempdir().unwrap();
            let archive = archive(dir.path());
            let left_to_do = Cell::new(deletions);
            let killed = |segment: &Segment| match left_to_do.get() {
                0 => Err(refused()),
                some => {
                    left_to_do.set(some - 1);
                    segment.delete()
                }
            };
            let done = prune_with(archive.shelf(), &look(&archive), killed).unwrap();
            assert_eq!(done.segments, deletions);
            assert_eq!(done.refused.as_ref().map_or(0, |(segments, _)| *segments), 10 - deletions, "a refusal keeps nothing from going on");
            assert_eq!(left(&archive).len(), 20 - deletions);
            assert_eq!(check(&archive).unwrap(), [], "after {deletions}");
            assert_eq!(Tally::default().count(archive.shelf()).unwrap(), 2 * deletions as u64, "what is there still was not pruned");
            prune(archive.shelf(), &look(&archive)).unwrap();
            assert_eq!((left(&archive), files(&archive).len()), (KEPT.to_vec(), 1), "after {deletions}");
            assert_eq!(check(&archive).unwrap(), []);
        }
    }

    #[test]
    fn two_at_once_leave_what_one_would() {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive(dir.path());
        let (one, other) = (look(&archive), survey(archive.shelf(), &hours(), Time::from_us(12 * HOUR), Offset::MAX).unwrap());
        let hold = archive.shelf().hold("prune.lock").unwrap();
        assert!(matches!(prune(archive.shelf(), &one), Err(ArchiveError::Shelf(ShelfError::Taken(_)))));
        assert_eq!(left(&archive).len(), 20);
        drop(hold);
        // As in a bucket, where nobody is held up: what one has deleted the other still means to.
        prune(archive.shelf(), &other).unwrap();
        prune(archive.shelf(), &one).unwrap();
        prune(archive.shelf(), &other).unwrap();
        assert_eq!(left(&archive), KEPT);
        assert_eq!(check(&archive).unwrap(), []);
    }

    /// Whatever is taken, there or of the record, is missed; of an archive that was never pruned, too.
    #[test]
    fn what_is_stolen_is_found_between_what_was_pruned() {
        for is_pruned in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let archive = archive(dir.path());
            if is_pruned {
                prune(archive.shelf(), &look(&archive)).unwrap();
            }
            let segments = archive.segments().unwrap();
            for stolen in &segments[..segments.len() - 1] {
                let bytes = fs::read(stolen.place()).unwrap();
                fs::remove_file(stolen.place()).unwrap();
                let missing = Some((stolen.first, stolen.next));
                assert!(matches!(check(&archive), Err(ArchiveError::Missing { missing: found, .. }) if found == missing), "{stolen:?}");
                fs::write(stolen.place(), bytes).unwrap();
            }
            for file in files(&archive) {
                let place = archive.shelf().place(&file);
                let bytes = fs::read(&place).unwrap();
                let changed = String::from_utf8(bytes.clone()).unwrap().replace("\"records\":2", "\"records\":3");
                fs::write(&place, changed).unwrap();
                assert!(matches!(check(&archive), Err(ArchiveError::Damaged { .. })));
                fs::remove_file(&place).unwrap();
                assert!(matches!(check(&archive), Err(ArchiveError::Missing { .. })));
                fs::write(&place, bytes).unwrap();
            }
            assert_eq!(check(&archive).unwrap(), []);
        }
    }

    /// What retention deleted before it was archived is a hole that the hashes go on over; another archive's segments may fill it, but
    /// not stand in for this one's own.
    #[test]
    fn a_hole_that_always_was_is_no_theft_and_may_be_filled() {
        let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tick = |offset: u64| Logged { offset, appended_at: Time::from_us(offset as i64), bytes: b"{}".to_vec() };
        let (mine, other) =
            (Archive::new(&Shelf::directory(dir.path()), "main", 0), Archive::new(&Shelf::directory(other_dir.path()), "main", 0));
        let mut writer = mine.writer().unwrap();
        writer.append(&[tick(0)], 2).unwrap();
        writer.skip_to(5);
        writer.append(&[tick(5)], 6).unwrap();
        writer.append(&[tick(6)], 7).unwrap();
        let mut writer = other.writer().unwrap();
        for offset in 0..9 {
            writer.append(&[tick(offset)], offset + 1).unwrap();
        }
        assert_eq!(check(&mine).unwrap(), [(2, 5)]);
        let copy = |offsets: std::ops::Range<u64>| {
            for segment in other.segments().unwrap().iter().filter(|segment| offsets.contains(&segment.first)) {
                fs::copy(segment.place(), mine.shelf().place(&segment.name)).unwrap();
            }
        };
        copy(2..5);
        assert_eq!(check(&mine).unwrap(), []);
        fs::remove_file(mine.segments().unwrap()[4].place()).unwrap();
        copy(5..6);
        assert!(matches!(check(&mine), Err(ArchiveError::Missing { missing: None, .. })), "another's in the place of this one's own");
    }
}
