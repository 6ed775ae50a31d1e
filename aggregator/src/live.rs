//! The engine at work: reads the log, folds it, gives the consequences to the store, and keeps what is known now for readers.
//!
//! One thread owns the fold. Order of effects: the store has acknowledged a stretch of the log before a snapshot says that it was taken.
//! A store that does not answer holds the fold up (it tries again and nothing is lost); then the frontier lags, and readers see unknown.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::watch;
use vigie_contract::record::{Unreadable, decode_appended};
use vigie_contract::{Decoded, Record, Refusal, RefusalReason, Span, Time};

use crate::archivist::Archivist;
use crate::clock::{self, Clock};
use crate::core::engine::{Effects, Engine};
use crate::core::snapshot::Manifest;
use crate::core::version::Version;
use crate::port::{Batch, EvidenceLog, Logged, Offset, ReadError, StoreError, WindowStore};
use crate::publish::{Ledger, Publisher};
use crate::core::window::Status;
use crate::view::{Latencies, View};

/// So many records are read and folded at a time.
const MOST_READ: usize = 2_048;
/// A log that was quiet for this long is given a tick (SPEC §7).
const QUIET: Duration = Duration::from_secs(1);
/// What readers see is renewed at most this often while records come.
const REFRESH: Duration = Duration::from_millis(250);
/// Latencies cost more than the rest, and move slowly.
const REFRESH_LATENCIES: Duration = Duration::from_secs(15);
/// How often a snapshot is taken.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);
/// One that is not kept by then is not waited for.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(5);
/// Pauses between attempts at a log or store that does not answer.
const PAUSE: Duration = Duration::from_millis(500);
/// So often a log that seems shorter than what was published is looked at again.
const MOST_LOOKS: u32 = 20;
/// Whoever stops us waits so long for what is under way; what the store has not acknowledged by then follows from the log again.
const FAREWELL: Duration = Duration::from_secs(3);

/// So many windows that were retracted are remembered.
const MOST_RETRACTIONS: usize = 32;
/// Of so many vantages the processes are told apart: names are the sender's, and memory is ours.
const MOST_VANTAGES: usize = 1_024;
/// A sample that was appended later than this after its stamp was waiting in a spool: it does not tell which process measures now.
const FRESH: Span = Span::from_secs(60);

/// A snapshot as it was read back.
pub struct Restored {
    /// What it consists of.
    pub manifest: Manifest,
    /// Its chunks.
    pub chunks: BTreeMap<String, Vec<u8>>,
    /// What was published when it was taken.
    pub ledger: Ledger,
    /// Somebody else keeps it: the first that we keep ourselves must be whole.
    pub is_borrowed: bool,
}

/// Keeps snapshots of the engine: a cache, never the truth (DESIGN §4).
pub trait Snapshots: Send + Sync {
    /// The newest of `group` that is whole, of these semantics and of the log with this epoch, if there is one.
    fn load(&self, group: &str, log_epoch: u64) -> impl Future<Output = Result<Option<Restored>, StoreError>> + Send;

