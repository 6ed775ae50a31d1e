//! An end that is asked for comes soon, whatever else goes on; and answers are given from the first moment.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use vigie_aggregator::port::EvidenceLog;
use vigie_aggregator::sqlite::{Access, DataDir, SqliteLog};
use vigie_tests::program::{Program, wait_for};
use vigie_tests::region::{Region, Web, start_aggregator_at, write_catalogue};

/// A connection that has sent `text` and whose first answer, if one is expected, has come.
fn connect(program: &Program, text: &str, is_answered: bool) -> TcpStream {
    let mut stream = TcpStream::connect(program.address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    if is_answered {
        assert_ne!(stream.read(&mut [0; 64]).unwrap(), 0);
    }
    stream
}

const EVENTS: &str = "GET /api/v1/events HTTP/1.1\r\nhost: a\r\n\r\n";
const HALF: &str = "GET /metrics HTTP/1.1\r\nhos";

#[test]
fn open_pages_and_half_requests_hold_nobody_up() {
    let Region { dir, webs, aggregator, probe } = Region::start();
    let open = [connect(&aggregator, EVENTS, true), connect(&aggregator, HALF, false), connect(&probe, HALF, false)];
    assert!(aggregator.stop().success());
    assert!(probe.stop().success());
    let run = Program::start(dir.path(), &["run", "--catalogue", "c.toml", "--data", "other"]);
    wait_for("a state", || (run.get("/readyz").0 == 200).then_some(()));
    let page = connect(&run, EVENTS, true);
    assert!(run.stop().success());
    drop((open, page, webs));
}

#[test]
fn a_region_that_is_still_reading_its_log_says_so_and_ends_when_it_is_told_to() {
    let (dir, web) = (tempfile::tempdir().unwrap(), Web::start());
    write_catalogue(&dir.path().join("c.toml"), &["v"], &[("a", web.address), ("b", web.address)]);
    std::fs::write(dir.path().join("tokens"), "").unwrap();
    let data = DataDir::open(&dir.path().join("data"), Access::Serve).unwrap();
    let ticks = vec![b"{\"v\":1,\"type\":\"tick\"}".to_vec(); 5_000];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { SqliteLog::open(&data).unwrap().append(&ticks).await }).unwrap();
    drop(data);
    // While somebody else writes, the store takes nothing, and the log is never read to its end.
    let lock = rusqlite::Connection::open(dir.path().join("data/vigie.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let aggregator = start_aggregator_at(dir.path(), "127.0.0.1:0");
    assert_eq!(aggregator.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(aggregator.get("/readyz"), (503, "starting\n".to_owned()));
    assert_eq!(aggregator.json("/api/v1/status")["stale"]["cause"], "starting");
    assert!(aggregator.stop().success());

    let aggregator = start_aggregator_at(dir.path(), "127.0.0.1:0");
    lock.execute_batch("ROLLBACK").unwrap();
    wait_for("the catalogue to be in force", || (aggregator.get("/readyz").0 == 200).then_some(()));
    // Once more nothing can be written: that is worth a few seconds, but not to whoever asks twice.
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    aggregator.signal(Signal::SIGINT);
    assert_eq!(aggregator.stop().code(), Some(1));
}
