//! From a dead service to whoever is told: `cargo bench -p vigie-tests --bench paging`. Random incidents of two periods and more through
//! real probes, aggregator, Prometheus and Alertmanager with the files of `deploy/`. Figures are printed, nothing is asserted.
//!
//! `VIGIE_BENCH_INCIDENTS` sets how many (30 by default, six at a time, some two minutes each six).

#![expect(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark reads the clock, prints and panics")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use vigie_tests::paging::{Paging, Told};
use vigie_tests::zones::{VANTAGES, Zones};

/// Each of a scope of its own, so that each is an incident of its own.
const SERVICES: [&str; 6] = ["web/one", "web/two", "web/three", "web/four", "web/five", "web/six"];
/// Two periods, and as much more at most.
const SHORTEST_MS: u64 = 10_000;
const LONGEST_MS: u64 = 30_000;
/// As in the shipped catalogue.
const STABLE_UP: &str = "30s";

fn main() {
    let incidents: usize = std::env::var("VIGIE_BENCH_INCIDENTS").ok().and_then(|count| count.parse().ok()).unwrap_or(30);
    let zones = Zones::start(&SERVICES, STABLE_UP);
    let probes: Vec<_> = zones.probes.iter().flatten().zip(VANTAGES).map(|(probe, (vantage, _))| (vantage, probe.address)).collect();
    let paging = Paging::start(&[zones.aggregator.address], &probes);
    let mut random = TestRunner::new(Config::default());
    let mut draw = move |least: u64, most: u64| Duration::from_millis((least..=most).new_tree(&mut random).unwrap().current());
    let mut delays = Vec::new();
    let (mut missed, mut false_pages, mut repeated) = (0, 0, 0);
    for _ in 0..incidents.div_ceil(SERVICES.len()) {
        let begun = Instant::now();
        let known = paging.told("soc").len();
        let mut changes: Vec<(Instant, usize, bool)> = Vec::new();
        for at in 0..SERVICES.len() {
            let dies = begun + draw(0, 10_000);
            changes.extend([(dies, at, false), (dies + draw(SHORTEST_MS, LONGEST_MS), at, true)]);
        }
        changes.sort();
        for (at, service, is_up) in &changes {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            zones.webs[*service].set_up(*is_up);
        }
        // Every end that is told is told within this: stable_up, settle, scrape, evaluation, and group_interval.
        let is_told = |service: &str| {
            let told = &paging.told("soc")[known..];
            told.iter().flat_map(Told::alerts).any(|alert| alert.about == service && alert.is_over)
        };
        let until = Instant::now() + Duration::from_secs(150);
        while Instant::now() < until && !SERVICES.iter().all(|service| is_told(service)) {
            std::thread::sleep(Duration::from_millis(200));
        }
        let mut pages: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
        for told in &paging.told("soc")[known..] {
            for alert in told.alerts().into_iter().filter(|alert| !alert.is_over) {
                pages.entry(format!("{} {}", alert.name, alert.about)).or_default().push(told.at);
            }
        }
        for (dies, service, _) in changes.iter().filter(|(_, _, is_up)| !is_up) {
            let came = pages.remove(&format!("OutageOpen {}", SERVICES[*service])).unwrap_or_default();
            if came.is_empty() {
                println!("missed: {} that died {:.1?} after the last round's end", SERVICES[*service], dies.duration_since(begun));
                missed += 1;
            }
            repeated += came.len().saturating_sub(1);
            delays.extend(came.first().map(|at| at.saturating_duration_since(*dies)));
        }
        false_pages += pages.values().map(Vec::len).sum::<usize>();
    }
    delays.sort();
    let of = |percent: usize| delays.get((delays.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
    println!(
        "{} incidents of 10 to 30 s at a period of 5 s: missed {missed}, false {false_pages}, repeated {repeated}",
        delays.len() + missed
    );
    println!("from the server's death to the page: p50 {:.1?}, p95 {:.1?}, longest {:.1?}", of(50), of(95), of(100));
}