    /// Keeps the newest; `changed` are the chunks that the one before did not have.
    fn save(
        &self,
        group: &str,
        manifest: &Manifest,
        changed: BTreeMap<String, Vec<u8>>,
        ledger: &Ledger,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A window that was retracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// Of which service.
    pub service: String,
    /// Which.
    pub id: String,
    /// The type of the record that took it away.
    pub cause: &'static str,
    /// The window that took its place.
    pub superseded_by: Option<String>,
    /// The record's append time.
    pub at: Time,
}

/// What was counted since the process began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Records read, by type.
    pub records: BTreeMap<&'static str, u64>,
    /// Records that the engine did not take, by reason.
    pub refused: BTreeMap<RefusalReason, u64>,
    /// Samples taken as no evidence, by vantage and cause.
    pub voided: BTreeMap<(String, &'static str), u64>,
    /// Samples that came twice and differ, by vantage.
    pub conflicts: BTreeMap<String, u64>,
    /// Versions of windows, by status.
    pub versions: BTreeMap<&'static str, u64>,
    /// Windows that were retracted, the newest last.
    pub retractions: VecDeque<Retraction>,
    /// The process whose fresh sample came last, by vantage, and how often it was another than before.
    pub runs: BTreeMap<String, (String, u64)>,
    /// When a snapshot was kept last.
    pub snapshot_kept: Option<Time>,
    /// Snapshots that could not be kept.
    pub snapshot_failures: u64,
    /// Records that could not be appended.
    pub append_failures: u64,
    /// Batches that the store did not acknowledge.
    pub store_failures: u64,
    /// Rows that the store has not acknowledged yet.
    pub store_waiting: usize,
    /// Samples that wait for a catalogue.
    pub waiting: usize,
    /// Catalogues in the file that were not taken.
    pub refused_catalogues: u64,
    /// Append time of the newest record less our own clock when it was read.
    pub log_clock_difference: Option<Span>,
}

/// What readers share with the fold.
pub struct Region {
    /// The group whose log it is.
    pub group: String,
    engine: RwLock<Engine>,
    view: watch::Sender<Arc<View>>,
    counts: Mutex<Counts>,
    /// The last record in the snapshot that this program has read or written; 0 without one.
    covered: AtomicU64,
    archivist: OnceLock<Arc<Archivist>>,
}

impl Region {
    /// Around an engine, as it was restored or made.
    #[must_use]
    pub fn new(group: impl Into<String>, engine: Engine) -> Arc<Self> {
        let view = Arc::new(View::of(&engine, &Latencies::default()));
        Arc::new(Self {
            group: group.into(),
            engine: RwLock::new(engine),
            view: watch::Sender::new(view),
            counts: Mutex::default(),
            covered: AtomicU64::new(0),
            archivist: OnceLock::new(),
        })
    }

    /// Records before this one are in a snapshot that this program can use: they are not needed any more.
    #[must_use]
    pub fn covered(&self) -> Offset {
        self.covered.load(Ordering::Relaxed)
    }

    /// Whoever archives the log, if anybody here does.
    #[must_use]
    pub fn archivist(&self) -> Option<&Arc<Archivist>> {
        self.archivist.get()
    }

    /// Says who archives the log.
    pub fn archived_by(&self, archivist: Arc<Archivist>) {
        let _ = self.archivist.set(archivist);
    }

    /// Puts another engine in the place of the one that it was made with, before the fold begins.
    pub fn replace(&self, engine: Engine) {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = engine;
    }

    /// The engine, for an explanation. Holds the fold up: be quick.
    pub fn engine(&self) -> RwLockReadGuard<'_, Engine> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Learns of every new view.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes an append that failed, or that works again.
    pub fn note_append(&self, records: u64, worked: bool) {
        if !worked {
            self.count(|counts| counts.append_failures += records);
        }
        self.view.send_if_modified(|view| {
            let changes = view.append_failing == worked;
            if changes {
                Arc::make_mut(view).append_failing = !worked;
            }
            changes
        });
    }

    /// Notes a batch that the store did not take, or that it takes them again.
    fn note_store(&self, worked: bool) {
        self.view.send_if_modified(|view| {
            let changes = view.store_failing == worked;
            if changes {
                Arc::make_mut(view).store_failing = !worked;
            }
            changes
        });
    }

    /// Notes a catalogue in the file that was not taken: nothing has changed.
    pub fn note_refused_catalogue(&self) {
        self.count(|counts| counts.refused_catalogues += 1);
    }

