//! Where a region's evidence lies: in a data directory, or in Kafka.

use std::path::{Path, PathBuf};

use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::live::Start;
use vigie_aggregator::port::{AppendError, Appended, Bounds, EvidenceLog, Logged, Offset, ReadError};
use vigie_aggregator::sqlite::{Access, DataDir, SqliteLog, SqliteStore};

use crate::aggregate::{self, GROUP};
use crate::shell::Failure;

/// Where to look for it.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// The data directory of the region
    #[arg(long, value_name = "DIR", default_value = "vigie-data")]
    data: PathBuf,
    /// Instead of a data directory: the settings of Kafka, TOML
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    kafka: Option<PathBuf>,
}

/// The log of one group.
pub(crate) struct GroupLog {
    pub(crate) group: String,
    pub(crate) log_epoch: u64,
    pub(crate) log: Log,
}

/// The log of one group, and the engine as its newest snapshot has it.
pub(crate) struct Opened {
    pub(crate) group: String,
    pub(crate) log: Log,
    pub(crate) engine: Engine,
    pub(crate) start: Start,
}

impl Place {
    #[cfg(test)]
    pub(crate) fn at(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            #[cfg(feature = "kafka")]
            kafka: None,
        }
    }

    /// The data directory, if the evidence is in one.
    #[cfg_attr(not(feature = "kafka"), expect(clippy::unnecessary_wraps, reason = "there is no other place then"))]
    pub(crate) fn directory(&self) -> Result<&Path, Failure> {
        #[cfg(feature = "kafka")]
        if self.kafka.is_some() {
            return Err(Failure::new("with --kafka, give --clickhouse too"));
        }
        Ok(&self.data)
    }

    /// Every group's log.
    pub(crate) fn logs(&self) -> Result<Vec<GroupLog>, Failure> {
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            return crate::cluster::logs(kafka);
        }
        let dir = DataDir::open(&self.data, Access::Join)?;
        let log = SqliteLog::open(&dir)?;
        Ok(vec![GroupLog { group: GROUP.to_owned(), log_epoch: log.log_epoch(), log: Log::Embedded(Box::new((log, dir))) }])
    }

    /// Every group's log, with the engine.
    pub(crate) async fn open(&self) -> Result<Vec<Opened>, Failure> {
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            return crate::cluster::open(kafka).await;
        }
        let dir = DataDir::open(&self.data, Access::Join)?;
        let (log, store) = (SqliteLog::open(&dir)?, SqliteStore::open(&dir)?);
        let (engine, start) = aggregate::restore(&log, &store).await?;
        Ok(vec![Opened { group: GROUP.to_owned(), log: Log::Embedded(Box::new((log, dir))), engine, start }])
    }
}

/// Either side of the port.
pub(crate) enum Log {
    Embedded(Box<(SqliteLog, DataDir)>),
    #[cfg(feature = "kafka")]
    Kafka(Box<vigie_aggregator::kafka::KafkaLog>),
}

impl EvidenceLog for Log {
    async fn append(&self, records: &[Vec<u8>]) -> Result<Vec<Appended>, AppendError> {
        match self {
            Self::Embedded(log) => log.0.append(records).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.append(records).await,
        }
    }

    async fn read(&self, from: Offset, most: usize) -> Result<Vec<Logged>, ReadError> {
        match self {
            Self::Embedded(log) => log.0.read(from, most).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.read(from, most).await,
        }
    }

    async fn bounds(&self) -> Result<Bounds, ReadError> {
        match self {
            Self::Embedded(log) => log.0.bounds().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(log) => log.bounds().await,
        }
    }
}
