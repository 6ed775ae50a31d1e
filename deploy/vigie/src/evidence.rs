//! Reading evidence from a file, line by line: a file may be larger than memory, and a line may be hostile.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use vigie_aggregator::archive::{self, Shelf};
use vigie_aggregator::port::Logged;
use vigie_aggregator::replay::{Fault, Replay};
use vigie_contract::record::LONGEST_RECORD_BYTES;

/// Feeds the evidence at `path` (`-`: standard input; a directory, or what lies below a bucket's settings: the archive of a group's log) to `replay` and names on `errors` every
/// line that is not taken; without a catalogue to go by, only those that are no evidence at all.
pub(crate) fn feed(replay: &mut Replay, path: &Path, has_catalogue: bool, errors: &mut impl Write) -> io::Result<()> {
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
    Ok(())
}

/// Of one log, or of all logs of a group one after the other.
fn feed_archive(replay: &mut Replay, path: &Path, has_catalogue: bool, errors: &mut impl Write) -> io::Result<()> {
    // On its threads a bucket is asked.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _within = runtime.enter();
    let shelf = Shelf::open(path).map_err(io::Error::other)?;
    let mut epochs = archive::epochs(&shelf).map_err(io::Error::other)?;
    if epochs.is_empty() {
        let own = shelf.name().and_then(|name| name.parse().ok()).unwrap_or(0);
        epochs.push((own, shelf));
    }
    for (log_epoch, shelf) in epochs {
        let segments = archive::segments(&shelf).map_err(io::Error::other)?;
        if segments.is_empty() {
            return Err(io::Error::other("there is no segment of an archive in it: name the directory of a group, or of its log epoch"));
        }
        for pair in segments.windows(2).filter(|pair| pair[0].next < pair[1].first) {
            writeln!(errors, "warning: offsets {} to {} are not in the archive", pair[0].next, pair[1].first - 1)?;
        }
        let mut next = 0;
        for segment in segments {
            let mut faults = Vec::new();
            let mut push = |logged: Logged| {
                // Where segments overlap, what the one before had.
                if logged.offset >= next {
                    next = logged.offset + 1;
                    faults.extend(replay.push_logged(log_epoch, &logged));
                }
            };
            segment.verify(Some(&mut push)).map_err(io::Error::other)?;
            for fault in faults.iter().filter(|_| has_catalogue) {
                writeln!(errors, "{}: {fault}", segment.place().display())?;
            }
        }
    }
    Ok(())
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