    fn count(&self, note: impl FnOnce(&mut Counts)) {
        note(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells readers that nothing is folded any more.
    pub fn stop(&self) {
        self.view.send_modify(|view| Arc::make_mut(view).stopped = true);
    }
}

/// Why the fold has stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The log is not the one that was read before, or has lost records that were not read.
    #[error("the evidence log cannot be read on")]
    Log(#[source] ReadError),
    /// The store refuses what follows from the log.
    #[error("the window store refuses what follows from the log")]
    Store(#[source] StoreError),
}

/// Where the fold begins.
pub struct Start {
    /// The first record that is not yet in the engine.
    pub next: Offset,
    /// What was published so far.
    pub ledger: Ledger,
    /// The snapshot that the engine was restored from.
    pub manifest: Option<Manifest>,
}

/// Folds the log of `region` until `stop` says so or it cannot go on.
pub async fn run<L: EvidenceLog, S: WindowStore + Snapshots>(
    region: &Region,
    log: &L,
    store: &S,
    start: Start,
    stop: watch::Receiver<bool>,
) -> Result<(), Stopped> {
    let log_epoch = region.engine().settings().log_epoch;
    region.covered.store(start.manifest.as_ref().map_or(0, |manifest| manifest.offset), Ordering::Relaxed);
    let publisher = Publisher::new(region.group.clone(), log_epoch, start.ledger);
    let clock = Clock::default();
    let now = clock.now();
    let mut fold = Fold {
        region,
        log,
        store,
        publisher,
        clock,
        stop,
        next: start.next,
        manifest: start.manifest,
        snapshot_due: now + SNAPSHOT_EVERY,
        tick_due: now,
        refresh_due: now,
        latencies_due: now,
        latencies: Latencies::default(),
        caught_up: false,
    };
    let result = fold.run().await;
    region.stop();
    result
}

struct Fold<'a, L, S> {
    region: &'a Region,
    log: &'a L,
    store: &'a S,
    publisher: Publisher,
    clock: Clock,
    stop: watch::Receiver<bool>,
    next: Offset,
    manifest: Option<Manifest>,
    snapshot_due: Duration,
    tick_due: Duration,
    refresh_due: Duration,
    latencies_due: Duration,
    latencies: Latencies,
    caught_up: bool,
}

impl<L: EvidenceLog, S: WindowStore + Snapshots> Fold<'_, L, S> {
    async fn run(&mut self) -> Result<(), Stopped> {
        self.refuse_a_replaced_log().await?;
        while !*self.stop.borrow() {
            let mut stop = self.stop.clone();
            let read = tokio::select! {
                read = tokio::time::timeout(QUIET, self.log.read(self.next, MOST_READ)) => read,
                _ = stop.changed() => break,
            };
            match read {
                // What the store has not acknowledged is in no snapshot: it is folded again at the next start.
                Ok(Ok(records)) if !self.take(&records).await? => return Ok(()),
                // Only an append tells that appends work again.
                Ok(Ok(_)) if self.region.view().append_failing && self.clock.now() >= self.tick_due => self.tick().await,
                Ok(Ok(_)) => {}
                Ok(Err(error @ (ReadError::Gone { .. } | ReadError::BeyondEnd { .. }))) => return Err(Stopped::Log(error)),
                Ok(Err(error)) => {
                    tracing::warn!(error = %source_chain(&error), "the log does not answer");
                    self.pause().await;
                }
                Err(_) => {
                    self.caught_up = true;
                    self.tick().await;
                }
            }
            self.refresh();
            if self.clock.now() >= self.snapshot_due {
                self.snapshot().await;
            }
        }
        self.snapshot().await;
        Ok(())
    }

    /// A store that holds consequences of a later log must not be given those of an older one (SPEC §7).
    async fn refuse_a_replaced_log(&self) -> Result<(), Stopped> {
        let mut looks = 0;
        while !*self.stop.borrow() {
            match self.store.highest(&self.region.group).await {
                Ok(highest) => {
                    let ours = self.region.engine().settings().log_epoch;
                    let Some(highest) = highest else { return Ok(()) };
                    let held = crate::port::log_epoch(highest);
                    if held > ours {
                        return Err(Stopped::Store(StoreError::Replaced { held, ours }));
                    }
                    // Of the same epoch, and longer than ours is: ours was cut, or is another.
                    let from = highest - crate::core::version::version_number(held, 0) + 1;
                    match self.log.bounds().await {
                        Ok(bounds) if held < ours || from <= bounds.next => return Ok(()),
                        // A leader that has just been elected may not know yet how long it is.
                        Ok(bounds) if looks >= MOST_LOOKS => return Err(Stopped::Log(ReadError::BeyondEnd { from, next: bounds.next })),
                        _ => looks += 1,
                    }
                    self.pause().await;
                }
                Err(error) => self.store_failed(error).await?,
            }
        }
        Ok(())
    }

    /// Waits before another attempt, unless we are told to stop.
    async fn pause(&self) {
        let _ = tokio::time::timeout(PAUSE, self.stop.clone().wait_for(|stop| *stop)).await;
    }

    /// What `work` gives; `None` if it is not done some time after we were told to stop.
    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = self.stop.clone();
        let given_up = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            done = work => Some(done),
            () = given_up => None,
        }
    }

