//! What a check of each kind costs the machine that it runs on: `cargo bench -p vigie-tests --bench checks`. Figures are printed, nothing is
//! asserted.
//!
//! Each kind in turn is what a real `vigie probe` measures, a thousand targets of it, against counterparts in this process; the probe is a
//! process of its own, with spool, delivery and its own metrics, whose CPU is counted by the scheduler (`/proc/PID/task/TID/schedstat`) over
//! a period or more. What the probe costs with its two anchors alone is taken off. Children, of `exec`, count where they were waited for.
//!
//! `VIGIE_BENCH_KINDS=tcp,dns` measures these alone, and `VIGIE_BENCH_TARGETS=100` so many targets of each.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock, prints and panics"
)]

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vigie_aggregator::clock::wall_now;
use vigie_counterparts::agent::{Agent, Guest};
use vigie_counterparts::console::{Console, FORM_MARKER};
use vigie_counterparts::disk::Disk;
use vigie_counterparts::dns::Dns;
use vigie_counterparts::object_store::{ACCESS_KEY, ObjectStore, SECRET_KEY};
use vigie_counterparts::openiaas::{OpenIaas, TOKEN_ID, TOKEN_SECRET};
use vigie_tests::program::{Program, TOKEN, sum_of, wait_for};
use vigie_tests::region::{Web, start_aggregator_at, start_probe};

/// A kind of check as it is measured.
struct Kind {
    name: &'static str,
    /// Long enough that no ceiling is met, of the probe or of the counterpart.
    period_s: u64,
    /// The block of the target of this number.
    check: Box<dyn Fn(usize) -> String>,
}

/// What a probe had used at an instant.
struct Usage {
    at: Instant,
    cpu: Duration,
    made: f64,
}

fn main() {
    let wanted = std::env::var("VIGIE_BENCH_KINDS").ok();
    let targets = std::env::var("VIGIE_BENCH_TARGETS").ok().and_then(|targets| targets.parse().ok()).unwrap_or(1_000);
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let counterparts = runtime.block_on(Counterparts::start(dir.path()));
    let idle = measure(None, targets);
    println!(
        "the probe with two anchors and nothing else: {:.2} ms of CPU a second, {} MiB",
        idle.cpu_us_per_s / 1e3,
        idle.memory_kib >> 10
    );
    println!("{targets} targets                  CPU per check   of a core   memory per target   sockets    void    fail");
    for kind in counterparts.kinds() {
        if wanted.as_ref().is_some_and(|wanted| !wanted.split(',').any(|word| word == kind.name)) {
            continue;
        }
        let cost = measure(Some(&kind), targets);
        let spent_us_per_s = cost.cpu_us_per_s - idle.cpu_us_per_s;
        println!(
            "{:<18} every {:>3} s {:>10.0} µs {:>10.1} % {:>14.1} KiB {:>10} {:>7} {:>7}",
            kind.name,
            kind.period_s,
            spent_us_per_s / cost.checks_per_s,
            spent_us_per_s / 1e4,
            cost.memory_kib.saturating_sub(idle.memory_kib) as f64 / targets as f64,
            cost.sockets.saturating_sub(idle.sockets),
            cost.void,
            cost.fail,
        );
    }
}

/// Everything that is measured, and the files that the checks need.
struct Counterparts {
    files: String,
    web: Web,
    tcp: SocketAddr,
    _tcp: TcpListener,
    dns: Dns,
    agent: Agent,
    console: Console,
    openiaas: OpenIaas,
    store: ObjectStore,
    disk: Option<Disk>,
}

impl Counterparts {
    async fn start(dir: &Path) -> Self {
        for (name, text) in [("id", TOKEN_ID), ("secret", TOKEN_SECRET), ("access", ACCESS_KEY), ("key", SECRET_KEY)] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        std::fs::create_dir_all(dir.join("buckets/canary")).unwrap();
        std::fs::write(dir.join("buckets/canary/object"), [7; 1_024]).unwrap();
        std::fs::create_dir(dir.join("disk")).unwrap();
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let accepting = tcp.try_clone().unwrap();
        std::thread::spawn(move || while accepting.accept().is_ok() {});
        // At every address of this machine, each an API of its own to the probe, and to its ceilings; one to itself, and to its limits.
        let openiaas = OpenIaas::start("0.0.0.0:0".parse().unwrap(), Arc::new(|| wall_now().us())).await.unwrap();
        openiaas.set_limit_second_us(0);
        Self {
            files: dir.display().to_string(),
            web: Web::start(),
            tcp: SocketAddr::from(([127, 0, 0, 1], tcp.local_addr().unwrap().port())),
            _tcp: tcp,
            dns: Dns::start().unwrap(),
            agent: Agent::start(Guest::default()).unwrap(),
            console: Console::start("127.0.0.1:0".parse().unwrap(), None).await.unwrap(),
            openiaas,
            store: ObjectStore::start(&dir.join("buckets"), 0, None).unwrap(),
            disk: Disk::mount(&dir.join("disk")),
        }
    }

