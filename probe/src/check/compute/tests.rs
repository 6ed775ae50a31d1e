//! The check against an agent with a switch for every fault, and against the probe's own reflector, also in a process that is stopped.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::runtime::Runtime;
use vigie_contract::Span;
use vigie_contract::catalogue::{Catalogue, Strictness};
use vigie_counterparts::agent::{Agent, Guest, Manner};

use super::*;
use crate::check::{Check, build};
use crate::clock::{Clock, span, wall_now};
use crate::icmp::tests::{black_hole, in_namespace};
use crate::net::{self, Source};
use crate::resolve::Resolver;
use crate::stamp::reflector::{Counts, Ignored, Reflectors};

/// So long that no test waits for it.
const LONG: Duration = Duration::from_secs(60);
/// What the test itself must do in this time, it can on a busy machine too.
const AMPLE: Duration = Duration::from_millis(1_500);
const OK: Finding = Finding::Ok;
const TIMEOUT: Finding = Finding::Fail(Reason::Timeout);
const RESTARTED: Finding = Finding::Fail(Reason::Unhealthy);

/// A check, asked as a station asks it.
struct Asker {
    runtime: Runtime,
    net: Net,
    check: Box<dyn Check>,
}

impl Asker {
    fn new(mut settings: serde_json::Value) -> Self {
        settings["kind"] = json!("compute");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let net = Net::new(Source::default(), Resolver::of_system(), Err("none".to_owned()), net::trust(None).unwrap());
        let check = build(&settings, &net).unwrap();
        Self { runtime, net, check }
    }

    fn of(address: SocketAddr) -> Self {
        Self::new(json!({"path": "peer", "address": address.to_string()}))
    }

    fn attempt(&self, is_retry: bool, patience: Duration) -> (Finding, Trace) {
        let began = now();
        let mut trace = Trace::new(began);
        let (id, target, vantage, clock_error) = ("test", "test", "test", Span::from_us(70));
        let deadline = began + patience;
        let attempt = Attempt { net: &self.net, id, target, vantage, is_retry, wall: wall_now(), deadline, clock_error };
        let finding = self.runtime.block_on(self.check.attempt(&attempt, &mut trace));
        (finding, trace)
    }

    /// One slot: a second attempt follows a failure.
    fn slot(&self, patience: Duration) -> Finding {
        match self.attempt(false, patience).0 {
            Finding::Fail(_) => self.attempt(true, patience).0,
            other => other,
        }
    }
}

fn vitals(trace: &Trace) -> Vitals {
    trace.facts.vitals.unwrap()
}

const GUEST: Guest =
    Guest { boot: 1, up_us: 900, asleep_us: 20, lived_us: 800, ticks: 1_000, stolen_ticks: 3, waited_us: 7, clock_error_us: 5 };

#[test]
fn each_manner_of_answering_has_its_finding() {
    let request = Finding::Void(Reason::Request);
    for (manner, patience, expected) in [
        (Manner::Right, LONG, OK),
        (Manner::Lossy, LONG, OK),
        (Manner::Twice, LONG, OK),
        (Manner::Silent, AMPLE, TIMEOUT),
        (Manner::OtherSequence, AMPLE, TIMEOUT),
        (Manner::OtherTime, AMPLE, TIMEOUT),
        (Manner::OtherSession, AMPLE, TIMEOUT),
        (Manner::PlainStamp, LONG, request),
        (Manner::Short, LONG, request),
    ] {
        let agent = Agent::start(GUEST).unwrap();
        agent.set_manner(manner);
        let (finding, trace) = Asker::of(agent.address()).attempt(false, patience);
        assert_eq!(finding, expected, "{manner:?}");
        assert_eq!(trace.facts.vitals.is_some(), expected == OK, "{manner:?}");
        assert_eq!(trace.latency.is_some(), !matches!(expected, Finding::Fail(_)), "{manner:?}");
        assert!(trace.phases().any(|(phase, _)| phase == Phase::Rtt), "{manner:?}");
    }
}

#[test]
fn a_late_answer_to_an_earlier_packet_is_one_but_to_an_earlier_attempt_is_none() {
    let agent = Agent::start(GUEST).unwrap();
    let asker = Asker::of(agent.address());
    assert_eq!(asker.slot(LONG), OK);
    agent.set_manner(Manner::Late);
    assert_eq!(asker.slot(LONG), OK, "the second packet brings the answer to the first, after that to the last attempt's");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(AMPLE)).unwrap();
    socket.send_to(&[0; 44], agent.address()).unwrap();
    let mut room = [0; 9_216];
    let (late, _) = socket.recv_from(&mut room).unwrap();
    assert!(Vitals::told(&room[44..late]).is_some(), "what the asker was sent and did not take was an answer");
}

