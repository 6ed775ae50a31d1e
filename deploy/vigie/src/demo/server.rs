//! `vigie demo-server`: one real server of the demo's region, as a process of its own, so that it can really stop, hang or slow down.
//!
//! It is told what to do in lines on standard input, and answers each with the instant before the change took effect, in microseconds:
//! the truth that the demo's verdict compares with. It ends when standard input does.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType, rdata};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use vigie_aggregator::clock::wall_now;

use crate::shell::{self, Failure};

/// What is said in the zone's name by its responder.
pub(super) const ZONE_GREETING: &str = "zone ready";
/// What a canary machine says.
pub(super) const VM_GREETING: &str = "heartbeat";
/// The name that the region's name server knows.
pub(super) const KNOWN_NAME: &str = "www.demo.test";
/// A connection that is left to hang is closed after this.
const HANG: Duration = Duration::from_secs(60);
/// How large the storage canary's block is.
const BLOCK_BYTES: usize = 4_096;

/// A server of the demo's region
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What it serves
    kind: Kind,
    /// Where; port 0 for any free one
    #[arg(long)]
    listen: SocketAddr,
    /// Where its files lie: certificate, key, the storage canary's block
    #[arg(long)]
    dir: PathBuf,
}

/// What a server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(super) enum Kind {
    /// A zone's responder: its anchor.
    Zone,
    /// A canary machine's heartbeat.
    Vm,
    /// Writes, syncs and reads back a block at each request.
    Storage,
    /// The state of the last backup.
    Backup,
    /// The console's login page, over TLS.
    Console,
    /// The orchestration API.
    Api,
    /// An object.
    S3,
    /// A page.
    Web,
    /// A name server.
    Dns,
}

/// How a server behaves now.
#[derive(Debug, Default)]
struct Behaviour {
    /// Takes requests and never answers.
    hangs: bool,
    /// Answers this much later than it could.
    delay: Duration,
    /// Refuses with 429.
    throttles: bool,
    /// Addresses whose packets do not arrive.
    cut: HashSet<IpAddr>,
}

type Shared = Arc<Mutex<Behaviour>>;

fn lock(behaviour: &Shared) -> MutexGuard<'_, Behaviour> {
    behaviour.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a server can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Answer nobody.
    Hang,
    /// Answer so many milliseconds late.
    Slow(u64),
    /// Refuse with 429.
    Throttle,
    /// Nothing from this address arrives any more.
    Cut(IpAddr),
    /// Packets from this address arrive again.
    Mend(IpAddr),
    /// Answer as at the start.
    Heal,
}

impl Order {
    /// As a line of standard input.
    pub(super) fn line(self) -> String {
        match self {
            Self::Hang => "hang".to_owned(),
            Self::Slow(ms) => format!("slow {ms}"),
            Self::Throttle => "throttle".to_owned(),
            Self::Cut(ip) => format!("cut {ip}"),
            Self::Mend(ip) => format!("mend {ip}"),
            Self::Heal => "heal".to_owned(),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "hang" => Some(Self::Hang),
            "slow" => rest.parse().ok().map(Self::Slow),
            "throttle" => Some(Self::Throttle),
            "cut" => rest.parse().ok().map(Self::Cut),
            "mend" => rest.parse().ok().map(Self::Mend),
            "heal" => Some(Self::Heal),
            _ => None,
        }
    }
}

impl Behaviour {
    fn obey(&mut self, order: Order) {
        match order {
            Order::Hang => self.hangs = true,
            Order::Slow(ms) => self.delay = Duration::from_millis(ms),
            Order::Throttle => self.throttles = true,
            Order::Cut(ip) => drop(self.cut.insert(ip)),
            Order::Mend(ip) => drop(self.cut.remove(&ip)),
            Order::Heal => *self = Self { cut: std::mem::take(&mut self.cut), ..Self::default() },
        }
    }

