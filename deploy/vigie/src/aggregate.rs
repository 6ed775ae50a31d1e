//! `vigie aggregate`, and the half of `vigie run` that is one: fold the log, keep the store, answer readers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use vigie_aggregator::api::Api;
use vigie_aggregator::archive::{Archive, Shelf};
use vigie_aggregator::archivist::Archivist;
use vigie_aggregator::clock::wall_now;
use vigie_aggregator::core::digest::sha256_hex;
use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings};
use vigie_aggregator::core::version::version_number;
use vigie_aggregator::ingest::Tokens;
use vigie_aggregator::live::{self, Region, Start};
use vigie_aggregator::port::{EvidenceLog, Offset};
use vigie_aggregator::sqlite::{Access, DataDir, MOST_AHEAD, SqliteLog, SqliteStore};
use vigie_aggregator::start;
use vigie_aggregator::view::View;
use vigie_contract::catalogue::{ChangeKind, Strictness};
use vigie_contract::record::{CatalogueRecord, Record, encode};
use vigie_contract::{Catalogue, Span, Time, VantageId};

use crate::catalogue_watch::{Read, Watch};
use crate::manager::{self, Pulse, Standing};
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
    /// What is measured, from where, and what was promised
    #[arg(long, value_name = "FILE")]
    #[cfg_attr(feature = "kafka", arg(required_unless_present = "kafka"))]
    #[cfg_attr(not(feature = "kafka"), arg(required = true))]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    region: RegionArgs,
    #[cfg(feature = "kafka")]
    #[command(flatten)]
    cluster: crate::cluster::Args,
    /// Which token speaks for which vantage: a file with lines of `vantage token`
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    #[command(flatten)]
    serving: Serving,
}

/// What an aggregator needs.
#[derive(clap::Args)]
pub(crate) struct RegionArgs {
    /// The directory of the evidence and the windows
    #[arg(long, value_name = "DIR", default_value = "vigie-data")]
    pub(crate) data: PathBuf,
    /// Who takes the responsibility for a catalogue that changes the past
    #[arg(long, value_name = "NAME")]
    override_by: Option<String>,
    /// Archive the evidence there, and read from there what the log has forgotten: a directory, or the settings of a bucket, TOML.
    /// Without an archive evidence is deleted with the log's retention, 14 days
    #[arg(long, value_name = "PLACE")]
    pub(crate) archive: Option<PathBuf>,
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
    #[cfg(feature = "kafka")]
    if let Some(files) = args.cluster.settings() {
        return shell::run(crate::cluster::run(&args.cluster, files, &args.serving, &args.region));
    }
    shell::run(async {
        let tokens = args.tokens.as_deref().map(read_tokens).transpose()?.unwrap_or_default();
        let listener = shell::listen(&args.serving).await?;
        let (watch, first) = Watch::start(args.catalogue.as_deref().unwrap_or(Path::new("")))?;
        warn_of_strangers(&tokens, &first.catalogue);
        let stop = shell::stop_signal(args.serving.ending.stop_on_eof)?;
        // The fold ends after the answers: what was taken with one is still folded.
        let (end_fold, fold_ends) = watch::channel(false);
        let aggregator = Aggregator::start(&args.region, fold_ends)?;
        let api = aggregator.api(tokens, args.region.notice(), stop.clone());
        tracing::info!("http://{} answers", listener.local_addr()?);
        let leading = async {
            aggregator.adopt(&first).await?;
            follow(&aggregator, watch, async |_| Ok(()), async |_| {}, || {}).await
        };
        let ended = tokio::select! {
            ended = aggregator.ended() => ended,
            served = shell::serve(listener, api.router(), stop) => served,
            failed = leading => failed,
            never = manager::inform(async || aggregator.is_alive().await, || aggregator.standing()) => match never {},
        };
        end_fold.send_replace(true);
        ended?;
        aggregator.ended().await
    })
}

