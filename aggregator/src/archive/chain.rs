//! Whether what is on a shelf still hangs together: each segment goes on from the hash of one before it, or of one that was pruned.

use std::collections::HashSet;
use std::path::PathBuf;

use super::pruned::{Pruned, pruned};
use super::{ArchiveError, NO_HASH, Seal, Segment, Shelf, all_segments};
use crate::port::Offset;

/// A segment, or what is left of one.
#[derive(Clone, Debug)]
pub enum Piece {
    /// It is there.
    Segment(Segment),
    /// It was pruned.
    Pruned(Pruned),
}

impl Piece {
    fn first(&self) -> Offset {
        match self {
            Self::Segment(segment) => segment.first,
            Self::Pruned(pruned) => pruned.first_offset,
        }
    }
}

/// What is on the shelf of a group and epoch, by first offset, with segments that only have what others have too.
pub fn pieces(shelf: &Shelf) -> Result<Vec<Piece>, ArchiveError> {
    // Segments are listed first: what is pruned meanwhile is then in both, never in neither.
    let segments = all_segments(shelf, shelf.names()?);
    let there: HashSet<String> = segments.iter().map(|segment| segment.name.clone()).collect();
    let mut pieces: Vec<Piece> =
        pruned(shelf)?.into_iter().filter(|pruned| !there.contains(&pruned.segment())).map(Piece::Pruned).collect();
    pieces.extend(segments.into_iter().map(Piece::Segment));
    pieces.sort_by_key(Piece::first);
    Ok(pieces)
}

/// Follows the hashes from piece to piece. Pure: what was read in, what is wrong out.
///
/// Segments of another archive of the same log may fill what this one never had: this one's own chain goes on behind them.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Hashes of this archive's own pieces.
    own: HashSet<String>,
    covered: Offset,
    holes: Vec<(Offset, Offset)>,
    /// The first piece since the last own one that follows none, and the hole before it.
    loose: Option<(PathBuf, Option<(Offset, Offset)>)>,
}

impl Default for Chain {
    fn default() -> Self {
        let own = HashSet::from([NO_HASH.to_owned()]);
        Self { own, covered: 0, holes: Vec::new(), loose: None }
    }
}

impl Chain {
    /// Takes the next segment, once it was read.
    pub fn segment(&mut self, segment: &Segment, seal: &Seal) {
        self.link(segment.place(), (segment.first, segment.next), &seal.previous_sha256, &seal.sha256);
    }

    /// Takes what is left of the next one.
    pub fn pruned(&mut self, shelf: &Shelf, pruned: &Pruned) {
        let place = shelf.place(&pruned.segment());
        self.link(place, (pruned.first_offset, pruned.next_offset), &pruned.previous_sha256, &pruned.sha256);
    }

    fn link(&mut self, place: PathBuf, (first, next): (Offset, Offset), previous: &str, own: &str) {
        let hole = (self.covered < first).then_some((self.covered, first));
        self.holes.extend(hole);
        self.covered = self.covered.max(next);
        if self.own.contains(previous) {
            self.own.insert(own.to_owned());
            self.loose = None;
        } else {
            // The hole, if there is one, says most.
            let known = self.loose.take().filter(|(_, known)| known.is_some() || hole.is_none());
            self.loose = Some(known.unwrap_or((place, hole)));
        }
    }

    /// The holes that it always had, because retention deleted records before they were archived, each with the offset after it; an error
    /// if something is missing or is another's.
    pub fn end(self) -> Result<Vec<(Offset, Offset)>, ArchiveError> {
        match self.loose {
            Some((path, missing)) => Err(ArchiveError::Missing { path, missing }),
            None => Ok(self.holes),
        }
    }
}
