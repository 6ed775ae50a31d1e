//! The samples of one target as one vantage took them, and the state they give (SPEC §1 identity, §3.1).

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use vigie_contract::sample::hold;
use vigie_contract::{Outcome, Span, Time};

use super::chunk::Chunk;
use super::state::{State, Steps};

/// What the fold keeps of a sample. Its outcome is the one that counts: an unfit clock has made it void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The instant that it bears witness to.
    pub stamp: Time,
    /// What it is worth.
    pub outcome: Outcome,
    /// The probe's process, interned.
    pub run: u32,
    /// Its number in that run.
    pub seq: u64,
    /// The schedule's period.
    pub period: Span,
    /// The limit of one attempt.
    pub timeout: Span,
    /// How long it took.
    pub latency: Option<Span>,
}

impl Entry {
    /// How long it speaks for its target.
    #[must_use]
    pub fn hold(&self) -> Span {
        hold(self.period, self.timeout)
    }

    /// How far back a failure may be dated: the last sample before it was at most this long ago.
    #[must_use]
    pub fn reach(&self) -> Span {
        self.period + self.timeout
    }

    /// Order in a track: by stamp; at equal stamps `fail` wins, then the longer hold, then the longer period (SPEC §3.1), and the
    /// winner stands last. The rest only makes the order of records irrelevant.
    fn key(&self) -> (Time, u8, Span, Span, u32, u64) {
        let rank = match self.outcome {
            Outcome::Void => 0,
            Outcome::Ok => 1,
            Outcome::Fail => 2,
        };
        (self.stamp, rank, self.hold(), self.period, self.run, self.seq)
    }

    /// Of several records with one identity the greatest counts (SPEC §1).
    fn precedence(&self) -> (Outcome, Time, Span, Span, Option<Span>) {
        (self.outcome, self.stamp, self.period, self.timeout, self.latency)
    }
}

/// What a record did to its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is new.
    New,
    /// It was known; `conflicting` if the two records of that identity differ. `replaced` is the one that no longer counts.
    Duplicate {
        /// The two differ.
        conflicting: bool,
        /// The earlier record, if the new one takes its place.
        replaced: Option<Entry>,
    },
}

/// The samples of one (target, vantage), in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// Older samples, compressed, in order of their keys.
    chunks: Vec<Chunk>,
    /// The newest samples, later than those of all chunks.
    tail: Vec<Entry>,
    /// Which numbers of which runs were seen.
    seen: Vec<SeenRun>,
    /// Only a cache.
    #[serde(skip)]
    places: Places,
    longest_hold: Span,
    longest_reach: Span,
}

/// Numbers of one run that may have been seen: certain while the ranges are few, an over-estimate when they were joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SeenRun {
    run: u32,
    last_stamp: Time,
    ranges: Vec<(u64, u64)>,
}

/// Where the sample of each identity stands, once many were looked for in vain or far from where they were expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    stamps: Option<FxHashMap<(u32, u64), Time>>,
    /// So many samples were looked through meanwhile.
    searched: usize,
}

/// The whole track is looked through so many times before it is indexed.
const MOST_SEARCHES: usize = 8;
/// More ranges than this of one run are joined; a number in the hull is then looked up among the samples themselves.
const MOST_RANGES: usize = 32;
/// The tail is compressed by halves when it holds this many samples.
const LONGEST_TAIL: usize = 64;
/// No chunk holds more samples.
const LONGEST_CHUNK: usize = 1024;
/// Where a sample comes between more than this, they are divided around it: where one comes late, more will, and each rewrites its chunk.
const LONGEST_REWRITTEN: usize = 128;

impl SeenRun {
    /// Whether `seq` may have been seen before; from now on it has.
    fn note(&mut self, seq: u64) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= seq);
        if after > 0 && seq <= self.ranges[after - 1].1 {
            return true;
        }
        let extends_earlier = after > 0 && self.ranges[after - 1].1.checked_add(1) == Some(seq);
        let extends_later = self.ranges.get(after).is_some_and(|(first, _)| seq.checked_add(1) == Some(*first));
        match (extends_earlier, extends_later) {
            (true, true) => {
                self.ranges[after - 1].1 = self.ranges[after].1;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].1 = seq,
            (false, true) => self.ranges[after].0 = seq,
            (false, false) => self.ranges.insert(after, (seq, seq)),
        }
        if self.ranges.len() > MOST_RANGES {
            self.ranges[0].1 = self.ranges[1].1;
            self.ranges.remove(1);
        }
        false
    }
}

impl Track {
    /// The longest hold of any sample so far: a sample changes nothing later than its stamp and this.
    #[must_use]
    pub fn longest_hold(&self) -> Span {
        self.longest_hold
    }

    /// The longest `period + timeout` of any sample so far.
    #[must_use]
    pub fn longest_reach(&self) -> Span {
        self.longest_reach
    }

