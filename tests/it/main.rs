//! Everything that is tested across crates.

#![allow(clippy::float_cmp, reason = "the metrics that are compared are counts: whole numbers, exact as f64")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may panic: that is how it fails")]

mod api;
mod attribution;
mod bucket;
mod catalogues;
mod cluster;
mod compose;
mod conformance;
mod dashboards;
mod durability;
mod exposition;
mod full;
mod inserted;
mod intake;
mod kafka;
mod killed;
mod manager;
mod mistakes;
mod page;
mod paged;
mod persistence;
mod prefix;
mod properties;
mod quality;
mod reload;
mod report;
mod retention;
mod seed;
mod sla;
mod stale;
mod stop;
mod view;
mod watched;
