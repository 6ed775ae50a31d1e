//! The probe as a whole: its threads, its catalogue, its figures and its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, mpsc, oneshot};
use vigie_contract::{Catalogue, Span, VantageId};

use crate::check::{self, Attempt, CheckError, Finding, Trace};
use crate::clock::{Clock, duration, now, span, wall_now};
use crate::deliver::{Delivery, MOST_UNSPOOLED};
use crate::icmp::{self, Pinger};
use crate::limits::SHORTEST_PERIOD;
use crate::net::{self, Net, Source};
use crate::resolve::Resolver;
use crate::sink::{Acknowledged, Sink};
use crate::spool::{Spool, SpoolError};
use crate::stamp::Prefix;
use crate::stamp::reflector::Reflectors;
use crate::station::{Command, Station, Unmeasurable};
use crate::stats::Stats;
use crate::{canary, memory, metric, random};

/// How long a stopping probe tries to deliver what it still has; the rest waits in the spool.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long it waits for the log's time before it measures without.
const GREETING: Duration = Duration::from_secs(2);

/// What a probe is told when it starts.
pub struct Settings {
    /// Where it stands.
    pub vantage: VantageId,
    /// The addresses that it measures from.
    pub source: Source,
    /// The directory of its spool.
    pub spool: PathBuf,
    /// The spool's bound.
    pub spool_bytes: u64,
    /// Whose test packets it answers.
    pub reflect: Reflect,
}

/// The STAMP reflector of a probe, with its echo over TCP: none without an address.
#[derive(Clone, Debug, Default)]
pub struct Reflect {
    /// Where it listens: RFC 8762 gives it UDP port 862, and the echo takes the same port of TCP.
    pub addresses: Vec<SocketAddr>,
    /// Whom it answers; nobody else.
    pub peers: Vec<Prefix>,
}

/// Why a probe does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] CheckError),
    /// No reflector.
    #[error("cannot reflect test packets at {0}: {1}")]
    Reflector(SocketAddr, #[source] std::io::Error),
    /// The system refuses a thread, a socket or its random numbers.
    #[error("the system refuses what a probe needs: {0}")]
    System(#[from] std::io::Error),
}

/// Why a catalogue is not measured by.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// These checks cannot be made; nothing has changed.
    #[error("{} of the targets cannot be measured", .0.len())]
    Unmeasurable(Vec<Unmeasurable>),
    /// The probe has stopped.
    #[error("the probe has stopped")]
    Stopped,
}

/// Who tells the time, and to which clock.
type Greeting = (Arc<dyn Sink>, Arc<Clock>);

/// A probe that runs.
pub struct Probe {
    vantage: VantageId,
    stats: Stats,
    commands: mpsc::Sender<Command>,
    adopted: Arc<Notify>,
    /// Whom to ask for the log's time before the first sample; nobody after that.
    greeting: Mutex<Option<Greeting>>,
    lanes: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    reflectors: Reflectors,
}