    /// Takes a sample in.
    pub fn insert(&mut self, entry: Entry) -> Insertion {
        let may_be_known = match self.seen.iter_mut().find(|seen| seen.run == entry.run) {
            Some(seen) => {
                seen.last_stamp = seen.last_stamp.max(entry.stamp);
                seen.note(entry.seq)
            }
            None => {
                self.seen.push(SeenRun { run: entry.run, last_stamp: entry.stamp, ranges: vec![(entry.seq, entry.seq)] });
                false
            }
        };
        if may_be_known && let Some(known) = self.find(&entry) {
            let conflicting = known.precedence() != entry.precedence();
            if entry.precedence() <= known.precedence() {
                return Insertion::Duplicate { conflicting, replaced: None };
            }
            self.remove(&known);
            self.put(entry);
            return Insertion::Duplicate { conflicting, replaced: Some(known) };
        }
        self.put(entry);
        Insertion::New
    }

    /// The sample with this one's identity.
    fn find(&mut self, entry: &Entry) -> Option<Entry> {
        let same = |other: &Entry| other.run == entry.run && other.seq == entry.seq;
        let stamped = |stamp: Time| self.since(stamp).take_while(move |other| other.stamp == stamp).find(same);
        if let Some(stamps) = &self.places.stamps {
            return stamped(*stamps.get(&(entry.run, entry.seq))?);
        }
        // Most duplicates are copies, with the same stamp. Only a conflicting one is looked for everywhere.
        let found = stamped(entry.stamp).or_else(|| self.tail.iter().copied().find(same));
        if found.is_some() {
            return found;
        }
        let len = self.chunks.iter().map(Chunk::len).sum::<usize>();
        self.places.searched += len;
        if self.places.searched > MOST_SEARCHES * len {
            let all = self.since(Time::BEGINNING).map(|entry| ((entry.run, entry.seq), entry.stamp));
            self.places.stamps = Some(all.collect());
        }
        self.chunks.iter().flat_map(Chunk::entries).find(same)
    }

    /// The chunk in which a sample stands or is to be put; none if that is the tail.
    fn chunk_of(&self, entry: &Entry) -> Option<usize> {
        let first = self.chunks.partition_point(|chunk| chunk.last < entry.stamp);
        // Several chunks may have this stamp: then the last that does not begin behind the sample.
        let beyond = self.chunks.partition_point(|chunk| chunk.first <= entry.stamp);
        let begins_behind = |chunk: &Chunk| chunk.entries().next().is_some_and(|first| first.key() > entry.key());
        let among = self.chunks.get(first..beyond).unwrap_or_default().partition_point(|chunk| !begins_behind(chunk));
        (first < self.chunks.len()).then(|| first + among.saturating_sub(1))
    }

    fn put(&mut self, entry: Entry) {
        self.longest_hold = self.longest_hold.max(entry.hold());
        self.longest_reach = self.longest_reach.max(entry.reach());
        if let Some(stamps) = &mut self.places.stamps {
            stamps.insert((entry.run, entry.seq), entry.stamp);
        }
        let Some(chunk) = self.chunk_of(&entry) else {
            let place = self.tail.partition_point(|other| other.key() < entry.key());
            self.tail.insert(place, entry);
            if self.tail.len() >= LONGEST_TAIL {
                self.compress_half();
            }
            return;
        };
        let mut entries: Vec<_> = self.chunks[chunk].entries().collect();
        let place = entries.partition_point(|other| other.key() < entry.key());
        entries.insert(place, entry);
        let (from, to) = if entries.len() > LONGEST_REWRITTEN {
            (place.saturating_sub(LONGEST_REWRITTEN / 4), entries.len().min(place + LONGEST_REWRITTEN / 4))
        } else {
            (0, entries.len())
        };
        let parts = [&entries[..from], &entries[from..to], &entries[to..]];
        self.chunks.splice(chunk..=chunk, parts.into_iter().filter(|part| !part.is_empty()).map(Chunk::of));
    }

    fn compress_half(&mut self) {
        let last = self.tail[LONGEST_TAIL / 2 - 1].stamp;
        let count = self.tail.partition_point(|entry| entry.stamp <= last);
        let hour = |time: Time| time.us().div_euclid(Span::HOUR.us());
        for entry in self.tail.drain(..count) {
            match self.chunks.last_mut() {
                Some(chunk) if hour(chunk.last) == hour(entry.stamp) && chunk.len() < LONGEST_CHUNK => chunk.push(&entry),
                last => {
                    if let Some(finished) = last {
                        finished.shrink();
                    }
                    self.chunks.push(Chunk::of(&[entry]));
                }
            }
        }
    }

