//! From samples to outage windows and SLA figures: the aggregator.
//!
//! [`core`] is the law (SPEC §3 to §7), a pure fold over the log; [`replay`] runs it over a file.

pub mod api;
pub mod archive;
pub mod archivist;
#[cfg(feature = "clickhouse")]
pub mod clickhouse;
pub mod clock;
pub mod core;
pub mod explain;
pub mod expose;
pub mod ingest;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod live;
pub mod metric;
pub mod port;
pub mod publish;
pub mod replay;
pub mod sqlite;
pub mod start;
pub mod view;
