//! `vigie replay`: a file of evidence evaluated in one go (SPEC §8). No I/O: bytes in, lines out.

use vigie_contract::record::{decode, decode_appended};
use vigie_contract::{Calendar, Catalogue, Month, Refusal, RefusalReason, Span, Time};

use crate::core::engine::{Engine, Pace, Refused, Retain, Settings};
use crate::core::keep::AROUND;
use crate::core::line::Line;
use crate::port::{Logged, Offset};

/// A line of evidence that the engine does not take, or that is no evidence at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not a JSON object: the evidence is unreadable.
    #[error("line {line}: {why}")]
    Unreadable {
        /// Counted from 1.
        line: usize,
        /// What the parser met.
        why: String,
    },
    /// A record that the live engine would reject; it is skipped.
    #[error("line {line}: refused: {refusal}")]
    Refused {
        /// Counted from 1.
        line: usize,
        /// Why.
        refusal: Refusal,
    },
    /// The same of an archive's record.
    #[error("offset {offset}: refused: {refusal}")]
    RefusedAt {
        /// Its place in the log.
        offset: Offset,
        /// Why.
        refusal: Refusal,
    },
}

/// A replay under way: fed line by line, evaluated once at the end.
pub struct Replay {
    engine: Engine,
    lines: usize,
    unreadable: bool,
}

impl Replay {
    /// A replay under `catalogue`; without one, the catalogue records in the evidence are used.
    #[must_use]
    pub fn new(catalogue: Option<Catalogue>) -> Self {
        let settings = Settings { log_epoch: 0, retain: Retain::Everything, pace: Pace::Batch };
        Self { engine: Engine::new(settings, catalogue), lines: 0, unreadable: false }
    }

    /// Takes the next line; blank ones only count. Answers what is wrong with it, or with earlier ones that waited.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Fault> {
        self.lines += 1;
        let line = self.lines;
        if bytes.trim_ascii().is_empty() {
            return Vec::new();
        }
        match decode(bytes) {
            Err(unreadable) => {
                self.unreadable = true;
                vec![Fault::Unreadable { line, why: unreadable.to_string() }]
            }
            Ok(decoded) => {
                let appended_at = decoded.appended_at.unwrap_or(Time::BEGINNING);
                let effects = self.engine.step(line as u64 - 1, appended_at, decoded.record);
                let fault = |refused: Refused| Fault::Refused { line: refused.offset as usize + 1, refusal: refused.refusal };
                effects.refusals.into_iter().map(fault).collect()
            }
        }
    }

    /// Takes the next record of the archive of a log with this epoch. What the live engine would have refused is refused here too.
    pub fn push_logged(&mut self, log_epoch: u64, logged: &Logged) -> Vec<Fault> {
        self.lines += 1;
        let record = match decode_appended(&logged.bytes, logged.appended_at) {
            Ok(decoded) => decoded.record,
            Err(unreadable) => Err(Refusal::new(RefusalReason::Malformed, unreadable.to_string())),
        };
        // Behind every record of the logs before it.
        let effects = self.engine.step((log_epoch << 48) + logged.offset, logged.appended_at, record);
        let offset = |refused: &Refused| refused.offset & ((1 << 48) - 1);
        effects.refusals.into_iter().map(|refused| Fault::RefusedAt { offset: offset(&refused), refusal: refused.refusal }).collect()
    }

    /// Evaluates all evidence at `until`, or at the last append time less `settle`. `None` if a line was no evidence: then nothing may
    /// be said.
    #[must_use]
    pub fn finish(mut self, until: Option<Time>) -> Option<Engine> {
        if self.unreadable {
            return None;
        }
        self.engine.finish(until);
        Some(self.engine)
    }

    /// All of `evidence` at once, as NDJSON.
    #[must_use]
    pub fn run(catalogue: Option<Catalogue>, evidence: &[u8], until: Option<Time>) -> (Option<Engine>, Vec<Fault>) {
        let mut replay = Self::new(catalogue);
        let faults = evidence.split(|byte| *byte == b'\n').flat_map(|line| replay.push(line)).collect();
        (replay.finish(until), faults)
    }
}

/// The longest that a sample holds (SPEC §3.1, with a period and a timeout of 24 h): so long after a hole time may look unknown only
/// because of it.
const LONGEST_HOLD: Span = Span::from_secs(84 * 3_600);

/// Time whose evidence was pruned (DESIGN §4). It was not unknown, and nothing in it was down; a fold over it would say both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The earliest instant that a pruned record spoke of.
    pub oldest: Time,
    /// The earliest append time.
    pub first: Time,
    /// The latest.
    pub last: Time,
}

impl Hole {
    /// Whether what is said of `[from, to)` may be otherwise because of the hole.
    #[must_use]
    pub fn bears_on(&self, from: Time, to: Time) -> bool {
        from <= self.last + LONGEST_HOLD && self.oldest <= to
    }

    /// Whether it is nearer to a window from `onset` to `end` than pruning comes to any that was published: then this one is an artefact.
    #[must_use]
    pub fn is_near(&self, onset: Time, end: Time) -> bool {
        onset - AROUND <= self.last && self.first <= end + AROUND
    }

    /// Whether `line` can be told all the same.
    #[must_use]
    pub fn spares(&self, line: &Line, calendar: &Calendar) -> bool {
        let month = |text: &str| Month::parse(text).map(|month| (calendar.start_of(month), calendar.end_of(month)));
        let (from, to) = match line {
            Line::Window(window) => {
                let end = window.end_us.map_or(Time::FOREVER, Time::from_us);
                return !self.is_near(Time::from_us(window.onset_us), end);
            }
            Line::Gap(gap) => (Time::from_us(gap.start_us), Time::from_us(gap.end_us)),
            Line::Candidate(candidate) => (Time::from_us(candidate.opened_us), Time::from_us(candidate.opened_us)),
            Line::Account(account) => month(&account.month).unwrap_or((Time::BEGINNING, Time::FOREVER)),
            Line::Latency(latency) => month(&latency.month).unwrap_or((Time::BEGINNING, Time::FOREVER)),
        };
        !self.bears_on(from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_bears_on_what_its_records_spoke_of_and_on_what_they_held_and_comes_near_no_published_window() {
        const H: i64 = Span::HOUR.us();
        let at = |hours: i64| Time::from_us(hours * H);
        // Records of the hours 100 to 110, one of which came from the hour 60.
        let hole = Hole { oldest: at(60), first: at(100), last: at(110) };
        assert!(!hole.bears_on(at(0), at(59)) && hole.bears_on(at(0), at(60)));
        assert!(hole.bears_on(at(194), at(300)) && !hole.bears_on(at(195), at(300)), "84 hours after the last");
        assert!(!hole.is_near(at(70), Time::from_us(99 * H - 1)) && hole.is_near(at(70), at(99)));
        assert!(!hole.is_near(Time::from_us(111 * H + 1), Time::FOREVER) && hole.is_near(at(111), Time::FOREVER));
        assert!(hole.is_near(at(104), at(105)), "in it");
    }
}
