//! What a scrape costs: `cargo bench -p vigie-tests --bench scrape`. A region of 1 000 targets × 3 vantages that is measured every 10 s, one
//! aggregator and three probes, all real and at work on this machine meanwhile. Figures are printed, nothing is asserted.
//!
//! `VIGIE_BENCH_TARGETS` sets how many targets (1 000 by default).

#![expect(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark reads the clock, prints and panics")]

use std::fmt::Write;
use std::time::{Duration, Instant};

use vigie_tests::program::{PATIENCE, Program, wait_within};
use vigie_tests::region::Web;

const VANTAGES: [&str; 3] = ["az05", "az06", "az07"];
const SCRAPES: usize = 40;

fn main() {
    let targets: usize = std::env::var("VIGIE_BENCH_TARGETS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000);
    let dir = tempfile::tempdir().unwrap();
    // One server answers one at a time.
    let webs: Vec<Web> = (0..8).map(|_| Web::start()).collect();
    std::fs::write(dir.path().join("c.toml"), catalogue(targets, &webs)).unwrap();
    std::fs::write(dir.path().join("tokens"), VANTAGES.map(|vantage| format!("{vantage} {}\n", token(vantage))).concat()).unwrap();
    let aggregator = Program::start(dir.path(), &["aggregate", "--catalogue", "c.toml", "--tokens", "tokens", "--data", "data"]);
    let probes = VANTAGES.map(|vantage| {
        std::fs::write(dir.path().join(vantage), token(vantage)).unwrap();
        let (url, spool) = (format!("http://{}", aggregator.address), format!("spool-{vantage}"));
        let args =
            ["probe", "--catalogue", "c.toml", "--vantage", vantage, "--aggregator", &url, "--token-file", vantage, "--spool", &spool];
        Program::start(dir.path(), &args)
    });
    wait_within(2 * PATIENCE, "all services up", || {
        let exposition = aggregator.get("/metrics").1;
        let up = exposition.lines().filter(|line| line.starts_with("vigie_service_state{") && line.ends_with(" 0"));
        (up.count() == targets).then_some(())
    });
    scrape("aggregator", &aggregator, "vigie_service_state{");
    scrape("probe", &probes[0], "probe_success{");
}

/// A service upon each target, and a latency objective of each: what adds series.
fn catalogue(targets: usize, webs: &[Web]) -> String {
    let mut text = "settle = \"1s\"\n[[indicator]]\nid = \"I\"\nobjective = \"99.99\"\n".to_owned();
    for vantage in VANTAGES {
        writeln!(text, "[[vantage]]\nid = \"{vantage}\"\nanchors = [\"target-0\", \"target-1\"]").unwrap();
    }
    for target in 0..targets {
        let address = webs[target % webs.len()].address;
        writeln!(text, "[[target]]\nid = \"target-{target}\"\nvantages = [\"az05\", \"az06\", \"az07\"]\nperiod = \"10s\"").unwrap();
        writeln!(text, "timeout = \"2s\"\nlatency_objective = \"150ms\"").unwrap();
        writeln!(text, "check = {{ kind = \"http\", url = \"http://{address}/{target}\", body = \"alive\" }}").unwrap();
        writeln!(text, "[[service]]\nid = \"service-{target}/fr1\"\nindicator = \"I\"\nneeds = \"target-{target}\"").unwrap();
        writeln!(text, "since = 2026-01-01T00:00:00Z").unwrap();
    }
    text
}

fn token(vantage: &str) -> String {
    format!("0123456789abcdef-{vantage}")
}

/// Scrapes it as Prometheus does, from the connection to the last byte.
fn scrape(name: &str, program: &Program, of_each: &str) {
    let mut took = Vec::new();
    let mut exposition = String::new();
    for _ in 0..SCRAPES {
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        exposition = program.get("/metrics").1;
        took.push(began.elapsed());
    }
    took.sort();
    let series = exposition.lines().filter(|line| !line.starts_with('#')).count();
    let each = exposition.lines().filter(|line| line.starts_with(of_each)).count();
    println!(
        "{name}: {each} × {of_each}…}}, {series} series, {} bytes; {:.1?} at the median of {SCRAPES}, {:.1?} at the longest",
        exposition.len(),
        took[SCRAPES / 2],
        took[SCRAPES - 1]
    );
}
