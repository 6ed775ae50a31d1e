//! A member of a consumer group that knows which partitions are its own, and fetches nothing.
//!
//! Whoever owns a partition folds it, from where its snapshot ends and not from what was committed; so reading has a client of its own
//! ([`PartitionReader`](crate::PartitionReader)), and this one only says whose turn it is. What is committed is for people and tools
//! that ask how far a group has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use tokio::sync::watch;

use crate::health::{Context, Health};
use crate::producer::SendError;
use crate::settings::Settings;

/// A member that is silent for so long is dead, and its partitions go to others. The brokers' `group.min.session.timeout.ms` is 6 s by
/// default.
const SESSION_MS: &str = "6000";
const HEARTBEAT_MS: &str = "1500";
/// A partition that is taken from us waits so long for whoever folds it to end.
const HANDOVER: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// What a member owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The group has not answered yet.
    #[default]
    Joining,
    /// These partitions, perhaps none: another member has them.
    Owns(BTreeSet<i32>),
    /// Another process joined under our name: we must stop.
    Fenced(String),
}

/// Membership in a group.
pub struct Membership {
    consumer: Arc<BaseConsumer<GroupContext>>,
    topic: String,
    owned: watch::Receiver<Ownership>,
    holds: Arc<Holds>,
}

/// Who still works on a partition.
#[derive(Debug, Default)]
struct Holds {
    held: Mutex<BTreeMap<i32, usize>>,
    released: Condvar,
}

/// A partition is worked on for as long as this lives.
#[derive(Debug)]
pub struct Hold {
    partition: i32,
    holds: Arc<Holds>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.held();
        if let Some(count) = held.get_mut(&self.partition) {
            *count -= 1;
        }
        drop(held);
        self.holds.released.notify_all();
    }
}

impl Holds {
    fn held(&self) -> MutexGuard<'_, BTreeMap<i32, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody works on any of these, but not for ever: what a zombie still writes is what its heir writes, too.
    fn wait(&self, partitions: &BTreeSet<i32>) {
        let is_held =
            |held: &mut BTreeMap<i32, usize>| partitions.iter().any(|partition| held.get(partition).is_some_and(|count| *count > 0));
        drop(self.released.wait_timeout_while(self.held(), HANDOVER, is_held));
    }
}

impl Membership {
    /// Joins `group` for the evidence, as the member called `instance`: one that comes back within the session's time has its partitions
    /// again.
    pub fn join(settings: &Settings, group: &str, instance: &str) -> Result<Self, SendError> {
        let health = Health::default();
        let (own, owned) = watch::channel(Ownership::Joining);
        let holds = Arc::new(Holds::default());
        let mut config = settings.client();
        config.set("group.id", group).set("group.instance.id", instance);
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("session.timeout.ms", SESSION_MS).set("heartbeat.interval.ms", HEARTBEAT_MS);
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false").set("auto.offset.reset", "latest");
        config.set("queued.min.messages", "1").set("queued.max.messages.kbytes", "1024");
        let context = GroupContext { base: Context(health.clone()), own, holds: Arc::clone(&holds) };
        let topic = settings.topics.evidence.clone();
        let wrong = |error: KafkaError| SendError::Unavailable(error.to_string());
        let consumer: BaseConsumer<GroupContext> = config.create_with_context(context).map_err(wrong)?;
        consumer.subscribe(&[&topic]).map_err(wrong)?;
        let consumer = Arc::new(consumer);
        let member = Arc::downgrade(&consumer);
        std::thread::Builder::new()
            .name("vigie-kafka-group".into())
            .spawn(move || keep(&member, &health))
            .map_err(|error| SendError::Unavailable(error.to_string()))?;
        Ok(Self { consumer, topic, owned, holds })
    }

    /// Learns of what is owned.
    #[must_use]
    pub fn owned(&self) -> watch::Receiver<Ownership> {
        self.owned.clone()
    }

    /// What is wrong now.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.consumer.context().base.0
    }

    /// Says that a partition is worked on.
    #[must_use]
    pub fn hold(&self, partition: i32) -> Hold {
        *self.holds.held().entry(partition).or_default() += 1;
        Hold { partition, holds: Arc::clone(&self.holds) }
    }

    /// Notes that everything before `next` was taken. One that cannot be noted costs nobody anything.
    pub fn commit(&self, partition: i32, next: i64) {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(next));
        if let Err(error) = added.and_then(|()| self.consumer.commit(&list, CommitMode::Async)) {
            tracing::debug!(%error, "cannot commit");
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // To drop a consumer can take as long as a session; its thread has the last reference then.
        self.consumer.unsubscribe();
    }
}

/// Heartbeats and rebalances, until the membership is dropped.
fn keep(member: &Weak<BaseConsumer<GroupContext>>, health: &Health) {
    while let Some(consumer) = member.upgrade() {
        match consumer.poll(POLL) {
            Some(Err(error)) => {
                let code = error.rdkafka_error_code();
                if let Some(RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::Fatal) = code {
                    let why = consumer.client().fatal_error().map_or_else(|| error.to_string(), |(_, reason)| reason);
                    consumer.context().own.send_replace(Ownership::Fenced(why));
                    return;
                }
                health.note(&error, &error.to_string());
            }
            None if consumer.assignment().is_ok_and(|assignment| assignment.count() > 0) && !consumer.assignment_lost() => health.worked(),
            // A record that was fetched before the partition was paused is nothing to us.
            Some(Ok(_)) | None => {}
        }
    }
}

/// What the client of a group calls back.
struct GroupContext {
    base: Context,
    own: watch::Sender<Ownership>,
    holds: Arc<Holds>,
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.base.log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.base.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let revoked = partitions(list);
            tracing::info!(partitions = ?revoked, "these partitions go to another member of the group");
            self.change(|owned| owned.retain(|partition| !revoked.contains(partition)));
            self.holds.wait(&revoked);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            if let Err(error) = consumer.pause(list) {
                tracing::debug!(%error, "cannot pause: what is fetched is dropped");
            }
            let assigned = partitions(list);
            tracing::info!(partitions = ?assigned, "these partitions are ours");
            self.change(|owned| owned.extend(&assigned));
        }
    }
}

impl GroupContext {
    fn change(&self, change: impl FnOnce(&mut BTreeSet<i32>)) {
        self.own.send_modify(|ownership| match ownership {
            Ownership::Owns(owned) => change(owned),
            Ownership::Joining => {
                let mut owned = BTreeSet::new();
                change(&mut owned);
                *ownership = Ownership::Owns(owned);
            }
            Ownership::Fenced(_) => {}
        });
    }
}

fn partitions(list: &TopicPartitionList) -> BTreeSet<i32> {
    list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect()
}
