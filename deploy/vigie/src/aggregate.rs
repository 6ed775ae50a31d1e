//! `vigie aggregate`, and the half of `vigie run` that is one: fold the log, keep the store, answer readers.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vigie_aggregator::api::Api;
use vigie_aggregator::clock::wall_now;
use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings};
use vigie_aggregator::ingest::Tokens;
use vigie_aggregator::live::{self, Region, Start, Stopped};
use vigie_aggregator::port::EvidenceLog;
use vigie_aggregator::publish::Ledger;
use vigie_aggregator::sqlite::{Access, DataDir, SqliteLog, SqliteStore};
use vigie_contract::catalogue::{ChangeKind, Strictness};
use vigie_contract::record::{CatalogueRecord, Record, encode};
use vigie_contract::{Catalogue, Span};

use crate::catalogue_watch::{Read, Watch};
use crate::shell::{self, Failure, Serving};

/// The one group of an embedded region.
pub(crate) const GROUP: &str = "main";
/// How long the embedded log keeps records: as the topic does at least (DESIGN §4).
const KEEP_LOG: Span = Span::from_secs(14 * 86_400);
/// How long samples are kept to look at; those around windows stay.
const KEEP_SAMPLES: Span = Span::from_secs(90 * 86_400);
/// How often old records and samples are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(3_600);

/// Derive outage windows from what remote probes send, and serve them
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) region: RegionArgs,
    /// Which token speaks for which vantage: a file with lines of `vantage token`
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    #[command(flatten)]
    serving: Serving,
}

/// What an aggregator needs.
#[derive(clap::Args)]
pub(crate) struct RegionArgs {
    /// What is measured, from where, and what was promised
    #[arg(long, value_name = "FILE")]
    pub(crate) catalogue: PathBuf,
    /// The directory of the evidence and the windows
    #[arg(long, value_name = "DIR", default_value = "vigie-data")]
    pub(crate) data: PathBuf,
    /// Who takes the responsibility for a catalogue that changes the past
    #[arg(long, value_name = "NAME")]
    override_by: Option<String>,
    /// A line to show under the page's title
    #[arg(long, value_name = "TEXT")]
    notice: Option<String>,
}

impl RegionArgs {
    pub(crate) fn notice(&self) -> Option<String> {
        self.notice.clone()
    }
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run(async {
        let tokens = args.tokens.as_deref().map(read_tokens).transpose()?.unwrap_or_default();
        let listener = shell::listen(&args.serving).await?;
        let (watch, first) = Watch::start(&args.region.catalogue)?;
        let stop = shell::stop_signal(args.serving.stop_on_eof)?;
        let aggregator = Aggregator::start(&args.region, stop.clone()).await?;
        aggregator.adopt(&first).await?;
        let api = aggregator.api(tokens, args.region.notice());
        tracing::info!("http://{} answers", listener.local_addr()?);
        let server = axum::serve(listener, api.router()).with_graceful_shutdown(shell::stopped(stop.clone()));
        tokio::select! {
            ended = aggregator.ended() => ended,
            served = server => Ok(served?),
            () = follow(&aggregator, watch, |_| {}) => Ok(()),
        }?;
        aggregator.ended().await
    })
}