    fn kinds(&self) -> Vec<Kind> {
        let kind = |name, period_s, check: Box<dyn Fn(usize) -> String>| Kind { name, period_s, check };
        let (web, tcp, dns, agent, console) = (self.web.address, self.tcp, self.dns.address(), self.agent.address(), self.console.url());
        let (files, port) = (self.files.clone(), self.openiaas.url().rsplit(':').next().unwrap().to_owned());
        let api = move |target: usize| {
            let host = format!("127.1.{}.{}", target / 250, target % 250 + 1);
            let file = |name: &str| format!("{{ file = \"{files}/{name}\" }}");
            format!("api = {{ endpoint = \"http://{host}:{port}\", token_id = {}, token_secret = {} }}", file("id"), file("secret"))
        };
        let (api_of_backup, api_of_witness) = (api.clone(), api.clone());
        let files = self.files.clone();
        let store = self.store.address;
        let s3 = move |operation: &str| {
            format!(
                "{{ kind = \"s3\", {operation}, endpoint = \"http://{store}\", bucket = \"canary\", region = \"fr1\", \
                 access_key = {{ file = \"{files}/access\" }}, secret_key = {{ file = \"{files}/key\" }} }}"
            )
        };
        let mut kinds = vec![
            kind("http", 10, Box::new(move |_| format!("{{ kind = \"http\", url = \"http://{web}/\", body = \"alive\" }}"))),
            kind("tcp", 10, Box::new(move |_| format!("{{ kind = \"tcp\", address = \"{tcp}\" }}"))),
            kind("icmp", 10, Box::new(|_| "{ kind = \"icmp\", address = \"127.0.0.1\" }".to_owned())),
            kind("dns", 10, Box::new(move |_| format!("{{ kind = \"dns\", server = \"{dns}\", name = \"www.vigie.test\" }}"))),
            kind("network", 10, Box::new(move |_| format!("{{ kind = \"network\", address = \"{agent}\" }}"))),
            kind("compute peer", 10, Box::new(move |_| format!("{{ kind = \"compute\", path = \"peer\", address = \"{agent}\" }}"))),
            kind("compute self", 10, Box::new(|_| "{ kind = \"compute\", path = \"self\" }".to_owned())),
            kind(
                "compute witness",
                60,
                Box::new(move |at| {
                    let machine = "zone = \"az05\", virtual_machine = \"canary-az05\"";
                    format!("{{ kind = \"compute\", path = \"witness\", {machine}, {} }}", api_of_witness(at))
                }),
            ),
            kind(
                "internet",
                10,
                Box::new(move |_| {
                    let anchors = [1, 2, 3].map(|host| format!("{{ address = \"127.0.0.{host}:{}\" }}", tcp.port()));
                    format!("{{ kind = \"internet\", outside = true, anchors = [{}] }}", anchors.join(", "))
                }),
            ),
            kind(
                "console",
                10,
                Box::new(move |_| {
                    let step = format!("{{ name = \"page\", get = \"/login\", marker = \"{FORM_MARKER}\" }}");
                    format!("{{ kind = \"console\", endpoint = \"{console}\", steps = [{step}] }}")
                }),
            ),
            kind("api", 60, Box::new(move |at| format!("{{ kind = \"api\", {} }}", api(at)))),
            kind(
                "backup",
                60,
                Box::new(move |at| {
                    format!("{{ kind = \"backup\", zone = \"az05\", operation = \"lists\", list = \"backups\", {} }}", api_of_backup(at))
                }),
            ),
            kind("exec", 10, Box::new(|_| "{ kind = \"exec\", command = [\"/bin/true\"] }".to_owned())),
            kind(
                "s3 rotating",
                10,
                Box::new({
                    let s3 = s3.clone();
                    move |_| s3("operation = \"rotate\"")
                }),
            ),
        ];
        if self.disk.is_some() {
            let mount = format!("{}/disk", self.files);
            kinds.push(kind("storage", 10, Box::new(move |_| format!("{{ kind = \"storage\", mount = \"{mount}\" }}"))));
        }
        kinds
    }
}

