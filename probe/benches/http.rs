//! What an HTTP check costs, beside a bare client that does only what cannot be left out, and beside Debian's blackbox exporter.
//!
//! Every figure is measured in a process of its own: `cargo bench -p vigie-probe --bench http` starts this program again as server, as
//! floor and as probe. Figures are printed; nothing is asserted, since machines differ. `blackbox` needs `prometheus-blackbox-exporter`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs, reason = "a benchmark may panic, and prints")]
#![allow(clippy::disallowed_methods, reason = "a benchmark needs a clock")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vigie_contract::catalogue::{Catalogue, Strictness};
use vigie_contract::{Time, VantageId};
use vigie_probe::{Acknowledged, Probe, Reflect, Settings, Sink, SinkError, Source};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nalive";
const RATE: u64 = 1_000;
const LENGTH: Duration = Duration::from_secs(15);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0);
    match words.first().copied() {
        Some("serve") => serve(number(1), words.get(2) == Some(&"tls")),
        Some("floor") => floor(words[1].parse().unwrap()),
        Some("probe") => println!("{}", probe(words[1].parse().unwrap(), number(2), number(3), words[4])),
        Some("overload") => overload(),
        _ => report(),
    }
}

/// Everything, as a table.
fn report() {
    let server = Server::start(0, false);
    let floor = figure(&run_self(&["floor", &server.address.to_string()]), "cpu_us");
    let (targets, period) = (RATE * 5, 5);
    let text =
        |address: SocketAddr, scheme: &str| run_self(&["probe", &address.to_string(), &targets.to_string(), &period.to_string(), scheme]);
    let http = text(server.address, "http");
    println!("at {RATE} checks/s, one check of each target every {period} s:");
    println!("  floor (bare epoll client)   {floor:7.1} us of CPU per check");
    let cost = figure(&http, "cpu_us");
    println!("  vigie, HTTP                 {cost:7.1} us of CPU per check, {:.2} x floor", cost / floor);
    let rss = figure(&http, "rss_kb");
    println!(
        "  memory with {targets} targets  {:7.1} MB: 15 MB + {:.2} KB per target",
        rss / 1024.0,
        (rss - 15.0 * 1024.0) / targets as f64
    );
    if let Some(blackbox) = blackbox(server.address, "http") {
        println!("  blackbox_exporter, HTTP     {blackbox:7.1} us of CPU per check, {:.2} x floor", blackbox / floor);
    }
    let slow = Server::start(20, false);
    for (name, late) in [("vigie", text(slow.address, "http")), ("the floor", run_self(&["floor", &slow.address.to_string()]))] {
        let ms = |percentile| figure(&late, percentile) / 1e3;
        println!("  a truth of 20 ms, as seen by {name:9} {:7.2} ms p50, {:.2} ms p99", ms("p50_us"), ms("p99_us"));
    }
    let secure = Server::start(0, true);
    let https = figure(&text(secure.address, "https"), "cpu_us");
    println!("  vigie, HTTPS                {https:7.1} us of CPU per check");
    if let Some(blackbox) = blackbox(secure.address, "https") {
        println!("  blackbox_exporter, HTTPS    {blackbox:7.1} us of CPU per check; vigie {:.2} x that", https / blackbox);
    }
    print!("{}", run_self(&["overload"]));
}

fn run_self(args: &[&str]) -> String {
    let output = Command::new(std::env::current_exe().unwrap()).args(args).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The number after `name=` in what a child printed.
fn figure(text: &str, name: &str) -> f64 {
    let words = text.split_whitespace();
    words
        .filter_map(|word| word.split_once('='))
        .find(|(word, _)| *word == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(f64::NAN)
}

/// A server in a process of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(delay_ms: u64, tls: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["serve", &delay_ms.to_string(), if tls { "tls" } else { "plain" }]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn certificate_path() -> PathBuf {
    std::env::temp_dir().join("vigie-bench.pem")
}

fn serve(delay_ms: u64, tls: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let acceptor = tls.then(|| {
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(certificate_path(), signed.cert.pem()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
        let config = config.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    });
    runtime.block_on(async {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
        socket.listen(4_096).unwrap();
        let listener = tokio::net::TcpListener::from_std(socket.into()).unwrap();
        println!("127.0.0.1:{}", listener.local_addr().unwrap().port());
        std::io::stdout().flush().unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                match acceptor {
                    None => converse(stream, delay_ms).await,
                    Some(acceptor) => converse(acceptor.accept(stream).await?, delay_ms).await,
                }
            });
        }
    });
}

