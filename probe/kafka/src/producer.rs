//! Appends records, idempotently and acknowledged by all copies that are in sync.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders, Timestamp};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::health::{Context, Health, Trouble};
use crate::settings::Settings;

/// What is not acknowledged by then is tried again by whoever sent it.
const PATIENCE_MS: &str = "10000";
/// The queue of a client takes so many records, and no more bytes than the next; then whoever appends is told to wait.
const MOST_QUEUED: &str = "100000";
const MOST_QUEUED_KIB: &str = "65536";
/// Longer records are refused before they are sent: the brokers' default is a little more.
const MOST_BYTES: usize = 1_000_000;

/// A record to append.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// Where.
    pub topic: &'a str,
    /// Which partition of it; by the key if there is none.
    pub partition: Option<i32>,
    /// Records with equal keys stay in order, and the last of them outlives a compaction.
    pub key: Option<&'a [u8]>,
    /// What; `None` is the end of a key.
    pub payload: Option<&'a [u8]>,
    /// A name and a value beside it.
    pub header: Option<(&'a str, &'a str)>,
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its position in its partition.
    pub offset: i64,
    /// When the broker appended it, in milliseconds; `None` where the topic keeps the producer's time.
    pub appended_ms: Option<i64>,
}

/// Why records were not all appended, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// One of them is too long.
    #[error("record {index} has {bytes} bytes, more than {most}")]
    TooLong {
        /// Which.
        index: usize,
        /// Its length.
        bytes: usize,
        /// The greatest length.
        most: usize,
    },
    /// Somebody must mend something first.
    #[error("{}: {reason}", trouble.as_str())]
    Refused {
        /// What.
        trouble: Trouble,
        /// In Kafka's words.
        reason: String,
    },
    /// Try again.
    #[error("{0}")]
    Unavailable(String),
}

/// A client that appends.
pub struct Producer {
    settings: Settings,
    client: RwLock<FutureProducer<Context>>,
    health: Health,
}

impl Producer {
    /// Makes the client; it connects by itself.
    pub fn new(settings: &Settings) -> Result<Self, SendError> {
        let health = Health::default();
        let client = RwLock::new(client(settings, &health)?);
        Ok(Self { settings: settings.clone(), client, health })
    }

    /// What is wrong now.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Appends `messages`, those of one partition in this order, and waits until all are acknowledged. After an error any of them may
    /// have been appended.
    pub async fn send(&self, messages: &[Message<'_>]) -> Result<Vec<Placed>, SendError> {
        let length = |message: &Message<'_>| message.payload.map_or(0, <[u8]>::len) + message.key.map_or(0, <[u8]>::len);
        let longest = messages.iter().map(length).enumerate().find(|(_, bytes)| *bytes > MOST_BYTES);
        if let Some((index, bytes)) = longest {
            return Err(SendError::TooLong { index, bytes, most: MOST_BYTES });
        }
        let producer = self.client.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut deliveries = Vec::with_capacity(messages.len());
        for message in messages {
            deliveries.push(queue(&producer, message).await.map_err(|error| self.failed(&error))?);
        }
        let mut placed = Vec::with_capacity(messages.len());
        for delivery in deliveries {
            match delivery.await {
                Ok(Ok(delivery)) => placed.push(Placed {
                    offset: delivery.offset,
                    appended_ms: match delivery.timestamp {
                        Timestamp::LogAppendTime(ms) => Some(ms),
                        Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
                    },
                }),
                Ok(Err((error, _))) => return Err(self.failed(&error)),
                Err(_) => return Err(SendError::Unavailable("the client was made anew".to_owned())),
            }
        }
        self.health.worked();
        Ok(placed)
    }

    fn failed(&self, error: &KafkaError) -> SendError {
        let (trouble, reason) = self.health.explain(error);
        self.health.failed(trouble, &reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            // An idempotent client that lost its place stays so for ever.
            match client(&self.settings, &self.health) {
                Ok(new) => *self.client.write().unwrap_or_else(PoisonError::into_inner) = new,
                Err(error) => tracing::error!(%error, "cannot make a new client"),
            }
        }
        match trouble {
            Trouble::Certificate | Trouble::Authentication | Trouble::Authorization => SendError::Refused { trouble, reason },
            Trouble::Unreachable | Trouble::Other => SendError::Unavailable(format!("{}: {reason}", trouble.as_str())),
        }
    }
}

fn client(settings: &Settings, health: &Health) -> Result<FutureProducer<Context>, SendError> {
    let mut config = settings.client();
    config.set("enable.idempotence", "true").set("acks", "all");
    config.set("compression.type", "zstd").set("linger.ms", "5");
    config.set("message.timeout.ms", PATIENCE_MS);
    config.set("queue.buffering.max.messages", MOST_QUEUED).set("queue.buffering.max.kbytes", MOST_QUEUED_KIB);
    config.create_with_context(Context(health.clone())).map_err(|error| SendError::Unavailable(error.to_string()))
}

/// Waits while the client's queue is full.
async fn queue(
    producer: &FutureProducer<Context>,
    message: &Message<'_>,
) -> Result<rdkafka::producer::future_producer::DeliveryFuture, KafkaError> {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut record = FutureRecord::to(message.topic);
    record.partition = message.partition;
    record.key = message.key;
    record.payload = message.payload;
    record.headers = message.header.map(|(key, value)| OwnedHeaders::new().insert(Header { key, value: Some(value) }));
    loop {
        match producer.send_result(record) {
            Ok(delivery) => return Ok(delivery),
            Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                record = back;
                tokio::time::sleep(PAUSE).await;
            }
            Err((error, _)) => return Err(error),
        }
    }
}
