//! Where samples go: the evidence log, by whatever way.

mod http;
#[cfg(feature = "kafka")]
mod kafka;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use vigie_contract::Time;

pub use http::HttpSink;
#[cfg(feature = "kafka")]
pub use kafka::KafkaSink;

/// Takes samples to the evidence log.
pub trait Sink: Send + Sync {
    /// Delivers a batch of records, each one JSON object. When it returns `Ok` all of them are durable in the log, but for those that it
    /// names. What is named, or after an error any of them, may be durable, too: to deliver it again is always right. An empty batch only
    /// asks for the log's time.
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> Pin<Box<dyn Future<Output = Result<Acknowledged, SinkError>> + Send + 'a>>;
}

/// What the log says of a batch.
#[derive(Debug)]
pub struct Acknowledged {
    /// When it took the newest of them, by its own clock; `None` if all are left.
    pub appended_at: Option<Time>,
    /// What a part of the log has not taken.
    pub left: Option<Left>,
}

/// What is to be delivered again, while the rest of the log takes its own.
#[derive(Debug)]
pub struct Left {
    /// Places in the batch, ascending.
    pub places: Vec<usize>,
    /// What is wrong with that part of the log.
    pub why: SinkError,
}

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Nobody answered, or could not take it now: try again.
    #[error("the log did not take the samples: {0}")]
    Unavailable(String),
    /// The log refuses what this probe sends: trying again is no use until somebody mends it. Nothing is dropped for it.
    #[error("the log refuses the samples: {0}")]
    Refused(String),
}