async fn converse(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, delay_ms: u64) -> std::io::Result<()> {
    let mut request = [0; 1_024];
    let _ = stream.read(&mut request).await?;
    if delay_ms > 0 {
        wait_exactly(Duration::from_millis(delay_ms)).await;
    }
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

/// By a timer of the kernel: the runtime's own counts whole milliseconds, and would be late by one.
async fn wait_exactly(length: Duration) {
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).unwrap();
    timer.set(Expiration::OneShot(length.into()), TimerSetTimeFlags::empty()).unwrap();
    #[expect(deprecated, reason = "what replaces it is unsafe; an owned descriptor keeps the promise that it asks for")]
    let timer = tokio::io::unix::AsyncFd::new(std::os::fd::OwnedFd::from(timer)).unwrap();
    let _ = timer.readable().await.unwrap();
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000);
    of(usage.user_time()) + of(usage.system_time())
}

/// Opens a connection, sends a GET, drops the answer: at the same rate, with as few calls as epoll allows.
fn floor(address: SocketAddr) {
    let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
    let mut sockets: Vec<Option<(Socket, Instant)>> = Vec::new();
    let mut latencies: Vec<u64> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = vec![EpollEvent::empty(); 256];
    let mut buffer = [std::mem::MaybeUninit::new(0_u8); 1_024];
    let (began, before) = (Instant::now(), cpu());
    let (mut sent, mut done) = (0_u64, 0_u64);
    while began.elapsed() < LENGTH {
        let due = began.elapsed().as_micros() as u64 * RATE / 1_000_000;
        while sent < due {
            let began = Instant::now();
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP)).unwrap();
            let _ = socket.connect(&spread(address, sent).into());
            let place = free.pop().unwrap_or_else(|| {
                sockets.push(None);
                sockets.len() - 1
            });
            epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT, place as u64)).unwrap();
            sockets[place] = Some((socket, began));
            sent += 1;
        }
        let count = epoll.wait(&mut events, EpollTimeout::from(1_u8)).unwrap();
        for event in &events[..count] {
            let place = event.data() as usize;
            let Some((socket, began)) = &sockets[place] else { continue };
            if event.events().contains(EpollFlags::EPOLLIN) {
                let _ = socket.recv(&mut buffer);
                latencies.push(began.elapsed().as_micros() as u64);
                sockets[place] = None;
                free.push(place);
                done += 1;
            } else {
                socket.send(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
                epoll.modify(socket, &mut EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, place as u64)).unwrap();
            }
        }
    }
    let spent = cpu().saturating_sub(before).as_micros() as f64 / done as f64;
    latencies.sort_unstable();
    println!("cpu_us={spent:.2} done={done} p50_us={} p99_us={}", percentile(&latencies, 50), percentile(&latencies, 99));
}

/// Of sorted figures.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(0)
}

/// Sixteen addresses of the loopback network, so that ports do not run out.
fn spread(address: SocketAddr, number: u64) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 0, 2, 1 + (number % 16) as u8).into(), address.port())
}

/// Takes everything, and keeps what was found.
#[derive(Default)]
struct Keep {
    ok: AtomicU64,
    fail: AtomicU64,
    void: AtomicU64,
    latencies: std::sync::Mutex<Vec<u64>>,
    newest: AtomicU64,
}

