//! Many samples in few bytes. Within a chunk they stand in order of their keys; a sample that continues its predecessor (same outcome,
//! run, period and timeout, next number) costs one variable-length integer: how far its stamp is from where it was expected.

use serde::{Deserialize, Serialize};
use vigie_contract::{Outcome, Span, Time};

use super::track::Entry;

/// A compressed run of samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) first: Time,
    pub(super) last: Time,
    pub(super) has_ok: bool,
    pub(super) has_fail: bool,
    len: u32,
    bytes: Vec<u8>,
    coder: Coder,
}

/// What both directions remember of the samples so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Coder {
    outcome: Outcome,
    run: u32,
    next_seq: u64,
    period: Span,
    timeout: Span,
    /// Where the next stamp is expected.
    expected_us: i64,
    /// The latency that is expected.
    latency_us: i64,
}

impl Default for Coder {
    fn default() -> Self {
        Self { outcome: Outcome::Ok, run: 0, next_seq: 0, period: Span::ZERO, timeout: Span::ZERO, expected_us: 0, latency_us: 0 }
    }
}

const OUTCOME: u8 = 1;
const RUN: u8 = 2;
const SEQ: u8 = 4;
const PLAN: u8 = 8;

impl Coder {
    fn differences(&self, entry: &Entry) -> u8 {
        let flag = |differs, flag| if differs { flag } else { 0 };
        flag(entry.outcome != self.outcome, OUTCOME)
            | flag(entry.run != self.run, RUN)
            | flag(entry.seq != self.next_seq, SEQ)
            | flag(entry.period != self.period || entry.timeout != self.timeout, PLAN)
    }

    fn advance(&mut self, entry: &Entry) {
        // A stamp is its slot plus the latency: follow the slots exactly and their latency slowly.
        let surprise_us = entry.stamp.us() - self.expected_us;
        let followed_us = if surprise_us.abs() < entry.period.us() { self.expected_us + surprise_us / 4 } else { entry.stamp.us() };
        self.expected_us = followed_us + entry.period.us();
        (self.outcome, self.run, self.next_seq) = (entry.outcome, entry.run, entry.seq.wrapping_add(1));
        (self.period, self.timeout) = (entry.period, entry.timeout);
        if let Some(latency) = entry.latency {
            self.latency_us += (latency.us() - self.latency_us) / 4;
        }
    }
}

impl Chunk {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut chunk = Self::default();
        entries.iter().for_each(|entry| chunk.push(entry));
        chunk.bytes.shrink_to_fit();
        chunk
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Appends a sample whose key is not less than the last one's.
    pub(super) fn push(&mut self, entry: &Entry) {
        if self.len == 0 {
            self.first = entry.stamp;
        }
        self.last = entry.stamp;
        self.len += 1;
        self.has_ok |= entry.outcome == Outcome::Ok;
        self.has_fail |= entry.outcome == Outcome::Fail;
        let differences = self.coder.differences(entry);
        let surprise = zigzag(entry.stamp.us().wrapping_sub(self.coder.expected_us));
        // Bit 0: this sample does not continue its predecessor. Bit 1: it carries a latency.
        let token = surprise << 2 | u64::from(entry.latency.is_some()) << 1 | u64::from(differences != 0);
        put(&mut self.bytes, token);
        if differences != 0 {
            self.bytes.push(differences);
            if differences & OUTCOME != 0 {
                self.bytes.push(entry.outcome as u8);
            }
            if differences & RUN != 0 {
                put(&mut self.bytes, entry.run.into());
            }
            if differences & SEQ != 0 {
                put(&mut self.bytes, entry.seq);
            }
            if differences & PLAN != 0 {
                put(&mut self.bytes, zigzag(entry.period.us()));
                put(&mut self.bytes, zigzag(entry.timeout.us()));
            }
        }
        if let Some(latency) = entry.latency {
            put(&mut self.bytes, zigzag(latency.us().wrapping_sub(self.coder.latency_us)));
        }
        self.coder.advance(entry);
    }

    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { bytes: &self.bytes, coder: Coder::default() }
    }
}

/// The samples of a chunk, in order.
pub(super) struct Entries<'a> {
    bytes: &'a [u8],
    coder: Coder,
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let token = take(&mut self.bytes)?;
        let mut coder = self.coder;
        if token & 1 == 1 {
            let differences = take_byte(&mut self.bytes)?;
            if differences & OUTCOME != 0 {
                coder.outcome = match take_byte(&mut self.bytes)? {
                    0 => Outcome::Ok,
                    1 => Outcome::Void,
                    _ => Outcome::Fail,
                };
            }
            if differences & RUN != 0 {
                coder.run = take(&mut self.bytes)? as u32;
            }
            if differences & SEQ != 0 {
                coder.next_seq = take(&mut self.bytes)?;
            }
            if differences & PLAN != 0 {
                coder.period = Span::from_us(unzigzag(take(&mut self.bytes)?));
                coder.timeout = Span::from_us(unzigzag(take(&mut self.bytes)?));
            }
        }
        let latency =
            if token & 2 == 2 { Some(Span::from_us(unzigzag(take(&mut self.bytes)?).wrapping_add(coder.latency_us))) } else { None };
        let entry = Entry {
            stamp: Time::from_us(unzigzag(token >> 2).wrapping_add(coder.expected_us)),
            outcome: coder.outcome,
            run: coder.run,
            seq: coder.next_seq,
            period: coder.period,
            timeout: coder.timeout,
            latency,
        };
        self.coder.advance(&entry);
        Some(entry)
    }
}

fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    let mut shift = 0;
    loop {
        let byte = take_byte(bytes)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_goes_in_comes_out() {
        let entry = |k: i64, outcome, run, seq, latency: Option<i64>| Entry {
            stamp: Time::from_us(1_774_567_890_000_000 + k),
            outcome,
            run,
            seq,
            period: Span::from_us(1 + k % 3 * 86_400_000_000 / 3),
            timeout: Span::from_us(1 + k % 2),
            latency: latency.map(Span::from_us),
        };
        let entries = [
            entry(0, Outcome::Fail, 7, u64::MAX, Some(0)),
            entry(0, Outcome::Fail, 7, 0, None),
            entry(1, Outcome::Ok, 0, 1, Some(i64::MAX)),
            entry(2, Outcome::Void, u32::MAX, 2, None),
            Entry { stamp: Time::EARLIEST, ..entry(3, Outcome::Ok, 1, 1, Some(5)) },
            Entry { stamp: Time::LATEST, ..entry(3, Outcome::Ok, 1, 2, Some(7)) },
        ];
        assert!(Chunk::of(&entries).entries().eq(entries));
    }

    #[test]
    fn a_steady_sample_costs_three_bytes() {
        let jitter = |k: i64| k.wrapping_mul(2_654_435_761).rem_euclid(60_000);
        let steady = |k: i64| Entry {
            stamp: Time::from_us(1_774_567_890_000_000 + k * 10_000_000 + jitter(k)),
            outcome: Outcome::Ok,
            run: 3,
            seq: k as u64,
            period: Span::from_secs(10),
            timeout: Span::from_secs(2),
            latency: None,
        };
        let entries: Vec<_> = (0..360).map(steady).collect();
        let chunk = Chunk::of(&entries);
        assert!(chunk.bytes.len() <= 3 * 360 + 40, "{} bytes", chunk.bytes.len());
    }
}
