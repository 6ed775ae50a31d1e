//! Reading evidence from a file, line by line: a file may be larger than memory, and a line may be hostile.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use vigie_aggregator::archive::{self, Chain, Piece, Pruned, Shelf};
use vigie_aggregator::port::{Logged, Offset};
use vigie_aggregator::replay::{Fault, Hole, Replay};
use vigie_contract::Time;
use vigie_contract::record::LONGEST_RECORD_BYTES;

/// Feeds the evidence at `path` (`-`: standard input; a directory, or what lies below a bucket's settings: the archive of a group's log) to `replay` and names on `errors` every
/// line that is not taken; without a catalogue to go by, only those that are no evidence at all. Answers what was pruned of it.
pub(crate) fn feed(replay: &mut Replay, path: &Path, has_catalogue: bool, errors: &mut impl Write) -> io::Result<Vec<Hole>> {
    // `bucket.toml/main` is no path of the file system: a file stands where it wants a directory.
    let is_below_a_file = path.ancestors().skip(1).any(Path::is_file);
    if path.is_dir() || is_below_a_file {
        return feed_archive(replay, path, has_catalogue, errors);
    }
    let input: Box<dyn Read> = if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut line = Vec::new();
    while read_line(&mut input, &mut line)? {
        for fault in replay.push(&line) {
            if has_catalogue || matches!(fault, Fault::Unreadable { .. }) {
                writeln!(errors, "{}: {fault}", path.display())?;
            }
        }
    }
    Ok(Vec::new())
}

/// Of one log, or of all logs of a group one after the other.
fn feed_archive(replay: &mut Replay, path: &Path, has_catalogue: bool, errors: &mut impl Write) -> io::Result<Vec<Hole>> {
    // On its threads a bucket is asked.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _within = runtime.enter();
    let shelf = Shelf::open(path).map_err(io::Error::other)?;
    let mut epochs = archive::epochs(&shelf).map_err(io::Error::other)?;
    if epochs.is_empty() {
        let own = shelf.name().and_then(|name| name.parse().ok()).unwrap_or(0);
        epochs.push((own, shelf));
    }
    let mut all = Vec::new();
    for (log_epoch, shelf) in epochs {
        let pieces = archive::pieces(&shelf).map_err(io::Error::other)?;
        if !pieces.iter().any(|piece| matches!(piece, Piece::Segment(_))) {
            return Err(io::Error::other("there is no segment of an archive in it: name the directory of a group, or of its log epoch"));
        }
        let (mut chain, mut holes, mut next) = (Chain::default(), Vec::<PrunedHole>::new(), 0);
        for piece in pieces {
            let segment = match piece {
                Piece::Pruned(pruned) => {
                    chain.pruned(&shelf, &pruned);
                    PrunedHole::widen(&mut holes, &pruned);
                    continue;
                }
                Piece::Segment(segment) => segment,
            };
            let mut faults = Vec::new();
            let mut push = |logged: Logged| {
                // Where segments overlap, what the one before had.
                if logged.offset >= next {
                    next = logged.offset + 1;
                    faults.extend(replay.push_logged(log_epoch, &logged));
                }
            };
            let seal = segment.verify(Some(&mut push)).map_err(io::Error::other)?;
            chain.segment(&segment, &seal);
            for fault in faults.iter().filter(|_| has_catalogue) {
                writeln!(errors, "{}: {fault}", segment.place().display())?;
            }
        }
        for (from, to) in chain.end().map_err(io::Error::other)? {
            writeln!(errors, "warning: offsets {from} to {} are not in the archive: they never were", to - 1)?;
        }
        for pruned in holes {
            let (records, from, to, hole) = (pruned.records, pruned.from, pruned.to - 1, pruned.hole);
            writeln!(errors, "pruned: offsets {from} to {to}, {records} records from {} to {}", hole.first, hole.last)?;
            all.push(hole);
        }
    }
    Ok(all)
}

/// Segments that were pruned, one after the other.
struct PrunedHole {
    from: Offset,
    to: Offset,
    records: u64,
    hole: Hole,
}

impl PrunedHole {
    fn widen(holes: &mut Vec<Self>, pruned: &Pruned) {
        let (first, last) = pruned.appended();
        let oldest = Time::from_us(pruned.oldest_us);
        match holes.last_mut().filter(|known| known.to == pruned.first_offset) {
            Some(known) => {
                known.to = pruned.next_offset;
                known.records += pruned.records;
                known.hole =
                    Hole { oldest: known.hole.oldest.min(oldest), first: known.hole.first.min(first), last: known.hole.last.max(last) };
            }
            None => {
                let (from, to, records) = (pruned.first_offset, pruned.next_offset, pruned.records);
                holes.push(Self { from, to, records, hole: Hole { oldest, first, last } });
            }
        }
    }
}

/// Reads one line without its end. Of one that is longer than any record only so much is kept that it is refused as too long.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let longest = LONGEST_RECORD_BYTES as u64 + 2;
    if input.by_ref().take(longest).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 == longest {
        input.skip_until(b'\n')?;
    }
    Ok(true)
}