pub(crate) fn read_tokens(path: &Path) -> Result<Tokens, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::new(format!("cannot read the tokens in {}: {error}", path.display())))?;
    Tokens::read(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

/// Warns of tokens whose vantage the catalogue does not know, a typo perhaps: their samples count for nothing until it does.
pub(crate) fn warn_of_strangers(tokens: &Tokens, catalogue: &Catalogue) {
    let is_known = |id: &VantageId| catalogue.vantages.iter().any(|vantage| vantage.id == *id);
    for vantage in tokens.vantages().filter(|id| !is_known(id)) {
        tracing::warn!(%vantage, "a token speaks for a vantage that the catalogue does not know");
    }
}

/// Takes every new catalogue for which `prepare` is ready to the log, and then to `also`; `refused` learns of those that are not taken.
/// Ends only with the fold.
pub(crate) async fn follow(
    aggregator: &Aggregator,
    mut watch: Watch,
    prepare: impl AsyncFn(&Read) -> Result<(), Failure>,
    also: impl AsyncFn(Read),
    refused: impl Fn(),
) -> Result<(), Failure> {
    let refused = || {
        aggregator.region.note_refused_catalogue();
        refused();
    };
    loop {
        let read = watch.changed(refused).await;
        let taken = match prepare(&read).await {
            Ok(()) => aggregator.adopt(&read).await,
            Err(failure) => Err(failure),
        };
        match taken {
            Ok(()) => also(read).await,
            Err(failure) => {
                tracing::error!(%failure, "the new catalogue is not taken: nothing changes");
                refused();
            }
        }
    }
}

/// The fold over an embedded log, and what it shares.
pub(crate) struct Aggregator {
    pub(crate) region: Arc<Region>,
    pub(crate) log: Arc<SqliteLog>,
    store: Arc<SqliteStore>,
    override_by: Option<String>,
    ended: watch::Receiver<bool>,
    pulse: Pulse,
    result: std::sync::Mutex<Option<JoinHandle<Result<(), Failure>>>>,
    _dir: DataDir,
}

impl Aggregator {
    /// Opens the data directory and begins to fold, from its snapshot if it has one. Does not wait until the log is read: that takes
    /// time, and readers are to be told so.
    pub(crate) fn start(args: &RegionArgs, stop: watch::Receiver<bool>) -> Result<Self, Failure> {
        let dir = DataDir::open(&args.data, Access::Serve)?;
        let log = Arc::new(SqliteLog::open(&dir)?);
        refuse_a_log_from_the_future(&args.data, log.last_append())?;
        let store = Arc::new(SqliteStore::open(&dir)?);
        let region = Region::new(GROUP, Engine::new(settings(&log), None));
        let (has_ended, ended) = watch::channel(false);
        if let Some(archive) = &args.archive {
            region.archived_by(Arc::new(Archivist::new(Archive::new(&Shelf::open(archive)?, GROUP, log.log_epoch()))));
        }
        let folding = fold(Arc::clone(&region), Arc::clone(&log), Arc::clone(&store), stop);
        let (pulse, beat) = manager::pulse();
        let result = tokio::spawn(async move {
            let result = beat.beside(folding).await;
            has_ended.send_replace(true);
            result
        });
        let (override_by, result) = (args.override_by.clone(), std::sync::Mutex::new(Some(result)));
        Ok(Self { region, log, store, override_by, ended, pulse, result, _dir: dir })
    }

    /// Never ends if the fold does first: [`Aggregator::ended`] tells of that.
    async fn wait_until(&self, is: impl Fn(&View) -> bool) {
        let _ = self.region.views().wait_for(|view| is(view)).await;
    }

    /// Takes a catalogue to the log if it is another than the one in force, once the log is read; an error if the engine refuses it.
    pub(crate) async fn adopt(&self, read: &Read) -> Result<(), Failure> {
        self.wait_until(|view| view.caught_up).await;
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
            sha256: Some(sha256_hex(read.text.as_bytes())),
            text: read.text.to_string(),
            override_by: self.override_by.clone(),
            actor: std::env::var("USER").ok(),
            reason: None,
        };
        let appended = self.log.append(&[encode(&Record::Catalogue(record), None, None).into_bytes()]).await?;
        let offset = appended.first().map_or(0, |appended| appended.offset);
        self.wait_until(|view| view.next > offset).await;
        if self.region.engine().catalogue_text() != Some(&*read.text) {
            return Err(self.why_refused(offset).await);
        }
        tracing::info!(rev, "a new catalogue is in force");
        Ok(())
    }

    /// What the dead letter of the record at `offset` says.
    async fn why_refused(&self, offset: Offset) -> Failure {
        let ver = version_number(self.log.log_epoch(), offset);
        let letters = self.store.rows("SELECT reason, detail FROM dead_letters WHERE ver = ?1", vec![ver.into()]).await;
        let letter = letters.unwrap_or_default().pop().unwrap_or_default();
        let part = |name: &str| letter.get(name).and_then(|part| part.as_str()).unwrap_or("it says not why").to_owned();
        Failure::new(format!("the engine refuses the catalogue at offset {offset}: {}: {}", part("reason"), part("detail")))
    }

    pub(crate) fn api(&self, tokens: Tokens, notice: Option<String>, stop: watch::Receiver<bool>) -> Api<SqliteLog> {
        Api::new(Arc::clone(&self.region), Arc::clone(&self.log), tokens, notice, stop)
    }

    /// Ends when the fold answers, at once unless it hangs.
    pub(crate) async fn is_alive(&self) -> bool {
        self.pulse.felt().await;
        true
    }

    /// Started when all that it shows can be trusted for the first time.
    pub(crate) fn standing(&self) -> Standing {
        Standing::of(self.region.view().staleness(wall_now()).map(|stale| stale.cause.as_str()))
    }

    /// Waits until the fold has ended, and says why if it was not told to.
    pub(crate) async fn ended(&self) -> Result<(), Failure> {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
        let result = self.result.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match result {
            Some(result) => result.await?,
            None => Ok(()),
        }
    }
}

