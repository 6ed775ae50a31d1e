//! From the schedule to the spool to the log (DESIGN §5): live first, the backlog beside it, oldest first.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::clock::{Clock, now};
use crate::sink::{Sink, SinkError};
use crate::spool::{Position, Spool};
use crate::stats::Stats;

/// So many samples wait to be spooled; beyond it the disk hangs, and the newest are dropped and counted.
pub(crate) const MOST_UNSPOOLED: usize = 65_536;
/// So many samples wait in memory for the live lane; beyond it the oldest are left to the backlog, or dropped if no disk has them.
const MOST_LIVE: usize = 16_384;
/// A batch has at most so many samples.
const MOST_BATCH: usize = 1_000;
/// How long samples gather before they are written, and before they are sent.
const GATHER: Duration = Duration::from_millis(20);
/// How often what was written is made durable (DESIGN §5).
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The first and the longest pause after a failed delivery.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A sample on its way, and where it lies if a disk has it.
type Waiting = (Option<Position>, Bytes);

/// What the writer, the two lanes and the scrape share.
pub(crate) struct Delivery {
    spool: Mutex<Spool>,
    live: Mutex<VecDeque<Waiting>>,
    more: Notify,
    stats: Stats,
    /// Samples without a place on disk that had to be forgotten.
    dropped_from_memory: Mutex<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Delivery {
    pub(crate) fn new(spool: Spool, stats: Stats) -> Arc<Self> {
        let delivery = Self {
            spool: Mutex::new(spool),
            live: Mutex::new(VecDeque::new()),
            more: Notify::new(),
            stats,
            dropped_from_memory: Mutex::new(0),
        };
        delivery.publish();
        Arc::new(delivery)
    }

    /// The writer's thread: spools what the schedule makes, until the schedule is gone, and syncs it at least every second.
    pub(crate) fn write(&self, made: &Receiver<Bytes>) {
        let mut synced = now();
        loop {
            let batch = match made.recv_timeout(SYNC_EVERY) {
                Ok(first) => gather(first, made),
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if !batch.is_empty() {
                self.spool(batch);
            }
            if synced.elapsed() >= SYNC_EVERY {
                self.sync();
                synced = now();
            }
        }
        self.sync();
    }

    fn spool(&self, batch: Vec<Bytes>) {
        let appended = lock(&self.spool).append(&batch);
        let waiting: Vec<Waiting> = match appended {
            Ok(positions) => positions.into_iter().map(Some).zip(batch).collect(),
            Err(error) => {
                let mut figures = self.stats.lock();
                figures.spool_failures += 1;
                if figures.spool_failures.is_power_of_two() {
                    tracing::error!(%error, failures = figures.spool_failures, "cannot spool: samples are delivered from memory");
                }
                batch.into_iter().map(|sample| (None, sample)).collect()
            }
        };
        self.stats.lock().made += waiting.len() as u64;
        let mut live = lock(&self.live);
        live.extend(waiting);
        while live.len() > MOST_LIVE {
            let Some(oldest) = live.pop_front() else { break };
            self.give_up(&oldest);
        }
        drop(live);
        self.publish();
        self.more.notify_one();
    }

    fn sync(&self) {
        let unsynced = lock(&self.spool).unsynced();
        if let Some(error) = unsynced.and_then(|file| file.sync_data().err()) {
            self.stats.lock().spool_failures += 1;
            tracing::error!(%error, "cannot sync the spool");
        }
    }

    /// The live lane cannot deliver this one: the backlog will, or nobody.
    fn give_up(&self, (position, _): &Waiting) {
        match position {
            Some(position) => lock(&self.spool).leave_to_backlog(*position),
            None => *lock(&self.dropped_from_memory) += 1,
        }
    }

    /// The live lane: what was made just now, in batches, until the task is dropped.
    pub(crate) async fn deliver_live(&self, sink: &dyn Sink, clock: &Clock) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let batch: Vec<Waiting> = {
                let mut live = lock(&self.live);
                let most = live.len().min(MOST_BATCH);
                live.drain(..most).collect()
            };
            if batch.is_empty() {
                self.more.notified().await;
                tokio::time::sleep(GATHER).await;
                continue;
            }
            if self.send(sink, clock, &batch).await {
                pause = SHORTEST_PAUSE;
                continue;
            }
            let (on_disk, in_memory): (Vec<_>, Vec<_>) = batch.into_iter().partition(|(position, _)| position.is_some());
            on_disk.iter().for_each(|waiting| self.give_up(waiting));
            // What no disk has is tried again from here.
            self.put_back(in_memory);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn put_back(&self, batch: Vec<Waiting>) {
        let mut live = lock(&self.live);
        batch.into_iter().rev().for_each(|waiting| live.push_front(waiting));
    }

    /// The backlog lane: what earlier processes and longer cuts left, until the task is dropped.
    pub(crate) async fn deliver_backlog(&self, sink: &dyn Sink, clock: &Clock) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let batch: Vec<Waiting> = lock(&self.spool).backlog(MOST_BATCH).into_iter().map(|(at, bytes)| (Some(at), bytes)).collect();
            let is_done = !batch.is_empty() && self.send(sink, clock, &batch).await;
            pause = if is_done { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            if !is_done {
                self.publish();
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn send(&self, sink: &dyn Sink, clock: &Clock, batch: &[Waiting]) -> bool {
        let records: Vec<Bytes> = batch.iter().map(|(_, bytes)| bytes.clone()).collect();
        let sent: Instant = now();
        let answer = sink.deliver(&records).await;
        let mut figures = self.stats.lock();
        figures.last_delivery_failed = answer.is_err();
        match &answer {
            Ok(acknowledged) => {
                figures.delivered += batch.len() as u64;
                clock.compare(sent, now(), acknowledged.appended_at);
            }
            Err(error) => {
                figures.delivery_failures += 1;
                // Once and then ever more rarely: a cut of three days is not three days of log.
                if figures.delivery_failures.is_power_of_two() {
                    let advice = matches!(error, SinkError::Refused(_)).then_some("check the token and the vantage's name");
                    tracing::warn!(%error, advice, failures = figures.delivery_failures, "samples wait in the spool");
                }
            }
        }
        drop(figures);
        if answer.is_ok() {
            let positions: Vec<Position> = batch.iter().filter_map(|(position, _)| *position).collect();
            lock(&self.spool).delivered(&positions);
        }
        self.publish();
        answer.is_ok()
    }

    /// Brings the shared figures up to date.
    fn publish(&self) {
        let in_memory = lock(&self.live).iter().filter(|(position, _)| position.is_none()).count() as u64;
        let spool = lock(&self.spool);
        let (spooled, bytes, dropped) = (spool.spooled(), spool.bytes(), spool.dropped());
        drop(spool);
        let mut figures = self.stats.lock();
        figures.spooled = spooled + in_memory;
        figures.spool_bytes = bytes;
        figures.dropped = dropped + *lock(&self.dropped_from_memory) + figures.unspoolable;
    }
}

/// The first sample and those that come within the next moment.
fn gather(first: Bytes, made: &Receiver<Bytes>) -> Vec<Bytes> {
    std::thread::sleep(GATHER);
    let mut batch = vec![first];
    batch.extend(made.try_iter().take(MOST_BATCH * 4 - 1));
    batch
}