    fn ignores(&self, peer: IpAddr) -> bool {
        self.hangs || self.cut.contains(&peer)
    }
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    let behaviour = Shared::default();
    shell::die_with_parent();
    shell::run(async {
        let orders = Arc::clone(&behaviour);
        // Before the port opens: whoever connects does so later.
        let began = wall_now();
        let door = Door::open(args).await?;
        say(&format!("{} {}", began.us(), door.address()?))?;
        let (end, ended) = tokio::sync::oneshot::channel();
        // A read of standard input cannot be cancelled: it has a thread of its own, which ends with the process.
        std::thread::spawn(move || {
            let _ = take_orders(&orders);
            let _ = end.send(());
        });
        tokio::select! {
            served = door.serve(args.kind, &args.dir, behaviour) => served,
            _ = ended => Ok(()),
        }
    })
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn take_orders(behaviour: &Shared) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let Some(order) = Order::read(line?.trim()) else { continue };
        let mut behaviour = lock(behaviour);
        let at = wall_now();
        behaviour.obey(order);
        drop(behaviour);
        say(&at.us().to_string())?;
    }
    Ok(())
}

/// Where requests come in.
enum Door {
    Stream(TcpListener),
    Datagram(UdpSocket),
}

impl Door {
    async fn open(args: &Args) -> Result<Self, Failure> {
        let opened = match args.kind {
            Kind::Dns => UdpSocket::bind(args.listen).await.map(Self::Datagram),
            _ => TcpListener::bind(args.listen).await.map(Self::Stream),
        };
        opened.map_err(|error| Failure::new(format!("cannot listen on {}: {error}", args.listen)))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Stream(listener) => listener.local_addr(),
            Self::Datagram(socket) => socket.local_addr(),
        }
    }

    async fn serve(self, kind: Kind, dir: &Path, behaviour: Shared) -> Result<(), Failure> {
        let listener = match self {
            Self::Datagram(socket) => return answer_questions(&socket, &behaviour).await,
            Self::Stream(listener) => listener,
        };
        let tls = if kind == Kind::Console { Some(acceptor(dir)?) } else { None };
        let dir: Arc<Path> = dir.into();
        loop {
            let (stream, peer) = listener.accept().await?;
            let (behaviour, tls, dir) = (Arc::clone(&behaviour), tls.clone(), Arc::clone(&dir));
            tokio::spawn(async move {
                // A peer that went away is none of our business.
                let _ = receive(kind, stream, peer.ip(), tls, &behaviour, &dir).await;
            });
        }
    }
}

async fn receive(
    kind: Kind,
    mut stream: TcpStream,
    peer: IpAddr,
    tls: Option<TlsAcceptor>,
    behaviour: &Shared,
    dir: &Path,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if lock(behaviour).ignores(peer) {
        tokio::time::sleep(HANG).await;
        return Ok(());
    }
    match (kind, tls) {
        (Kind::Zone, _) => stream.write_all(format!("{ZONE_GREETING}\n").as_bytes()).await,
        (Kind::Vm, _) => stream.write_all(format!("{VM_GREETING} {}\n", wall_now().us()).as_bytes()).await,
        (_, None) => converse(kind, stream, peer, behaviour, dir).await,
        (_, Some(tls)) => converse(kind, tls.accept(stream).await?, peer, behaviour, dir).await,
    }
}

async fn converse(kind: Kind, stream: impl AsyncRead + AsyncWrite + Unpin, peer: IpAddr, behaviour: &Shared, dir: &Path) -> io::Result<()> {
    let answer = |_: Request<hyper::body::Incoming>| async {
        let (ignores, delay, throttles) = {
            let behaviour = lock(behaviour);
            (behaviour.ignores(peer), behaviour.delay, behaviour.throttles)
        };
        if ignores {
            tokio::time::sleep(HANG).await;
        }
        tokio::time::sleep(delay).await;
        let response = if throttles { refuse() } else { answer(kind, dir).await };
        Ok::<_, Infallible>(response)
    };
    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await.map_err(io::Error::other)
}

