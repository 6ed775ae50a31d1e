//! The check against an agent with a switch for every fault, and against the probe's own reflector, also in a process that is stopped.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::json;
use tokio::runtime::Runtime;
use vigie_contract::Span;
use vigie_contract::catalogue::{Catalogue, Strictness};
use vigie_counterparts::agent::{Agent, Guest, Manner};

use super::*;
use crate::check::truth::{self, Truth, void};
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

/// How the agent answers, and how the attempt ends.
const MANNERS_TABLE: [(Manner, Finding, Phase); 9] = [
    (Manner::Right, OK, Phase::Rtt),
    (Manner::Lossy, OK, Phase::Rtt),
    (Manner::Twice, OK, Phase::Rtt),
    (Manner::Silent, TIMEOUT, Phase::Rtt),
    (Manner::OtherSequence, TIMEOUT, Phase::Rtt),
    (Manner::OtherTime, TIMEOUT, Phase::Rtt),
    (Manner::OtherSession, TIMEOUT, Phase::Rtt),
    (Manner::PlainStamp, void(Reason::Request), Phase::Rtt),
    (Manner::Short, void(Reason::Request), Phase::Rtt),
];

/// What is waited for to the end.
fn patience(found: Finding) -> Duration {
    if found == TIMEOUT { AMPLE } else { LONG }
}

#[test]
fn answers_end_where_the_table_says() {
    for (manner, found, phase) in MANNERS_TABLE {
        let agent = Agent::start(GUEST).unwrap();
        agent.set_manner(manner);
        let (met, trace) = Asker::of(agent.address()).attempt(false, patience(found));
        assert_eq!((met, trace.last), (found, Some(phase)), "{manner:?}");
        assert_eq!(trace.facts.vitals.is_some(), found == OK, "{manner:?}");
        assert_eq!(trace.latency.is_some(), !matches!(found, Finding::Fail(_)), "{manner:?}");
    }
}

/// Who answers an attempt: the VM, booted so many times, or nobody, or a reflector without an agent.
#[derive(Clone, Copy, Debug)]
enum Heard {
    Boot(u128),
    Nobody,
    PlainStamp,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// A slot: a second attempt follows a failure.
    Slot(Heard),
    /// A first attempt that no second follows, since the probe excuses what it found.
    First(Heard),
    /// A second attempt, whatever the first one has heard.
    Second(Heard),
}

use Heard::{Boot, Nobody, PlainStamp};
use Turn::{First, Second, Slot};

/// What one asker meets in turn, and how each ends.
const HISTORIES_TABLE: [(&str, &[(Turn, Finding)]); 5] = [
    ("it restarts between two slots", &[(Slot(Boot(1)), OK), (Slot(Boot(1)), OK), (Slot(Boot(2)), RESTARTED), (Slot(Boot(2)), OK)]),
    ("who never heard it before cannot tell", &[(Slot(Boot(2)), OK)]),
    (
        "a restart that failed slots ends with the first answer, and excuses no later one",
        &[
            (Slot(Boot(1)), OK),
            (Slot(Nobody), TIMEOUT),
            (Slot(Boot(2)), OK),
            (Slot(Boot(2)), OK),
            (Slot(Boot(3)), RESTARTED),
            (Slot(Boot(3)), OK),
        ],
    ),
    (
        "what made no sample of a failure excuses nothing",
        &[
            (Slot(Boot(1)), OK),
            (First(Boot(2)), RESTARTED),
            (First(Nobody), TIMEOUT),
            (Second(PlainStamp), void(Reason::Request)),
            (Slot(Boot(2)), RESTARTED),
            (Slot(Boot(2)), OK),
        ],
    ),
    (
        "only the second attempt gets an answer, of another boot",
        &[(Slot(Boot(1)), OK), (First(Nobody), TIMEOUT), (Second(Boot(2)), RESTARTED), (Slot(Boot(2)), OK)],
    ),
];

#[test]
fn restarts_end_where_the_table_says() {
    for (what, turns) in HISTORIES_TABLE {
        let agent = Agent::start(GUEST).unwrap();
        let asker = Asker::of(agent.address());
        for (at, (turn, found)) in turns.iter().enumerate() {
            let (Slot(heard) | First(heard) | Second(heard)) = *turn;
            match heard {
                Boot(boot) => {
                    agent.set_guest(Guest { boot, ..GUEST });
                    agent.set_manner(Manner::Right);
                }
                Nobody => agent.set_manner(Manner::Silent),
                PlainStamp => agent.set_manner(Manner::PlainStamp),
            }
            let met = match turn {
                Slot(_) => asker.slot(patience(*found)),
                First(_) => asker.attempt(false, patience(*found)).0,
                Second(_) => asker.attempt(true, patience(*found)).0,
            };
            assert_eq!(met, *found, "{what}: {turn:?}, number {at}");
        }
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

    /// Waits until it does nothing any more: who sends it the signal goes on before that.
    fn await_stop(&self) {
        waitpid(Pid::from_raw(self.0.id() as i32), Some(WaitPidFlag::WUNTRACED)).unwrap();
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
    process.await_stop();
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

/// For `probe/README.md`: those of the witness, too.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let answer = |(manner, finding, phase): &(Manner, Finding, Phase)| truth::row(truth::fault(manner), *finding, *phase);
    let history = |(what, turns): &(&str, &[(Turn, Finding)])| {
        let turns: Vec<_> = turns.iter().map(|(turn, finding)| format!("{} {}", truth::fault(turn), truth::outcome(*finding))).collect();
        vec![(*what).to_owned(), turns.join(", ")]
    };
    let mut tables = vec![
        Truth {
            title: "compute, a peer: the agent answers so",
            columns: &["manner", "outcome", "phase"],
            rows: MANNERS_TABLE.iter().map(answer).collect(),
        },
        Truth {
            title: "compute, a peer: in turn",
            columns: &["what happens", "who is heard, and the outcome"],
            rows: HISTORIES_TABLE.iter().map(history).collect(),
        },
    ];
    tables.extend(witness::truth());
    tables
}
