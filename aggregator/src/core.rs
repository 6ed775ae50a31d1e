//! The pure core: from samples to states, windows and figures (SPEC §3 to §7). No async, no clock, no I/O.
//!
//! Evidence climbs one level at a time, and each level answers for an interval that changed below it:
//! [`track`] (3.1) → [`gate`] (3.2) → [`target`] (3.3, 3.4) → [`service`] (3.5, 3.6) → [`window`] (4, 5) → [`account`] (6).
//! [`engine`] is the fold over the log that drives them (7); [`intake`] is what it takes and refuses (1).

pub mod account;
mod adopt;
mod agenda;
mod bits;
mod chunk;
mod derive;
pub mod digest;
pub mod engine;
pub mod gate;
pub mod intake;
pub mod interval;
pub mod keep;
pub mod line;
mod memory;
pub mod report;
pub mod service;
pub mod snapshot;
pub mod state;
pub mod target;
pub mod track;
pub mod version;
pub mod window;
