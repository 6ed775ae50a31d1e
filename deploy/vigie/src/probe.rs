//! `vigie probe`, and the half of `vigie run` that is one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use vigie_contract::metric::Exposition;
use vigie_contract::{Catalogue, VantageId};
use vigie_probe::{AdoptError, HttpSink, Prefix, Probe, ProbeView, Reflect, SecretSource, Settings, Sink, Source};

use crate::catalogue_watch::Watch;
use crate::manager::{self, Standing};
use crate::shell::{self, Ending, Failure};

/// Measure from one vantage and send the samples to an aggregator
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is measured, from where, and what was promised
    #[arg(long, value_name = "FILE")]
    catalogue: PathBuf,
    /// Which of the catalogue's vantages this is
    #[arg(long, value_name = "ID")]
    vantage: String,
    #[command(flatten)]
    measuring: Measuring,
    /// The aggregator: http://host:port, or https://host:port where a proxy in front of it speaks TLS
    #[arg(long, value_name = "URL")]
    #[cfg_attr(feature = "kafka", arg(required_unless_present = "kafka"))]
    #[cfg_attr(not(feature = "kafka"), arg(required = true))]
    aggregator: Option<String>,
    /// Instead of an aggregator: straight into Kafka, whose settings are in this file, TOML
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["aggregator", "token_file", "ca"])]
    kafka: Option<PathBuf>,
    /// A file with the token that speaks for this vantage; without it, the environment variable `VIGIE_TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authorities that signed the aggregator's certificate, PEM; the public ones without it
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Address of the probe's own metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDRESS", default_value = shell::USUAL_ADDRESS)]
    listen: SocketAddr,
    #[command(flatten)]
    ending: Ending,
}

/// How a probe measures.
#[derive(clap::Args, Clone)]
pub(crate) struct Measuring {
    /// Measure from this address of the machine; once for IPv4, once for IPv6
    #[arg(long, value_name = "ADDRESS")]
    source: Vec<IpAddr>,
    /// Where samples wait until the log has them
    #[arg(long, value_name = "DIR", default_value = "vigie-spool")]
    pub(crate) spool: PathBuf,
    /// The spool never grows beyond this, in MiB, at least 16: the oldest samples are dropped, counted and told
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(16..=1 << 30))]
    spool_mib: u64,
    /// Answer the STAMP test packets of peers, also those that ask how this machine is, at this address and UDP port, 862 by RFC 8762, and
    /// echo what they send to the same port of TCP; may be given again
    #[arg(long, value_name = "ADDRESS", requires = "reflect_peer")]
    reflect: Vec<SocketAddr>,
    /// Whose test packets are answered: an address or a prefix as 192.0.2.0/24; may be given again
    #[arg(long, value_name = "PREFIX", requires = "reflect")]
    reflect_peer: Vec<Prefix>,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run(async {
        let way = Way::of(args)?;
        let listener = shell::listen_on(args.listen).await?;
        let (mut watch, first) = Watch::start(&args.catalogue)?;
        let stop = shell::stop_signal(args.ending.stop_on_eof)?;
        way.route(&first.catalogue)?;
        let probe = Probe::start(settings(&args.vantage, &args.measuring, &first.catalogue)?, way.sink())?;
        begin(&probe, &args.vantage, &first.catalogue).await?;
        tracing::info!("http://{} answers", listener.local_addr()?);
        let following = async {
            loop {
                let read = watch.changed(|| probe.note_refused_reload()).await;
                match way.route(&read.catalogue) {
                    Ok(()) => adopt(&probe, read.catalogue).await,
                    Err(failure) => {
                        tracing::error!(%failure, "the new catalogue is not measured by: nothing changes");
                        probe.note_refused_reload();
                    }
                }
            }
        };
        let view = probe.view();
        // It measures. Whether the log takes what it measures is not its start's business: until then, samples wait in the spool.
        let standing = || Standing { has_started: true, ..Standing::of(unready(&view, &way).as_deref()) };
        tokio::select! {
            served = shell::serve(listener, router(view.clone(), way.clone()), stop) => served?,
            () = following => {}
            never = manager::inform(async || probe.is_alive().await, standing) => match never {},
        }
        probe.stop().await;
        Ok(())
    })
}

/// The way to the log.
#[derive(Clone)]
enum Way {
    Aggregator(Arc<HttpSink>),
    #[cfg(feature = "kafka")]
    Kafka(Arc<vigie_probe::KafkaSink>),
}

impl Way {
    fn of(args: &Args) -> Result<Self, Failure> {
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &args.kafka {
            return Ok(Self::Kafka(Arc::new(vigie_probe::KafkaSink::new(&vigie_kafka::Settings::read(kafka)?)?)));
        }
        let token = match &args.token_file {
            Some(path) => SecretSource::file(path),
            None => SecretSource::env("VIGIE_TOKEN"),
        };
        let url = args.aggregator.as_deref().unwrap_or_default();
        Ok(Self::Aggregator(Arc::new(HttpSink::new(url, &token.read()?, args.ca.as_deref())?)))
    }

