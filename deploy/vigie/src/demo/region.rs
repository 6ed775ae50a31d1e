//! The demo's region: its servers, its probes and its aggregator, each a process that really runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
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
use vigie_counterparts::disk::{Disk, Fault, Operation};
use vigie_counterparts::object_store::{ACCESS_KEY, SECRET_KEY};
use vigie_counterparts::openiaas::{TOKEN_ID, TOKEN_SECRET};

use super::catalogue::{self, ANCHOR_NAME, CONSOLE_NAME, Filling, Spot};
use super::client;
use super::machine::Machine;
use super::place::{Place, VANTAGES, ZONES};
use super::server::{CERTIFICATE, KEY, OBJECTS, Order};
use super::uplink::Uplink;
use super::wire::Wire;
use crate::shell::Failure;

/// How long a process may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the servers know, in files that are called as in the shipped catalogue.
pub(super) const SECRETS: [(&str, &str); 4] = [
    ("openiaas-token-id", TOKEN_ID),
    ("openiaas-token-secret", TOKEN_SECRET),
    ("s3-access-key", ACCESS_KEY),
    ("s3-secret-key", SECRET_KEY),
];
/// What the directories begin with in which disks are mounted.
pub(super) const DISK: &str = "disk-";
/// The canaries' bucket, and in it the object whose access is timed.
const BUCKET: &str = "vigie";
const OBJECT: &str = "latency-1KiB";
const OBJECT_BYTES: usize = 1_024;

/// Everything that runs.
pub(super) struct Region {
    dir: PathBuf,
    servers: BTreeMap<Place, Mutex<Server>>,
    /// The disks of the zones' agents; none where none can be mounted.
    disks: BTreeMap<&'static str, Disk>,
    /// Why there are none.
    pub(super) no_disks: Option<io::Error>,
    /// The ways to the agents and to their neighbours.
    wires: Vec<Wire>,
    /// Addresses whose packets reach no server.
    cut: Mutex<BTreeSet<IpAddr>>,
    probes: BTreeMap<&'static str, Mutex<Probe>>,
    aggregator: Program,
    /// Where the page, the API and the metrics answer.
    pub(super) listen: SocketAddr,
    /// Beside the contract's.
    pub(super) machine: Machine,
}

/// A vantage's probe, and its way to the aggregator.
struct Probe {
    program: Program,
    arguments: Vec<String>,
    /// Where its own metrics are.
    listen: SocketAddr,
    uplink: Uplink,
}

/// Where a probe answers: at its own address, so that nobody else takes the ports before it does.
#[derive(Clone, Copy)]
struct Doors {
    reflector: SocketAddr,
    /// Its own metrics.
    listen: SocketAddr,
}

impl Doors {
    /// Ports that nobody listens on now; the reflector's neither for streams nor for datagrams.
    fn free(ip: Ipv4Addr) -> io::Result<Self> {
        loop {
            let (one, other) = (TcpListener::bind((ip, 0))?, TcpListener::bind((ip, 0))?);
            let doors = Self { reflector: one.local_addr()?, listen: other.local_addr()? };
            if UdpSocket::bind(doors.reflector).is_ok() {
                return Ok(doors);
            }
        }
    }
}

