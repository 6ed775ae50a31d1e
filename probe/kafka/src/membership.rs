//! A member of a consumer group that knows which partitions are its own, and fetches nothing.
//!
//! Whoever owns a partition folds it, from where its snapshot ends and not from what was committed; so reading has a client of its own
//! ([`PartitionReader`](crate::PartitionReader)), and this one only says whose turn it is. What is committed is for people and tools
//! that ask how far a group has come.
//!
//! A member that cannot reach its group does not know whether others have taken over. It goes on with what it had until the group says
//! otherwise: what two fold at the same time is the same, and what nobody folds is unseen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Broker;
use rdkafka::{ClientConfig, ClientContext, Offset, Statistics, TopicPartitionList};
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
/// The library's name for the connection to the broker that coordinates the group.
const COORDINATOR: &str = "GroupCoordinator";
/// A coordinator that answered nothing for so long, three heartbeats, does not answer.
const HEARD_US: i64 = 4_500_000;
/// A client that reports nothing wrong for so many polls works.
const QUIET_POLLS: u32 = 50;
/// A member that lost its partitions, works again and is given none for so many polls has none.
const LOST_POLLS: u32 = 150;
/// Whoever returns with our name after a broker's restart is ourselves, and joins again; but not so often in so many polls.
const MOST_FENCED: usize = 4;
const FENCED_POLLS: u64 = 600;

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
    member: Arc<Member>,
    owned: watch::Receiver<Ownership>,
}

/// What the thread shares with the membership.
struct Member {
    config: ClientConfig,
    topic: String,
    /// Made anew when the library gives it up.
    consumer: Mutex<Arc<BaseConsumer<GroupContext>>>,
    own: Arc<watch::Sender<Ownership>>,
    holds: Arc<Holds>,
    health: Health,
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
        let mut config = settings.client();
        config.set("group.id", group).set("group.instance.id", instance);
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("session.timeout.ms", SESSION_MS).set("heartbeat.interval.ms", HEARTBEAT_MS);
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false").set("auto.offset.reset", "latest");
        config.set("statistics.interval.ms", "1000");
        config.set("queued.min.messages", "1").set("queued.max.messages.kbytes", "1024");
        let (own, owned) = watch::channel(Ownership::Joining);
        let (own, holds, health) = (Arc::new(own), Arc::new(Holds::default()), Health::default());
        let topic = settings.topics.evidence.clone();
        let consumer = consumer(&config, &topic, &own, &holds, &health);
        let consumer = Mutex::new(Arc::new(consumer.map_err(|error| SendError::Unavailable(error.to_string()))?));
        let member = Arc::new(Member { config, topic, consumer, own, holds, health });
        let kept = Arc::downgrade(&member);
        std::thread::Builder::new()
            .name("vigie-kafka-group".into())
            .spawn(move || keep(&kept))
            .map_err(|error| SendError::Unavailable(error.to_string()))?;
        Ok(Self { member, owned })
    }

    /// Learns of what is owned.
    #[must_use]
    pub fn owned(&self) -> watch::Receiver<Ownership> {
        self.owned.clone()
    }

    /// What is wrong now.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.member.health
    }

    /// Says that a partition is worked on.
    #[must_use]
    pub fn hold(&self, partition: i32) -> Hold {
        let holds = &self.member.holds;
        *holds.held().entry(partition).or_default() += 1;
        Hold { partition, holds: Arc::clone(holds) }
    }

    /// Notes that everything before `next` was taken. One that cannot be noted costs nobody anything.
    pub fn commit(&self, partition: i32, next: i64) {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.member.topic, partition, Offset::Offset(next));
        if let Err(error) = added.and_then(|()| self.member.consumer().commit(&list, CommitMode::Async)) {
            tracing::debug!(%error, "cannot commit");
        }
    }
}

fn consumer(
    config: &ClientConfig,
    topic: &str,
    own: &Arc<watch::Sender<Ownership>>,
    holds: &Arc<Holds>,
    health: &Health,
) -> Result<BaseConsumer<GroupContext>, KafkaError> {
    let context = GroupContext::new(health, own, holds);
    let consumer: BaseConsumer<GroupContext> = config.create_with_context(context)?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}

