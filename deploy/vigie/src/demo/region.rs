//! The demo's region: its servers, its three zones and its aggregator, each a process that really runs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use vigie_aggregator::clock::wall_now;
use vigie_contract::Time;

use super::catalogue::{self, Addresses, MachineService};
use super::client;
use super::server::{Kind, Order};
use super::uplink::Uplink;
use crate::shell::Failure;

/// The zones: each its own vantage.
pub(super) const ZONES: [&str; 3] = ["az05", "az06", "az07"];
/// How long a process may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The loopback address that a zone's probe measures from, and that its servers listen on.
pub(super) fn address(zone: &str) -> Ipv4Addr {
    let number = zone.trim_start_matches("az").parse().unwrap_or(1);
    Ipv4Addr::new(127, 0, number, 1)
}

/// A server: which, and in which zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(pub(super) Kind, pub(super) &'static str);

const SERVERS: [Place; 11] = [
    Place(Kind::Zone, "az05"),
    Place(Kind::Zone, "az06"),
    Place(Kind::Zone, "az07"),
    Place(Kind::Vm, "az05"),
    Place(Kind::Vm, "az07"),
    Place(Kind::Storage, "az05"),
    Place(Kind::Backup, "az07"),
    Place(Kind::Console, "az05"),
    Place(Kind::Api, "az05"),
    Place(Kind::S3, "az05"),
    Place(Kind::Web, "az07"),
];
const NAME_SERVER: Place = Place(Kind::Dns, "az05");

/// Everything that runs.
pub(super) struct Region {
    dir: PathBuf,
    servers: BTreeMap<Place, Mutex<Server>>,
    uplinks: BTreeMap<&'static str, Uplink>,
    probes: BTreeMap<&'static str, Program>,
    probe_addresses: BTreeMap<&'static str, SocketAddr>,
    aggregator: Program,
    /// Where the page, the API and the metrics answer.
    pub(super) listen: SocketAddr,
    /// What the machine itself runs.
    pub(super) machine: Vec<MachineService>,
}

impl Region {
    /// Starts everything in `dir`; the page listens on `listen`.
    pub(super) async fn start(dir: &Path, listen: SocketAddr, notice: &str) -> Result<Self, Failure> {
        write_certificate(dir)?;
        let mut servers = BTreeMap::new();
        let mut addresses = Addresses::new();
        for place in SERVERS.into_iter().chain([NAME_SERVER]) {
            let server = Server::start(place, dir).await?;
            addresses.insert(place, server.address);
            servers.insert(place, Mutex::new(server));
        }
        let machine = catalogue::machine_services(&fs::read_to_string("/proc/net/tcp").unwrap_or_default());
        let text = catalogue::text(&addresses, &machine, &dir.join("console.pem"), wall_now(), catalogue::may_ping());
        fs::write(dir.join("catalogue.toml"), text)?;
        let tokens: Vec<(&str, String)> = ZONES.iter().map(|zone| (*zone, token())).collect();
        let lines: Vec<String> = tokens.iter().map(|(zone, token)| format!("{zone} {token}")).collect();
        write_secret(&dir.join("tokens"), &lines.join("\n"))?;
        let args = ["--tokens", "tokens", "--catalogue", "catalogue.toml", "--data", "data", "--notice", notice, "--listen"];
        let aggregator = Program::start(dir, "aggregator", &[&["aggregate"], &args[..], &[&listen.to_string()]].concat())?;
        let mut region = Self {
            dir: dir.to_owned(),
            servers,
            uplinks: BTreeMap::new(),
            probes: BTreeMap::new(),
            probe_addresses: BTreeMap::new(),
            aggregator,
            listen,
            machine,
        };
        region.wait_for_the_api().await?;
        for (zone, token) in &tokens {
            region.start_probe(zone, token).await?;
        }
        Ok(region)
    }

    async fn start_probe(&mut self, zone: &'static str, token: &str) -> Result<(), Failure> {
        let uplink = Uplink::to(self.listen).await?;
        let listen = free_address(Ipv4Addr::LOCALHOST)?;
        let token_file = format!("{zone}.token");
        write_secret(&self.dir.join(&token_file), token)?;
        let (source, aggregator, spool) = (address(zone).to_string(), format!("http://{}", uplink.address()), format!("{zone}.spool"));
        let listen_text = listen.to_string();
        #[rustfmt::skip]
        let args = [
            "probe", "--catalogue", "catalogue.toml", "--vantage", zone, "--source", &source, "--aggregator", &aggregator,
            "--token-file", &token_file, "--spool", &spool, "--listen", &listen_text,
        ];
        self.probes.insert(zone, Program::start(&self.dir, &format!("probe-{zone}"), &args)?);
        self.probe_addresses.insert(zone, listen);
        self.uplinks.insert(zone, uplink);
        Ok(())
    }

