//! The production side of `vigie aggregate` (DESIGN §4): partitions by a consumer group, one fold for each that is ours, effects into
//! ClickHouse and topics.
//!
//! Whatever Kafka or ClickHouse do, this program goes on: it tries again, shows nothing as well, and says why. It ends when it is told
//! to, when another process bears its name, or when going on would corrupt what is published.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use vigie_aggregator::api::Api;
use vigie_aggregator::archive::{Archive, Archived, Shelf};
use vigie_aggregator::archivist::Archivist;
use vigie_aggregator::clickhouse::{self, ClickHouseStore};
use vigie_aggregator::core::engine::{Engine, Pace, Retain, Settings as EngineSettings};
use vigie_aggregator::ingest::Tokens;
use vigie_aggregator::kafka::{KafkaLog, KafkaSnapshots};
use vigie_aggregator::start;
use vigie_aggregator::{kafka::Outbox, live, live::Region};
use vigie_kafka::{Finding, Membership, Ownership, Producer, Settings, verify};

use crate::aggregate::RegionArgs;
use crate::manager;
use crate::place::{GroupLog, Log, Opened};
use crate::shell::{self, Failure, Serving};
use crate::shown::{STANDBY, STARTING, Shown};

/// What to do when neither log nor snapshot has the beginning.
const MEND: &str = "give --archive the place where the log is archived";
/// The same of somebody who has given it: from a hole on, time would look unknown that was not.
const MEND_ARCHIVE: &str = "the archive has a hole or was pruned before that (`vigie replay --evidence PLACE/GROUP/EPOCH` names it), and a \
    fold cannot begin behind a hole: bring back the snapshots that this version wrote, of either deployment, or what is missing";
/// Who reads only, and keeps no snapshots.
const READER: &str = "";
/// A pause between attempts at what does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What a member of a deployment needs.
#[derive(clap::Args, Clone)]
#[group(id = "cluster")]
pub(crate) struct Args {
    /// Instead of a catalogue and a data directory: the settings of Kafka, TOML. `vigie publish` puts a catalogue in force
    #[arg(long, value_name = "FILE", conflicts_with_all = ["catalogue", "data", "tokens"], requires = "clickhouse")]
    kafka: Option<PathBuf>,
    /// With --kafka: the settings of ClickHouse, TOML
    #[arg(long, value_name = "FILE", requires = "kafka")]
    clickhouse: Option<PathBuf>,
    /// The consumer group whose members share the logs; a second deployment under another name writes the same bytes
    #[arg(long, value_name = "NAME", default_value = "vigie")]
    deployment: String,
    /// The name of this process among the members, the same after a restart; the host's without it
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
}

impl Args {
    /// The settings' files, if this is to be a member of a deployment.
    pub(crate) fn settings(&self) -> Option<(&Path, &Path)> {
        self.kafka.as_deref().zip(self.clickhouse.as_deref())
    }
}

/// The engine of one group's log.
fn engine(settings: &Settings, group: &str) -> Engine {
    Engine::of_group(EngineSettings { log_epoch: settings.log_epoch, retain: Retain::Horizon, pace: Pace::Live }, group)
}

/// Every group's log, for commands that read it and append a fact.
pub(crate) async fn open(settings: &Path) -> Result<Vec<Opened>, Failure> {
    let settings = Settings::read(settings)?;
    refuse(&verify(&settings).await?)?;
    let producer = Arc::new(Producer::new(&settings)?);
    let snapshots = KafkaSnapshots::new(&settings, Arc::clone(&producer), READER);
    let mut opened = Vec::new();
    for (partition, group) in (0..).zip(&settings.groups) {
        let log = KafkaLog::open(&settings, partition, Arc::clone(&producer), None)?;
        let (engine, start) = start::restore(group, || engine(&settings, group), &log, &snapshots, MEND).await?;
        opened.push(Opened { group: group.clone(), log: Log::Kafka(Box::new(log)), engine, start });
    }
    Ok(opened)
}

/// Every group's log.
pub(crate) fn logs(settings: &Path) -> Result<Vec<GroupLog>, Failure> {
    let settings = Settings::read(settings)?;
    let producer = Arc::new(Producer::new(&settings)?);
    let log = |(partition, group): (i32, &String)| {
        let log = Log::Kafka(Box::new(KafkaLog::open(&settings, partition, Arc::clone(&producer), None)?));
        Ok(GroupLog { group: group.clone(), log_epoch: settings.log_epoch, log })
    };
    (0..).zip(&settings.groups).map(log).collect()
}

