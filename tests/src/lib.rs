//! Support for the tests that span crates.

pub mod fold;
pub mod world;
