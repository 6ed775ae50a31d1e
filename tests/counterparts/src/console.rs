//! A web console: a login form with a token against forged requests, a session by cookie, redirections, and pages behind the login.
//!
//! | request | answer |
//! |---|---|
//! | `GET /login` | the form, with its token, for a visitor that a cookie names |
//! | `POST /login` | 303 to `/home` and a session, for the right user, password, token and visitor; the form again for a wrong password; 400 for a forged token |
//! | `GET /home` | 302 to `/account` |
//! | `GET /account`, `/profile` | a page that a user sees, or 303 to `/login` without a session |

mod answer;
mod fault;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::identity::Identity;
pub use fault::{Door, Fault, Scope};

/// Who may log in.
pub const USER: &str = "canary";
/// With this, which a form has to encode.
pub const PASSWORD: &str = "p&ss=w%rd +1";
/// In the page with the form.
pub const FORM_MARKER: &str = "<h1>Sign in</h1>";
/// In the page behind it.
pub const MARKER: &str = "<h1>Dashboard</h1>";
/// In the form, where an account is locked.
pub const LOCKED_MARKER: &str = "account is locked";

/// So many requests are remembered; the oldest are forgotten.
const MOST_HEARD: usize = 10_000;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /login`.
    Form,
    /// `POST /login`.
    Login,
    /// `GET /home`.
    Home,
    /// `GET /account`.
    Account,
    /// `GET /profile`.
    Profile,
}

/// One request that came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// `GET /login`.
    pub line: String,
    /// What was posted, decoded.
    pub form: Vec<(String, String)>,
    /// All of them.
    pub headers: HeaderMap,
}

impl Heard {
    /// The header of this name, empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A console, served until it is dropped.
pub struct Console {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<Mutex<State>>,
    count: watch::Receiver<usize>,
    serving: Option<JoinHandle<()>>,
}

struct State {
    faults: Vec<(Scope, Fault)>,
    door: Door,
    /// Counts visitors, sessions and tokens.
    numbers: u64,
    /// The token in each visitor's form.
    visitors: HashMap<String, String>,
    sessions: HashSet<String>,
    is_hanging: bool,
    heard: VecDeque<Heard>,
    count: watch::Sender<usize>,
}

impl Console {
    /// Serves one at `address`, port 0 for any that is free; with TLS if it has an identity.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub async fn start(address: SocketAddr, identity: Option<Identity>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (address, scheme) = (listener.local_addr()?, if identity.is_some() { "https" } else { "http" });
        let (sender, count) = watch::channel(0);
        let state = Arc::new(Mutex::new(State {
            faults: Vec::new(),
            door: Door::Open,
            numbers: 0,
            visitors: HashMap::new(),
            sessions: HashSet::new(),
            is_hanging: false,
            heard: VecDeque::new(),
            count: sender,
        }));
        let serving = Some(tokio::spawn(serve(listener, Arc::clone(&state), identity)));
        Ok(Self { address, scheme, state, count, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is: `http://127.0.0.1:…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Listens no more: connections are refused once this returns, and those that stand are cut.
    pub async fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// From now on, whatever `scope` names meets `fault`. Of several faults for a request, the one switched on last.
    pub fn switch_on(&self, scope: Scope, fault: Fault) {
        lock(&self.state).faults.push((scope, fault));
    }

    /// From now on, connections are met like this.
    pub fn set_door(&self, door: Door) {
        lock(&self.state).door = door;
    }

    /// No fault any more.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.faults.clear();
        (state.door, state.is_hanging) = (Door::Open, false);
    }

    /// The requests since the start, or since this was last asked.
    #[must_use]
    pub fn take_heard(&self) -> Vec<Heard> {
        lock(&self.state).heard.drain(..).collect()
    }

    /// Whether a request has been left without an answer since the last fault was healed.
    #[must_use]
    pub fn is_hanging(&self) -> bool {
        lock(&self.state).is_hanging
    }

    /// Waits until one request more than until now has come.
    pub fn hears(&self) -> impl Future<Output = ()> + use<> {
        let mut count = self.count.clone();
        count.mark_unchanged();
        async move {
            let _ = count.changed().await;
        }
    }
}

impl Drop for Console {
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
async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, identity: Option<Identity>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(meet(stream, Arc::clone(&state), identity.clone()));
    }
}

async fn meet(mut stream: TcpStream, state: Arc<Mutex<State>>, identity: Option<Identity>) {
    let door = lock(&state).door;
    match (door, identity) {
        // What has come and is not read makes the end of the connection a reset.
        (Door::Cut, _) => drop(stream.readable().await),
        (Door::Babble, _) => {
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(b"220 mail.test ESMTP\r\n").await;
        }
        (Door::Open, None) => answer(stream, state).await,
        (Door::Open, Some(identity)) => {
            if let Ok(stream) = identity.acceptor().accept(stream).await {
                answer(stream, state).await;
            }
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request| answer::answer(Arc::clone(&state), request));
    // A client that goes away is no fault of ours.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl State {
    fn note(&mut self, heard: Heard) {
        if self.heard.len() == MOST_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back(heard);
        self.count.send_modify(|count| *count += 1);
    }

    /// A word that was never given before.
    fn number(&mut self, what: &str) -> String {
        self.numbers += 1;
        format!("{what}{}", self.numbers)
    }
}
