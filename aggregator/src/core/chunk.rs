//! Many samples in few bytes. Within a chunk they stand in order of their keys; a sample that continues its predecessor (same outcome,
//! run, period and timeout, next number) costs one small number: how far its stamp is from where it was expected.

use serde::{Deserialize, Serialize};
use vigie_contract::{Outcome, Span, Time};

use super::bits::{Bits, Reader, Size};
use super::track::Entry;

/// A compressed run of samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) first: Time,
    pub(super) last: Time,
    pub(super) has_ok: bool,
    pub(super) has_fail: bool,
    len: u32,
    bits: Bits,
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
    has_latency: bool,
    surprises: Size,
    latency_surprises: Size,
}

impl Default for Coder {
    fn default() -> Self {
        Self {
            outcome: Outcome::Ok,
            run: 0,
            next_seq: 0,
            period: Span::ZERO,
            timeout: Span::ZERO,
            expected_us: 0,
            latency_us: 0,
            has_latency: false,
            surprises: Size::default(),
            latency_surprises: Size::default(),
        }
    }
}

const OUTCOME: u8 = 1;
const RUN: u8 = 2;
const SEQ: u8 = 4;
const PLAN: u8 = 8;
const LATENCY: u8 = 16;
const FLAGS: u32 = 5;
/// A period or timeout is at most 24 h (SPEC §1), which is less than 2³⁷ µs.
const PLAN_BITS: u32 = 37;

impl Coder {
    fn differences(&self, entry: &Entry) -> u8 {
        let flag = |differs, flag| if differs { flag } else { 0 };
        flag(entry.outcome != self.outcome, OUTCOME)
            | flag(entry.run != self.run, RUN)
            | flag(entry.seq != self.next_seq, SEQ)
            | flag(entry.period != self.period || entry.timeout != self.timeout, PLAN)
            | flag(entry.latency.is_some() != self.has_latency, LATENCY)
    }

    fn advance(&mut self, entry: &Entry) {
        // A stamp is its slot plus the latency: follow the slots exactly and their latency slowly.
        let surprise_us = entry.stamp.us() - self.expected_us;
        let followed_us = if surprise_us.abs() < entry.period.us() { self.expected_us + surprise_us / 4 } else { entry.stamp.us() };
        self.expected_us = followed_us + entry.period.us();
        (self.outcome, self.run, self.next_seq) = (entry.outcome, entry.run, entry.seq.wrapping_add(1));
        (self.period, self.timeout) = (entry.period, entry.timeout);
        self.has_latency = entry.latency.is_some();
        if let Some(latency) = entry.latency {
            self.latency_us += latency.us().wrapping_sub(self.latency_us) / 4;
        }
    }
}

impl Chunk {
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut chunk = Self::default();
        entries.iter().for_each(|entry| chunk.push(entry));
        chunk.bits.shrink();
        chunk
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.bits.capacity_bytes()
    }

    pub(super) fn shrink(&mut self) {
        self.bits.shrink();
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
        if differences == 0 {
            self.bits.push(0, 1);
        } else {
            self.bits.push(u64::from(differences) << 1 | 1, 1 + FLAGS);
            if differences & OUTCOME != 0 {
                self.bits.push(entry.outcome as u64, 2);
            }
            if differences & RUN != 0 {
                self.bits.push(entry.run.into(), 32);
            }
            if differences & SEQ != 0 {
                self.bits.push_number(entry.seq, &mut Size::default());
            }
            if differences & PLAN != 0 {
                self.bits.push(entry.period.us() as u64, PLAN_BITS);
                self.bits.push(entry.timeout.us() as u64, PLAN_BITS);
            }
        }
        self.bits.push_number(zigzag(entry.stamp.us().wrapping_sub(self.coder.expected_us)), &mut self.coder.surprises);
        if let Some(latency) = entry.latency {
            self.bits.push_number(zigzag(latency.us().wrapping_sub(self.coder.latency_us)), &mut self.coder.latency_surprises);
        }
        self.coder.advance(entry);
    }

    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { left: self.len, bits: self.bits.reader(), coder: Coder::default() }
    }
}

/// The samples of a chunk, in order.
pub(super) struct Entries<'a> {
    left: u32,
    bits: Reader<'a>,
    coder: Coder,
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        let (bits, coder) = (&mut self.bits, &mut self.coder);
        if bits.take(1)? == 1 {
            let differences = bits.take(FLAGS)? as u8;
            if differences & OUTCOME != 0 {
                coder.outcome = match bits.take(2)? {
                    0 => Outcome::Ok,
                    1 => Outcome::Void,
                    _ => Outcome::Fail,
                };
            }
            if differences & RUN != 0 {
                coder.run = bits.take(32)? as u32;
            }
            if differences & SEQ != 0 {
                coder.next_seq = bits.take_number(&mut Size::default())?;
            }
            if differences & PLAN != 0 {
                coder.period = Span::from_us(bits.take(PLAN_BITS)? as i64);
                coder.timeout = Span::from_us(bits.take(PLAN_BITS)? as i64);
            }
            if differences & LATENCY != 0 {
                coder.has_latency = !coder.has_latency;
            }
        }
        let surprise_us = unzigzag(bits.take_number(&mut coder.surprises)?);
        let latency = if coder.has_latency {
            Some(Span::from_us(unzigzag(bits.take_number(&mut coder.latency_surprises)?).wrapping_add(coder.latency_us)))
        } else {
            None
        };
        let entry = Entry {
            stamp: Time::from_us(surprise_us.wrapping_add(coder.expected_us)),
            outcome: coder.outcome,
            run: coder.run,
            seq: coder.next_seq,
            period: coder.period,
            timeout: coder.timeout,
            latency,
        };
        coder.advance(&entry);
        Some(entry)
    }
}

fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
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
            period: Span::from_us(1 + k % 3 * (86_400_000_000 - 1) / 2),
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
    fn a_steady_sample_costs_two_and_a_half_bytes() {
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
        assert!(chunk.bits.capacity_bytes() <= 5 * 360 / 2, "{} bytes", chunk.bits.capacity_bytes());
    }
}
