//! Everything that is tested across crates.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may panic: that is how it fails")]

mod conformance;
mod intake;
mod persistence;
mod prefix;
mod properties;
mod retention;