    fn sink(&self) -> Arc<dyn Sink> {
        match self {
            Self::Aggregator(sink) => Arc::clone(sink) as Arc<dyn Sink>,
            #[cfg(feature = "kafka")]
            Self::Kafka(sink) => Arc::clone(sink) as Arc<dyn Sink>,
        }
    }

    /// Sends samples as `catalogue` says from now on.
    #[cfg_attr(not(feature = "kafka"), expect(unused_variables, clippy::unnecessary_wraps, reason = "only Kafka's topics have partitions"))]
    fn route(&self, catalogue: &Catalogue) -> Result<(), Failure> {
        match self {
            // An aggregator knows by itself.
            Self::Aggregator(_) => Ok(()),
            #[cfg(feature = "kafka")]
            Self::Kafka(sink) => sink.route(catalogue).map_err(Failure::new),
        }
    }

    /// What a person must mend, if it is known.
    fn trouble(&self) -> Option<String> {
        match self {
            Self::Aggregator(_) => None,
            #[cfg(feature = "kafka")]
            Self::Kafka(sink) => sink.trouble().map(|(trouble, reason)| format!("kafka {}: {reason}", trouble.as_str())),
        }
    }

    /// Metrics of its own.
    fn metrics(&self) -> String {
        match self {
            Self::Aggregator(_) => String::new(),
            #[cfg(feature = "kafka")]
            Self::Kafka(sink) => crate::shown::kafka_metrics(&[("producer", sink.trouble())]),
        }
    }
}

/// How a probe at `vantage` of `catalogue` measures.
pub(crate) fn settings(vantage: &str, measuring: &Measuring, catalogue: &Catalogue) -> Result<Settings, Failure> {
    let id = VantageId::from(vantage);
    if !catalogue.vantages.iter().any(|known| known.id == id) {
        let known: Vec<_> = catalogue.vantages.iter().map(|vantage| vantage.id.as_str()).collect();
        return Err(Failure::new(format!("the catalogue has no vantage `{vantage}`: give --vantage one of {}", known.join(", "))));
    }
    let (source, spool, spool_bytes) = (source(&measuring.source)?, measuring.spool.clone(), measuring.spool_mib << 20);
    let reflect = Reflect { addresses: measuring.reflect.clone(), peers: measuring.reflect_peer.clone() };
    Ok(Settings { vantage: id, source, spool, spool_bytes, reflect })
}

/// Makes the checks of a catalogue before anybody relies on them, or says which cannot be made.
pub(crate) async fn prepare(probe: &Probe, catalogue: &Arc<Catalogue>) -> Result<(), Failure> {
    probe.prepare(Arc::clone(catalogue)).await.map_err(in_words)
}

/// Measures by the first catalogue.
pub(crate) async fn begin(probe: &Probe, vantage: &str, catalogue: &Arc<Catalogue>) -> Result<(), Failure> {
    let targets = probe.adopt(Arc::clone(catalogue)).await.map_err(in_words)?;
    tracing::info!(%vantage, targets, icmp = icmp(&probe.view()), "measuring");
    Ok(())
}

fn in_words(error: AdoptError) -> Failure {
    match error {
        AdoptError::Unmeasurable(problems) => {
            let list: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Failure::new(format!("some targets cannot be measured:\n  {}", list.join("\n  ")))
        }
        AdoptError::Stopped => error.into(),
    }
}

/// How echoes are sent, or what is missing for them.
fn icmp(view: &ProbeView) -> String {
    match view.icmp_mode() {
        Some(Ok(mode)) => mode.to_owned(),
        Some(Err(why)) => format!("unavailable: {why}"),
        None => "unavailable".to_owned(),
    }
}

/// Measures by a catalogue that changed, if all of it can be measured.
pub(crate) async fn adopt(probe: &Probe, catalogue: Arc<Catalogue>) {
    match probe.adopt(catalogue).await {
        Ok(targets) => tracing::info!(targets, "measuring by the new catalogue"),
        Err(AdoptError::Unmeasurable(problems)) => {
            problems.iter().for_each(|problem| tracing::error!(%problem, "the new catalogue is not measured by: nothing changes"));
        }
        Err(error) => tracing::error!(%error, "the new catalogue is not measured by"),
    }
}

fn source(addresses: &[IpAddr]) -> Result<Source, Failure> {
    let mut source = Source::default();
    for address in addresses {
        let is_second = match address {
            IpAddr::V4(v4) => source.v4.replace(*v4).is_some(),
            IpAddr::V6(v6) => source.v6.replace(*v6).is_some(),
        };
        if is_second {
            return Err(Failure::new("give --source at most once for IPv4 and once for IPv6"));
        }
    }
    Ok(source)
}

/// Why it does not do all that it is for.
fn unready(view: &ProbeView, way: &Way) -> Option<String> {
    let why = view.readiness().err()?;
    let trouble = way.trouble().map(|trouble| format!(": {trouble}")).unwrap_or_default();
    Some(why + &trouble)
}

fn router(view: ProbeView, way: Way) -> Router {
    let way_of_metrics = way.clone();
    let ready = view.clone();
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match unready(&ready, &way) {
                    None => "ready\n".into_response(),
                    Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move { ([(CONTENT_TYPE, Exposition::CONTENT_TYPE)], view.metrics() + &way_of_metrics.metrics()) }),
        )
}
