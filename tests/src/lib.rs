//! Support for the tests that span crates.

#![allow(clippy::must_use_candidate, reason = "what a test looks at, it uses")]
#![allow(clippy::float_cmp, reason = "the metrics that are compared are counts: whole numbers, exact as f64")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic: that is how it fails")]

pub mod browser;
pub mod case;
pub mod clickhouse;
pub mod cluster;
pub mod disk;
pub mod fold;
pub mod grafana;
pub mod kafka;
pub mod oracle;
pub mod paging;
pub mod program;
pub mod prometheus;
pub mod proof;
pub mod quality;
pub mod region;
pub mod scene;
mod service;
pub mod watcher;
pub mod world;
pub mod zones;
