//! What is stale is never shown as well (DESIGN §2), and a probe that did not run blames nobody.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use vigie_tests::kafka::wrong_clock;
use vigie_tests::program::{Program, sum_of, wait_for};
use vigie_tests::region::{Region, start_aggregator_at, start_probe};

#[test]
fn a_log_that_takes_nothing_turns_everything_unknown_with_its_cause_and_back() {
    let region = Region::start();
    let lock = rusqlite::Connection::open(region.dir.path().join("data/vigie.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let stale = wait_for("a stale region", || {
        let status = region.aggregator.json("/api/v1/status");
        (!status["stale"].is_null()).then_some(status)
    });
    let cause = stale["stale"]["cause"].as_str().unwrap();
    assert!(["frontier_lags", "append_failing"].contains(&cause), "{cause}");
    // The frontier tells when it was noticed: DESIGN §2 says settle + 10 s, the issue 15 s; a request of the API comes on top.
    let lag_us = stale["now_us"].as_i64().unwrap() - stale["frontier_us"].as_i64().unwrap();
    assert!(cause == "append_failing" || (11_000_000..15_000_000).contains(&lag_us), "{lag_us}");
    let states = |of: &str| -> Vec<Value> { stale[of].as_array().unwrap().iter().map(|one| one["state"].clone()).collect() };
    assert!(states("services").iter().chain(&states("targets")).all(|state| state == "unknown"), "{stale}");
    assert!(region.is_all("unknown"));
    for path in ["windows", "accounts", "timeline", "claims", "exclusions", "latencies", "explanation?service=a/r1&at=0", "services"] {
        let answer = region.aggregator.json(&format!("/api/v1/{path}"));
        assert_eq!(answer["stale"]["cause"], cause, "{path}: {answer}");
        assert!(answer["frontier_us"].is_i64(), "{path}: {answer}");
    }
    assert!(stale["services"].as_array().unwrap().iter().all(|service| service["coverage"] == 0.0 && service["margin"] == -1), "{stale}");
    assert!(stale["vantages"][0]["gated"].is_null(), "{stale}");
    let metrics = region.aggregator.get("/metrics").1;
    for absent in ["vigie_gate_active{", "vigie_burn_rate_ratio{", "vigie_window_restoring{", "vigie_window_open_since_timestamp_seconds{"]
    {
        assert!(!metrics.contains(absent), "{absent} in {metrics}");
    }
    // 1 is unknown: one for each of three services.
    let states = metrics.lines().filter(|line| line.starts_with("vigie_service_state{"));
    assert_eq!(states.filter(|line| line.ends_with("} 1")).count(), 3, "{metrics}");
    assert_eq!(sum_of(&metrics, &format!("vigie_stale{{group=\"main\",cause=\"{cause}\"")), 1.0, "{metrics}");
    assert_eq!(region.aggregator.get("/readyz").0, 503);
    assert_eq!(region.aggregator.get("/healthz").0, 200);
    lock.execute_batch("ROLLBACK").unwrap();
    wait_for("all services up again", || region.is_all("up").then_some(()));
    assert_eq!(region.aggregator.get("/readyz").0, 200);
    assert!(region.aggregator.json("/api/v1/windows")["windows"].as_array().unwrap().is_empty());
}

#[test]
fn a_probe_that_was_stopped_counts_its_slots_as_void_and_none_as_failed() {
    let region = Region::start();
    let before = region.probe.get("/metrics").1;
    region.probe.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(5));
    region.probe.signal(Signal::SIGCONT);
    let of = |text: &str, name: &str| sum_of(text, name);
    let results = |text: &str, result: &str| -> f64 {
        ["a", "b", "web"]
            .iter()
            .map(|target| of(text, &format!("vigie_probe_samples_total{{instance=\"{target}\",probe=\"v\",result=\"{result}\"}}")))
            .sum()
    };
    let after = wait_for("the slots of the pause", || {
        let text = region.probe.get("/metrics").1;
        let is_settled = of(&text, "vigie_probe_slots_due_total") == of(&text, "vigie_probe_samples_made_total")
            && of(&text, "vigie_probe_in_flight") == 0.0;
        (is_settled && results(&text, "ok") > results(&before, "ok")).then_some(text)
    });
    // Two or three slots of each of three targets came due meanwhile.
    assert!(results(&after, "void") - results(&before, "void") >= 6.0, "{after}");
    assert_eq!(results(&after, "fail"), 0.0, "{after}");
    assert!(region.aggregator.json("/api/v1/windows")["windows"].as_array().unwrap().is_empty());
}

#[test]
fn a_probe_without_its_aggregator_keeps_its_samples_and_delivers_them_later() {
    let Region { dir, webs, aggregator, probe } = Region::start();
    let address = aggregator.address.to_string();
    aggregator.kill();
    webs[2].set_up(false);
    let failed = |probe: &Program| probe.metric("vigie_probe_samples_total{instance=\"web\",probe=\"v\",result=\"fail\"}");
    wait_for("two failures that nobody has heard of", || (failed(&probe) >= 2.0).then_some(()));
    // The probe dies, too: its spool does not.
    probe.kill();
    webs[2].set_up(true);
    let aggregator = start_aggregator_at(dir.path(), &address);
    let probe = start_probe(dir.path(), &aggregator);
    wait_for("the spool to drain", || (probe.metric("vigie_probe_samples_spooled") == 0.0).then_some(()));
    wait_for("the window of the cut", || {
        let windows = aggregator.json("/api/v1/windows?service=web/r1&status=closed");
        (windows["windows"].as_array().unwrap().len() == 1).then_some(())
    });
    assert_eq!(probe.metric("vigie_probe_samples_dropped_total"), 0.0);
    assert!(probe.metric("vigie_probe_samples_recovered_total") >= 2.0);
}

#[test]
fn a_probe_whose_clock_is_an_hour_off_gives_no_evidence_of_another_hour() {
    let Region { dir, webs, aggregator, probe } = Region::start();
    assert!(probe.stop().success());
    // Down, so that evidence of the wrong hour would be an outage in it.
    webs[2].set_up(false);
    let voided = || aggregator.metric("vigie_samples_voided_total{group=\"main\",vantage=\"v\"");
    let url = format!("http://{}", aggregator.address);
    let args = ["probe", "--catalogue", "c.toml", "--vantage", "v", "--aggregator", &url];
    for offset_ms in [-3_600_000, 3_600_000] {
        let before = voided();
        let probe = Program::start_with(dir.path(), &args, &wrong_clock(offset_ms));
        wait_for("voids", || (voided() >= before + 6.0).then_some(()));
        let made = || probe.metric("vigie_probe_samples_made_total") - probe.metric("vigie_probe_samples_spooled");
        wait_for("as many voids as samples", || (voided() - before >= made()).then_some(()));
        let windows = aggregator.json("/api/v1/windows");
        assert!(windows["windows"].as_array().unwrap().is_empty(), "{offset_ms}: {windows}");
        assert!(probe.stop().success());
    }
}
