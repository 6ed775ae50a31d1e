//! Reads one partition from an offset on, and never skips in silence.
//!
//! A thread fetches ahead of whoever reads, by no more than [`AHEAD`] chunks and `librdkafka`'s own queue.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, Timestamp};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::health::{Context, Health, Trouble};
use crate::settings::Settings;

/// So many chunks wait for whoever reads.
const AHEAD: usize = 8;
/// So many records make a chunk.
const CHUNK: usize = 2_048;
/// `librdkafka` keeps no more than this beside them.
const MOST_QUEUED_KIB: &str = "32768";
/// When its queue is full it looks again for room after this; the default of a second makes a log of any length slow to read.
const QUEUE_BACKOFF_MS: &str = "10";
/// How soon the thread looks up from waiting.
const POLL: Duration = Duration::from_millis(50);
/// How soon it looks again for room, when whoever reads is behind.
const FULL: Duration = Duration::from_millis(1);
/// A question to the brokers is given up after this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is read, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Every record bears its broker's time; at the end one waits for more.
    Evidence,
    /// Whatever is there; at the end an empty answer says so.
    Cache,
}

/// A record as the partition holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its position.
    pub offset: i64,
    /// When the broker appended it, in milliseconds.
    pub appended_ms: i64,
    /// Its key.
    pub key: Vec<u8>,
    /// What it says; `None` ends the key.
    pub payload: Option<Vec<u8>>,
}

