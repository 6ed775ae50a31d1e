//! The probe: measures targets from one vantage (DESIGN §5).
//!
//! Slots come due on an open-loop schedule ([`station`]); each becomes exactly one sample, `void` if it could not be measured. Samples
//! go to a bounded spool on disk and from there to the evidence log. The probe never decides whether something is an outage.

mod canary;
mod ceiling;
mod check;
mod clock;
mod deliver;
mod descriptors;
mod disk;
mod dns;
pub mod durability;
mod exchange;
pub mod icmp;
mod limits;
mod load;
mod memory;
mod metric;
mod net;
mod openiaas;
mod plan;
mod plugin;
mod probe;
mod random;
mod resolve;
mod s3;
mod secret;
mod sigv4;
mod sink;
mod slot;
mod spool;
mod stamp;
mod station;
mod stats;
mod vitals;
mod web_token;

pub use ceiling::{Exceeded, exceeded};
pub use check::{CheckError, validate};
pub use limits::RETRY_AFTER;
pub use metric::ALL as METRICS;
pub use net::Source;
pub use probe::{AdoptError, Probe, ProbeView, Reflect, Settings, StartError};
pub use secret::{Secret, SecretError, SecretSource};
#[cfg(feature = "kafka")]
pub use sink::KafkaSink;
pub use sink::{Acknowledged, HttpSink, Sink, SinkError};
pub use slot::Slots;
pub use spool::SpoolError;
pub use stamp::{NoPrefix, Prefix};
pub use station::Unmeasurable;
