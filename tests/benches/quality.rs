//! How well outages are detected, beside two usual rules: `cargo bench -p vigie-tests --bench quality`. Figures are printed, nothing is
//! asserted; they follow from the seed and are the same on every machine.
//!
//! `VIGIE_BENCH_DAYS` sets how many days are simulated (7 by default), `VIGIE_BENCH_SEED` which ones.

#![expect(clippy::print_stdout, clippy::panic, reason = "a benchmark prints, and panics at a number that is none")]

use vigie_contract::Span;
use vigie_tests::quality::{Settings, run};

fn number(name: &str, default: u32) -> u32 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}"))
}

fn main() {
    let (days, seed) = (number("VIGIE_BENCH_DAYS", 7), number("VIGIE_BENCH_SEED", 20_261_129));
    println!("VIGIE_BENCH_DAYS={days} VIGIE_BENCH_SEED={seed} cargo bench -p vigie-tests --bench quality\n");
    let length = Span::from_secs(i64::from(days) * 86_400);
    println!("{}", run(&Settings { seed: seed.into(), length, noise: 1_000, retries: true }));
}