/// What was measured of a probe.
struct Cost {
    cpu_us_per_s: f64,
    checks_per_s: f64,
    memory_kib: u64,
    sockets: usize,
    void: f64,
    fail: f64,
}

fn measure(kind: Option<&Kind>, targets: usize) -> Cost {
    let dir = tempfile::tempdir().unwrap();
    let (anchor, other) = (Web::start(), Web::start());
    std::fs::write(dir.path().join("c.toml"), catalogue(&[anchor.address, other.address], kind, targets)).unwrap();
    std::fs::write(dir.path().join("tokens"), format!("v {TOKEN}\n")).unwrap();
    let aggregator = start_aggregator_at(dir.path(), "127.0.0.1:0");
    let probe = start_probe(dir.path(), &aggregator);
    wait_for("samples", || (probe.metric("vigie_probe_samples_made_total") >= 2.0).then_some(()));
    let period = Duration::from_secs(kind.map_or(10, |kind| kind.period_s));
    std::thread::sleep(period + Duration::from_secs(2));
    let (before, first) = (unwell(&probe), usage(&probe));
    let mut sockets = 0;
    let length = period.max(Duration::from_secs(20));
    while first.at.elapsed() < length {
        std::thread::sleep(Duration::from_millis(50));
        sockets = sockets.max(open_sockets(probe.id()));
    }
    let (after, last) = (unwell(&probe), usage(&probe));
    let (seconds, made) = ((last.at - first.at).as_secs_f64(), last.made - first.made);
    let anchors = 2.0 * seconds / 10.0;
    Cost {
        cpu_us_per_s: last.cpu.saturating_sub(first.cpu).as_secs_f64() * 1e6 / seconds,
        checks_per_s: made / seconds - anchors / seconds,
        memory_kib: resident_kib(probe.id()),
        sockets,
        void: after.0 - before.0,
        fail: after.1 - before.1,
    }
}

fn catalogue(anchors: &[SocketAddr], kind: Option<&Kind>, targets: usize) -> String {
    let mut text = "settle = \"3s\"\nstable_up = \"30s\"\n[[indicator]]\nid = \"I\"\nobjective = \"99.9\"\n".to_owned();
    text += "[[vantage]]\nid = \"v\"\nanchors = [\"anchor-0\", \"anchor-1\"]\n";
    let mut target = |id: &str, period_s: u64, check: &str| {
        writeln!(text, "[[target]]\nid = \"{id}\"\nvantages = [\"v\"]\nperiod = \"{period_s}s\"\ntimeout = \"4s\"\ncheck = {check}")
            .unwrap();
        writeln!(text, "[[service]]\nid = \"{id}/r1\"\nindicator = \"I\"\nneeds = \"{id}\"\nsince = 2026-01-01T00:00:00Z").unwrap();
    };
    for (at, anchor) in anchors.iter().enumerate() {
        target(&format!("anchor-{at}"), 10, &format!("{{ kind = \"http\", url = \"http://{anchor}/\", body = \"alive\" }}"));
    }
    for (kind, at) in kind.iter().flat_map(|kind| (0..targets).map(move |at| (kind, at))) {
        target(&format!("t{at}"), kind.period_s, &(kind.check)(at));
    }
    text
}

/// How many samples were `void` and `fail` so far.
fn unwell(probe: &Program) -> (f64, f64) {
    let exposition = probe.get("/metrics").1;
    let of = |result: &str| -> f64 {
        let label = format!("result=\"{result}\"");
        let lines = exposition.lines().filter(|line| line.starts_with("vigie_probe_samples_total") && line.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    (of("void"), of("fail"))
}

fn usage(probe: &Program) -> Usage {
    let made = sum_of(&probe.get("/metrics").1, "vigie_probe_samples_made_total");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", probe.id())).unwrap().flatten();
    let of_task = |task: std::fs::DirEntry| -> Option<u64> {
        std::fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    let threads: u64 = tasks.filter_map(of_task).sum();
    // Children that were waited for, in hundredths of a second.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", probe.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let children: u64 = fields[13..15].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Usage { at: Instant::now(), cpu: Duration::from_nanos(threads) + Duration::from_millis(children * 10), made }
}

fn resident_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn open_sockets(id: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}
