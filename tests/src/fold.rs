//! Driving the engine over lines of evidence.

use vigie_aggregator::core::engine::{Effects, Engine, Pace, Retain, Settings};
use vigie_aggregator::replay::Replay;
use vigie_contract::catalogue::Strictness;
use vigie_contract::record::decode;
use vigie_contract::{Catalogue, Time};

/// An engine that derives after every record and forgets nothing.
pub const LIVE: Settings = Settings { log_epoch: 7, retain: Retain::Everything, pace: Pace::Live };
/// The same, forgetting what the late horizon allows.
pub const BOUNDED: Settings = Settings { retain: Retain::Horizon, ..LIVE };

/// Reads a catalogue that must be sound.
///
/// # Panics
/// If it is not.
#[must_use]
pub fn catalogue(text: &str) -> Catalogue {
    Catalogue::read(text, Strictness::Replay).unwrap_or_else(|problems| panic!("catalogue: {problems:#?}")).0
}

/// Lets `engine` take one line.
///
/// # Panics
/// If it is not a JSON object.
pub fn step(engine: &mut Engine, offset: u64, line: &str) -> Effects {
    let decoded = decode(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
    engine.step(offset, decoded.appended_at.unwrap_or(Time::BEGINNING), decoded.record)
}

/// The engine after a batch of all lines.
///
/// # Panics
/// If one is not a JSON object.
#[must_use]
pub fn batch(catalogue: Option<&Catalogue>, lines: &[String], until: Option<Time>) -> Engine {
    let mut replay = Replay::new(catalogue.cloned());
    lines.iter().for_each(|line| drop(replay.push(line.as_bytes())));
    replay.finish(until).unwrap_or_else(|| panic!("evidence is readable"))
}

/// The lines of SPEC §8, as text.
///
/// # Panics
/// Never: lines are plain data.
#[must_use]
pub fn lines(engine: &Engine) -> Vec<String> {
    engine.lines().iter().map(|line| serde_json::to_string(line).unwrap_or_else(|error| panic!("{error}"))).collect()
}