    /// Folds `records` and gives what follows from them to the store; false if it has not acknowledged it when we were told to stop.
    async fn take(&mut self, records: &[Logged]) -> Result<bool, Stopped> {
        let Some(last) = records.last() else { return Ok(true) };
        let batch = self.fold(records, last.offset);
        self.next = last.offset + 1;
        self.caught_up |= records.len() < MOST_READ;
        let difference = last.appended_at - clock::wall_now();
        self.region.count(|counts| {
            counts.store_waiting = batch.rows();
            counts.log_clock_difference = Some(difference);
        });
        loop {
            match self.unless_stopped(self.store.apply(&batch)).await {
                Some(Ok(())) => break,
                Some(Err(error)) => self.store_failed(error).await?,
                None => return Ok(false),
            }
            if *self.stop.borrow() {
                return Ok(false);
            }
            self.refresh();
        }
        self.region.count(|counts| counts.store_waiting = 0);
        self.region.note_store(true);
        self.log.commit(self.next);
        Ok(true)
    }

    fn fold(&mut self, records: &[Logged], last: Offset) -> Batch {
        let mut engine = self.region.engine.write().unwrap_or_else(PoisonError::into_inner);
        let first = records.first().map_or(last, |first| first.offset);
        let mut batch = self.publisher.batch(&engine, first, last);
        let mut counts = self.region.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for logged in records {
            let decoded = decode_appended(&logged.bytes, logged.appended_at).unwrap_or_else(|error| unreadable(&error));
            let effects = engine.step(logged.offset, logged.appended_at, decoded.record.clone());
            counts.note(&decoded, &effects, logged.appended_at);
            self.publisher.record(&engine, logged, &decoded, &effects, &mut batch);
        }
        counts.waiting = engine.waiting();
        batch
    }

    async fn store_failed(&self, error: StoreError) -> Result<(), Stopped> {
        self.region.count(|counts| counts.store_failures += 1);
        self.region.note_store(false);
        if let StoreError::Replaced { .. } | StoreError::Unfit { .. } = error {
            return Err(Stopped::Store(error));
        }
        tracing::error!(error = %source_chain(&error), "the store does not take what follows from the log: trying again");
        self.pause().await;
        Ok(())
    }

    /// The log was quiet: time passes all the same.
    async fn tick(&mut self) {
        self.tick_due = self.clock.now() + QUIET;
        let tick = [b"{\"v\":1,\"type\":\"tick\"}".to_vec()];
        let Some(appended) = self.unless_stopped(self.log.append(&tick)).await else { return };
        if let Err(error) = &appended {
            tracing::error!(error = %source_chain(error), "cannot append to the log");
        }
        self.region.note_append(1, appended.is_ok());
    }

    /// Renews what readers see.
    fn refresh(&mut self) {
        let now = self.clock.now();
        if now < self.refresh_due {
            return;
        }
        let engine = self.region.engine();
        if now >= self.latencies_due {
            self.latencies = Latencies::of(&engine);
            self.latencies_due = now + REFRESH_LATENCIES;
        }
        let mut view = View::of(&engine, &self.latencies);
        drop(engine);
        view.caught_up = self.caught_up;
        view.next = self.next;
        self.region.view.send_modify(|shown| {
            view.append_failing = shown.append_failing;
            view.store_failing = shown.store_failing;
            *shown = Arc::new(view);
        });
        self.refresh_due = self.clock.now() + REFRESH;
    }