    async fn wait_for_the_api(&mut self) -> Result<(), Failure> {
        let waited = tokio::time::timeout(PATIENCE, async {
            while client::get(self.listen, "/healthz").await.is_err() {
                if self.aggregator.child.try_wait()?.is_some() {
                    return Err(Failure::new(format!("the aggregator did not start: {}", self.aggregator.last_words())));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        });
        waited.await.unwrap_or_else(|_| Err(Failure::new(format!("the aggregator does not answer: {}", self.aggregator.last_words()))))
    }

    /// Tells one server what to do; the instant before it did.
    pub(super) async fn order(&self, place: Place, order: Order) -> Result<Time, Failure> {
        self.server(place)?.lock().await.order(order).await
    }

    /// Kills a server; the instant before.
    pub(super) async fn kill(&self, place: Place) -> Result<Time, Failure> {
        self.server(place)?.lock().await.kill().await
    }

    /// Starts a server that was killed, on its old port; the instant before the port opened.
    pub(super) async fn revive(&self, place: Place) -> Result<Time, Failure> {
        let mut server = self.server(place)?.lock().await;
        *server = Server::start_at(place, &self.dir, server.address).await?;
        Ok(server.began)
    }

    fn server(&self, place: Place) -> Result<&Mutex<Server>, Failure> {
        self.servers.get(&place).ok_or_else(|| Failure::new(format!("the demo has no {place:?}")))
    }

    /// Cuts a zone off: no server hears its probe, nor those of other zones its servers, and its uplink is dead.
    pub(super) async fn cut_off(&self, zone: &'static str) -> Result<Time, Failure> {
        let at = wall_now();
        self.uplink(zone)?.cut();
        self.order_on_the_way_to(zone, Order::Cut).await?;
        Ok(at)
    }

    /// Undoes [`Region::cut_off`].
    pub(super) async fn reconnect(&self, zone: &'static str) -> Result<Time, Failure> {
        let at = wall_now();
        self.order_on_the_way_to(zone, Order::Mend).await?;
        self.uplink(zone)?.mend();
        Ok(at)
    }

    /// Orders something about every pair of a probe and a server of which one is in `zone` and the other is not.
    async fn order_on_the_way_to(&self, zone: &str, order: impl Fn(IpAddr) -> Order) -> Result<(), Failure> {
        for (place, server) in &self.servers {
            let is_across = |probe: &&str| (*probe == zone) != (place.1 == zone);
            for probe in ZONES.into_iter().filter(is_across) {
                server.lock().await.order(order(address(probe).into())).await?;
            }
        }
        Ok(())
    }

    fn uplink(&self, zone: &str) -> Result<&Uplink, Failure> {
        self.uplinks.get(zone).ok_or_else(|| Failure::new(format!("the demo has no {zone}")))
    }

    /// Takes the processor away from a zone's probe: it may run `run` of every `run + stop`.
    pub(super) async fn starve(&self, zone: &str, length: Duration, stop: Duration, run: Duration) -> Result<(), Failure> {
        let Some(pid) = self.probes.get(zone).and_then(Program::pid) else { return Ok(()) };
        let end = tokio::time::Instant::now() + length;
        while tokio::time::Instant::now() < end {
            let halted = Halted::new(pid)?;
            tokio::time::sleep(stop).await;
            drop(halted);
            tokio::time::sleep(run).await;
        }
        Ok(())
    }

    /// The metrics of a zone's probe.
    pub(super) async fn probe_metrics(&self, zone: &str) -> Result<String, Failure> {
        let address = self.probe_addresses.get(zone).ok_or_else(|| Failure::new(format!("the demo has no {zone}")))?;
        Ok(String::from_utf8_lossy(&client::get(*address, "/metrics").await?).into_owned())
    }

    /// Runs `vigie` with `args` on the region's data, as a person would, and says what it printed.
    pub(super) async fn vigie(&self, args: &[&str]) -> Result<String, Failure> {
        let output = command(&self.dir)?.args(args).args(["--data", "data"]).output().await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::new(format!("vigie {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// A program that has ended although nobody asked it to.
    pub(super) fn casualty(&mut self) -> Option<String> {
        let programs = self.probes.iter_mut().map(|(zone, probe)| (*zone, probe)).chain([("aggregator", &mut self.aggregator)]);
        for (name, program) in programs {
            if let Ok(Some(status)) = program.child.try_wait() {
                return Some(format!("{name} ended with {status}: {}", program.last_words()));
            }
        }
        None
    }

    /// Ends everything: probes first, so that their last samples still arrive.
    pub(super) async fn stop(self) {
        let mut probes: Vec<Program> = self.probes.into_values().collect();
        probes.iter_mut().for_each(Program::ask_to_stop);
        for probe in probes {
            probe.stop().await;
        }
        self.aggregator.stop().await;
        for server in self.servers.into_values() {
            let _ = server.into_inner().kill().await;
        }
    }
}

/// One server's process.
struct Server {
    place: Place,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    began: Time,
}

impl Server {
    async fn start(place: Place, dir: &Path) -> Result<Self, Failure> {
        Self::start_at(place, dir, SocketAddr::new(address(place.1).into(), 0)).await
    }

    async fn start_at(place: Place, dir: &Path, listen: SocketAddr) -> Result<Self, Failure> {
        let kind = clap::ValueEnum::to_possible_value(&place.0).map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = command(dir)?;
        command.args(["demo-server", &kind, "--listen", &listen.to_string(), "--dir", "."]);
        let stderr = log(dir, &format!("{kind}-{}", place.1))?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn()?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("a server without pipes"));
        };
        let mut answers = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(PATIENCE, answers.next_line()).await.ok().and_then(Result::ok).flatten();
        let greeting = first.as_deref().and_then(|line| line.split_once(' '));
        let (Some(began), Some(address)) = greeting.map_or((None, None), |(us, at)| (us.parse().ok(), at.parse().ok())) else {
            return Err(Failure::new(format!("the {kind} server of {} did not start on {listen}", place.1)));
        };
        Ok(Self { place, child, orders, answers, address, began: Time::from_us(began) })
    }

    async fn order(&mut self, order: Order) -> Result<Time, Failure> {
        self.orders.write_all(format!("{}\n", order.line()).as_bytes()).await?;
        let answer = tokio::time::timeout(PATIENCE, self.answers.next_line()).await.ok().and_then(Result::ok).flatten();
        let at = answer.and_then(|line| line.parse().ok()).map(Time::from_us);
        at.ok_or_else(|| Failure::new(format!("{:?} does not obey", self.place)))
    }

    async fn kill(&mut self) -> Result<Time, Failure> {
        let at = wall_now();
        self.child.kill().await?;
        Ok(at)
    }
}

/// `vigie probe` or `vigie aggregate` as a process.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(dir: &Path, name: &str, args: &[&str]) -> Result<Self, Failure> {
        let stderr = log(dir, name)?;
        let child = command(dir)?.args(args).arg("--stop-on-eof").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr).spawn()?;
        Ok(Self { child, log: dir.join(format!("{name}.log")) })
    }

    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().next_back().unwrap_or("it said nothing").to_owned()
    }

    fn ask_to_stop(&mut self) {
        drop(self.child.stdin.take());
    }

    async fn stop(mut self) {
        self.ask_to_stop();
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// A process that does not run; it goes on when this is dropped, whoever ends the demo meanwhile.
struct Halted(Pid);

impl Halted {
    fn new(pid: Pid) -> nix::Result<Self> {
        kill(pid, Signal::SIGSTOP).map(|()| Self(pid))
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// This program, in `dir`, in a process group of its own: Ctrl-C is the demo's to handle.
fn command(dir: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.current_dir(dir).process_group(0).kill_on_drop(true);
    Ok(command)
}

fn log(dir: &Path, name: &str) -> io::Result<File> {
    File::options().create(true).append(true).open(dir.join(format!("{name}.log")))
}

/// A port that nobody listens on now.
fn free_address(ip: Ipv4Addr) -> io::Result<SocketAddr> {
    std::net::TcpListener::bind((ip, 0))?.local_addr()
}

fn token() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

/// Nobody else can read it, at no moment.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// A certificate of its own for the console, which the catalogue trusts.
fn write_certificate(dir: &Path) -> Result<(), Failure> {
    let signed = rcgen::generate_simple_self_signed(vec!["console.demo.test".to_owned()])?;
    fs::write(dir.join("console.pem"), signed.cert.pem())?;
    Ok(write_secret(&dir.join("console.key"), &signed.signing_key.serialize_pem())?)
}
