//! One visit to a disk: the last block is still there, a new one is kept, and comes back.

use std::time::Instant;

use nix::errno::Errno;
use nix::libc::{dev_t, ino_t};

use super::block::Block;
use super::file::{Place, Trouble};
use crate::check::Phase;
use crate::clock::now;
use crate::random;

/// The most steps of a visit: five, two more on a read-only file system, and the end.
pub(crate) const MOST_STEPS: usize = 8;

/// What a visit tells while it goes on.
pub(crate) enum Step {
    Begins(Phase, Instant),
    Ends(Result<(), Trouble>, Instant),
}

/// What visits to a file remember.
pub(crate) struct Memory {
    /// The last block that was written.
    last: Block,
    /// The last block that the disk said to keep, and in which file.
    kept: Option<(Block, (dev_t, ino_t))>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { last: Block { writer: random::u64(), number: 0 }, kept: None }
    }
}

/// In a thread that may wait for the disk. `is_retry`: what an earlier visit has found is to be confirmed, and is then done with.
pub(crate) fn visit(place: &Place, memory: &mut Memory, is_retry: bool, tell: impl Fn(Step)) {
    let begin = |phase| tell(Step::Begins(phase, now()));
    let mut result = exercise(place, memory, &begin);
    if let Err(Trouble::System(_, Errno::EROFS)) = result {
        result = look(place, memory, &begin);
    }
    if is_retry && result == Err(Trouble::Corrupt) {
        memory.kept = None;
    }
    tell(Step::Ends(result, now()));
}

fn exercise(place: &Place, memory: &mut Memory, begin: &impl Fn(Phase)) -> Result<(), Trouble> {
    begin(Phase::Open);
    let (mut file, was_there) = place.open()?;
    // Whoever takes the file away, or puts another in its place, is in the guest.
    memory.kept = memory.kept.filter(|(_, identity)| was_there && *identity == file.identity);
    if let Some((block, _)) = memory.kept {
        begin(Phase::Read);
        file.expect(block)?;
    }
    let block = Block { number: memory.last.number + 1, ..memory.last };
    memory.last = block;
    begin(Phase::Write);
    file.write(block)?;
    begin(Phase::Sync);
    file.sync()?;
    memory.kept = Some((block, file.identity));
    begin(Phase::Read);
    file.expect(block)
}

/// A file system became read-only: on an error of the disk, or by somebody in the guest. The disk answers for itself what it is.
fn look(place: &Place, memory: &Memory, begin: &impl Fn(Phase)) -> Result<(), Trouble> {
    begin(Phase::Open);
    let mut file = place.open_read_only()?;
    begin(Phase::Read);
    match memory.kept {
        Some((block, identity)) if identity == file.identity => file.expect(block)?,
        _ => file.read(memory.last.number)?,
    }
    Err(Trouble::ReadOnly)
}
