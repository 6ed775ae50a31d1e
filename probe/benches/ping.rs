//! What an echo costs beside `fping` and `surge-ping`, and whether 20 000 a second get lost: `cargo bench --bench ping`. Figures are
//! printed, nothing is asserted.
//!
//! Everything goes to the loopback, in a network namespace of its own where that can be had: then both modes are measured. CPU is that
//! of the process, system time included, and on a loopback that is the network's work as well: the same for all.
//! `VIGIE_BENCH_SECONDS` sets how long each measurement takes (10 by default).

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock, prints and panics"
)]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::task::LocalSet;
use vigie_probe::Source;
use vigie_probe::icmp::{Echo, Pinger};

const PATIENCE: Duration = Duration::from_secs(2);
/// As the probe's schedule does: what is due this close together shares a wake-up.
const GATHER: Duration = Duration::from_millis(3);
const TARGETS: u64 = 1_000;

fn main() {
    let seconds = std::env::var("VIGIE_BENCH_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
    let is_isolated = unshare(CloneFlags::CLONE_NEWNET).is_ok() && succeeds("ip", &["link", "set", "lo", "up"]);
    let modes: &[&str] = if is_isolated { &["1 0", "0 2147483647"] } else { &[""] };
    for groups in modes {
        if !groups.is_empty() && std::fs::write("/proc/sys/net/ipv4/ping_group_range", groups).is_err() {
            continue;
        }
        println!("\n{}, ping_group_range {groups:?}", if is_isolated { "a network of its own" } else { "the machine's network" });
        for rate in [1_000, 200] {
            ours(&format!("{rate}/s over {rate} addresses, vigie"), rate, rate, seconds);
            fping(&format!("{rate}/s over {rate} addresses, fping"), rate, seconds);
            surge_ping(&format!("{rate}/s over {rate} addresses, surge-ping"), rate, seconds);
        }
        ours("20 000/s to 127.0.0.1, vigie", 20_000, 1, seconds);
        ours("20 000/s over 20 000 addresses, vigie", 20_000, 20_000, seconds);
    }
}

/// The `n`th address of 127/8, beginning with 127.0.0.1.
fn address(n: u64) -> IpAddr {
    Ipv4Addr::from_bits(u32::from_be_bytes([127, 0, 0, 1]) + n as u32).into()
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn cpu(who: UsageWho) -> Duration {
    let usage = getrusage(who).unwrap();
    Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds() as u64)
}

fn report(what: &str, sent: u64, lost: u64, cpu: Duration, wall: Duration) {
    println!(
        "{what:<44} {sent:>8} sent {lost:>6} lost {:>7.2} µs CPU per ping {:>6.1} % of a core",
        cpu.as_secs_f64() * 1e6 / sent.max(1) as f64,
        100.0 * cpu.as_secs_f64() / wall.as_secs_f64()
    );
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

/// Calls `begin` for 0, 1, 2 … at `rate` a second, open loop, as the probe's schedule would, until `total`.
async fn at_rate(rate: u64, total: u64, mut begin: impl FnMut(u64)) {
    let start = Instant::now();
    let mut begun = 0;
    while begun < total {
        let due = (start.elapsed().as_micros() as u64 * rate / 1_000_000).min(total);
        (begun..due).for_each(&mut begin);
        begun = due;
        tokio::time::sleep_until((start + Duration::from_micros((begun + 1) * 1_000_000 / rate) + GATHER).into()).await;
    }
}

fn ours(what: &str, rate: u64, addresses: u64, seconds: u64) {
    run(async {
        let pinger = match Pinger::start(Source::default()) {
            Ok(pinger) => pinger,
            Err(error) => return println!("{what:<44} {error}"),
        };
        let rtts = Rc::new(RefCell::new(Vec::with_capacity((rate * seconds) as usize)));
        let others = Rc::new(RefCell::new(Vec::new()));
        let (began, cpu_before) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF));
        at_rate(rate, rate * seconds, |n| {
            let (pinger, rtts, others) = (pinger.clone(), Rc::clone(&rtts), Rc::clone(&others));
            tokio::task::spawn_local(async move {
                match pinger.echo(address(n % addresses), Instant::now() + PATIENCE).await {
                    Echo::Replied { rtt, .. } => rtts.borrow_mut().push(rtt),
                    other => others.borrow_mut().push(other),
                }
            });
        })
        .await;
        let total = (rate * seconds) as usize;
        while rtts.borrow().len() + others.borrow().len() < total && began.elapsed() < Duration::from_secs(seconds) + 2 * PATIENCE {
            tokio::time::sleep(GATHER).await;
        }
        let (used, wall) = (cpu(UsageWho::RUSAGE_SELF).saturating_sub(cpu_before), began.elapsed());
        let mut rtts = rtts.borrow_mut();
        rtts.sort_unstable();
        report(what, rate * seconds, (total - rtts.len()) as u64, used, wall);
        let quantile =
            |percent: usize| rtts.get((rtts.len() * percent / 100).min(rtts.len().saturating_sub(1))).copied().unwrap_or_default();
        let mode = pinger.v4().map_or("unavailable", vigie_probe::icmp::Mode::as_str);
        println!("    {mode}; rtt p50 {:?}, p99 {:?}, max {:?}; {:?}", quantile(50), quantile(99), quantile(100), pinger.counts());
        if let Some(first) = others.borrow().first() {
            println!("    first that did not come back: {first:?}");
        }
    });
}

fn fping(what: &str, targets: u64, seconds: u64) {
    let addresses: Vec<_> = (0..targets).map(|n| address(n).to_string()).collect();
    let (gap, count) = ((1_000 / targets).max(1).to_string(), seconds.to_string());
    let (began, cpu_before) = (Instant::now(), cpu(UsageWho::RUSAGE_CHILDREN));
    let output = Command::new("fping").args(["-q", "-i", &gap, "-p", "1000", "-C", &count]).args(&addresses).output();
    match output {
        // It prints a line of round trips per address, `-` for a loss.
        Ok(output) => {
            let lines = String::from_utf8_lossy(&output.stderr);
            let lost = lines.split_ascii_whitespace().filter(|word| *word == "-").count() as u64;
            report(what, targets * seconds, lost, cpu(UsageWho::RUSAGE_CHILDREN).saturating_sub(cpu_before), began.elapsed());
        }
        Err(error) => println!("{what:<44} not measured, no fping: {error}"),
    }
}

fn surge_ping(what: &str, targets: u64, seconds: u64) {
    run(async {
        let client = match surge_ping::Client::new(&surge_ping::Config::default()) {
            Ok(client) => client,
            Err(error) => return println!("{what:<44} {error}"),
        };
        let lost = Rc::new(RefCell::new(0));
        let (began, cpu_before) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF));
        at_rate(targets, targets * seconds, |n| {
            let (client, lost) = (client.clone(), Rc::clone(&lost));
            tokio::task::spawn_local(async move {
                let mut pinger = client.pinger(address(n % targets), surge_ping::PingIdentifier((n % TARGETS) as u16)).await;
                pinger.timeout(PATIENCE);
                if pinger.ping(surge_ping::PingSequence((n / targets) as u16), &[0x5a; 56]).await.is_err() {
                    *lost.borrow_mut() += 1;
                }
            });
        })
        .await;
        tokio::time::sleep(10 * GATHER).await;
        report(what, targets * seconds, *lost.borrow(), cpu(UsageWho::RUSAGE_SELF).saturating_sub(cpu_before), began.elapsed());
    });
}
