//! `vigie replay`: a file of evidence evaluated in one go (SPEC §8). No I/O: bytes in, lines out.

use vigie_contract::record::decode;
use vigie_contract::{Catalogue, Refusal, Time};

use crate::core::engine::{Engine, Pace, Retain, Settings};

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
        /// Counted from 1; the line that showed it.
        line: usize,
        /// Why.
        refusal: Refusal,
    },
}

/// What came of a replay.
pub struct Replay {
    /// The engine after the last record.
    pub engine: Engine,
    /// What was skipped, or why nothing can be said, in order of the lines.
    pub faults: Vec<Fault>,
}

impl Replay {
    /// Evaluates `evidence`, NDJSON. Without `catalogue`, the catalogue records in the evidence are used.
    #[must_use]
    pub fn run(catalogue: Option<Catalogue>, evidence: &[u8], until: Option<Time>) -> Self {
        let settings = Settings { log_epoch: 0, retain: Retain::Everything, pace: Pace::Batch };
        let mut engine = Engine::new(settings, catalogue);
        let mut faults = Vec::new();
        for (index, bytes) in evidence.split(|byte| *byte == b'\n').enumerate() {
            let line = index + 1;
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            match decode(bytes) {
                Err(unreadable) => faults.push(Fault::Unreadable { line, why: unreadable.to_string() }),
                Ok(decoded) => {
                    let appended_at = decoded.appended_at.unwrap_or(Time::BEGINNING);
                    let effects = engine.step(index as u64, appended_at, decoded.record);
                    faults.extend(effects.refusals.into_iter().map(|refusal| Fault::Refused { line, refusal }));
                }
            }
        }
        engine.finish(until);
        Self { engine, faults }
    }

    /// Whether some line was no evidence: then nothing may be said.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, Fault::Unreadable { .. }))
    }
}
