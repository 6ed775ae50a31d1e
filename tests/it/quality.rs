//! Detection quality on a small scale: `benches/quality.rs` has the figures of a week.

use vigie_contract::Span;
use vigie_tests::quality::{Report, Settings, run};

/// Eight hours in which one attempt in five hundred fails for no reason.
fn eight_hours(seed: u64, retries: bool) -> Report {
    run(&Settings { seed, length: Span::from_secs(8 * 3_600), noise: 500, retries })
}

#[test]
fn no_outage_of_two_periods_is_missed_and_none_is_invented() {
    for seed in 0..3 {
        let report = eight_hours(seed, true);
        let engine = report.engine();
        assert!(engine.long > 10, "seed {seed}: {} outages show nothing", engine.long);
        assert_eq!((engine.missed, engine.false_windows, report.groundless), (0, 0, 0), "seed {seed}:\n{report}");
    }
}

#[test]
fn the_same_seed_gives_the_same_report() {
    assert_eq!(eight_hours(7, true), eight_hours(7, true));
    assert_ne!(eight_hours(7, true), eight_hours(8, true));
}

/// What the simulation is worth: a probe that does not try again would be seen to invent outages.
#[test]
fn without_the_second_attempt_noise_becomes_outages() {
    let report = eight_hours(0, false);
    assert!(report.engine().false_windows > 0, "{report}");
}