    fn remove(&mut self, entry: &Entry) {
        if let Some(stamps) = &mut self.places.stamps {
            stamps.remove(&(entry.run, entry.seq));
        }
        match self.chunk_of(entry) {
            None => self.tail.retain(|other| other != entry),
            Some(chunk) => {
                let rest: Vec<_> = self.chunks[chunk].entries().filter(|other| other != entry).collect();
                let rest = (!rest.is_empty()).then(|| Chunk::of(&rest));
                self.chunks.splice(chunk..=chunk, rest);
            }
        }
    }

    /// The samples stamped at `from` or later, in order; at equal stamps the one that counts is last.
    pub fn since(&self, from: Time) -> impl Iterator<Item = Entry> + '_ {
        let first = self.chunks.partition_point(|chunk| chunk.last < from);
        let entries = self.chunks[first..].iter().flat_map(Chunk::entries).chain(self.tail_since(from).iter().copied());
        entries.skip_while(move |entry| entry.stamp < from)
    }

    fn tail_since(&self, from: Time) -> &[Entry] {
        &self.tail[self.tail.partition_point(|entry| entry.stamp < from)..]
    }

    /// The stamp of the newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<Time> {
        self.tail.last().map(|entry| entry.stamp).or_else(|| self.chunks.last().map(|chunk| chunk.last))
    }

    /// The last sample stamped at `to` or earlier, and not before `floor`, with one of these outcomes.
    fn last(&self, to: Time, floor: Time, is: impl Fn(Outcome) -> bool) -> Option<Entry> {
        let older = self.tail.partition_point(|entry| entry.stamp <= to);
        if let Some(entry) = self.tail[..older].iter().rev().find(|entry| is(entry.outcome)) {
            return Some(*entry).filter(|entry| entry.stamp >= floor);
        }
        let chunks = self.chunks.iter().rev().skip_while(|chunk| chunk.first > to).take_while(|chunk| chunk.last >= floor);
        // A long outage has no `ok` in many a chunk: those need not be looked through.
        let mut promising = chunks.filter(|chunk| is(Outcome::Ok) && chunk.has_ok || is(Outcome::Fail) && chunk.has_fail);
        promising
            .find_map(|chunk| chunk.entries().take_while(|entry| entry.stamp <= to).filter(|entry| is(entry.outcome)).last())
            .filter(|entry| entry.stamp >= floor)
    }

    /// The sample that speaks for the target at `time`, if one does (3.1).
    #[must_use]
    pub fn in_force(&self, time: Time) -> Option<Entry> {
        let last = self.last(time, time - self.longest_hold, |outcome| outcome != Outcome::Void)?;
        (time < last.stamp + last.hold()).then_some(last)
    }

    /// The latest stamp of an `ok` at `time` or earlier, not before `floor`.
    #[must_use]
    pub fn last_ok(&self, time: Time, floor: Time) -> Option<Time> {
        self.last(time, floor, |outcome| outcome == Outcome::Ok).map(|entry| entry.stamp)
    }

    /// The latest stamp of a `fail` before `time`, not before `floor`.
    #[must_use]
    pub fn last_fail_before(&self, time: Time, floor: Time) -> Option<Time> {
        self.last(time - Span::from_us(1), floor, |outcome| outcome == Outcome::Fail).map(|entry| entry.stamp)
    }

    /// The first stamp of a sample that is not void, at `time` or later.
    #[must_use]
    pub fn first_evidence(&self, time: Time) -> Option<Time> {
        self.since(time).find(|entry| entry.outcome != Outcome::Void).map(|entry| entry.stamp)
    }

    /// The vantage's state on `[from, to)` (3.1).
    #[must_use]
    pub fn states(&self, from: Time, to: Time) -> Steps<State> {
        let mut states = Steps::default();
        let mut current = self.in_force(from);
        if let Some(entry) = current {
            states.push(from, State::of(entry.outcome));
        }
        let later = self.since(from + Span::from_us(1)).take_while(|entry| entry.stamp < to);
        // By `for_each`, not by a loop: then chunks and tail are gone through one after the other, and no entry is copied from one adapter
        // to the next.
        later.filter(|entry| entry.outcome != Outcome::Void).for_each(|entry| {
            if let Some(end) = current.map(|current| current.stamp + current.hold())
                && end < entry.stamp
            {
                states.push(end, State::Unknown);
            }
            states.push(entry.stamp, State::of(entry.outcome));
            current = Some(entry);
        });
        if let Some(end) = current.map(|current| current.stamp + current.hold())
            && end < to
        {
            states.push(end, State::Unknown);
        }
        states
    }

    /// Until when the state certainly stays what it is at `time`, as far as samples are known: the end of a run of equal outcomes.
    #[must_use]
    pub fn steady_until(&self, time: Time) -> Time {
        let Some(mut current) = self.in_force(time) else {
            return self.first_evidence(time + Span::from_us(1)).unwrap_or(Time::FOREVER);
        };
        for entry in self.since(time + Span::from_us(1)).filter(|entry| entry.outcome != Outcome::Void) {
            if entry.stamp > current.stamp + current.hold() {
                break;
            }
            if entry.outcome != current.outcome {
                return entry.stamp;
            }
            current = entry;
        }
        current.stamp + current.hold()
    }

    /// Whether `entry`, an `ok`, goes on from an `ok` at the end of the track without a gap, so that nothing changes when its time comes.
    #[must_use]
    pub fn is_steadily_ok(&self, entry: &Entry) -> bool {
        self.tail.last().is_some_and(|last| {
            let ends = last.stamp + last.hold();
            last.outcome == Outcome::Ok && last.stamp < entry.stamp && entry.stamp <= ends && ends <= entry.stamp + entry.hold()
        })
    }

    pub(super) fn sealed(&self) -> &[Chunk] {
        &self.chunks
    }

    pub(super) fn push_sealed(&mut self, chunk: Chunk) {
        self.chunks.push(chunk);
    }

    pub(super) fn without_sealed(&self) -> Self {
        let (tail, seen) = (self.tail.clone(), self.seen.clone());
        Self {
            chunks: Vec::new(),
            tail,
            seen,
            places: Places::default(),
            longest_hold: self.longest_hold,
            longest_reach: self.longest_reach,
        }
    }

    /// Forgets the samples before `horizon`, chunk by chunk, and returns what it forgot.
    pub(super) fn forget_before(&mut self, horizon: Time) -> Vec<Chunk> {
        let gone = self.chunks.partition_point(|chunk| chunk.last < horizon);
        let forgotten = self.chunks.drain(..gone).collect();
        self.chunks.shrink_to_fit();
        self.seen.retain(|seen| seen.last_stamp >= horizon);
        self.places = Places::default();
        forgotten
    }

    /// The interned runs that it names.
    pub fn runs(&self) -> impl Iterator<Item = u32> + '_ {
        self.seen.iter().map(|seen| seen.run)
    }

    /// Bytes it occupies.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let seen: usize = self.seen.iter().map(|seen| size_of::<SeenRun>() + seen.ranges.capacity() * 16).sum();
        let spare = (self.chunks.capacity() - self.chunks.len()) * size_of::<Chunk>();
        size_of::<Self>()
            + self.chunks.iter().map(Chunk::size_bytes).sum::<usize>()
            + spare
            + self.tail.capacity() * size_of::<Entry>()
            + seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stamp: i64, outcome: Outcome, run: u32, seq: u64) -> Entry {
        let (stamp, period, timeout) = (Time::from_us(stamp), Span::from_secs(10), Span::from_secs(2));
        Entry { stamp, outcome, run, seq, period, timeout, latency: None }
    }

    /// Thousands of samples in any order, at equal stamps, and again with other contents: all there in order of their keys, each once.
    #[test]
    fn whatever_comes_in_whatever_order_is_found_in_order() {
        for (stamps, numbers) in [(4_000, 4_000), (3, 4_000), (4_000, 700), (40, 1_000)] {
            let (mut track, mut model) = (Track::default(), std::collections::BTreeMap::new());
            for k in 0_u64..6_000 {
                let mixed = k.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
                let outcome = if mixed % 5 == 0 { Outcome::Fail } else { Outcome::Ok };
                let entry = entry((mixed / 7 % stamps) as i64, outcome, (mixed % 3) as u32, mixed % numbers);
                let identity = (entry.run, entry.seq);
                let known: Option<Entry> = model.get(&identity).copied();
                let expected = match known {
                    None => Insertion::New,
                    Some(known) => {
                        let replaced = (entry.precedence() > known.precedence()).then_some(known);
                        Insertion::Duplicate { conflicting: entry.precedence() != known.precedence(), replaced }
                    }
                };
                assert_eq!(track.insert(entry), expected, "{k}: {entry:?}");
                if known.is_none_or(|known| entry.precedence() > known.precedence()) {
                    model.insert(identity, entry);
                }
            }
            let mut sorted: Vec<_> = model.into_values().collect();
            sorted.sort_by_key(Entry::key);
            assert!(track.since(Time::BEGINNING).eq(sorted.iter().copied()), "{stamps} stamps, {numbers} numbers");
            let middle = Time::from_us(stamps as i64 / 2);
            assert!(track.since(middle).eq(sorted.iter().copied().filter(|entry| entry.stamp >= middle)));
            let last_ok = sorted.iter().rev().find(|entry| entry.outcome == Outcome::Ok && entry.stamp <= middle);
            assert_eq!(track.last_ok(middle, Time::BEGINNING), last_ok.map(|entry| entry.stamp));
            assert!(track.chunks.iter().all(|chunk| chunk.len() <= LONGEST_CHUNK));
        }
    }
}