pub(crate) fn read_tokens(path: &std::path::Path) -> Result<Tokens, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::new(format!("cannot read the tokens in {}: {error}", path.display())))?;
    Tokens::read(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// Takes every new catalogue to the log, and then to `also`. Never ends.
pub(crate) async fn follow(aggregator: &Aggregator, mut watch: Watch, also: impl Fn(Read)) {
    loop {
        let read = watch.changed(|| {}).await;
        match aggregator.adopt(&read).await {
            Ok(()) => also(read),
            Err(failure) => tracing::error!(%failure, "the new catalogue is not taken: nothing changes"),
        }
    }
}

/// The fold over an embedded log, and what it shares.
pub(crate) struct Aggregator {
    pub(crate) region: Arc<Region>,
    pub(crate) log: Arc<SqliteLog>,
    override_by: Option<String>,
    ended: watch::Receiver<bool>,
    result: std::sync::Mutex<Option<JoinHandle<Result<(), Stopped>>>>,
    _dir: DataDir,
}

impl Aggregator {
    /// Opens the data directory and begins to fold, from its snapshot if it has one.
    pub(crate) async fn start(args: &RegionArgs, stop: watch::Receiver<bool>) -> Result<Self, Failure> {
        let dir = DataDir::open(&args.data, Access::Serve)?;
        let log = Arc::new(SqliteLog::open(&dir)?);
        let store = Arc::new(SqliteStore::open(&dir)?);
        let (engine, start) = restore(&log, &store).await?;
        let region = Region::new(GROUP, engine);
        let (has_ended, ended) = watch::channel(false);
        let (fold_region, fold_log, fold_store) = (Arc::clone(&region), Arc::clone(&log), Arc::clone(&store));
        let keep = tokio::spawn(housekeeping(Arc::clone(&log), store));
        let result = tokio::spawn(async move {
            let result = live::run(&fold_region, &*fold_log, &*fold_store, start, stop).await;
            keep.abort();
            has_ended.send_replace(true);
            result
        });
        let aggregator =
            Self { region, log, override_by: args.override_by.clone(), ended, result: std::sync::Mutex::new(Some(result)), _dir: dir };
        aggregator.wait_until(|view| view.caught_up || view.stopped).await;
        Ok(aggregator)
    }

    async fn wait_until(&self, is: impl Fn(&vigie_aggregator::view::View) -> bool) {
        let mut views = self.region.views();
        let _ = views.wait_for(|view| is(view)).await;
    }

    /// Takes a catalogue to the log if it is another than the one in force; an error if the engine would refuse it.
    pub(crate) async fn adopt(&self, read: &Read) -> Result<(), Failure> {
        let (rev, old) = {
            let engine = self.region.engine();
            if engine.catalogue_text() == Some(&*read.text) {
                return Ok(());
            }
            (engine.catalogue_rev().map_or(1, |rev| rev + 1), engine.catalogue_text().map(str::to_owned))
        };
        let old = old.and_then(|text| Catalogue::read(&text, Strictness::Replay).ok());
        if let Some((old, _)) = old
            && self.override_by.is_none()
        {
            refuse_to_move_the_past(&read.catalogue, &old)?;
        }
        let record = CatalogueRecord {
            rev,
            sha256: Some(Sha256::digest(read.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()),
            text: read.text.to_string(),
            override_by: self.override_by.clone(),
            actor: std::env::var("USER").ok(),
            reason: None,
        };
        self.log.append(&[encode(&Record::Catalogue(record), None, None).into_bytes()]).await?;
        tracing::info!(rev, "a new catalogue is in force");
        self.wait_until(|view| view.catalogue_rev >= Some(rev) || view.stopped).await;
        Ok(())
    }

    pub(crate) fn api(&self, tokens: Tokens, notice: Option<String>) -> Api<SqliteLog> {
        Api::new(Arc::clone(&self.region), Arc::clone(&self.log), tokens, notice)
    }

    /// Waits until the fold has ended, and says why if it was not told to.
    pub(crate) async fn ended(&self) -> Result<(), Failure> {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
        let result = self.result.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match result {
            Some(result) => Ok(result.await??),
            None => Ok(()),
        }
    }
}

fn refuse_to_move_the_past(new: &Catalogue, old: &Catalogue) -> Result<(), Failure> {
    let now = wall_now();
    let moves = |change: &vigie_contract::catalogue::Change| {
        matches!(change.kind, ChangeKind::Changed | ChangeKind::Removed) && change.from.is_none_or(|from| from <= now)
    };
    let changes: Vec<String> = new.changes_from(old).iter().filter(|change| moves(change)).map(ToString::to_string).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let list = changes.join("\n  ");
    Err(Failure::new(format!(
        "this catalogue changes the past:\n  {list}\nrepeat the block with a later `since` instead, or give --override-by the name of who decides it"
    )))
}

/// The engine as its last snapshot has it, or a new one that reads the log from its start.
pub(crate) async fn restore(log: &SqliteLog, store: &SqliteStore) -> Result<(Engine, Start), Failure> {
    let settings = Settings { log_epoch: log.log_epoch(), retain: Retain::Horizon, pace: Pace::Live };
    let bounds = log.bounds().await?;
    if let Some(restored) = store.snapshot(GROUP).await? {
        let next = restored.manifest.offset + 1;
        match Engine::restore(settings, None, &restored.manifest, |key| restored.chunks.get(key).cloned()) {
            Ok(engine) if bounds.oldest <= next && next <= bounds.next => {
                return Ok((engine, Start { next, ledger: restored.ledger, manifest: Some(restored.manifest) }));
            }
            Ok(_) => tracing::warn!("the snapshot does not fit the log: reading the log from its start"),
            Err(error) => tracing::warn!(%error, "the snapshot cannot be used: reading the log from its start"),
        }
    }
    if bounds.oldest > 0 {
        let why = format!(
            "the log has forgotten what lies before offset {}, and there is no snapshot that can be used: restore a backup into a new \
             directory with `vigie restore`",
            bounds.oldest
        );
        return Err(Failure::new(why));
    }
    Ok((Engine::new(settings, None), Start { next: 0, ledger: Ledger::default(), manifest: None }))
}

async fn housekeeping(log: Arc<SqliteLog>, store: Arc<SqliteStore>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let now = wall_now();
        if let Err(error) = log.forget(now - KEEP_LOG).await {
            tracing::warn!(%error, "cannot forget old records");
        }
        if let Err(error) = store.forget_samples(now - KEEP_SAMPLES).await {
            tracing::warn!(%error, "cannot forget old samples");
        }
    }
}
