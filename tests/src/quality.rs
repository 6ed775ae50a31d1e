//! How well outages are detected: random incidents of a known truth, watched by the probe's schedule, judged by the real engine; and what
//! two usual rules say of the same incidents. Everything follows from the seed; no clock is read, and all times are whole microseconds.
//!
//! [`truth`] says what happens, [`watch`] what a vantage sees of it, [`verdict`] what the engine makes of that, [`peer`] what the usual
//! rules make of it, and [`score`] how far either is from the truth.

mod peer;
mod score;
mod table;
mod truth;
mod verdict;
mod watch;

use vigie_aggregator::core::interval::Intervals;
use vigie_contract::{Span, Time};

use self::peer::Rule;
pub use self::score::{BUCKETS, Errors, Lateness, Score};
use self::truth::World;
use self::watch::Scrape;

/// The vantages, each in a zone of its own.
const VANTAGES: [&str; 3] = ["az05", "az06", "az07"];
/// When it all begins: 2026-11-01T00:00:00Z.
const START: Time = Time::from_us(1_793_491_200_000_000);

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The same seed gives the same incidents and the same answers.
    pub seed: u64,
    /// For how long.
    pub length: Span,
    /// One attempt in so many fails for no reason.
    pub noise: u64,
    /// Whether a failed attempt is made again before it is a `fail` (SPEC §1).
    pub retries: bool,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many samples the engine was fed.
    pub samples: usize,
    /// How many windows it showed before all evidence was there, and then took back whole.
    pub withdrawn: usize,
    /// How many of those stood on nothing at all.
    pub groundless: usize,
    /// Times when a part of the attempts at a target was lost.
    pub losses: usize,
    /// Outages of a target while two vantages were cut off: nobody could tell, and nobody is judged by them.
    pub unseen: usize,
    /// The engine first, then the rules beside it.
    pub scores: Vec<(&'static str, Score)>,
}

impl Report {
    /// The engine's.
    pub fn engine(&self) -> &Score {
        &self.scores[0].1
    }
}

/// Simulates, judges and compares.
pub fn run(settings: &Settings) -> Report {
    let world = World::new(settings);
    let mut samples = Vec::new();
    let mut peers: Vec<(&'static str, Vec<Intervals>)> =
        Rule::ALL.iter().flat_map(|rule| rule.names()).map(|name| (name, Vec::new())).collect();
    for target in 0..world.targets.len() {
        let seen = [0, 1, 2].map(|vantage| watch::watch(&world, settings, target, vantage));
        if world.targets[target].is_judged {
            let said = Rule::ALL.iter().flat_map(|rule| rule.alarms(&seen.each_ref().map(|seen| seen.scrapes.as_slice())));
            peers.iter_mut().zip(said).for_each(|((_, windows), said)| windows.push(said));
        }
        samples.extend(seen.into_iter().flat_map(|seen| seen.samples));
    }
    samples.sort_by_key(|sample| (sample.appended_at, sample.target, sample.vantage, sample.seq));
    let verdict = verdict::judge(&world, &samples);
    let withdrawn = verdict.withdrawn.iter().map(Vec::len).sum();
    let groundless = score::groundless(&world, &verdict.withdrawn);
    let all = std::iter::once(("vigie", verdict.windows)).chain(peers);
    let scores = all.map(|(name, windows)| (name, Score::of(&world, &windows))).collect();
    Report { samples: samples.len(), withdrawn, groundless, losses: world.losses(), unseen: world.unseen(), scores }
}