fn refuse() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from("{\"error\":\"too many requests\"}"));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert("retry-after", hyper::header::HeaderValue::from_static("5"));
    response
}

async fn answer(kind: Kind, dir: &Path) -> Response<Full<Bytes>> {
    let (media, body) = match kind {
        Kind::Storage => ("text/plain", storage_canary(dir).await),
        Kind::Backup => ("application/json", "{\"job\":\"nightly\",\"status\":\"success\",\"age_s\":3600}".into()),
        Kind::Console => ("text/html; charset=utf-8", "<!doctype html><title>Console</title><form>Connexion à la console</form>".into()),
        Kind::Api => ("application/json", "{\"state\":\"available\"}".into()),
        Kind::S3 => ("application/octet-stream", "o".repeat(1_024)),
        Kind::Web | Kind::Zone | Kind::Vm | Kind::Dns => ("text/html; charset=utf-8", "<!doctype html><title>Demo</title>It works".into()),
    };
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(media));
    response
}

/// Writes a block, syncs it, reads it back and compares: what it finds, in a word.
async fn storage_canary(dir: &Path) -> String {
    let path = dir.join("block");
    let written = tokio::task::spawn_blocking(move || {
        let block = vec![(wall_now().us() % 251) as u8; BLOCK_BYTES];
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&block)?;
        file.sync_data()?;
        Ok::<_, io::Error>(std::fs::read(&path)? == block)
    });
    match written.await {
        Ok(Ok(true)) => "verified\n".to_owned(),
        Ok(Ok(false)) => "corrupt\n".to_owned(),
        Ok(Err(error)) => format!("failed: {error}\n"),
        Err(error) => format!("failed: {error}\n"),
    }
}

async fn answer_questions(socket: &UdpSocket, behaviour: &Shared) -> Result<(), Failure> {
    let mut buffer = [0; 1_232];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        if lock(behaviour).ignores(peer.ip()) {
            continue;
        }
        if let Some(answer) = resolve(&buffer[..length]) {
            socket.send_to(&answer, peer).await?;
        }
    }
}

/// The answer to a question: one address for the one name it knows.
fn resolve(question: &[u8]) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(question).ok()?;
    message.metadata.message_type = MessageType::Response;
    let query = message.queries.first()?.clone();
    let is_known = query.name().to_ascii().trim_end_matches('.').eq_ignore_ascii_case(KNOWN_NAME);
    match (is_known, query.query_type()) {
        (true, RecordType::A) => {
            let address = RData::A(rdata::A(Ipv4Addr::LOCALHOST));
            message.add_answer(Record::from_rdata(query.name().clone(), 60, address));
        }
        (true, _) => {}
        (false, _) => message.metadata.response_code = ResponseCode::NXDomain,
    }
    message.to_vec().ok()
}

fn acceptor(dir: &Path) -> Result<TlsAcceptor, Failure> {
    let certificate = CertificateDer::from_pem_file(dir.join("console.pem"))?;
    let key = PrivateKeyDer::from_pem_file(dir.join("console.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        let zone = "127.0.6.1".parse().unwrap();
        let all = [Order::Hang, Order::Slow(250), Order::Throttle, Order::Cut(zone), Order::Mend(zone), Order::Heal];
        assert!(all.iter().all(|order| Order::read(&order.line()) == Some(*order)));
        assert_eq!(Order::read("dance"), None);
    }

    #[test]
    fn healing_is_one_thing_and_mending_a_cut_another() {
        let mut behaviour = Behaviour::default();
        let peer = "127.0.6.1".parse().unwrap();
        behaviour.obey(Order::Cut(peer));
        behaviour.obey(Order::Throttle);
        assert!(behaviour.ignores(peer) && !behaviour.ignores("127.0.5.1".parse().unwrap()));
        behaviour.obey(Order::Heal);
        assert!(behaviour.ignores(peer) && !behaviour.throttles);
        behaviour.obey(Order::Mend(peer));
        assert!(!behaviour.ignores(peer));
    }
}
