//! `vigie run`: a small region on one machine, probe and aggregator in one process.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use vigie_aggregator::clock::wall_now;
use vigie_aggregator::live::{Region, source_chain};
use vigie_aggregator::port::{AppendError, EvidenceLog};
use vigie_aggregator::sqlite::SqliteLog;
use vigie_probe::{Acknowledged, Probe, Sink, SinkError};

use crate::aggregate::{Aggregator, RegionArgs, follow, read_tokens, warn_of_strangers};
use crate::catalogue_watch::{Read, Watch};
use crate::manager;
use crate::probe::{self, Measuring};
use crate::shell::{self, Failure, Serving};

/// Supervise a region from this machine: probe, aggregator, metrics, API and page in one process
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is measured, from where, and what was promised
    #[arg(long, value_name = "FILE")]
    catalogue: PathBuf,
    #[command(flatten)]
    region: RegionArgs,
    /// Which of the catalogue's vantages this machine is; not needed if there is only one
    #[arg(long, value_name = "ID")]
    vantage: Option<String>,
    #[command(flatten)]
    measuring: Measuring,
    /// Which token speaks for which other vantage, if remote probes send samples: a file with lines of `vantage token`
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    #[command(flatten)]
    serving: Serving,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run(async {
        let tokens = args.tokens.as_deref().map(read_tokens).transpose()?.unwrap_or_default();
        let listener = shell::listen(&args.serving).await?;
        let (watch, first) = Watch::start(&args.catalogue)?;
        warn_of_strangers(&tokens, &first.catalogue);
        let vantages: Vec<&str> = first.catalogue.vantages.iter().map(|vantage| vantage.id.as_str()).collect();
        let vantage = match (args.vantage.as_deref(), vantages.as_slice()) {
            (Some(vantage), _) => vantage,
            (None, [only]) => only,
            (None, several) => return Err(Failure::new(format!("which vantage is this? Give --vantage one of {}", several.join(", ")))),
        };
        let settings = probe::settings(vantage, &args.measuring, &first.catalogue)?;
        let stop = shell::stop_signal(args.serving.ending.stop_on_eof)?;
        // The fold ends after the probe: its last samples are still folded.
        let (end_fold, fold_ends) = tokio::sync::watch::channel(false);
        let aggregator = Aggregator::start(&args.region, fold_ends)?;
        let sink = Arc::new(EmbeddedSink { log: Arc::clone(&aggregator.log), region: Arc::clone(&aggregator.region) });
        let probe = Probe::start(settings, sink)?;
        let view = probe.view();
        let api = aggregator.api(tokens, args.region.notice(), stop.clone()).with_probe_metrics(move || view.metrics());
        tracing::info!("http://{} answers", listener.local_addr()?);
        let leading = async {
            // The log is given no catalogue that cannot be measured, and the probe measures by none that is not in force.
            probe::prepare(&probe, &first.catalogue).await?;
            aggregator.adopt(&first).await?;
            probe::begin(&probe, vantage, &first.catalogue).await?;
            let prepare = async |read: &Read| probe::prepare(&probe, &read.catalogue).await;
            let also = async |read: Read| probe::adopt(&probe, read.catalogue).await;
            follow(&aggregator, watch, prepare, also, || probe.note_refused_reload()).await
        };
        let is_alive = async || probe.is_alive().await && aggregator.is_alive().await;
        let ended = tokio::select! {
            ended = aggregator.ended() => ended,
            served = shell::serve(listener, api.router(), stop) => served,
            failed = leading => failed,
            never = manager::inform(is_alive, || aggregator.standing()) => match never {},
        };
        probe.stop().await;
        end_fold.send_replace(true);
        ended?;
        aggregator.ended().await
    })
}

/// Straight into the log of the same process.
struct EmbeddedSink {
    log: Arc<SqliteLog>,
    region: Arc<Region>,
}

impl Sink for EmbeddedSink {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> Pin<Box<dyn Future<Output = Result<Acknowledged, SinkError>> + Send + 'a>> {
        Box::pin(async move {
            let records: Vec<Vec<u8>> = batch.iter().map(|record| record.to_vec()).collect();
            let appended = self.log.append(&records).await;
            self.region.note_append(records.len() as u64, appended.is_ok());
            match appended {
                Ok(appended) => {
                    let newest = appended.last().map(|last| last.appended_at);
                    Ok(Acknowledged { appended_at: Some(newest.unwrap_or_else(wall_now)), left: None })
                }
                Err(error @ AppendError::TooLong { .. }) => Err(SinkError::Refused(source_chain(&error))),
                Err(error) => Err(SinkError::Unavailable(source_chain(&error))),
            }
        })
    }
}