    async fn snapshot(&mut self) {
        let now = self.clock.now();
        if now > self.snapshot_due + SNAPSHOT_EVERY {
            // We slept or were held up, and another may have replaced what ours would build upon: this one is whole.
            self.manifest = None;
        }
        self.snapshot_due = now + SNAPSHOT_EVERY;
        let Some(offset) = self.next.checked_sub(1) else { return };
        let snapshot = self.region.engine().snapshot(offset, self.manifest.as_ref());
        let save = self.store.save(&self.region.group, &snapshot.manifest, snapshot.changed, &self.publisher.ledger);
        // A cache does not keep the fold from its log for long; a whole one may, which is seldom.
        let patience = if self.manifest.is_some() { SNAPSHOT_PATIENCE } else { SNAPSHOT_EVERY };
        let save = async {
            let late = |_| Err(StoreError::Unavailable("it took too long".into()));
            tokio::time::timeout(patience, save).await.unwrap_or_else(late)
        };
        match self.unless_stopped(save).await {
            Some(Ok(())) => {
                self.region.covered.store(snapshot.manifest.offset, Ordering::Relaxed);
                self.region.count(|counts| counts.snapshot_kept = Some(clock::wall_now()));
                self.manifest = Some(snapshot.manifest);
            }
            // A cache that cannot be written costs time at the next start, nothing else.
            Some(Err(error)) => {
                self.region.count(|counts| counts.snapshot_failures += 1);
                tracing::warn!(error = %source_chain(&error), "cannot keep a snapshot");
            }
            None => tracing::warn!("stopped before a snapshot was kept"),
        }
    }
}

impl Counts {
    fn note(&mut self, decoded: &Decoded<'_>, effects: &Effects, appended_at: Time) {
        let kind = match &decoded.record {
            Ok(Record::Sample(_)) => "sample",
            Ok(Record::Tick) => "tick",
            Ok(Record::Claim(_)) => "claim",
            Ok(Record::Exclusion(_)) => "exclusion",
            Ok(Record::Catalogue(_)) => "catalogue",
            Err(_) => "other",
        };
        *self.records.entry(kind).or_default() += 1;
        for refusal in &effects.refusals {
            *self.refused.entry(refusal.reason).or_default() += 1;
        }
        for version in &effects.versions {
            *self.versions.entry(version.window.status.as_str()).or_default() += 1;
            if version.window.status == Status::Retracted {
                self.note_retraction(version, kind, appended_at);
            }
        }
        let Ok(Record::Sample(sample)) = &decoded.record else { return };
        if effects.duplicate == Some(true) {
            *self.conflicts.entry(sample.vantage.to_string()).or_default() += 1;
        }
        if effects.duplicate.is_none() && appended_at - sample.stamp() <= FRESH {
            self.note_run(&sample.vantage, &sample.run);
        }
        if sample.outcome != sample.effective_outcome(appended_at) {
            let unfit = sample.clock_error > vigie_contract::Sample::WORST_CLOCK;
            *self.voided.entry((sample.vantage.to_string(), if unfit { "clock" } else { "future" })).or_default() += 1;
        }
    }
}

impl Counts {
    fn note_retraction(&mut self, version: &Version, cause: &'static str, at: Time) {
        let (service, id) = (version.window.service.to_string(), version.window.id.clone());
        self.retractions.push_back(Retraction { service, id, cause, superseded_by: version.superseded_by.clone(), at });
        if self.retractions.len() > MOST_RETRACTIONS {
            self.retractions.pop_front();
        }
    }

    fn note_run(&mut self, vantage: &str, run: &str) {
        if let Some((known, changes)) = self.runs.get_mut(vantage) {
            if known != run {
                run.clone_into(known);
                *changes += 1;
            }
        } else if self.runs.len() < MOST_VANTAGES {
            self.runs.insert(vantage.to_owned(), (run.to_owned(), 0));
        }
    }
}

/// What is not even JSON can still be in a log that others write to: it is a dead letter like any refused record.
fn unreadable(error: &Unreadable) -> Decoded<'static> {
    Decoded { appended_at: None, record: Err(Refusal::new(RefusalReason::Malformed, error.to_string())) }
}

/// An error with its causes, for a line of log.
pub fn source_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
