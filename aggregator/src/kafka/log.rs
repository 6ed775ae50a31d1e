//! A partition as the evidence log of one group.

use std::sync::Arc;

use vigie_contract::Time;
use vigie_kafka::{Health, Membership, Message, PartitionReader, Placed, Producer, Purpose, ReadError as Unread, SendError, Settings};

use crate::port::{AppendError, Appended, Bounds, EvidenceLog, Logged, Offset, ReadError};

/// The evidence log of one group: a partition of the topic.
pub struct KafkaLog {
    topic: String,
    partition: i32,
    producer: Arc<Producer>,
    reader: PartitionReader,
    /// Where it is noted how far we have come.
    membership: Option<Arc<Membership>>,
}

impl KafkaLog {
    /// The log that is `partition` of the evidence; commits go to `membership`, if there is one.
    pub fn open(
        settings: &Settings,
        partition: i32,
        producer: Arc<Producer>,
        membership: Option<Arc<Membership>>,
    ) -> Result<Self, ReadError> {
        let topic = settings.topics.evidence.clone();
        let reader = PartitionReader::open(settings, &topic, partition, Purpose::Evidence).map_err(read_error)?;
        Ok(Self { topic, partition, producer, reader, membership })
    }

    /// What is wrong with the client that reads.
    #[must_use]
    pub fn health(&self) -> &Health {
        self.reader.health()
    }
}

/// Kafka knows milliseconds; SPEC §1 counts microseconds.
fn time(ms: i64) -> Time {
    Time::from_us(ms.saturating_mul(1_000))
}

fn append_error(error: SendError) -> AppendError {
    match error {
        SendError::TooLong { index, bytes, most } => AppendError::TooLong { index, bytes, most },
        refused @ SendError::Refused { .. } => AppendError::Forbidden(refused.into()),
        SendError::Unavailable(why) => AppendError::Unavailable(why.into()),
    }
}

fn read_error(error: Unread) -> ReadError {
    match error {
        Unread::Gone { from, oldest } => ReadError::Gone { from: from as u64, oldest: oldest as u64 },
        Unread::BeyondEnd { from, next } => ReadError::BeyondEnd { from: from as u64, next: next as u64 },
        unfit @ Unread::ProducerTime { .. } => ReadError::Unfit(unfit.into()),
        refused @ Unread::Refused { .. } => ReadError::Forbidden(refused.into()),
        Unread::Unavailable(why) => ReadError::Unavailable(why.into()),
    }
}

impl EvidenceLog for KafkaLog {
    async fn append(&self, records: &[Vec<u8>]) -> Result<Vec<Appended>, AppendError> {
        let message = |record| Message { topic: &self.topic, partition: Some(self.partition), payload: Some(record), ..Message::default() };
        let messages: Vec<Message<'_>> = records.iter().map(|record| message(record)).collect();
        let placed = self.producer.send(&messages).await.map_err(append_error)?;
        let appended = |placed: Placed| {
            let appended_ms =
                placed.appended_ms.ok_or("the topic keeps its producers' time: set message.timestamp.type=LogAppendTime on it");
            Ok(Appended { offset: placed.offset as u64, appended_at: time(appended_ms.map_err(|why| AppendError::Forbidden(why.into()))?) })
        };
        placed.into_iter().map(appended).collect()
    }

    async fn read(&self, from: Offset, most: usize) -> Result<Vec<Logged>, ReadError> {
        let fetched = self.reader.read(from as i64, most).await.map_err(read_error)?;
        // What is no record at all is refused like any that cannot be read.
        let logged = fetched.into_iter().map(|record| Logged {
            offset: record.offset as u64,
            appended_at: time(record.appended_ms),
            bytes: record.payload.unwrap_or_default(),
        });
        Ok(logged.collect())
    }

    fn commit(&self, next: Offset) {
        if let Some(membership) = &self.membership {
            membership.commit(self.partition, next as i64);
        }
    }

    async fn bounds(&self) -> Result<Bounds, ReadError> {
        let (oldest, next) = self.reader.bounds().await.map_err(read_error)?;
        Ok(Bounds { oldest: oldest as u64, next: next as u64 })
    }
}
