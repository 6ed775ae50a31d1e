//! Straight into Kafka: each sample to the partition of its target's group (DESIGN §4).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use vigie_contract::{Catalogue, Time};
use vigie_kafka::{Message, Placed, Producer, SendError, Settings, Trouble};

use super::{Acknowledged, Left, Sink, SinkError};
use crate::clock::now;

/// A batch is given up, to be tried again, if no partition has answered by then; the client itself gives up a little earlier.
const PATIENCE: Duration = Duration::from_secs(15);
/// When one partition has taken its share the others have so long: live samples of one group are never later for another's sake.
const STRAGGLE: Duration = Duration::from_secs(2);
/// How long a partition that did not keep up with the others is left alone.
const CONVALESCENCE: Duration = Duration::from_secs(5);
/// A record that says nothing but when it was appended (SPEC §1).
const TICK: &[u8] = br#"{"v":1,"type":"tick"}"#;

/// By partition, places in a batch.
type Shares = BTreeMap<i32, Vec<usize>>;

/// The evidence topic.
pub struct KafkaSink {
    settings: Settings,
    producer: Producer,
    /// By target, the partitions whose verdicts need its samples; an anchor's go to every group that it gates.
    routes: RwLock<HashMap<String, Vec<i32>>>,
    /// Partitions that did not answer while others did, and until when they are not asked again.
    sick: Mutex<HashMap<i32, Instant>>,
}

/// The part of a sample that says where it goes.
#[derive(Deserialize)]
struct Addressed<'a> {
    #[serde(borrow)]
    target: Cow<'a, str>,
}

impl KafkaSink {
    /// To the brokers of `settings`; it connects by itself.
    pub fn new(settings: &Settings) -> Result<Self, SendError> {
        Ok(Self { settings: settings.clone(), producer: Producer::new(settings)?, routes: RwLock::default(), sick: Mutex::default() })
    }

    /// What is wrong with the connection now.
    #[must_use]
    pub fn trouble(&self) -> Option<(Trouble, String)> {
        self.producer.health().trouble()
    }

    /// Sends samples as the groups of `catalogue` say from now on; an error names the groups that have no partition. Samples of targets
    /// that it no longer has still go where they went: they wait in the spool, perhaps.
    pub fn route(&self, catalogue: &Catalogue) -> Result<(), String> {
        let groups = catalogue.groups_of_targets();
        let unknown: Vec<&str> = groups.values().flatten().copied().filter(|group| self.settings.partition(group).is_none()).collect();
        if let Some(group) = unknown.first() {
            return Err(format!("the catalogue has a group `{group}` that the Kafka settings do not name: add it at the end of `groups`"));
        }
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        for (target, groups) in groups {
            routes.insert(target.to_owned(), groups.into_iter().filter_map(|group| self.settings.partition(group)).collect());
        }
        Ok(())
    }

    /// Where a sample goes; that of a target nobody knows to the first group, which refuses it visibly.
    fn partitions(&self, record: &[u8]) -> Vec<i32> {
        let target = serde_json::from_slice::<Addressed<'_>>(record).ok().map(|addressed| addressed.target);
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        target.and_then(|target| routes.get(target.as_ref()).cloned()).unwrap_or_else(|| vec![0])
    }

    /// Every partition takes its own: one that is sick keeps nobody else waiting.
    async fn send(&self, batch: &[Bytes]) -> Result<Acknowledged, SinkError> {
        let (asked, passed_over): (Shares, Shares) = self.shares(batch).into_iter().partition(|(partition, _)| !self.is_sick(*partition));
        let mut answers = self.ask(&asked, batch).await;
        let newest = answers.values().filter_map(|answer| answer.as_ref().ok().copied()).max();
        let (taken, refused): (BTreeMap<_, _>, BTreeMap<_, _>) =
            asked.into_iter().partition(|(partition, _)| matches!(answers.get(partition), Some(Ok(_))));
        let why = refused.keys().find_map(|partition| answers.remove(partition)?.err());
        let why = why.unwrap_or_else(|| SinkError::Unavailable("a partition does not answer".to_owned()));
        if taken.is_empty() && !refused.is_empty() {
            return Err(why);
        }
        refused.keys().for_each(|partition| self.note_sick(*partition));
        // A record that goes to several partitions is left if one of them has not taken it.
        let left: BTreeSet<usize> = refused.into_values().chain(passed_over.into_values()).flatten().collect();
        let left = (!left.is_empty()).then(|| Left { places: left.into_iter().collect(), why });
        Ok(Acknowledged { appended_at: newest, left })
    }

    /// Which records of the batch go to which partition; an empty one only asks the first.
    fn shares(&self, batch: &[Bytes]) -> Shares {
        let mut shares = Shares::new();
        for (place, record) in batch.iter().enumerate() {
            self.partitions(record).into_iter().for_each(|partition| shares.entry(partition).or_default().push(place));
        }
        if batch.is_empty() {
            shares.insert(0, Vec::new());
        }
        shares
    }

    /// What the partitions answer, those that do in time.
    async fn ask(&self, shares: &Shares, batch: &[Bytes]) -> BTreeMap<i32, Result<Time, SinkError>> {
        let mut sending: FuturesUnordered<_> = shares.iter().map(|(partition, places)| self.send_to(*partition, places, batch)).collect();
        let mut answers = BTreeMap::new();
        let mut until = now() + PATIENCE;
        while let Ok(Some((partition, answer))) = tokio::time::timeout_at(until.into(), sending.next()).await {
            if answer.is_ok() {
                until = until.min(now() + STRAGGLE);
            }
            answers.insert(partition, answer);
        }
        answers
    }

    /// Appends a partition's share; when that was.
    async fn send_to(&self, partition: i32, places: &[usize], batch: &[Bytes]) -> (i32, Result<Time, SinkError>) {
        let topic = self.settings.topics.evidence.as_str();
        let message = |payload| Message { topic, partition: Some(partition), payload: Some(payload), ..Message::default() };
        let mut messages: Vec<Message<'_>> = places.iter().map(|place| message(&batch[*place])).collect();
        if messages.is_empty() {
            // Kafka tells its time only to who appends.
            messages.push(message(TICK));
        }
        let placed = self.producer.send(&messages).await.map_err(|error| match error {
            SendError::Unavailable(why) => SinkError::Unavailable(why),
            refused => SinkError::Refused(refused.to_string()),
        });
        let newest = placed.and_then(|placed| {
            let newest = placed.iter().map(|placed: &Placed| placed.appended_ms).max().flatten();
            newest.map(|ms| Time::from_us(ms.saturating_mul(1_000))).ok_or_else(|| {
                SinkError::Refused("the topic keeps its producers' time: set message.timestamp.type=LogAppendTime on it".to_owned())
            })
        });
        (partition, newest)
    }

    fn is_sick(&self, partition: i32) -> bool {
        let mut sick = self.sick.lock().unwrap_or_else(PoisonError::into_inner);
        if sick.get(&partition).is_some_and(|until| *until <= now()) {
            sick.remove(&partition);
        }
        sick.contains_key(&partition)
    }

    fn note_sick(&self, partition: i32) {
        self.sick.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, now() + CONVALESCENCE);
    }
}

impl Sink for KafkaSink {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> Pin<Box<dyn Future<Output = Result<Acknowledged, SinkError>> + Send + 'a>> {
        Box::pin(self.send(batch))
    }
}