impl Sink for Keep {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> Pin<Box<dyn Future<Output = Result<Acknowledged, SinkError>> + Send + 'a>> {
        Box::pin(async move {
            if batch.is_empty() {
                return Err(SinkError::Unavailable("no clock but the probe's".to_owned()));
            }
            let number = |text: &str, name: &str| -> Option<u64> {
                let rest = &text[text.find(name)? + name.len()..];
                rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
            };
            let mut latencies = self.latencies.lock().unwrap();
            for record in batch {
                let text = std::str::from_utf8(record).unwrap();
                let count = if text.contains("\"outcome\":\"ok\"") {
                    &self.ok
                } else if text.contains("\"outcome\":\"fail\"") {
                    &self.fail
                } else {
                    &self.void
                };
                count.fetch_add(1, Ordering::Relaxed);
                latencies.extend(number(text, "\"latency_us\":"));
                self.newest.fetch_max(number(text, "\"t1\":").unwrap_or(0), Ordering::Relaxed);
            }
            Ok(Acknowledged { appended_at: Some(Time::from_us(self.newest.load(Ordering::Relaxed) as i64)), left: None })
        })
    }
}

impl Keep {
    fn counts(&self) -> [u64; 3] {
        [&self.ok, &self.fail, &self.void].map(|count| count.load(Ordering::Relaxed))
    }
}

fn catalogue(address: SocketAddr, targets: u64, period_s: u64, scheme: &str) -> Arc<Catalogue> {
    let mut text = "[[vantage]]\nid = \"v\"\nanchors = [\"t0\", \"t1\"]\n[[indicator]]\nid = \"I\"\nobjective = 99\n".to_owned();
    let ca = if scheme == "https" { format!(", ca = \"{}\"", certificate_path().display()) } else { String::new() };
    let needs: Vec<String> = (0..targets).map(|number| format!("\"t{number}\"")).collect();
    for number in 0..targets {
        let address = spread(address, number);
        let at = if scheme == "https" { format!("https://localhost/\", connect = \"{address}") } else { format!("http://{address}/") };
        let _ = write!(text, "[[target]]\nid = \"t{number}\"\nvantages = [\"v\"]\nperiod = \"{period_s}s\"\ntimeout = \"500ms\"\n");
        let _ = writeln!(text, "check = {{ kind = \"http\", url = \"{at}\", body = \"alive\"{ca} }}");
    }
    let _ = write!(
        text,
        "[[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = {{ all = [{}] }}\nsince = 2026-01-01T00:00:00Z\n",
        needs.join(", ")
    );
    Arc::new(Catalogue::read(&text, Strictness::Live).unwrap().0)
}

fn start(dir: &std::path::Path, sink: Arc<Keep>) -> Probe {
    let (vantage, source, reflect) = (VantageId::from("v"), Source::default(), Reflect::default());
    let settings = Settings { vantage, source, spool: dir.join("spool"), spool_bytes: 1 << 30, reflect };
    Probe::start(settings, sink).unwrap()
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
}

/// The whole probe: schedule, checks, spool and delivery.
fn probe(address: SocketAddr, targets: u64, period_s: u64, scheme: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sink = Arc::new(Keep::default());
    let probe = start(dir.path(), Arc::clone(&sink));
    runtime.block_on(probe.adopt(catalogue(address, targets, period_s, scheme))).unwrap();
    // A period to get going.
    std::thread::sleep(Duration::from_secs(period_s));
    let first = sink.counts();
    sink.latencies.lock().unwrap().clear();
    let before = cpu();
    std::thread::sleep(LENGTH);
    let spent = cpu().saturating_sub(before);
    let last = sink.counts();
    let made: u64 = last.iter().sum::<u64>() - first.iter().sum::<u64>();
    let mut latencies = std::mem::take(&mut *sink.latencies.lock().unwrap());
    let rss_kb = resident_kb() - (latencies.capacity() * 8 / 1024) as u64;
    latencies.sort_unstable();
    format!(
        "cpu_us={:.2} made={made} ok={} fail={} void={} first={} rss_kb={rss_kb} p50_us={} p99_us={}",
        spent.as_micros() as f64 / made as f64,
        last[0] - first[0],
        last[1] - first[1],
        last[2] - first[2],
        first[0],
        percentile(&latencies, 50),
        percentile(&latencies, 99)
    )
}

