//! From the schedule to the spool to the log (DESIGN §5): live first, the backlog beside it, oldest first.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
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
/// The backlog drains no faster, in samples a second: a region whose probes come back all at once does not drown its log, and the live
/// lane keeps its place. The three days of a probe that makes 1 600 a second arrive within the day that the late horizon leaves.
const BACKLOG_RATE: f64 = 5_000.0;
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
    /// Spools what the live lane has only in memory: the newest, and what a full disk refused before.
    fn spool_live(&mut self) -> io::Result<()> {
        let unspooled: Vec<Bytes> = self.live.iter().filter(|(position, _)| position.is_none()).map(|(_, sample)| sample.clone()).collect();
        let positions = self.spool.append(&unspooled)?;
        let places = self.live.iter_mut().map(|(position, _)| position).filter(|position| position.is_none());
        places.zip(positions).for_each(|(place, position)| *place = Some(position));
        Ok(())
    }

    /// Makes room in memory: at the cost of what a disk has, if there is such.
    fn evict(&mut self) {
        let cheap = self.live.iter().position(|(position, _)| position.is_some());
        if let Some(waiting) = self.live.remove(cheap.unwrap_or(0)) {
            self.give_up(&waiting);
        }
    }

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
        figures.in_memory = in_memory + self.in_hand;
        figures.spooled = self.spool.spooled() + figures.in_memory;
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
            let batch = match made.recv_timeout(SYNC_EVERY.saturating_sub(synced.elapsed())) {
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
        let count = batch.len() as u64;
        stock.live.extend(batch.into_iter().map(|sample| (None, sample)));
        if let Err(error) = stock.spool_live() {
            self.note_spool_failure(&error, "cannot spool: samples are delivered from memory");
        }
        while stock.live.len() > MOST_LIVE {
            stock.evict();
        }
        stock.publish(&self.stats, |figures| figures.made += count);
        drop(stock);
        self.more.notify_one();
    }

    fn sync(&self) {
        let unsynced = self.stock().spool.unsynced();
        let synced = unsynced.and_then(|files| files.iter().try_for_each(File::sync_data));
        if let Err(error) = synced {
            self.note_spool_failure(&error, "cannot sync the spool");
        }
    }

    /// Once and then ever more rarely: a disk that is full for a day is not a day of log.
    fn note_spool_failure(&self, error: &io::Error, what: &str) {
        let failures = {
            let mut figures = self.stats.lock();
            figures.spool_failures += 1;
            figures.spool_failures
        };
        if failures.is_power_of_two() {
            tracing::error!(%error, failures, "{what}");
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
            let (left, is_reached) = self.send(sink, clock, batch).await;
            self.stats.lock().last_delivery_failed = !left.is_empty();
            let is_left_in_memory = in_memory(left.iter()) > 0;
            self.put_back(left);
            if is_reached {
                pause = SHORTEST_PAUSE;
                if is_left_in_memory {
                    tokio::time::sleep(pause).await;
                }
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    fn take_live(&self) -> Vec<Waiting> {
        let mut stock = self.stock();
        let most = stock.live.len().min(MOST_BATCH);
        let batch: Vec<Waiting> = stock.live.drain(..most).collect();
        stock.in_hand += in_memory(batch.iter());
        batch
    }

    /// Samples that were not delivered: what a disk has is left to the backlog, the rest is tried again from here.
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
        let mut from = Position::FIRST;
        loop {
            let began = now();
            let batch = self.take_backlog(from);
            let (count, last) = (batch.len(), batch.last().and_then(|(position, _)| *position));
            let (left, is_reached) = self.send(sink, clock, batch).await;
            if let (Some(last), true) = (last, is_reached) {
                pause = SHORTEST_PAUSE;
                // What a part of the log does not take keeps nothing else waiting.
                from = if left.is_empty() { from } else { last.next() };
                let due = began + Duration::from_secs_f64(count as f64 / BACKLOG_RATE);
                tokio::time::sleep_until(due.into()).await;
            } else {
                from = Position::FIRST;
                pause = (pause * 2).min(LONGEST_PAUSE);
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn take_backlog(&self, from: Position) -> Vec<Waiting> {
        let mut stock = self.stock();
        let read = stock.spool.backlog(from, MOST_BATCH);
        stock.publish(&self.stats, |_| {});
        drop(stock);
        let batch = read.unwrap_or_else(|error| {
            self.note_spool_failure(&error, "cannot read the spool: it is tried again");
            Vec::new()
        });
        batch.into_iter().map(|(position, bytes)| (Some(position), bytes)).collect()
    }

    /// Sends a batch; what of it is left, and whether the log was reached at all.
    async fn send(&self, sink: &dyn Sink, clock: &Clock, batch: Vec<Waiting>) -> (Vec<Waiting>, bool) {
        if batch.is_empty() {
            return (batch, false);
        }
        let records: Vec<Bytes> = batch.iter().map(|(_, bytes)| bytes.clone()).collect();
        let sent: Instant = now();
        match sink.deliver(&records).await {
            Ok(acknowledged) => {
                if let Some(appended_at) = acknowledged.appended_at {
                    clock.compare(sent, now(), appended_at);
                }
                let (left, delivered) = match acknowledged.left {
                    None => (Vec::new(), batch),
                    Some(left) => {
                        self.note_failure(&left.why);
                        part(batch, &left.places)
                    }
                };
                self.note_delivered(&delivered);
                (left, true)
            }
            Err(error) => {
                self.note_failure(&error);
                (batch, false)
            }
        }
    }

    fn note_delivered(&self, batch: &[Waiting]) {
        let mut stock = self.stock();
        let positions: Vec<Position> = batch.iter().filter_map(|(position, _)| *position).collect();
        let from_memory = in_memory(batch.iter());
        let news = stock.spool.delivered(&positions) + from_memory;
        stock.in_hand -= from_memory;
        stock.publish(&self.stats, |figures| figures.delivered += news);
    }

    fn note_failure(&self, error: &SinkError) {
        let failures = {
            let mut figures = self.stats.lock();
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

/// What stands at these places, and the rest.
fn part(batch: Vec<Waiting>, places: &[usize]) -> (Vec<Waiting>, Vec<Waiting>) {
    let (left, rest): (Vec<_>, Vec<_>) = batch.into_iter().enumerate().partition(|(place, _)| places.binary_search(place).is_ok());
    let waiting = |placed: Vec<(usize, Waiting)>| placed.into_iter().map(|(_, waiting)| waiting).collect();
    (waiting(left), waiting(rest))
}

/// The first sample and those that come within the next moment.
fn gather(first: Bytes, made: &Receiver<Bytes>) -> Vec<Bytes> {
    std::thread::sleep(GATHER);
    let mut batch = vec![first];
    batch.extend(made.try_iter().take(MOST_BATCH * 4 - 1));
    batch
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::sink::{Acknowledged, Left};

    /// What can happen, in any order.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Made(usize),
        LiveTaken,
        LiveDelivered,
        LiveRefused,
        BacklogTaken,
        BacklogDelivered,
        BacklogRefused,
        /// The directory is gone for a while: no new segment can be made, and none can be read.
        DiskFails,
        DiskWorks,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (1..4_000_usize).prop_map(Event::Made),
            2 => Just(Event::LiveTaken),
            1 => Just(Event::LiveDelivered),
            2 => Just(Event::LiveRefused),
            2 => Just(Event::BacklogTaken),
            1 => Just(Event::BacklogDelivered),
            1 => Just(Event::BacklogRefused),
            1 => Just(Event::DiskFails),
            2 => Just(Event::DiskWorks),
        ]
    }

    fn assert_balance(stats: &Stats) {
        let figures = stats.lock();
        let (made, known) = (figures.made + figures.recovered, figures.delivered + figures.spooled + figures.dropped);
        assert_eq!(made, known, "delivered {} spooled {} dropped {}", figures.delivered, figures.spooled, figures.dropped);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// DESIGN §5: samples made = delivered + spooled + dropped, at any moment, whatever happens to disk and log.
        #[test]
        fn what_was_made_is_delivered_spooled_or_dropped(events in proptest::collection::vec(event(), 1..60)) {
            let dir = tempfile::tempdir().unwrap();
            let (here, gone) = (dir.path().join("here"), dir.path().join("gone"));
            let stats = Stats::default();
            // Three segments: it overflows while lanes have samples in hand.
            let delivery = Delivery::new(Spool::open(&here, "v", 12 << 20).unwrap(), stats.clone());
            let (mut live, mut backlog) = (Vec::new(), Vec::new());
            for event in events {
                match event {
                    Event::Made(count) => delivery.spool(vec![Bytes::from(vec![b'x'; 900]); count]),
                    Event::LiveTaken if live.is_empty() => live = delivery.take_live(),
                    Event::LiveDelivered => delivery.note_delivered(&std::mem::take(&mut live)),
                    Event::LiveRefused => delivery.put_back(std::mem::take(&mut live)),
                    Event::BacklogTaken => backlog = delivery.take_backlog(Position::FIRST),
                    Event::BacklogDelivered => delivery.note_delivered(&std::mem::take(&mut backlog)),
                    Event::BacklogRefused => backlog.clear(),
                    Event::DiskFails if here.exists() => std::fs::rename(&here, &gone).unwrap(),
                    Event::DiskWorks if gone.exists() => std::fs::rename(&gone, &here).unwrap(),
                    Event::LiveTaken | Event::DiskFails | Event::DiskWorks => {}
                }
                assert_balance(&stats);
            }
        }
    }

    /// A log of two parts: odd samples go to one that is sick until it is cured.
    struct HalfSick {
        is_cured: AtomicBool,
        taken: Mutex<Vec<Bytes>>,
    }

    impl Sink for HalfSick {
        fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> Pin<Box<dyn Future<Output = Result<Acknowledged, SinkError>> + Send + 'a>> {
            Box::pin(async move {
                let is_taken = |sample: &Bytes| self.is_cured.load(Ordering::SeqCst) || sample[sample.len() - 1].is_multiple_of(2);
                self.taken.lock().unwrap().extend(batch.iter().filter(|sample| is_taken(sample)).cloned());
                let places: Vec<usize> = (0..batch.len()).filter(|place| !is_taken(&batch[*place])).collect();
                let left = (!places.is_empty()).then(|| Left { places, why: SinkError::Unavailable("sick".to_owned()) });
                Ok(Acknowledged { appended_at: Some(crate::clock::wall_now()), left })
            })
        }
    }

    #[test]
    fn a_part_of_the_log_that_is_sick_keeps_nothing_else_waiting_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sample = |number: usize| Bytes::from(format!("{number:06}"));
        let all = MOST_BATCH * 6;
        // An earlier process leaves a backlog that begins with more of the sick part than a batch holds.
        let old = Delivery::new(Spool::open(dir.path(), "v", 1 << 30).unwrap(), Stats::default());
        old.spool((0..MOST_BATCH * 2).map(|number| sample(number * 2 + 1)).collect());
        old.spool((0..MOST_BATCH).map(|number| sample(number * 2)).collect());
        drop(old);
        let stats = Stats::default();
        let delivery = Delivery::new(Spool::open(dir.path(), "v", 1 << 30).unwrap(), stats.clone());
        let sink = HalfSick { is_cured: AtomicBool::new(false), taken: Mutex::default() };
        let taken = |is_even: bool| {
            let taken = sink.taken.lock().unwrap();
            let numbers: BTreeSet<usize> = taken.iter().map(|sample| std::str::from_utf8(sample).unwrap().parse().unwrap()).collect();
            numbers.into_iter().filter(|number| number.is_multiple_of(2) == is_even).count()
        };
        let clock = Clock::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let until = async |what: &str, is_so: &dyn Fn() -> bool| {
                for _ in 0..3_000 {
                    if is_so() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                panic!("waited in vain: {what}");
            };
            let story = async {
                delivery.spool((MOST_BATCH * 4..all).map(sample).collect());
                until("the healthy part of backlog and live", &|| taken(true) == MOST_BATCH * 2).await;
                assert_eq!(taken(false), 0);
                assert!(stats.lock().last_delivery_failed, "it is told");
                assert_balance(&stats);
                sink.is_cured.store(true, Ordering::SeqCst);
                until("the rest", &|| stats.lock().spooled == 0).await;
            };
            tokio::select! {
                () = delivery.deliver_live(&sink, &clock) => {}
                () = delivery.deliver_backlog(&sink, &clock) => {}
                () = story => {}
            }
        });
        assert_eq!((taken(true), taken(false)), (MOST_BATCH * 2, MOST_BATCH * 3));
        assert_balance(&stats);
    }

    #[test]
    fn what_a_full_disk_refused_is_spooled_when_there_is_room_and_outlives_what_is_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let (here, gone) = (dir.path().join("here"), dir.path().join("gone"));
        let stats = Stats::default();
        let delivery = Delivery::new(Spool::open(&here, "v", 1 << 30).unwrap(), stats.clone());
        std::fs::rename(&here, &gone).unwrap();
        delivery.spool(vec![Bytes::from_static(b"first"); 10]);
        let seen = || {
            let figures = stats.lock();
            (figures.in_memory, figures.spool_failures, figures.dropped)
        };
        assert_eq!(seen(), (10, 1, 0));
        std::fs::rename(&gone, &here).unwrap();
        delivery.spool(vec![Bytes::from_static(b"later"); MOST_LIVE + 5]);
        assert_eq!(seen(), (0, 1, 0));
        assert_eq!(Spool::open(&here, "v", 1 << 30).err().map(|error| error.to_string().contains("belongs to a probe")), Some(true));
        drop(delivery);
        assert_eq!(Spool::open(&here, "v", 1 << 30).unwrap().spooled(), MOST_LIVE as u64 + 15);
    }
}
