//! Kafka as the evidence log's transport (DESIGN §4): what probe and aggregator have in common when they speak to it.
//!
//! `librdkafka` keeps the protocol; here is what it leaves open: settings that name their mistakes, errors that say which of four
//! things is wrong ([`Trouble`]), a producer that is made anew when it dies, a reader of one partition that never skips in silence, the
//! membership of a consumer group without its fetching, and the topics as they must be.

mod health;
mod membership;
mod producer;
mod reader;
mod settings;
mod topics;

pub use health::{Health, Trouble};
pub use membership::{Membership, Ownership};
pub use producer::{Message, Placed, Producer, SendError};
pub use reader::{Fetched, PartitionReader, Purpose, ReadError};
pub use settings::{Settings, SettingsError, Topics};
pub use topics::{Finding, TopicsError, ensure, verify};