impl Probe {
    /// Starts the threads: one schedules and checks, one writes the spool, one delivers. It neither measures nor delivers before a
    /// catalogue is adopted.
    pub fn start(settings: Settings, sink: Arc<dyn Sink>) -> Result<Self, StartError> {
        let stats = Stats::default();
        let clock = Arc::new(Clock::new());
        let delivery = Delivery::new(Spool::open(&settings.spool, settings.vantage.as_str(), settings.spool_bytes)?, stats.clone());
        stats.lock().spool_limit_bytes = settings.spool_bytes;
        let run = random::run_id()?;
        let canary = canary::start()?;
        let (made, unspooled) = sync_channel(MOST_UNSPOOLED);
        let (commands, told) = mpsc::channel(4);
        let (lanes, lanes_end) = oneshot::channel();
        let adopted = Arc::new(Notify::new());
        let mut threads = Vec::new();
        let reflectors = start_reflectors(&settings.reflect, &clock, &stats)?;

        let writer = Arc::clone(&delivery);
        threads.push(std::thread::Builder::new().name("vigie-spool".into()).spawn(move || writer.write(&unspooled))?);

        let greeting = Mutex::new(Some((Arc::clone(&sink), Arc::clone(&clock))));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (deliverer, delivery_clock, has_adopted) = (Arc::clone(&delivery), Arc::clone(&clock), Arc::clone(&adopted));
        threads.push(std::thread::Builder::new().name("vigie-deliver".into()).spawn(move || {
            runtime.block_on(async {
                let lanes = async {
                    // What an earlier process spooled is of use to the log only once the log has the catalogue.
                    has_adopted.notified().await;
                    tokio::join!(deliverer.deliver_live(&*sink, &delivery_clock), deliverer.deliver_backlog(&*sink, &delivery_clock))
                };
                tokio::select! {
                    _ = lanes => {}
                    _ = lanes_end => {}
                }
            });
        })?);

        let (vantage, figures) = (settings.vantage.clone(), stats.clone());
        let (source, public_roots) = (settings.source, net::trust(None)?);
        let (started, has_started) = sync_channel(1);
        threads.push(std::thread::Builder::new().name("vigie-probe".into()).spawn(move || {
            // Not a `LocalSet` in a runtime: that writes to a descriptor at every wake-up, its own too.
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = match built {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            runtime.block_on(async {
                let pinger = start_pinger(source, &figures);
                let net = Net::new(source, Resolver::of_system(), pinger, public_roots);
                let station = Rc::new(Station::new(vantage, run, net, clock, figures.clone(), made));
                let listener = Rc::clone(&station);
                tokio::task::spawn_local(async move { listen_to_oneself(listener.net(), canary, &figures).await });
                // A task, too: the future that a runtime blocks on costs a write to a descriptor each time that it is woken.
                let _ = tokio::task::spawn_local(station.run(told)).await;
            });
        })?);
        has_started.recv().unwrap_or_else(|_| Err(std::io::Error::other("the probe's thread has ended")))?;
        Ok(Self { vantage: settings.vantage, stats, commands, adopted, greeting, lanes: Some(lanes), threads, reflectors })
    }

    /// Makes the checks of `catalogue` and changes nothing: whether they can be made is known before others rely on it. They are kept
    /// for [`Probe::adopt`].
    pub async fn prepare(&self, catalogue: Arc<Catalogue>) -> Result<(), AdoptError> {
        self.ask(|answer| Command::Prepare(catalogue, answer)).await?.map_err(AdoptError::Unmeasurable)
    }

    /// Measures by `catalogue` from now on; returns how many targets that are. If any of them cannot be measured nothing changes.
    /// What does not change keeps its phase, its counts and what is in flight.
    pub async fn adopt(&self, catalogue: Arc<Catalogue>) -> Result<usize, AdoptError> {
        self.greet().await;
        let said = self.ask(|answer| Command::Adopt(catalogue, answer)).await?;
        memory::release_unused();
        match said {
            Ok(targets) => {
                self.adopted.notify_one();
                Ok(targets)
            }
            Err(problems) => {
                self.note_refused_reload();
                Err(AdoptError::Unmeasurable(problems))
            }
        }
    }

    /// Whether the schedule runs. Ends when it answers, at once unless it hangs: for a watchdog.
    pub async fn is_alive(&self) -> bool {
        self.ask(Command::Answer).await.is_ok()
    }

    /// Compares the clocks before the first sample: one that is made with a clock an hour slow looks like evidence of an hour ago. A log
    /// that does not answer at once is no reason not to measure: then the first acknowledgement tells.
    async fn greet(&self) {
        let greeting = self.greeting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((sink, clock)) = greeting else { return };
        let sent = now();
        match tokio::time::timeout(GREETING, sink.deliver(&[])).await {
            Ok(Ok(Acknowledged { appended_at: Some(appended_at), .. })) => clock.compare(sent, now(), appended_at),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the log does not say its time"),
            Err(_) => tracing::warn!("the log does not say its time at once"),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, AdoptError> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| AdoptError::Stopped)?;
        answered.await.map_err(|_| AdoptError::Stopped)
    }

    /// Counts a catalogue that was refused before it came to be adopted.
    pub fn note_refused_reload(&self) {
        self.stats.lock().reloads_refused += 1;
    }

    /// The figures, for [`ProbeView`].
    #[must_use]
    pub fn view(&self) -> ProbeView {
        ProbeView { vantage: self.vantage.clone(), stats: self.stats.clone() }
    }

    /// Stops: nothing begins any more, what is in flight becomes `void`, everything is spooled, and what can be delivered at once is.
    pub async fn stop(mut self) {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Stop(answer)).await.is_ok() {
            let _ = answered.await;
        }
        let until = now() + FAREWELL;
        while now() < until && !self.view().is_drained() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let lost = self.stats.lock().in_memory;
        if lost > 0 {
            tracing::error!(samples = lost, "neither the disk nor the log has taken these: they are lost");
        }
        drop(self.lanes.take());
        let (threads, reflectors) = (std::mem::take(&mut self.threads), std::mem::take(&mut self.reflectors));
        let end = move || {
            drop(reflectors);
            threads.into_iter().for_each(|thread| drop(thread.join()));
        };
        let _ = tokio::task::spawn_blocking(end).await;
    }
}