#[test]
fn a_starved_vm_lives_and_says_how_it_is() {
    let starved = Guest { stolen_ticks: 990, waited_us: 5_000_000, asleep_us: 20_000_000, clock_error_us: 9_000_000, ..GUEST };
    let agent = Agent::start(starved).unwrap();
    let (finding, trace) = Asker::of(agent.address()).attempt(false, LONG);
    let (us, told) = (Span::from_us, vitals(&trace));
    assert_eq!((finding, told.stolen_ticks, told.ticks, told.up, told.lived), (OK, 990, 1_000, us(900), Some(us(800))));
    assert_eq!((told.waited, told.asleep, told.clock_error), (Some(us(5_000_000)), us(20_000_000), Some(us(9_000_000))));
}

#[test]
fn a_restart_between_two_slots_fails_the_one_that_sees_it_and_no_other() {
    let agent = Agent::start(GUEST).unwrap();
    let asker = Asker::of(agent.address());
    assert_eq!([asker.slot(LONG), asker.slot(LONG)], [OK, OK]);
    agent.set_guest(Guest { boot: 2, up_us: 1, ..GUEST });
    assert_eq!([asker.slot(LONG), asker.slot(LONG)], [RESTARTED, OK]);
    assert_eq!(Asker::of(agent.address()).slot(LONG), OK, "who never heard it before cannot tell");
}

#[test]
fn a_restart_that_failed_slots_ends_with_the_first_answer() {
    let agent = Agent::start(GUEST).unwrap();
    let asker = Asker::of(agent.address());
    assert_eq!(asker.slot(LONG), OK);
    agent.set_manner(Manner::Silent);
    assert_eq!(asker.slot(AMPLE), TIMEOUT);
    agent.set_guest(Guest { boot: 2, ..GUEST });
    agent.set_manner(Manner::Right);
    assert_eq!([asker.slot(LONG), asker.slot(LONG)], [OK, OK]);
    agent.set_guest(Guest { boot: 3, ..GUEST });
    assert_eq!([asker.slot(LONG), asker.slot(LONG)], [RESTARTED, OK], "what failed before the last answer excuses nothing");
}

#[test]
fn a_restart_is_not_lost_by_what_was_no_sample_of_a_failure() {
    let agent = Agent::start(GUEST).unwrap();
    let asker = Asker::of(agent.address());
    assert_eq!(asker.slot(LONG), OK);
    agent.set_guest(Guest { boot: 2, ..GUEST });
    assert_eq!(asker.attempt(false, LONG).0, RESTARTED, "the probe was starved: no second attempt, and a void sample");
    agent.set_manner(Manner::Silent);
    assert_eq!(asker.attempt(false, AMPLE).0, TIMEOUT);
    agent.set_manner(Manner::PlainStamp);
    assert_eq!(asker.attempt(true, LONG).0, Finding::Void(Reason::Request));
    agent.set_manner(Manner::Right);
    assert_eq!([asker.slot(LONG), asker.slot(LONG)], [RESTARTED, OK]);
}

#[test]
fn a_restart_that_the_second_attempt_sees_fails_the_slot_though_the_first_got_no_answer() {
    let agent = Agent::start(GUEST).unwrap();
    let asker = Asker::of(agent.address());
    assert_eq!(asker.slot(LONG), OK);
    agent.set_manner(Manner::Silent);
    assert_eq!(asker.attempt(false, AMPLE).0, TIMEOUT);
    agent.set_guest(Guest { boot: 2, ..GUEST });
    agent.set_manner(Manner::Right);
    assert_eq!(asker.attempt(true, LONG).0, RESTARTED);
    assert_eq!(asker.slot(LONG), OK);
}