impl Member {
    fn consumer(&self) -> Arc<BaseConsumer<GroupContext>> {
        Arc::clone(&self.consumer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another client in the place of one that the library has given up.
    fn join_again(&self) {
        match consumer(&self.config, &self.topic, &self.own, &self.holds, &self.health) {
            Ok(consumer) => *self.consumer.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(consumer),
            Err(error) => self.health.note(&error, &error.to_string()),
        }
    }
}

/// Heartbeats and rebalances, until the membership is dropped. To drop a consumer can take as long as a session: it is done here.
fn keep(member: &Weak<Member>) {
    let (mut polls, mut calm, mut failures) = (0_u64, Calm::default(), 0);
    let mut fenced: VecDeque<u64> = VecDeque::new();
    while let Some(member) = member.upgrade() {
        let consumer = member.consumer();
        polls += 1;
        let polled = consumer.poll(POLL);
        // A record that was fetched before the partition was paused is nothing to us.
        if let Some(Err(error)) = &polled {
            member.health.note(error, &error.to_string());
        }
        if let Some((_, why)) = consumer.client().fatal_error() {
            fenced.retain(|at| polls - at < FENCED_POLLS);
            fenced.push_back(polls);
            if fenced.len() >= MOST_FENCED {
                member.own.send_replace(Ownership::Fenced(why));
                return;
            }
            tracing::warn!(why, "the group has given us up: joining it again");
            std::thread::sleep(POLL * 10);
            member.join_again();
            continue;
        }
        let is_quiet = std::mem::replace(&mut failures, member.health.failures()) == failures;
        calm.polled(is_quiet, consumer.context(), &member.health);
    }
}

/// For how many polls in a row nothing went wrong and the group answered. Silence alone is no sign of anything: the library is quiet about
/// a group that does not answer.
#[derive(Debug, Default)]
struct Calm(u32);

impl Calm {
    /// After enough of them the client works, and after more what was lost will not be given back by the membership that is.
    fn polled(&mut self, is_quiet: bool, context: &GroupContext, health: &Health) {
        self.0 = if is_quiet && context.is_steady.load(Ordering::SeqCst) { self.0.saturating_add(1) } else { 0 };
        if self.0 >= QUIET_POLLS {
            health.worked();
        }
        if self.0 >= LOST_POLLS {
            context.give_up_what_was_lost();
        }
    }
}

/// What the client of a group calls back.
struct GroupContext {
    base: Context,
    own: Arc<watch::Sender<Ownership>>,
    holds: Arc<Holds>,
    /// Whether what is owned is what an earlier membership was given.
    is_lost: AtomicBool,
    /// Whether the group answers and has settled, by the library's last account of it.
    is_steady: AtomicBool,
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.base.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        // A coordinator that is frozen leaves group and connection as they were: that it answers, heartbeats or commits, is what counts.
        let is_heard = |broker: &Broker| broker.state == "UP" && (0..HEARD_US).contains(&broker.rxidle);
        let mut coordinators = statistics.brokers.values().filter(|broker| broker.name == COORDINATOR);
        let is_steady =
            statistics.cgrp.is_some_and(|group| group.state == "up" && group.join_state == "steady") && coordinators.any(is_heard);
        self.is_steady.store(is_steady, Ordering::SeqCst);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.base.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let revoked = partitions(list);
        if consumer.assignment_lost() {
            tracing::warn!(partitions = ?revoked, "out of the group's reach: going on with what we had until it answers");
            self.lose();
            return;
        }
        tracing::info!(partitions = ?revoked, "these partitions go to another member of the group");
        self.change(|owned| owned.retain(|partition| !revoked.contains(partition)));
        self.holds.wait(&revoked);
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        if let Err(error) = consumer.pause(list) {
            tracing::debug!(%error, "cannot pause: what is fetched is dropped");
        }
        let assigned = partitions(list);
        tracing::info!(partitions = ?assigned, "these partitions are ours");
        let is_new = self.is_lost.swap(false, Ordering::SeqCst);
        self.change(|owned| {
            if is_new {
                owned.clear();
            }
            owned.extend(&assigned);
        });
    }
}

impl GroupContext {
    fn new(health: &Health, own: &Arc<watch::Sender<Ownership>>, holds: &Arc<Holds>) -> Self {
        Self {
            base: Context(health.clone()),
            own: Arc::clone(own),
            holds: Arc::clone(holds),
            is_lost: AtomicBool::new(true),
            is_steady: AtomicBool::new(false),
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<i32>)) {
        self.own.send_modify(|ownership| {
            let mut owned = match std::mem::take(ownership) {
                Ownership::Owns(owned) => owned,
                Ownership::Joining => BTreeSet::new(),
                fenced @ Ownership::Fenced(_) => return *ownership = fenced,
            };
            change(&mut owned);
            *ownership = Ownership::Owns(owned);
        });
    }

    /// What is owned is an earlier membership's from now on. The library's last account, up to a second old, is of that one, too.
    fn lose(&self) {
        self.is_lost.store(true, Ordering::SeqCst);
        self.is_steady.store(false, Ordering::SeqCst);
    }

    /// The group answers again, and has not given back what it gave before.
    fn give_up_what_was_lost(&self) {
        if self.is_lost.swap(false, Ordering::SeqCst) {
            self.change(BTreeSet::clear);
        }
    }
}

fn partitions(list: &TopicPartitionList) -> BTreeSet<i32> {
    list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group that was calm for an hour, and is lost while the library's last account still is a good one: that hour says nothing about
    /// who has its partitions now. Once it has been calm for as long again, another has them.
    #[test]
    fn what_was_before_a_loss_does_not_count() {
        let (own, owned) = watch::channel(Ownership::Owns(BTreeSet::from([0])));
        let health = Health::default();
        let context = GroupContext::new(&health, &Arc::new(own), &Arc::default());
        context.is_lost.store(false, Ordering::SeqCst);
        context.is_steady.store(true, Ordering::SeqCst);
        let mut calm = Calm::default();
        (0..2 * LOST_POLLS).for_each(|_| calm.polled(true, &context, &health));
        context.lose();
        calm.polled(true, &context, &health);
        assert_eq!(*owned.borrow(), Ownership::Owns(BTreeSet::from([0])));
        context.is_steady.store(true, Ordering::SeqCst);
        (1..LOST_POLLS).for_each(|_| calm.polled(true, &context, &health));
        assert_eq!(*owned.borrow(), Ownership::Owns(BTreeSet::from([0])), "not for long enough");
        calm.polled(false, &context, &health);
        (1..LOST_POLLS).for_each(|_| calm.polled(true, &context, &health));
        assert_eq!(*owned.borrow(), Ownership::Owns(BTreeSet::from([0])), "not in a row");
        calm.polled(true, &context, &health);
        assert_eq!(*owned.borrow(), Ownership::Owns(BTreeSet::new()));
    }
}