/// What would corrupt something ends the program; the rest is told.
pub(crate) fn refuse(findings: &[Finding]) -> Result<(), Failure> {
    for finding in findings.iter().filter(|finding| !finding.is_fatal) {
        tracing::warn!(topic = finding.topic, "{}", finding.problem);
    }
    let fatal: Vec<String> =
        findings.iter().filter(|finding| finding.is_fatal).map(|finding| format!("topic {} {}", finding.topic, finding.problem)).collect();
    if fatal.is_empty() { Ok(()) } else { Err(Failure::new(fatal.join("\n  "))) }
}

/// Folds what the deployment gives to this member, until it is told to stop.
pub(crate) async fn run(args: &Args, (kafka, store): (&Path, &Path), serving: &Serving, region: &RegionArgs) -> Result<(), Failure> {
    let settings = Settings::read(kafka)?;
    let store = clickhouse::Settings::read(store)?;
    let member = match &args.member {
        Some(member) => member.clone(),
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let listener = shell::listen(serving).await?;
    let stop = shell::stop_signal(serving.ending.stop_on_eof)?;
    let producer = Arc::new(Producer::new(&settings)?);
    let shown = Arc::new(Shown::new(&settings, producer.health().clone()));
    tracing::info!("http://{} answers", listener.local_addr()?);
    let folding = async {
        let Some(()) = ready(&settings, &store, &shown, stop.clone()).await? else { return Ok(()) };
        let membership = Arc::new(Membership::join(&settings, &args.deployment, &member)?);
        shown.watch("group", membership.health().clone());
        let cluster = Cluster {
            snapshots: KafkaSnapshots::new(&settings, Arc::clone(&producer), &args.deployment),
            store: Outbox::new(Arc::new(ClickHouseStore::new(&store)), &settings, Arc::clone(&producer), &args.deployment),
            settings,
            producer,
            membership,
            archive: region.archive.as_deref().map(Shelf::open).transpose()?,
            shown: Arc::clone(&shown),
            notice: region.notice(),
            stop: stop.clone(),
        };
        Arc::new(cluster).share().await
    };
    let mut folding = std::pin::pin!(folding);
    tokio::select! {
        served = shell::serve(listener, shown.router(), stop.clone()) => served?,
        ended = &mut folding => return ended,
        never = manager::inform(async || shown.is_alive().await, || shown.standing()) => match never {},
    }
    // What was read is still folded, and kept in a snapshot.
    folding.await
}

/// Waits until topics and tables can be looked at, and are as they must be; `None` if we are told to stop.
async fn ready(
    settings: &Settings,
    store: &clickhouse::Settings,
    shown: &Shown,
    stop: watch::Receiver<bool>,
) -> Result<Option<()>, Failure> {
    let look = async {
        loop {
            match verify(settings).await {
                Ok(findings) => break refuse(&findings)?,
                Err(error) => shown.wait_for(&error.to_string()),
            }
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            match clickhouse::check(store).await {
                Ok(mismatches) if mismatches.is_empty() => break,
                Ok(mismatches) => {
                    let list: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
                    return Err(Failure::new(format!("the tables are not as they must be:\n  {}", list.join("\n  "))));
                }
                Err(error) => shown.wait_for(&format!("ClickHouse does not answer: {error}")),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Some(()))
    };
    tokio::select! {
        looked = look => looked,
        () = shell::stopped(stop) => Ok(None),
    }
}

/// What the folds of this process share.
struct Cluster {
    settings: Settings,
    producer: Arc<Producer>,
    membership: Arc<Membership>,
    archive: Option<Shelf>,
    snapshots: KafkaSnapshots,
    store: Outbox<ClickHouseStore>,
    shown: Arc<Shown>,
    notice: Option<String>,
    stop: watch::Receiver<bool>,
}

impl Cluster {
    /// Starts a fold for each partition that comes to us, and ends it when it goes.
    async fn share(self: Arc<Self>) -> Result<(), Failure> {
        let mut owned = self.membership.owned();
        let mut stop = self.stop.clone();
        let mut folds: BTreeMap<i32, watch::Sender<bool>> = BTreeMap::new();
        let mut running = JoinSet::new();
        loop {
            let ownership = owned.borrow_and_update().clone();
            let words = match &ownership {
                Ownership::Joining => "the consumer group has not answered yet",
                Ownership::Owns(ours) if !ours.is_empty() => STARTING,
                _ => STANDBY,
            };
            let ours = match ownership {
                Ownership::Fenced(why) => {
                    return Err(Failure::new(format!("another process has our name in the group, give each its own --member: {why}")));
                }
                Ownership::Joining => BTreeSet::new(),
                Ownership::Owns(ours) => ours,
            };
            folds.retain(|partition, end| {
                let stays = ours.contains(partition);
                if !stays {
                    end.send_replace(true);
                }
                stays
            });
            for partition in ours {
                folds.entry(partition).or_insert_with(|| {
                    let (end, ends) = watch::channel(false);
                    running.spawn(Arc::clone(&self).fold(partition, ends));
                    end
                });
            }
            self.shown.joined(words);
            tokio::select! {
                changed = owned.changed() => changed?,
                Some(ended) = running.join_next() => ended??,
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        for end in folds.values() {
            end.send_replace(true);
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Folds one group's log until `ends`.
    async fn fold(self: Arc<Self>, partition: i32, ends: watch::Receiver<bool>) -> Result<(), Failure> {
        let Some(group) = self.settings.groups.get(partition as usize).cloned() else {
            let why = "name its group at the end of `groups` in the settings, and start again";
            return Err(Failure::new(format!("partition {partition} of the evidence has no group here: {why}")));
        };
        let _hold = self.membership.hold(partition);
        let log = Arc::new(KafkaLog::open(&self.settings, partition, Arc::clone(&self.producer), Some(Arc::clone(&self.membership)))?);
        let archive = self.archive.as_ref().map(|shelf| Archive::new(shelf, &group, self.settings.log_epoch));
        let whole = Archived::new(Arc::clone(&log), archive.clone());
        let mend = if archive.is_some() { MEND_ARCHIVE } else { MEND };
        let new = || engine(&self.settings, &group);
        let region = Region::new(group.clone(), new());
        let api = Api::new(Arc::clone(&region), Arc::clone(&log), Tokens::default(), self.notice.clone(), self.stop.clone());
        let (pulse, beat) = manager::pulse();
        let shown_as = self.shown.show(Arc::clone(&region), api.router(), log.health().clone(), pulse);
        let store = Production { store: &self.store, snapshots: &self.snapshots };
        let folding = async {
            let (engine, start) = loop {
                match start::restore(&group, new, &whole, &self.snapshots, mend).await {
                    Ok(begun) => break begun,
                    Err(error @ start::StartError::Forgotten { .. }) => return Err(error.into()),
                    Err(error) => tracing::warn!(group, error = %live::source_chain(&error), "cannot begin yet"),
                }
                tokio::time::sleep(PAUSE).await;
            };
            tracing::info!(group, from = start.next, "folding");
            region.replace(engine);
            Ok(live::run(&region, &whole, &store, start, ends.clone()).await?)
        };
        let archiving = async {
            let Some(archive) = archive else { return std::future::pending().await };
            let archivist = Arc::new(Archivist::new(archive));
            region.archived_by(Arc::clone(&archivist));
            // With a client of its own: the fold's reads where the fold is.
            let log = KafkaLog::open(&self.settings, partition, Arc::clone(&self.producer), None)?;
            archivist.follow(&log).await;
            Ok(())
        };
        let working = async {
            tokio::select! {
                ended = folding => ended,
                failed = archiving => failed,
                // Not begun yet, perhaps; a fold that runs ends by itself.
                () = async { shell::stopped(ends.clone()).await; tokio::time::sleep(shell::FAREWELL).await } => Ok(()),
            }
        };
        let ended = Box::pin(beat.beside(working)).await;
        self.shown.hide(&group, shown_as);
        ended
    }
}

/// Windows and snapshots go to different places.
struct Production<'a> {
    store: &'a Outbox<ClickHouseStore>,
    snapshots: &'a KafkaSnapshots,
}

mod production {
    use std::collections::BTreeMap;

    use vigie_aggregator::core::snapshot::Manifest;
    use vigie_aggregator::live::{Restored, Snapshots};
    use vigie_aggregator::port::{Batch, StoreError, WindowStore};
    use vigie_aggregator::publish::Ledger;

    use super::Production;

    impl WindowStore for Production<'_> {
        async fn highest(&self, group: &str) -> Result<Option<u64>, StoreError> {
            self.store.highest(group).await
        }

        async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
            self.store.apply(batch).await
        }
    }

    impl Snapshots for Production<'_> {
        async fn load(&self, group: &str, log_epoch: u64) -> Result<Option<Restored>, StoreError> {
            self.snapshots.load(group, log_epoch).await
        }

        async fn save(
            &self,
            group: &str,
            manifest: &Manifest,
            changed: BTreeMap<String, Vec<u8>>,
            ledger: &Ledger,
        ) -> Result<(), StoreError> {
            self.snapshots.save(group, manifest, changed, ledger).await
        }
    }
}
