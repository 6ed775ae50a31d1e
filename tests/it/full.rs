//! Full disks while a region runs: it measures on, says so, and recovers when there is room (DESIGN §5).

use vigie_tests::disk::Disk;
use vigie_tests::program::{Program, wait_for};
use vigie_tests::region::{Region, Web, start_probe};

/// Waits until a metric has risen by `more`.
fn rises(program: &Program, metric: &str, more: f64) {
    let before = program.metric(metric);
    wait_for(metric, || (program.metric(metric) >= before + more).then_some(()));
}

#[test]
fn a_probe_whose_disk_is_full_measures_on_and_delivers_from_memory() {
    let Region { dir, aggregator, probe, webs } = Region::start();
    probe.stop();
    let Some(disk) = Disk::mount(&dir.path().join("vigie-spool"), 256) else { return };
    let probe = start_probe(dir.path(), &aggregator);
    rises(&probe, "vigie_probe_samples_delivered_total", 2.0);
    disk.fill();
    rises(&probe, "vigie_probe_spool_failures_total", 1.0);
    rises(&probe, "vigie_probe_samples_delivered_total", 6.0);
    assert_eq!(probe.metric("vigie_probe_samples_dropped_total"), 0.0);
    disk.make_room();
    rises(&probe, "vigie_probe_samples_delivered_total", 3.0);
    let failures = probe.metric("vigie_probe_spool_failures_total");
    rises(&probe, "vigie_probe_samples_delivered_total", 6.0);
    assert_eq!(probe.metric("vigie_probe_spool_failures_total"), failures, "it spools again");
    assert!(probe.log().contains("cannot spool"), "{}", probe.log());
    drop((probe, webs));
}

#[test]
fn an_aggregator_whose_disk_is_full_says_so_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(&dir.path().join("disk"), 4_096) else { return };
    let webs: Vec<Web> = (0..3).map(|_| Web::start()).collect();
    let region = Region::start_in(dir, webs, "disk/data");
    disk.fill();
    let states = || region.aggregator.json("/api/v1/status");
    wait_for("a stale region", || (!states()["stale"].is_null()).then_some(()));
    assert!(region.is_all("unknown"));
    // Meanwhile a service dies: the probe keeps what it saw.
    region.webs[2].set_up(false);
    wait_for("samples in the spool", || (region.probe.metric("vigie_probe_samples_spooled") >= 6.0).then_some(()));
    disk.make_room();
    wait_for("the window", || {
        let windows = region.aggregator.json("/api/v1/windows?service=web/r1");
        (windows["windows"].as_array().unwrap().len() == 1).then_some(())
    });
    region.mend_web();
    assert_eq!(region.probe.metric("vigie_probe_samples_dropped_total"), 0.0);
    drop(region);
}