/// CPU of Debian's blackbox exporter per check, scraped at the same rate.
fn blackbox(address: SocketAddr, scheme: &str) -> Option<f64> {
    let dir = tempfile::tempdir().ok()?;
    let config = "modules:\n  m:\n    prober: http\n    timeout: 2s\n    http:\n      preferred_ip_protocol: ip4\n      tls_config:\n        insecure_skip_verify: true\n      fail_if_body_not_matches_regexp: [alive]\n";
    std::fs::write(dir.path().join("c.yml"), config).ok()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let config = format!("--config.file={}", dir.path().join("c.yml").display());
    let mut child =
        Command::new("prometheus-blackbox-exporter").args([&config, &listen]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    std::thread::sleep(Duration::from_secs(1));
    let ticks = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let words: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        words.get(11..13).map_or(0, |words| words.iter().filter_map(|word| word.parse::<u64>().ok()).sum())
    };
    let before = ticks(child.id());
    // As Prometheus does: few connections that stay open.
    let done = AtomicU64::new(0);
    let end = Instant::now() + LENGTH;
    std::thread::scope(|scope| {
        for worker in 0..16 {
            let done = &done;
            scope.spawn(move || {
                let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
                let mut next = Instant::now();
                let mut buffer = vec![0; 65_536];
                while Instant::now() < end {
                    next += Duration::from_micros(16 * 1_000_000 / (RATE / 2));
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    let target = spread(address, worker);
                    let path = format!("/probe?module=m&target={scheme}://{target}/");
                    if write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").is_err() || stream.read(&mut buffer).unwrap_or(0) == 0 {
                        return;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let spent = ticks(child.id()) - before;
    let _ = child.kill();
    let _ = child.wait();
    let done = done.load(Ordering::Relaxed);
    (done > 0).then(|| spent as f64 * 10_000.0 / done as f64)
}

/// DESIGN §5's three bounds, on one core: at 0.8 of what it can carry, at twice that, and when every target turns into a black hole.
fn overload() {
    let pid = Pid::this();
    let mut one = nix::sched::CpuSet::new();
    one.set(0).unwrap();
    nix::sched::sched_setaffinity(pid, &one).unwrap();
    let server = Server::start(0, false);
    let mut other = nix::sched::CpuSet::new();
    other.set(1).unwrap();
    nix::sched::sched_setaffinity(Pid::from_raw(server.child.id() as i32), &other).unwrap();
    let cost = figure(&run_self(&["probe", &server.address.to_string(), "5000", "5", "http"]), "cpu_us");
    let capacity = (1e6 / cost) as u64;
    println!("on one core, which carries {capacity} checks/s by their cost:");
    for (name, share) in [("0.8 of its load", 0.8), ("twice its load", 2.0)] {
        let targets = (capacity as f64 * share) as u64 * 5;
        let text = run_self(&["probe", &server.address.to_string(), &targets.to_string(), "5", "http"]);
        let (ok, fail, made) = (figure(&text, "ok"), figure(&text, "fail"), figure(&text, "made"));
        let due = targets as f64 / 5.0 * LENGTH.as_secs_f64();
        println!("  {name:16} {targets} targets, {made} slots of {due:.0}: {:.2} % measured, {fail} failed", 100.0 * ok / made);
    }
    let targets = (capacity as f64 * 0.8) as u64 * 5;
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sink = Arc::new(Keep::default());
    let probe = start(dir.path(), Arc::clone(&sink));
    runtime.block_on(probe.adopt(catalogue(server.address, targets, 5, "http"))).unwrap();
    std::thread::sleep(Duration::from_secs(6));
    let healthy_kb = resident_kb();
    server.signal(Signal::SIGSTOP);
    // What was in flight, then slots that begin in the dark: each takes two attempts.
    std::thread::sleep(Duration::from_secs(4));
    let first = sink.counts();
    std::thread::sleep(LENGTH);
    let last = sink.counts();
    server.signal(Signal::SIGCONT);
    let [ok, fail, void] = [0, 1, 2].map(|at| last[at] - first[at]);
    let share = 100.0 * fail as f64 / (ok + fail + void) as f64;
    println!("  black holes      {targets} targets: {share:.2} % of {} slots failed, {void} void, {ok} ok", ok + fail + void);
    println!("  memory           {:.1} MB healthy, {:.1} MB in the dark", healthy_kb as f64 / 1024.0, resident_kb() as f64 / 1024.0);
}
