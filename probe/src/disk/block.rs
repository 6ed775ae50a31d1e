//! A block that nobody else writes, in memory that a disk takes and gives directly.

/// The size of a block, and the alignment that every disk is content with.
pub(crate) const BLOCK_BYTES: usize = 4_096;

const MAGIC: &[u8; 8] = b"vigie-01";
const WORD_BYTES: usize = 8;

/// Which block: its content follows from it, and differs from that of every other block in every word but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// A random number of whoever writes.
    pub(crate) writer: u64,
    /// Counts the writer's blocks.
    pub(crate) number: u64,
}

impl Block {
    pub(crate) fn write(self, bytes: &mut [u8]) {
        for (word, place) in self.words().zip(bytes.chunks_exact_mut(WORD_BYTES)) {
            place.copy_from_slice(&word);
        }
    }

    /// The block whose content these bytes are, to the last one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.chunks_exact(WORD_BYTES);
        let mut next = || words.next().and_then(|word| word.try_into().ok());
        let (magic, writer, number) = (next()?, next()?, next()?);
        let block = Self { writer: u64::from_le_bytes(writer), number: u64::from_le_bytes(number) };
        let is_whole = magic == *MAGIC && words.zip(block.noise()).all(|(found, word)| found == word);
        (is_whole && bytes.len() == BLOCK_BYTES).then_some(block)
    }

    fn words(self) -> impl Iterator<Item = [u8; WORD_BYTES]> {
        [*MAGIC, self.writer.to_le_bytes(), self.number.to_le_bytes()].into_iter().chain(self.noise())
    }

    /// What no disk can compress, nor take for what it already has: `SplitMix64` from a seed of this block's own.
    fn noise(self) -> impl Iterator<Item = [u8; WORD_BYTES]> {
        let seed = self.writer ^ self.number.rotate_left(32);
        (1_u64..).map(move |step| {
            let mut word = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (word ^ (word >> 31)).to_le_bytes()
        })
    }
}

/// Memory for one block, aligned as `O_DIRECT` needs it.
pub(crate) struct Buffer {
    /// Twice as long as a block: somewhere in it is an address that is a multiple of its size. Never grows, so that it stays there.
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        let memory = vec![0; 2 * BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { memory, start }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + BLOCK_BYTES]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + BLOCK_BYTES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Block = Block { writer: 7, number: 300 };

    #[test]
    fn a_block_is_read_as_it_was_written_and_one_bit_less_is_none() {
        let mut buffer = Buffer::new();
        BLOCK.write(buffer.bytes_mut());
        assert_eq!(Block::read(buffer.bytes()), Some(BLOCK));
        for at in 0..BLOCK_BYTES {
            buffer.bytes_mut()[at] ^= 1;
            assert_eq!(Block::read(buffer.bytes()), None, "byte {at}");
            buffer.bytes_mut()[at] ^= 1;
        }
        assert_eq!(Block::read(&buffer.bytes()[..BLOCK_BYTES - 8]), None);
        assert_eq!(Block::read(&[0; BLOCK_BYTES]), None);
    }

    #[test]
    fn no_two_blocks_share_a_word() {
        let of = |writer, number| Block { writer, number }.words().skip(3).take(500).collect::<std::collections::BTreeSet<_>>();
        for (one, other) in [(of(7, 300), of(7, 301)), (of(7, 300), of(8, 300))] {
            assert_eq!(one.len(), 500);
            assert!(one.is_disjoint(&other));
        }
    }

    #[test]
    fn a_buffer_is_where_disks_want_it() {
        for _ in 0..64 {
            let buffer = Buffer::new();
            assert_eq!(buffer.bytes().as_ptr().align_offset(BLOCK_BYTES), 0);
            assert_eq!(buffer.bytes().len(), BLOCK_BYTES);
        }
    }
}
