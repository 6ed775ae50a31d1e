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
use crate::stats::{Figures, Stats};

/// So many samples wait to be spooled; beyond it the disk hangs, and the newest are dropped and counted.
pub(crate) const MOST_UNSPOOLED: usize = 65_536;
/// So many samples wait in memory for the live lane; beyond it the oldest are left to the backlog, or dropped if no disk has them.
const MOST_LIVE: usize = 16_384;
/// A batch has at most so many samples.
const MOST_BATCH: usize = 1_000;
/// How long samples gather before they are written, and before they are sent: a wake-up costs more than a sample.
const GATHER: Duration = Duration::from_millis(50);
/// How often what was written is made durable (DESIGN §5).
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// The first and the longest pause after a failed delivery.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A sample on its way, and where it lies if a disk has it.
type Waiting = (Option<Position>, Bytes);

/// What the writer, the two lanes and the scrape share.
pub(crate) struct Delivery {
    stock: Mutex<Stock>,
    more: Notify,
    stats: Stats,
}

/// Where samples are. Figures are brought up to date under its lock, so that what is made, delivered, spooled and dropped always adds up.
struct Stock {
    spool: Spool,
    /// What the live lane has still to deliver.
    live: VecDeque<Waiting>,
    /// Samples without a place on disk that a lane is delivering now.
    in_hand: u64,
    /// Samples without a place on disk that had to be forgotten.
    forgotten: u64,
}

impl Stock {
    /// The live lane cannot deliver this one: the backlog will, or nobody.
    fn give_up(&mut self, (position, _): &Waiting) {
        match position {
            Some(position) => self.spool.leave_to_backlog(*position),
            None => self.forgotten += 1,
        }
    }

    /// Brings the shared figures up to date, with what `note` adds to them.
    fn publish(&self, stats: &Stats, note: impl FnOnce(&mut Figures)) {
        let in_memory = in_memory(self.live.iter());
        let mut figures = stats.lock();
        note(&mut figures);
        figures.spooled = self.spool.spooled() + in_memory + self.in_hand;
        figures.spool_bytes = self.spool.bytes();
        figures.dropped = self.spool.dropped() + self.forgotten + figures.unspoolable;
    }
}

/// How many of these no disk has.
fn in_memory<'a>(waiting: impl Iterator<Item = &'a Waiting>) -> u64 {
    waiting.filter(|(position, _)| position.is_none()).count() as u64
}

impl Delivery {
    pub(crate) fn new(spool: Spool, stats: Stats) -> Arc<Self> {
        let stock = Stock { spool, live: VecDeque::new(), in_hand: 0, forgotten: 0 };
        stock.publish(&stats, |figures| figures.recovered = stock.spool.spooled());
        Arc::new(Self { stock: Mutex::new(stock), more: Notify::new(), stats })
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut stock = self.stock();
        let (count, appended) = (batch.len() as u64, stock.spool.append(&batch));
        match appended {
            Ok(positions) => stock.live.extend(positions.into_iter().map(Some).zip(batch)),
            Err(error) => {
                let failures = {
                    let mut figures = self.stats.lock();
                    figures.spool_failures += 1;
                    figures.spool_failures
                };
                if failures.is_power_of_two() {
                    tracing::error!(%error, failures, "cannot spool: samples are delivered from memory");
                }
                stock.live.extend(batch.into_iter().map(|sample| (None, sample)));
            }
        }
        while stock.live.len() > MOST_LIVE {
            let Some(oldest) = stock.live.pop_front() else { break };
            stock.give_up(&oldest);
        }
        stock.publish(&self.stats, |figures| figures.made += count);
        drop(stock);
        self.more.notify_one();
    }

    fn sync(&self) {
        let unsynced = self.stock().spool.unsynced();
        if let Some(error) = unsynced.and_then(|file| file.sync_data().err()) {
            self.stats.lock().spool_failures += 1;
            tracing::error!(%error, "cannot sync the spool");
        }
    }

    /// The live lane: what was made just now, in batches, until the task is dropped.
    pub(crate) async fn deliver_live(&self, sink: &dyn Sink, clock: &Clock) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let batch = self.take_live();
            if batch.is_empty() {
                self.more.notified().await;
                tokio::time::sleep(GATHER).await;
                continue;
            }
            if self.send(sink, clock, &batch).await {
                pause = SHORTEST_PAUSE;
                continue;
            }
            self.put_back(batch);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn take_live(&self) -> Vec<Waiting> {
        let mut stock = self.stock();
        let most = stock.live.len().min(MOST_BATCH);
        let batch: Vec<Waiting> = stock.live.drain(..most).collect();
        stock.in_hand += in_memory(batch.iter());
        batch
    }

    /// A batch that was not delivered: what a disk has is left to the backlog, the rest is tried again from here.
    fn put_back(&self, batch: Vec<Waiting>) {
        let mut stock = self.stock();
        stock.in_hand -= in_memory(batch.iter());
        for waiting in batch.into_iter().rev() {
            if waiting.0.is_some() { stock.give_up(&waiting) } else { stock.live.push_front(waiting) }
        }
    }

    /// The backlog lane: what earlier processes and longer cuts left, until the task is dropped.
    pub(crate) async fn deliver_backlog(&self, sink: &dyn Sink, clock: &Clock) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let batch: Vec<Waiting> = self.take_backlog();
            let is_done = !batch.is_empty() && self.send(sink, clock, &batch).await;
            pause = if is_done { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            if !is_done {
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn take_backlog(&self) -> Vec<Waiting> {
        let mut stock = self.stock();
        let batch = stock.spool.backlog(MOST_BATCH);
        stock.publish(&self.stats, |_| {});
        batch.into_iter().map(|(position, bytes)| (Some(position), bytes)).collect()
    }

    /// Whether the log has acknowledged all of `batch`.
    async fn send(&self, sink: &dyn Sink, clock: &Clock, batch: &[Waiting]) -> bool {
        let records: Vec<Bytes> = batch.iter().map(|(_, bytes)| bytes.clone()).collect();
        let sent: Instant = now();
        match sink.deliver(&records).await {
            Ok(acknowledged) => {
                clock.compare(sent, now(), acknowledged.appended_at);
                self.note_delivered(batch);
                true
            }
            Err(error) => {
                self.note_failure(&error);
                false
            }
        }
    }

    fn note_delivered(&self, batch: &[Waiting]) {
        let mut stock = self.stock();
        let positions: Vec<Position> = batch.iter().filter_map(|(position, _)| *position).collect();
        stock.spool.delivered(&positions);
        stock.in_hand -= in_memory(batch.iter());
        stock.publish(&self.stats, |figures| {
            figures.delivered += batch.len() as u64;
            figures.last_delivery_failed = false;
        });
    }

    fn note_failure(&self, error: &SinkError) {
        let failures = {
            let mut figures = self.stats.lock();
            figures.last_delivery_failed = true;
            figures.delivery_failures += 1;
            figures.delivery_failures
        };
        // Once and then ever more rarely: a cut of three days is not three days of log.
        if failures.is_power_of_two() {
            let advice = matches!(error, SinkError::Refused(_)).then_some("check the token and the vantage's name");
            tracing::warn!(%error, advice, failures, "samples wait in the spool");
        }
    }
}

/// The first sample and those that come within the next moment.
fn gather(first: Bytes, made: &Receiver<Bytes>) -> Vec<Bytes> {
    std::thread::sleep(GATHER);
    let mut batch = vec![first];
    batch.extend(made.try_iter().take(MOST_BATCH * 4 - 1));
    batch
}