impl Region {
    /// Starts everything in `dir`; the page listens on `listen`.
    pub(super) async fn start(dir: &Path, listen: SocketAddr, notice: &str) -> Result<Self, Failure> {
        lay_out(dir)?;
        let (mut servers, mut spots) = (BTreeMap::new(), BTreeMap::new());
        for place in Place::all() {
            let server = Server::start(place, dir).await?;
            spots.insert(Spot::Server(place), server.address);
            servers.insert(place, Mutex::new(server));
        }
        let mut doors = BTreeMap::new();
        for (vantage, ip) in VANTAGES {
            doors.insert(vantage, Doors::free(ip)?);
        }
        let mut wires = Vec::new();
        for zone in ZONES {
            for (spot, vantage) in [(Spot::Agent(zone), zone), (Spot::Neighbour(zone), &neighbour(zone))] {
                let wire = Wire::to(doors[vantage].reflector).await?;
                spots.insert(spot, wire.address());
                wires.push(wire);
            }
        }
        let (disks, no_disks) = match mount_disks(dir) {
            Ok(disks) => (disks, None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        let filling = Filling {
            places: catalogue::places(|spot| spots[&spot], dir),
            console: spots[&Spot::Server(Place::Console)],
            api: spots[&Spot::Server(Place::Api)],
            disks: disks.iter().map(|(zone, disk)| (*zone, disk.path().to_owned())).collect(),
            authority: dir.join(CERTIFICATE),
            since: wall_now(),
        };
        let machine = Machine::here();
        fs::write(dir.join("catalogue.toml"), catalogue::text(&filling, &machine)?)?;
        let tokens: Vec<(&str, String)> = VANTAGES.iter().map(|(vantage, _)| (*vantage, token())).collect();
        let lines: Vec<String> = tokens.iter().map(|(vantage, token)| format!("{vantage} {token}")).collect();
        write_secret(&dir.join("tokens"), &lines.join("\n"))?;
        let args = ["--tokens", "tokens", "--catalogue", "catalogue.toml", "--data", "data", "--notice", notice, "--listen"];
        let aggregator = Program::start(dir, "aggregator", &[&["aggregate"], &args[..], &[&listen.to_string()]].concat())?;
        let mut region = Self {
            dir: dir.to_owned(),
            servers,
            disks,
            no_disks,
            wires,
            cut: Mutex::default(),
            probes: BTreeMap::new(),
            aggregator,
            listen,
            machine,
        };
        region.wait_for_the_api().await?;
        for ((vantage, ip), (_, token)) in VANTAGES.into_iter().zip(&tokens) {
            let probe = region.start_probe(vantage, ip, doors[vantage], token).await?;
            region.probes.insert(vantage, Mutex::new(probe));
        }
        Ok(region)
    }

    /// Whether line 02 is measured.
    pub(super) fn has_disks(&self) -> bool {
        !self.disks.is_empty()
    }

    async fn start_probe(&self, vantage: &str, ip: Ipv4Addr, doors: Doors, token: &str) -> Result<Probe, Failure> {
        let uplink = Uplink::to(self.listen).await?;
        let Doors { reflector, listen } = doors;
        let token_file = format!("{vantage}.token");
        write_secret(&self.dir.join(&token_file), token)?;
        let (source, aggregator, spool) = (ip.to_string(), format!("http://{}", uplink.address()), format!("{vantage}.spool"));
        let (reflector, listen_text) = (reflector.to_string(), listen.to_string());
        #[rustfmt::skip]
        let arguments = [
            "probe", "--catalogue", "catalogue.toml", "--vantage", vantage, "--source", &source, "--aggregator", &aggregator,
            "--token-file", &token_file, "--spool", &spool, "--listen", &listen_text, "--reflect", &reflector, "--reflect-peer", "127.0.0.0/8",
        ].map(str::to_owned).to_vec();
        let program = Program::start(&self.dir, &format!("probe-{vantage}"), &arguments)?;
        Ok(Probe { program, arguments, listen, uplink })
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
        let cut = self.cut.lock().await.clone();
        for ip in cut {
            server.order(Order::Cut(ip)).await?;
        }
        Ok(server.began)
    }

    fn server(&self, place: Place) -> Result<&Mutex<Server>, Failure> {
        self.servers.get(&place).ok_or_else(|| Failure::new(format!("the demo has no {place:?}")))
    }

    fn probe(&self, vantage: &str) -> Result<&Mutex<Probe>, Failure> {
        self.probes.get(vantage).ok_or_else(|| Failure::new(format!("the demo has no {vantage}")))
    }

    /// Cuts a machine outside off: nothing hears it, and its uplink is dead.
    pub(super) async fn cut_off(&self, vantage: &str) -> Result<(), Failure> {
        self.probe(vantage)?.lock().await.uplink.cut();
        let ip = source(vantage)?.into();
        self.wires.iter().for_each(|wire| wire.cut(ip));
        self.cut.lock().await.insert(ip);
        self.order_all(Order::Cut(ip)).await
    }

    /// Undoes [`Region::cut_off`].
    pub(super) async fn reconnect(&self, vantage: &str) -> Result<(), Failure> {
        let ip = source(vantage)?.into();
        self.cut.lock().await.remove(&ip);
        self.order_all(Order::Mend(ip)).await?;
        self.wires.iter().for_each(|wire| wire.mend(ip));
        self.probe(vantage)?.lock().await.uplink.mend();
        Ok(())
    }

    /// Those who are dead learn it when they are revived.
    async fn order_all(&self, order: Order) -> Result<(), Failure> {
        for server in self.servers.values() {
            let mut server = server.lock().await;
            if !server.is_dead {
                server.order(order).await?;
            }
        }
        Ok(())
    }

    /// A zone's machines lose their power: agent, neighbour and responder; the instant before.
    pub(super) async fn power_off(&self, zone: &'static str) -> Result<Time, Failure> {
        let at = wall_now();
        let neighbour = neighbour(zone);
        tokio::try_join!(
            self.kill_probe(zone),
            self.kill_probe(&neighbour),
            self.kill(Place::Web(zone)),
            self.kill(Place::Responder(zone)),
        )?;
        Ok(at)
    }

    async fn kill_probe(&self, vantage: &str) -> Result<(), Failure> {
        Ok(self.probe(vantage)?.lock().await.program.child.kill().await?)
    }

    /// Undoes [`Region::power_off`]: the instant before the first machine starts, and one at which all have.
    pub(super) async fn power_on(&self, zone: &'static str) -> Result<(Time, Time), Failure> {
        let first = wall_now();
        for place in [Place::Web(zone), Place::Responder(zone)] {
            self.revive(place).await?;
        }
        for vantage in [zone, &neighbour(zone)] {
            let mut probe = self.probe(vantage)?.lock().await;
            probe.program = Program::start(&self.dir, &format!("probe-{vantage}"), &probe.arguments)?;
        }
        for vantage in [zone, &neighbour(zone)] {
            let listen = self.probe(vantage)?.lock().await.listen;
            let answers = async {
                while client::get(listen, "/healthz").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let answered = tokio::time::timeout(PATIENCE, answers).await;
            answered.map_err(|_| Failure::new(format!("the probe of {vantage} does not start again")))?;
        }
        Ok((first, wall_now()))
    }

    /// A zone's disk answers nothing any more once it is to keep what was written; the instant before.
    pub(super) fn hang_disk(&self, zone: &str) -> Time {
        let at = wall_now();
        if let Some(disk) = self.disks.get(zone) {
            disk.break_down(Fault::Hang(Operation::Sync));
        }
        at
    }

    /// Undoes [`Region::hang_disk`].
    pub(super) fn mend_disk(&self, zone: &str) -> Time {
        let at = wall_now();
        if let Some(disk) = self.disks.get(zone) {
            disk.mend();
        }
        at
    }

    /// Takes the processor away from a vantage's probe: it may run `run` of every `run + stop`.
    pub(super) async fn starve(&self, vantage: &str, length: Duration, stop: Duration, run: Duration) -> Result<(), Failure> {
        let Some(pid) = self.probe(vantage)?.lock().await.program.pid() else { return Ok(()) };
        let end = tokio::time::Instant::now() + length;
        while tokio::time::Instant::now() < end {
            let halted = Halted::new(pid)?;
            tokio::time::sleep(stop).await;
            drop(halted);
            tokio::time::sleep(run).await;
        }
        Ok(())
    }

    /// The metrics of a vantage's probe.
    pub(super) async fn probe_metrics(&self, vantage: &str) -> Result<String, Failure> {
        let listen = self.probe(vantage)?.lock().await.listen;
        Ok(String::from_utf8_lossy(&client::get(listen, "/metrics").await?).into_owned())
    }

    /// Runs `vigie` with `args` on the region's data, as a person would, and says what it printed.
    pub(super) async fn vigie(&self, args: &[&str]) -> Result<String, Failure> {
        let output = command(&self.dir)?.args(args).args(["--data", "data"]).output().await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::new(format!("vigie {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// The programs that have ended although nobody asked them to.
    pub(super) fn casualties(&mut self) -> Vec<String> {
        let probes = self.probes.iter_mut().map(|(vantage, probe)| (*vantage, &mut probe.get_mut().program));
        let programs = probes.chain([("the aggregator", &mut self.aggregator)]).filter_map(|(name, program)| {
            let status = program.child.try_wait().ok()??;
            Some(format!("{name} ended with {status}: {}", program.last_words()))
        });
        let servers = self.servers.values_mut().map(Mutex::get_mut).filter(|server| !server.is_dead).filter_map(|server| {
            let status = server.child.try_wait().ok()??;
            Some(format!("{:?} ended with {status}", server.place))
        });
        programs.chain(servers).collect()
    }

    /// Ends everything: probes first, so that their last samples still arrive.
    pub(super) async fn stop(self) {
        // A probe does not end while a thread of its own hangs in a disk.
        self.disks.values().for_each(Disk::mend);
        let mut probes: Vec<Probe> = self.probes.into_values().map(Mutex::into_inner).collect();
        probes.iter_mut().for_each(|probe| probe.program.ask_to_stop());
        for probe in probes {
            probe.program.stop().await;
        }
        self.aggregator.stop().await;
        for server in self.servers.into_values() {
            let _ = server.into_inner().kill().await;
        }
    }
}

/// The machine on the same host as a zone's agent.
fn neighbour(zone: &str) -> String {
    format!("{zone}-b")
}

/// Where a vantage measures from.
fn source(vantage: &str) -> Result<Ipv4Addr, Failure> {
    let found = VANTAGES.iter().find(|(id, _)| *id == vantage).map(|(_, ip)| *ip);
    found.ok_or_else(|| Failure::new(format!("the demo has no {vantage}")))
}

/// The files that servers and probes find.
fn lay_out(dir: &Path) -> Result<(), Failure> {
    let signed = rcgen::generate_simple_self_signed(vec![CONSOLE_NAME.to_owned(), ANCHOR_NAME.to_owned()])?;
    fs::write(dir.join(CERTIFICATE), signed.cert.pem())?;
    write_secret(&dir.join(KEY), &signed.signing_key.serialize_pem())?;
    for (name, secret) in SECRETS {
        write_secret(&dir.join(name), secret)?;
    }
    let bucket = dir.join(OBJECTS).join(BUCKET);
    fs::create_dir_all(&bucket)?;
    Ok(fs::write(bucket.join(OBJECT), [b'o'; OBJECT_BYTES])?)
}

/// A disk for each zone, if they can be mounted.
fn mount_disks(dir: &Path) -> io::Result<BTreeMap<&'static str, Disk>> {
    ZONES.into_iter().map(|zone| Disk::try_mount(&dir.join(format!("{DISK}{zone}"))).map(|disk| (zone, disk))).collect()
}

/// One server's process.
struct Server {
    place: Place,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    began: Time,
    is_dead: bool,
}

impl Server {
    async fn start(place: Place, dir: &Path) -> Result<Self, Failure> {
        Self::start_at(place, dir, SocketAddr::from((place.ip(), 0))).await
    }

    async fn start_at(place: Place, dir: &Path, listen: SocketAddr) -> Result<Self, Failure> {
        let kind = clap::ValueEnum::to_possible_value(&place.kind()).map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = command(dir)?;
        command.args(["demo-server", &kind, "--listen", &listen.to_string(), "--dir", "."]);
        let stderr = log(dir, &format!("{kind}-{}", listen.ip()))?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn()?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("a server without pipes"));
        };
        let mut answers = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(PATIENCE, answers.next_line()).await.ok().and_then(Result::ok).flatten();
        let greeting = first.as_deref().and_then(|line| line.split_once(' '));
        let (Some(began), Some(address)) = greeting.map_or((None, None), |(us, at)| (us.parse().ok(), at.parse().ok())) else {
            return Err(Failure::new(format!("the {kind} server did not start on {listen}")));
        };
        Ok(Self { place, child, orders, answers, address, began: Time::from_us(began), is_dead: false })
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
        self.is_dead = true;
        Ok(at)
    }
}

/// `vigie probe` or `vigie aggregate` as a process.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(dir: &Path, name: &str, args: &[impl AsRef<OsStr>]) -> Result<Self, Failure> {
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

fn token() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

/// Nobody else can read it, at no moment.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