/// Why there is nothing to read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention has deleted what was asked for.
    #[error("offset {from} is no longer in the log, whose oldest record is {oldest}")]
    Gone {
        /// What was asked for.
        from: i64,
        /// The oldest there is.
        oldest: i64,
    },
    /// The log ends before it.
    #[error("offset {from} lies beyond the end of the log at {next}")]
    BeyondEnd {
        /// What was asked for.
        from: i64,
        /// Where the log ends.
        next: i64,
    },
    /// The record at `offset` bears the time of whoever sent it.
    #[error("the record at offset {offset} bears its producer's time: set message.timestamp.type=LogAppendTime on the topic")]
    ProducerTime {
        /// Which.
        offset: i64,
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

enum Command {
    /// Fetch from this offset on; what was fetched before is dropped.
    Seek {
        from: i64,
        turn: u64,
    },
    Bounds(oneshot::Sender<Result<(i64, i64), ReadError>>),
}

struct Chunk {
    turn: u64,
    records: Result<Vec<Fetched>, ReadError>,
}

struct Place {
    chunks: mpsc::Receiver<Chunk>,
    rest: VecDeque<Fetched>,
    next: Option<i64>,
    turn: u64,
}

/// Reads one partition.
pub struct PartitionReader {
    commands: Sender<Command>,
    place: Mutex<Place>,
    health: Health,
}

impl PartitionReader {
    /// Starts the thread that reads `partition` of `topic`; it ends with the reader.
    pub fn open(settings: &Settings, topic: &str, partition: i32, purpose: Purpose) -> Result<Self, ReadError> {
        let health = Health::default();
        let mut config = settings.client();
        // Required by the library although no group is joined and nothing committed.
        config.set("group.id", "vigie-reader").set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error").set("isolation.level", "read_committed");
        config
            .set("queued.max.messages.kbytes", MOST_QUEUED_KIB)
            .set("fetch.queue.backoff.ms", QUEUE_BACKOFF_MS)
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100");
        config.set("check.crcs", "true").set("enable.partition.eof", (purpose == Purpose::Cache).to_string());
        let consumer: BaseConsumer<Context> =
            config.create_with_context(Context(health.clone())).map_err(|error| ReadError::Unavailable(error.to_string()))?;
        let (commands, asked) = channel();
        let (fetched, chunks) = mpsc::channel(AHEAD);
        let thread = Thread {
            consumer,
            topic: topic.to_owned(),
            partition,
            purpose,
            health: health.clone(),
            fetched,
            is_at_end: Cell::new(false),
            pending: Cell::new(None),
        };
        std::thread::Builder::new()
            .name("vigie-kafka-read".into())
            .spawn(move || thread.run(&asked))
            .map_err(|error| ReadError::Unavailable(error.to_string()))?;
        let place = Place { chunks, rest: VecDeque::new(), next: None, turn: 0 };
        Ok(Self { commands, place: Mutex::new(place), health })
    }

    /// What is wrong now.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// At most `most` records in the order of their offsets, from the first whose offset is `from` or more. Waits until there is one, or
    /// for [`Purpose::Cache`] until the end is reached; dropping the future loses nothing.
    pub async fn read(&self, from: i64, most: usize) -> Result<Vec<Fetched>, ReadError> {
        let mut place = self.place.lock().await;
        if place.next != Some(from) {
            place.turn += 1;
            place.rest.clear();
            place.next = Some(from);
            let turn = place.turn;
            self.commands.send(Command::Seek { from, turn }).map_err(|_| gone())?;
        }
        while place.rest.is_empty() {
            let chunk = place.chunks.recv().await.ok_or_else(gone)?;
            if chunk.turn != place.turn {
                continue;
            }
            match chunk.records {
                Ok(records) if records.is_empty() => return Ok(records),
                Ok(records) => place.rest.extend(records),
                Err(error) => {
                    // Whoever asks again begins again.
                    place.next = None;
                    return Err(error);
                }
            }
        }
        let count = place.rest.len().min(most);
        let records: Vec<Fetched> = place.rest.drain(..count).collect();
        place.next = records.last().map(|last| last.offset + 1);
        Ok(records)
    }

    /// The offset of the oldest record, and the one that the next will have.
    pub async fn bounds(&self) -> Result<(i64, i64), ReadError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::Bounds(answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

fn gone() -> ReadError {
    ReadError::Unavailable("the thread that reads has ended".to_owned())
}

struct Thread {
    consumer: BaseConsumer<Context>,
    topic: String,
    partition: i32,
    purpose: Purpose,
    health: Health,
    fetched: mpsc::Sender<Chunk>,
    /// Told once, when it is reached.
    is_at_end: Cell<bool>,
    /// What went wrong behind the records of the last chunk.
    pending: Cell<Option<KafkaError>>,
}

impl Thread {
    fn run(&self, asked: &Receiver<Command>) {
        let mut turn = 0;
        let mut position: Option<i64> = None;
        while !self.fetched.is_closed() {
            // A reader that has no use for more yet still wants its questions answered.
            let command = match position {
                None => asked.recv_timeout(POLL).ok(),
                Some(_) if self.fetched.capacity() == 0 => asked.recv_timeout(FULL).ok(),
                Some(_) => asked.try_recv().ok(),
            };
            match command {
                Some(Command::Seek { from, turn: new }) => {
                    turn = new;
                    position = Some(from);
                    self.is_at_end.set(false);
                    self.pending.set(None);
                    if let Err(error) = self.assign(from) {
                        position = None;
                        self.give(turn, Err(self.explain(&error)));
                    }
                    continue;
                }
                Some(Command::Bounds(answer)) => {
                    let _ = answer.send(self.bounds());
                    continue;
                }
                None => {}
            }
            let Some(from) = position else { continue };
            if self.fetched.capacity() == 0 {
                continue;
            }
            match self.chunk(from) {
                Ok(None) => {}
                Ok(Some(records)) => {
                    position = records.last().map(|last| last.offset + 1).or(position);
                    self.give(turn, Ok(records));
                }
                Err(error) => {
                    position = None;
                    self.give(turn, Err(error));
                }
            }
        }
    }

    fn give(&self, turn: u64, records: Result<Vec<Fetched>, ReadError>) {
        // Only this thread sends: there is room, or nobody reads any more.
        let _ = self.fetched.blocking_send(Chunk { turn, records });
    }

    fn assign(&self, from: i64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.partition, Offset::Offset(from))?;
        self.consumer.assign(&list)
    }

    /// What is there, waiting a little for the first; an empty chunk is the end of what a cache holds.
    fn chunk(&self, from: i64) -> Result<Option<Vec<Fetched>>, ReadError> {
        if let Some(error) = self.pending.take() {
            return self.failed(from, &error).map(|()| None);
        }
        let mut records = Vec::new();
        let mut wait = POLL;
        while records.len() < CHUNK {
            let message = match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.is_at_end.set(true);
                    break;
                }
                // It need not come again.
                Some(Err(error)) if !records.is_empty() => {
                    self.pending.set(Some(error));
                    break;
                }
                Some(Err(error)) => return self.failed(from, &error).map(|()| None),
            };
            wait = Duration::ZERO;
            let appended_ms = match message.timestamp() {
                Timestamp::LogAppendTime(ms) => ms,
                Timestamp::CreateTime(ms) if self.purpose == Purpose::Cache => ms,
                Timestamp::NotAvailable if self.purpose == Purpose::Cache => 0,
                _ => return Err(ReadError::ProducerTime { offset: message.offset() }),
            };
            let key = message.key().unwrap_or_default().to_vec();
            records.push(Fetched { offset: message.offset(), appended_ms, key, payload: message.payload().map(<[u8]>::to_vec) });
        }
        if records.is_empty() {
            return Ok(self.is_at_end.take().then_some(records));
        }
        self.health.worked();
        Ok(Some(records))
    }

    /// What passes by itself is none: `librdkafka` goes on trying.
    fn failed(&self, from: i64, error: &KafkaError) -> Result<(), ReadError> {
        if let Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) = error.rdkafka_error_code() {
            let (oldest, next) = self.bounds()?;
            return Err(match from {
                _ if from < oldest => ReadError::Gone { from, oldest },
                _ if from > next => ReadError::BeyondEnd { from, next },
                _ => ReadError::Unavailable(error.to_string()),
            });
        }
        match self.explain(error) {
            refused @ ReadError::Refused { .. } => Err(refused),
            _ => Ok(()),
        }
    }

    fn explain(&self, error: &KafkaError) -> ReadError {
        let (trouble, reason) = self.health.explain(error);
        self.health.failed(trouble, &reason);
        match trouble {
            Trouble::Certificate | Trouble::Authentication | Trouble::Authorization => ReadError::Refused { trouble, reason },
            Trouble::Unreachable | Trouble::Other => ReadError::Unavailable(format!("{}: {reason}", trouble.as_str())),
        }
    }

    fn bounds(&self) -> Result<(i64, i64), ReadError> {
        self.consumer.fetch_watermarks(&self.topic, self.partition, PATIENCE).map_err(|error| self.explain(&error))
    }
}
