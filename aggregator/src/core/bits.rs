//! Numbers that are mostly small, in as few bits as they need: Rice codes whose parameter follows the numbers themselves.

use serde::{Deserialize, Serialize};

/// A growing sequence of bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// How many bits of the last byte are still free.
    free: u8,
}

/// Reads bits from the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// How large the numbers of one kind were lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Size {
    /// Sixteen times their mean.
    mean_16: u64,
}

/// A quotient this large gives way to the number itself.
const LONGEST_UNARY: u64 = 20;

impl Size {
    /// So many bits are written as they are, the rest in unary.
    fn plain_bits(self) -> u32 {
        (self.mean_16 / 16).max(1).ilog2()
    }

    fn follow(&mut self, number: u64) {
        // One wild number must not spoil the next hundred.
        self.mean_16 = self.mean_16 - self.mean_16 / 16 + number.min(self.mean_16 / 4 + (1 << 14));
    }
}

impl Bits {
    pub(super) fn push(&mut self, mut value: u64, mut count: u32) {
        while count > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let fits = count.min(u32::from(self.free));
            let used = 8 - self.free;
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value & ((1 << fits) - 1)) as u8) << used;
            }
            value = value.checked_shr(fits).unwrap_or(0);
            self.free -= fits as u8;
            count -= fits;
        }
    }

    pub(super) fn push_number(&mut self, number: u64, size: &mut Size) {
        let plain = size.plain_bits();
        let quotient = number >> plain;
        if quotient < LONGEST_UNARY {
            self.push((1 << quotient) - 1, quotient as u32 + 1);
            self.push(number, plain);
        } else {
            self.push((1 << LONGEST_UNARY) - 1, LONGEST_UNARY as u32);
            self.push(number, 64);
        }
        size.follow(number);
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { bytes: &self.bytes, at: 0 }
    }
}

impl Reader<'_> {
    pub(super) fn take(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        let mut got = 0;
        while got < count {
            let byte = u64::from(*self.bytes.get(self.at / 8)?) >> (self.at % 8);
            let fits = (count - got).min(8 - (self.at % 8) as u32);
            value |= (byte & ((1 << fits) - 1)) << got;
            got += fits;
            self.at += fits as usize;
        }
        Some(value)
    }

    pub(super) fn take_number(&mut self, size: &mut Size) -> Option<u64> {
        let plain = size.plain_bits();
        let mut quotient = 0;
        while quotient < LONGEST_UNARY && self.take(1)? == 1 {
            quotient += 1;
        }
        let number = if quotient < LONGEST_UNARY { quotient << plain | self.take(plain)? } else { self.take(64)? };
        size.follow(number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_come_back() {
        let numbers: Vec<u64> = (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1, u64::MAX >> bit, 5, 0]).collect();
        let (mut bits, mut size) = (Bits::default(), Size::default());
        numbers.iter().for_each(|number| bits.push_number(*number, &mut size));
        let (mut reader, mut size) = (bits.reader(), Size::default());
        for number in numbers {
            assert_eq!(reader.take_number(&mut size), Some(number));
        }
        assert!(reader.take(8).is_none());
    }
}
