//! Everything that is tested across crates.

mod prefix;
mod properties;
