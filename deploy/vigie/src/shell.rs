//! What the programs that run have in common: a runtime, a log, an end, and a port to listen on.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::manager;

/// Where a program answers unless it is told otherwise.
pub(crate) const USUAL_ADDRESS: &str = "127.0.0.1:8420";
/// So many connections are served at a time, half of the descriptors that a process usually has; others wait.
const MOST_CONNECTIONS: usize = 512;
/// The head of a request must have come by then, and an idle connection is closed.
const SLOWEST_HEAD: Duration = Duration::from_secs(30);
/// A pause when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Once it was told to stop, a program waits so long for what is under way.
pub(crate) const FAREWELL: Duration = Duration::from_secs(3);

/// Why a program does not start or cannot go on: one line for people, and how to mend it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(vigie_aggregator::live::source_chain(&error))
    }
}

/// Options of the programs that have a page.
#[derive(clap::Args, Clone)]
pub(crate) struct Serving {
    /// Address of the page, the API and the metrics
    #[arg(long, value_name = "ADDRESS", default_value = USUAL_ADDRESS)]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) ending: Ending,
}

/// Options of every program that runs until it is told to stop.
#[derive(clap::Args, Clone)]
pub(crate) struct Ending {
    /// Stop when standard input ends: for a program that another one starts
    #[arg(long, hide = true)]
    pub(crate) stop_on_eof: bool,
}

/// Runs a program to its end: its exit status, and on standard error why it failed.
pub(crate) fn run(program: impl Future<Output = Result<(), Failure>>) -> io::Result<ExitCode> {
    run_with(LevelFilter::INFO, program)
}

/// The same for a program that talks to a person: only what is wrong is logged.
pub(crate) fn run_quietly(program: impl Future<Output = Result<(), Failure>>) -> io::Result<ExitCode> {
    run_with(LevelFilter::WARN, program)
}

fn run_with(level: LevelFilter, program: impl Future<Output = Result<(), Failure>>) -> io::Result<ExitCode> {
    let filter = Targets::new().with_default(level);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(false);
    // Set already only in tests that run programs in one process.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(program);
    // A call of the system that does not come back, of a disk that hangs, does not keep us.
    runtime.shutdown_timeout(FAREWELL);
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => {
            writeln!(io::stderr(), "error: {failure}")?;
            Ok(ExitCode::from(2))
        }
    }
}

/// Becomes true when the program is asked to end.
pub(crate) fn stop_signal(stop_on_eof: bool) -> Result<watch::Receiver<bool>, Failure> {
    let (stop, stopped) = watch::channel(false);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    if stop_on_eof {
        die_with_parent();
        let stop = stop.clone();
        // A read of standard input cannot be cancelled: it has a thread of its own, which ends with the process.
        std::thread::spawn(move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            stop.send_replace(true);
        });
    }
    tokio::spawn(async move {
        let mut signalled = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        signalled().await;
        manager::tell(manager::STOPPING);
        stop.send_replace(true);
        // Whoever asks twice does not want to wait: what is durable is so already.
        signalled().await;
        std::process::exit(1);
    });
    Ok(stopped)
}

/// Does not outlive the program that started this one, even while it is stopped by a signal.
pub(crate) fn die_with_parent() {
    // Where the system cannot promise it, the end of standard input is the sign.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
}

/// Waits until `stop` is true.
pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody can stop us any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Answers requests with `router` until `stop` is true; then those under way have a little time to end.
///
/// Nobody holds us up: a head must come in time, idle connections are closed, and there are never more than [`MOST_CONNECTIONS`].
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) -> Result<(), Failure> {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SLOWEST_HEAD);
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accept => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopped(stop.clone()) => break,
        };
        let Ok((stream, _)) = accepted else {
            // No descriptors are left, perhaps: some will be when a connection ends.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let stop = stop.clone();
        connections.spawn(async move {
            let _place = place;
            let mut connection = pin!(connection);
            tokio::select! {
                // What went wrong on a connection is its other end's business.
                _ = &mut connection => return,
                () = stopped(stop) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    let _ = tokio::time::timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Takes the port, or says how to choose another.
pub(crate) async fn listen(serving: &Serving) -> Result<TcpListener, Failure> {
    listen_on(serving.listen).await
}

/// The same for an address.
pub(crate) async fn listen_on(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::new(format!("cannot listen on {address}: {error}; give --listen another address, such as 127.0.0.1:0")))
}