#[test]
fn the_catalogue_in_the_documentation_can_be_read() {
    let (_, text) = include_str!("../compute.rs").split_once("//! ```toml\n").unwrap();
    let lines = text.split_once("//! ```\n").unwrap().0.lines().map(|line| line.trim_start_matches("//!").trim_start());
    let indicator = ["[[indicator]]", "id = \"IC-INFRA_SNC-01\"", "objective = \"99.99\""];
    let text = indicator.into_iter().chain(lines).collect::<Vec<_>>().join("\n");
    let (catalogue, _) = Catalogue::read(&text, Strictness::Replay).unwrap();
    let plans: Vec<_> = catalogue.targets.iter().flat_map(|target| target.plan.all()).collect();
    plans.iter().for_each(|plan| crate::check::validate(plan.check.as_ref().unwrap()).unwrap());
    assert_eq!(plans.iter().map(|plan| (plan.vantages.len(), plan.down_quorum)).collect::<Vec<_>>(), [(2, 2), (2, 2), (1, 1), (2, 2)]);
}

fn reflector(peer: &str) -> (Reflectors, SocketAddr, Arc<Counts>) {
    let (mut reflectors, counts) = (Reflectors::default(), Arc::new(Counts::default()));
    let (address, peers, clock) = ("127.0.0.1:0".parse().unwrap(), [peer.parse().unwrap()], Arc::new(Clock::new()));
    let listens = reflectors.start(address, &peers, clock, Arc::clone(&counts)).unwrap();
    (reflectors, listens, counts)
}

#[test]
fn our_agent_tells_of_this_machine_what_the_machine_says_itself() {
    let (_reflectors, address, _) = reflector("127.0.0.1");
    let (peer, own) = (Asker::of(address).attempt(false, LONG), Asker::new(json!({"path": "self"})).attempt(false, LONG));
    assert_eq!((peer.0, own.0), (OK, OK));
    let (peer, own) = (vitals(&peer.1), vitals(&own.1));
    assert_eq!(peer.boot, own.boot);
    assert!(peer.up > Span::ZERO && peer.up <= own.up && peer.ticks <= own.ticks, "{peer:?} {own:?}");
    assert!(peer.lived.is_some() && own.lived.is_none(), "nobody counts it between two slots");
    assert_eq!((peer.clock_error, own.clock_error), (None, Some(Span::from_us(70))));
}

#[test]
fn an_undeclared_peer_is_told_nothing() {
    let (_reflectors, address, counts) = reflector("192.0.2.1");
    assert_eq!(Asker::of(address).attempt(false, AMPLE).0, TIMEOUT);
    assert_eq!((counts.answered(), counts.ignored(Ignored::Undeclared)), (0, 3));
}

#[test]
fn a_system_without_an_agent_says_nothing_about_the_vm_and_no_route_fails() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(Asker::of(nobody).slot(LONG), Finding::Void(Reason::Request));
    in_namespace(black_hole, || {
        assert_eq!(Asker::of("192.0.2.7:862".parse().unwrap()).slot(AMPLE), TIMEOUT);
        assert_eq!(Asker::of("198.51.100.1:862".parse().unwrap()).slot(LONG), Finding::Fail(Reason::Unreachable));
    });
}

/// Not a test: the process of [`Stopped`]. It runs until nobody reads what it prints any more.
#[test]
#[ignore = "started by another test"]
#[expect(clippy::print_stdout, reason = "the test that starts it reads it")]
fn agent_process() {
    let (_reflectors, address, _) = reflector("127.0.0.1");
    println!("\nagent {address}");
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

/// Our agent in a process that can be stopped as a hypervisor stops a VM.
struct Process(Child);

impl Process {
    fn start() -> (Self, SocketAddr) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "check::compute::tests::agent_process", "--ignored", "--nocapture"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.map(|line| line.strip_prefix("agent ").map(|address| address.parse().unwrap())).find_map(|found| found);
        (Self(child), address.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_paused_vm_fails_while_it_is_paused_and_then_says_that_it_did_not_live() {
    let (process, address) = Process::start();
    let asker = Asker::of(address);
    let (finding, before) = asker.attempt(false, LONG);
    assert_eq!(finding, OK);
    process.signal(Signal::SIGSTOP);
    let paused = now();
    assert_eq!(asker.slot(AMPLE), TIMEOUT);
    let paused = span(paused.elapsed());
    process.signal(Signal::SIGCONT);
    let (finding, after) = asker.attempt(true, LONG);
    assert_eq!(finding, OK, "the same boot: it is back");
    let (before, after) = (vitals(&before), vitals(&after));
    let unlived = (after.up - before.up) - (after.lived.unwrap() - before.lived.unwrap());
    assert!(unlived >= paused - Span::from_us(500_000), "{unlived} of {paused}");
    assert_eq!(before.boot, after.boot);
}