/// Restores the engine and folds the log until `stop`, with the housekeeping beside it.
async fn fold(region: Arc<Region>, log: Arc<SqliteLog>, store: Arc<SqliteStore>, stop: watch::Receiver<bool>) -> Result<(), Failure> {
    let restored = restore(&log, &store).await;
    let (engine, start) = restored.inspect_err(|_| region.stop())?;
    region.replace(engine);
    tokio::select! {
        ended = live::run(&region, &*log, &*store, start, stop) => Ok(ended?),
        () = housekeeping(&region, &log, &store) => Ok(()),
        () = archiving(&region, &log) => Ok(()),
    }
}

/// Nothing could be appended to it without a false time.
fn refuse_a_log_from_the_future(data: &Path, last: Time) -> Result<(), Failure> {
    let now = wall_now();
    if last - now <= MOST_AHEAD {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the log in {} was last written at {last}, and this machine's clock says {now}: a clock is or was wrong. Set this one if it is; \
         otherwise wait until it has caught up, or restore a backup from before the log's clock ran ahead: `vigie restore`",
        data.display()
    )))
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

fn settings(log: &SqliteLog) -> Settings {
    Settings { log_epoch: log.log_epoch(), retain: Retain::Horizon, pace: Pace::Live }
}

/// The engine as its last snapshot has it, or a new one that reads the log from its start.
pub(crate) async fn restore(log: &SqliteLog, store: &SqliteStore) -> Result<(Engine, Start), Failure> {
    const MEND: &str = "restore a backup into a new directory with `vigie restore`";
    let settings = settings(log);
    Ok(start::restore(GROUP, || Engine::new(settings, None), log, store, MEND).await?)
}

async fn archiving(region: &Region, log: &SqliteLog) {
    match region.archivist() {
        Some(archivist) => archivist.follow(log).await,
        None => std::future::pending().await,
    }
}

async fn housekeeping(region: &Region, log: &SqliteLog, store: &SqliteStore) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let now = wall_now();
        // What is to be archived stays until it is.
        let archived = region.archivist().map_or(Offset::MAX, |archivist| archivist.figures().next);
        if let Err(error) = log.forget(now - KEEP_LOG, region.covered().min(archived)).await {
            tracing::warn!(%error, "cannot forget old records");
        }
        if let Err(error) = store.forget_samples(now - KEEP_SAMPLES).await {
            tracing::warn!(%error, "cannot forget old samples");
        }
    }
}