/// What a probe says about itself.
#[derive(Clone)]
pub struct ProbeView {
    vantage: VantageId,
    stats: Stats,
}

impl ProbeView {
    /// The text of `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> String {
        metric::expose(&self.stats.lock(), self.vantage.as_str(), now())
    }

    /// Whether it does what it is for; otherwise why not: no catalogue, or samples that do not get away.
    pub fn readiness(&self) -> Result<(), String> {
        let figures = self.stats.lock();
        if figures.assigned == 0 {
            return Err("no target is assigned to this vantage".to_owned());
        }
        if figures.last_delivery_failed {
            return Err(format!("the log does not take the samples; {} wait in the spool", figures.spooled));
        }
        Ok(())
    }

    /// (slots due, samples made, delivered, spooled, dropped).
    #[must_use]
    pub fn counts(&self) -> [u64; 5] {
        let figures = self.stats.lock();
        [figures.slots_due, figures.made, figures.delivered, figures.spooled, figures.dropped]
    }

    /// How echoes are sent, or which privilege is missing for them; `None` before the start.
    #[must_use]
    pub fn icmp_mode(&self) -> Option<Result<&'static str, String>> {
        self.stats.lock().icmp_mode.clone()
    }

    fn is_drained(&self) -> bool {
        let figures = self.stats.lock();
        figures.spooled == 0 && figures.made == figures.slots_due
    }
}

/// The echo engine, or why there is none; the figures say the same.
fn start_pinger(source: Source, stats: &Stats) -> Result<Pinger, String> {
    let pinger = Pinger::start(source).map_err(|error| error.to_string());
    let mode = pinger.as_ref().map_err(Clone::clone).map(|pinger| pinger.v4().or(pinger.v6()).map_or("unavailable", icmp::Mode::as_str));
    stats.lock().icmp_mode = Some(mode);
    pinger
}

/// The reflectors, one at each address.
fn start_reflectors(reflect: &Reflect, clock: &Arc<Clock>, stats: &Stats) -> Result<Reflectors, StartError> {
    let mut reflectors = Reflectors::default();
    let counts = Arc::clone(&stats.lock().reflected);
    for address in &reflect.addresses {
        let started = reflectors.start(*address, &reflect.peers, Arc::clone(clock), Arc::clone(&counts));
        started.map_err(|error| StartError::Reflector(*address, error))?;
    }
    Ok(reflectors)
}

/// Measures the loopback canary once a second, as a target is measured.
async fn listen_to_oneself(net: &Net, canary: SocketAddr, stats: &Stats) {
    let Ok(check) = check::build(&serde_json::json!({"kind": "http", "url": format!("http://{canary}/"), "body": "ok"}), net) else {
        return;
    };
    loop {
        tokio::time::sleep(duration(SHORTEST_PERIOD)).await;
        let began = now();
        let deadline = began + duration(SHORTEST_PERIOD);
        let mut trace = Trace::new(began);
        let (target, vantage, is_retry, clock_error) = ("canary", "", false, Span::ZERO);
        let attempt = Attempt { net, id: "canary", target, vantage, is_retry, wall: wall_now(), deadline, clock_error };
        let answer = tokio::time::timeout_at(deadline.into(), check.attempt(&attempt, &mut trace)).await;
        // A canary that does not answer at all is noise as long as its patience.
        let took = if answer == Ok(Finding::Ok) { now() } else { deadline.max(now()) };
        let icmp = net.pinger.as_ref().map(Pinger::counts).unwrap_or_default();
        let mut figures = stats.lock();
        figures.noise.add(span(took.saturating_duration_since(began)));
        figures.icmp = icmp;
        figures.api = net.sessions.counts();
        figures.api_token_left = net.sessions.token_left();
    }
}
