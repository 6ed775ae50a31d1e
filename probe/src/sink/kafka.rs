//! Straight into Kafka: each sample to the partition of its target's group (DESIGN §4).

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use serde::Deserialize;
use vigie_contract::{Catalogue, Time};
use vigie_kafka::{Message, Placed, Producer, SendError, Settings, Trouble};

use super::{Acknowledged, Sink, SinkError};

/// A record that says nothing but when it was appended (SPEC §1).
const TICK: &[u8] = br#"{"v":1,"type":"tick"}"#;

/// The evidence topic.
pub struct KafkaSink {
    settings: Settings,
    producer: Producer,
    /// By target, the partitions whose verdicts need its samples; an anchor's go to every group that it gates.
    routes: RwLock<HashMap<String, Vec<i32>>>,
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
        Ok(Self { settings: settings.clone(), producer: Producer::new(settings)?, routes: RwLock::default() })
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

    async fn send(&self, batch: &[Bytes]) -> Result<Acknowledged, SinkError> {
        let topic = self.settings.topics.evidence.as_str();
        let mut messages = Vec::with_capacity(batch.len().max(1));
        if batch.is_empty() {
            // Kafka tells its time only to who appends.
            messages.push(Message { topic, partition: Some(0), payload: Some(TICK), ..Message::default() });
        }
        for record in batch {
            for partition in self.partitions(record) {
                messages.push(Message { topic, partition: Some(partition), payload: Some(record), ..Message::default() });
            }
        }
        let placed = self.producer.send(&messages).await.map_err(|error| match error {
            SendError::Unavailable(why) => SinkError::Unavailable(why),
            refused => SinkError::Refused(refused.to_string()),
        })?;
        let newest = placed.iter().map(|placed: &Placed| placed.appended_ms).max().flatten();
        let newest = newest.ok_or_else(|| {
            SinkError::Refused("the topic keeps its producers' time: set message.timestamp.type=LogAppendTime on it".to_owned())
        })?;
        Ok(Acknowledged { appended_at: Time::from_us(newest.saturating_mul(1_000)) })
    }
}

impl Sink for KafkaSink {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> Pin<Box<dyn Future<Output = Result<Acknowledged, SinkError>> + Send + 'a>> {
        Box::pin(self.send(batch))
    }
}
