//! `vigie seed`: from the embedded region to Kafka and ClickHouse; nothing that was published changes (DESIGN §4).
//!
//! The old log goes into the archive under its epoch, the tables go to ClickHouse row by row, and the engine's state becomes the first
//! snapshot of the new log, which has the next epoch: what is published from then on has higher version numbers. A new log begins with a
//! tick, which stands for everything that came before.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use vigie_aggregator::archive::{Archive, Shelf};
use vigie_aggregator::archivist::Archivist;
use vigie_aggregator::clickhouse::{self, ClickHouseStore};
use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::kafka::{KafkaLog, KafkaSnapshots};
use vigie_aggregator::live::{Snapshots, Start};
use vigie_aggregator::port::{EvidenceLog, WindowStore};
use vigie_aggregator::publish::Publisher;
use vigie_aggregator::sqlite::{Access, DataDir, SqliteLog, SqliteStore};
use vigie_contract::record::{Record, decode_appended, encode};
use vigie_kafka::{Producer, Settings, verify};

use crate::aggregate::{self, GROUP};
use crate::cluster::refuse;
use crate::shell::{self, Failure};

const MOST_READ: usize = 4_096;
/// So many rows go to ClickHouse together.
const ROWS: usize = 20_000;
/// The tables that are copied; how far the store has come is last.
const TABLES: [&str; 11] =
    ["windows", "gaps", "accounts", "latency", "candidates", "claims", "exclusions", "catalogues", "dead_letters", "samples", "frontiers"];
/// Whose snapshot it is: every deployment may begin from it.
const SEED: &str = "seed";

/// Move a region from its data directory to Kafka and ClickHouse
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The data directory of the region, which nobody serves any more
    #[arg(long, value_name = "DIR", default_value = "vigie-data")]
    data: PathBuf,
    /// The settings of Kafka, TOML, with the next `log_epoch`; its evidence topic is empty
    #[arg(long, value_name = "FILE")]
    kafka: PathBuf,
    /// The settings of ClickHouse, TOML
    #[arg(long, value_name = "FILE")]
    clickhouse: PathBuf,
    /// The archive, into which the old log goes: a directory, or the settings of a bucket, TOML
    #[arg(long, value_name = "PLACE")]
    archive: PathBuf,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run_quietly(async {
        let dir = DataDir::open(&args.data, Access::Serve)?;
        let (log, store) = (SqliteLog::open(&dir)?, SqliteStore::open(&dir)?);
        let settings = Settings::read(&args.kafka)?;
        let wanted = log.log_epoch() + 1;
        if settings.log_epoch != wanted {
            return Err(Failure::new(format!(
                "the old log has epoch {}: write log_epoch = {wanted} into {}",
                log.log_epoch(),
                args.kafka.display()
            )));
        }
        refuse(&verify(&settings).await?)?;
        let tables = clickhouse::Settings::read(&args.clickhouse)?;
        if let Some(mismatch) = clickhouse::check(&tables).await?.first() {
            return Err(Failure::new(format!("the tables are not as they must be: {mismatch}")));
        }
        let producer = Arc::new(Producer::new(&settings)?);
        let partition = settings.partition(GROUP).ok_or_else(|| Failure::new(format!("the settings name no group `{GROUP}`")))?;
        let new_log = KafkaLog::open(&settings, partition, Arc::clone(&producer), None)?;
        let bounds = new_log.bounds().await?;
        if bounds.next > 0 {
            return Err(Failure::new(format!("topic {} has records already: a new log must be empty", settings.topics.evidence)));
        }

        let (engine, publisher, last) = fold_to_the_end(&log, &store).await?;
        refuse_other_groups(&engine)?;
        let mut out = io::stdout().lock();
        let archivist = Archivist::new(Archive::new(&Shelf::open(&args.archive)?, GROUP, log.log_epoch()));
        archivist.catch_up(&log).await?;
        writeln!(out, "the old log, epoch {}, is archived up to offset {}", log.log_epoch(), archivist.figures().next)?;
        let copied = copy(&store, &ClickHouseStore::new(&tables)).await?;
        writeln!(out, "{copied} rows are in database {}", tables.database)?;

        let mut snapshot = engine.snapshot(last, None);
        snapshot.manifest.log_epoch = settings.log_epoch;
        snapshot.manifest.offset = 0;
        let snapshots = KafkaSnapshots::new(&settings, producer, SEED);
        snapshots.save(GROUP, &snapshot.manifest, snapshot.changed, &publisher.ledger).await?;
        // Last: from here on the new log is one, and who begins with it finds its snapshot.
        new_log.append(&[encode(&Record::Tick, None, None).into_bytes()]).await?;
        writeln!(out, "the new log has begun with epoch {}: start `vigie aggregate --kafka`, then the probes", settings.log_epoch)?;
        Ok(())
    })
}

/// The engine at the end of the old log, whose store has what follows from all of it; and the log's last offset.
async fn fold_to_the_end(log: &SqliteLog, store: &SqliteStore) -> Result<(Engine, Publisher, u64), Failure> {
    let (mut engine, Start { mut next, ledger, .. }) = aggregate::restore(log, store).await?;
    let mut publisher = Publisher::new(GROUP, log.log_epoch(), ledger);
    let end = log.bounds().await?.next;
    while next < end {
        let records = log.read(next, MOST_READ).await?;
        let Some((first, last)) = records.first().zip(records.last()).map(|(first, last)| (first.offset, last.offset)) else { break };
        let mut batch = publisher.batch(&engine, first, last);
        for logged in &records {
            let Ok(decoded) = decode_appended(&logged.bytes, logged.appended_at) else { continue };
            let effects = engine.step(logged.offset, logged.appended_at, decoded.record.clone());
            publisher.record(&engine, logged, &decoded, &effects, &mut batch);
        }
        store.apply(&batch).await?;
        next = last + 1;
    }
    let last = next.checked_sub(1).ok_or_else(|| Failure::new("the old log is empty: there is nothing to move"))?;
    Ok((engine, publisher, last))
}

/// The embedded log holds all groups in one; the new one has a partition for each.
fn refuse_other_groups(engine: &Engine) -> Result<(), Failure> {
    let services = engine.catalogue().map(|catalogue| catalogue.services.as_slice()).unwrap_or_default();
    match services.iter().find(|service| service.group != GROUP) {
        Some(service) => Err(Failure::new(format!(
            "service {} is of group {}: the state of one log cannot be parted; publish a catalogue with the one group `{GROUP}` first",
            service.id, service.group
        ))),
        None => Ok(()),
    }
}

/// Every row of every table.
async fn copy(from: &SqliteStore, to: &ClickHouseStore) -> Result<usize, Failure> {
    let mut copied = 0;
    for table in TABLES {
        let mut at = 0;
        loop {
            let columns = if table == "dead_letters" { "*, hex(record) AS record_hex" } else { "*" };
            let sql = format!("SELECT {columns} FROM {table} ORDER BY ver LIMIT {ROWS} OFFSET ?1");
            let rows = from.rows(&sql, vec![at.into()]).await?;
            at += rows.len();
            if rows.is_empty() {
                break;
            }
            to.copy(table, &rows).await?;
        }
        copied += at;
    }
    Ok(copied)
}
