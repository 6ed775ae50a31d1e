//! The provider's control API for OpenIaaS: the routes, shapes, limits and traps that its documentation and its own client show.
//!
//! A request is met in this order: a fault that is switched on for it; the limits on rate (429); the token (401); the route (404); a list
//! without `machineManagerId` (500, as the real one answers). Lists are bare arrays in camelCase, without pages. Time is the caller's.

mod answer;
mod fault;
mod limit;
mod token;
mod world;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use fault::{Fault, Scope};
pub use token::{TOKEN_ID, TOKEN_SECRET};
pub use world::{Route, World};

use limit::Limits;
use token::Tokens;

/// So many requests are remembered; the oldest are forgotten.
const MOST_HEARD: usize = 10_000;

/// Tells microseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The API, served at an address of its own until it is dropped.
pub struct OpenIaas {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: Option<JoinHandle<()>>,
}

/// One request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When, in microseconds since the Unix epoch by the API's clock.
    pub at_us: i64,
    /// From where.
    pub source: IpAddr,
    /// `GET /api/compute/v1/open_iaas/hosts?machineManagerId=…`.
    pub line: String,
    /// What it called itself.
    pub user_agent: String,
    /// What it was answered; none if it was left waiting or cut off.
    pub status: Option<u16>,
}

struct State {
    clock: Clock,
    world: World,
    limits: Limits,
    tokens: Tokens,
    faults: Vec<(Scope, Fault)>,
    heard: VecDeque<Heard>,
}

impl OpenIaas {
    /// Serves a region of three zones at `address`; port 0 takes any that is free.
    pub async fn start(address: SocketAddr, clock: Clock) -> io::Result<Self> {
        let world = World::of_region(clock());
        let state =
            State { clock, world, limits: Limits::default(), tokens: Tokens::default(), faults: Vec::new(), heard: VecDeque::new() };
        let mut api = Self { address, state: Arc::new(Mutex::new(state)), serving: None };
        api.come_up().await?;
        Ok(api)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is: `http://127.0.0.1:…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Listens again, at the same address.
    pub async fn come_up(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.serving = Some(tokio::spawn(serve(listener, Arc::clone(&self.state))));
        Ok(())
    }

    /// Listens no more: connections are refused once this returns, and those that stand are cut.
    pub async fn go_down(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// From now on, whatever `scope` names meets `fault`. Of several faults for a request, the one switched on last.
    pub fn switch_on(&self, scope: Scope, fault: Fault) {
        lock(&self.state).faults.push((scope, fault));
    }

    /// No fault any more.
    pub fn heal(&self) {
        lock(&self.state).faults.clear();
    }

    /// Changes what there is.
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut lock(&self.state).world);
    }

    /// Tokens that are given from now on live so long; 300 s is what the documentation says.
    pub fn set_token_life(&self, seconds: i64) {
        lock(&self.state).tokens.life_s = seconds;
    }

    /// So long is the second in which requests are counted for the limits: for a region in which all is quicker than in life; 0 for none.
    pub fn set_limit_second_us(&self, second_us: i64) {
        lock(&self.state).limits.second_us = second_us;
    }

    /// The requests since the start, or since this was last asked.
    #[must_use]
    pub fn take_heard(&self) -> Vec<Heard> {
        lock(&self.state).heard.drain(..).collect()
    }
}

impl Drop for OpenIaas {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections live no longer than this future.
async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer::answer(Arc::clone(&state), peer.ip(), request));
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl State {
    fn note(&mut self, heard: Heard) {
        if self.heard.len() == MOST_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back(heard);
    }
}
