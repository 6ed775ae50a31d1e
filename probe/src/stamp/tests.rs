//! The check and the reflector on real sockets: each other's, a reflector written from the RFC alone, and a relay that loses and reorders.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use vigie_contract::{Reason, Span};

use super::echo::{MOST_BYTES, MOST_CONNECTIONS};
use super::packet::{ErrorEstimate, LENGTH, Reply, Request, Stamp};
use super::reflector::{Counts, Ignored, Reflectors};
use crate::check::truth::{self, Truth, fail};
use crate::check::{self, Attempt, Finding, Phase, Trace};
use crate::clock::{Clock, now, wall_now};
use crate::icmp::tests::{black_hole, configure, in_namespace};
use crate::net::{self, Net, Source};
use crate::resolve::Resolver;

/// So long that no test waits for it.
const LONG: Duration = Duration::from_secs(60);
/// What the test itself must do in this time, it can on a busy machine too.
const AMPLE: Duration = Duration::from_secs(2);
const LOOPBACK: &str = "127.0.0.1:0";

fn reflector(address: &str, peers: &[&str]) -> (Reflectors, SocketAddr, Arc<Counts>) {
    let peers: Vec<_> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    let (mut reflectors, counts) = (Reflectors::default(), Arc::new(Counts::default()));
    let address = reflectors.start(address.parse().unwrap(), &peers, Arc::new(Clock::new()), Arc::clone(&counts)).unwrap();
    (reflectors, address, counts)
}

/// One attempt of the check `network` with these settings.
fn attempt(mut settings: serde_json::Value, clock_error: Span, patience: Duration) -> (Finding, Trace) {
    settings["kind"] = json!("network");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let net = Net::new(Source::default(), Resolver::of_system(), Err("none".to_owned()), net::trust(None).unwrap());
        let check = check::build(&settings, &net).unwrap();
        let (began, wall) = (now(), wall_now());
        let mut trace = Trace::new(began);
        let (target, vantage, is_retry, deadline) = ("test", "test", false, began + patience);
        let attempt = Attempt { net: &net, id: "test", target, vantage, is_retry, wall, deadline, clock_error };
        let finding = check.attempt(&attempt, &mut trace).await;
        (finding, trace)
    })
}

/// A server that answers each datagram with what `answers` makes of it. Its thread lives as long as the tests.
fn serve(answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    serve_at(UdpSocket::bind(LOOPBACK).unwrap(), answers)
}

fn serve_at(socket: UdpSocket, mut answers: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut room = [0; 9_216];
        while let Ok((length, from)) = socket.recv_from(&mut room) {
            answers(&room[..length]).iter().for_each(|answer| drop(socket.send_to(answer, from)));
        }
    });
    address
}

/// A relay before the reflector at `to`; `back` says what is sent back when this many answers have come, the last of which it is given.
fn relay(to: SocketAddr, mut back: impl FnMut(usize, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let behind = UdpSocket::bind(LOOPBACK).unwrap();
    behind.connect(to).unwrap();
    let mut count = 0;
    serve(move |request| {
        let mut room = [0; 9_216];
        behind.send(request).unwrap();
        let length = behind.recv(&mut room).unwrap();
        count += 1;
        back(count, room[..length].to_vec())
    })
}

/// A stateless reflector, from the figures of RFC 8762 and nothing of ours: octets moved by hand.
fn independent_reflector() -> SocketAddr {
    independent_reflector_at(UdpSocket::bind(LOOPBACK).unwrap())
}

fn independent_reflector_at(socket: UdpSocket) -> SocketAddr {
    fn ntp() -> [u8; 8] {
        let us = wall_now().us() as u64;
        let seconds = (us / 1_000_000 + 2_208_988_800) as u32;
        let fraction = (((us % 1_000_000) << 32) / 1_000_000) as u32;
        [seconds.to_be_bytes(), fraction.to_be_bytes()].concat().try_into().unwrap()
    }
    serve_at(socket, |request| {
        let received = ntp();
        let mut reply = request.to_vec();
        reply[24..38].copy_from_slice(&request[..14]);
        reply[16..24].copy_from_slice(&received);
        // Multiplier 1, scale 22: 2^-10 s.
        reply[12..16].copy_from_slice(&[0x80 | 0x16, 1, 0, 0]);
        reply[38..44].copy_from_slice(&[0, 0, 255, 0, 0, 0]);
        reply[4..12].copy_from_slice(&ntp());
        vec![reply]
    })
}

fn exchange(trace: &Trace) -> super::Exchange {
    trace.facts.exchange.unwrap()
}

#[test]
fn our_sender_and_our_reflector_understand_each_other_over_both_versions() {
    for (address, peer) in [(LOOPBACK, "127.0.0.0/8"), ("[::1]:0", "::1")] {
        let (_reflectors, to, counts) = reflector(address, &[peer]);
        let (finding, trace) = attempt(json!({"address": to.to_string()}), Span::ZERO, LONG);
        let measured = exchange(&trace);
        assert_eq!((finding, measured.sent, measured.replied, measured.ignored, measured.reordered), (Finding::Ok, 5, 5, 0, 0));
        assert!(measured.round_trip.is_some_and(|rtt| rtt >= Span::ZERO) && measured.jitter.is_some());
        assert_eq!(measured.one_way, None, "neither knows how far its clock is off");
        assert_eq!(trace.latency, measured.round_trip);
        assert_eq!(trace.phases().find(|(phase, _)| *phase == Phase::Rtt).map(|(_, length)| length), measured.round_trip);
        assert_eq!(counts.answered(), 5);
    }
}

#[test]
fn any_stamp_reflector_can_be_the_peer() {
    let to = independent_reflector();
    let (finding, trace) = attempt(json!({"address": to.to_string(), "packets": 3}), Span::from_us(700), LONG);
    let measured = exchange(&trace);
    assert_eq!((finding, measured.replied, measured.ignored), (Finding::Ok, 3, 0));
    let one_way = measured.one_way.unwrap();
    // Both clocks are one, so that each way takes between nothing and all of it, but for the microsecond that stamps are rounded to.
    let error = one_way.error.us();
    assert!((1_676..1_700).contains(&error), "700 and 977 microseconds: {error}");
    for way in [one_way.forward, one_way.back] {
        assert!((-error..LONG.as_micros() as i64).contains(&way.us()), "{one_way:?}");
    }
}

/// What a relay sends back when this many answers have come, the last of which it is given.
type Back = fn(usize, Vec<u8>) -> Vec<Vec<u8>>;

/// What becomes of the answers to three packets, under which settings, how the attempt ends, and how many of the three were answered.
type Row = (&'static str, Back, &'static str, Finding, Phase, u32);

const ANSWERS_TABLE: [Row; 13] = [
    ("all come", |_, answer| vec![answer], r#"{"most_lost": 0}"#, Finding::Ok, Phase::Rtt, 3),
    ("one comes", only_the_second, "{}", Finding::Ok, Phase::Rtt, 1),
    ("one comes", only_the_second, r#"{"most_lost": 1}"#, fail(Reason::Timeout), Phase::Rtt, 1),
    ("two come", |count, answer| if count == 2 { vec![] } else { vec![answer] }, r#"{"most_lost": 1}"#, Finding::Ok, Phase::Rtt, 2),
    ("none comes", |_, _| vec![], "{}", fail(Reason::Timeout), Phase::Rtt, 0),
    ("each comes twice", |_, answer| vec![answer.clone(), answer], r#"{"most_lost": 0}"#, Finding::Ok, Phase::Rtt, 3),
    ("noise comes before each", |_, answer| vec![vec![0; 20], answer], r#"{"most_lost": 0}"#, Finding::Ok, Phase::Rtt, 3),
    ("each has another number", |_, answer| vec![with_other(27, answer)], "{}", fail(Reason::Timeout), Phase::Rtt, 0),
    ("each has another time", |_, answer| vec![with_other(35, answer)], "{}", fail(Reason::Timeout), Phase::Rtt, 0),
    ("each is of another session", |_, answer| vec![with_other(15, answer)], "{}", fail(Reason::Timeout), Phase::Rtt, 0),
    ("all come", |_, answer| vec![answer], r#"{"mtu": 1500}"#, Finding::Ok, Phase::Rtt, 3),
    ("only small ones come", only_small, "{}", Finding::Ok, Phase::Rtt, 3),
    ("only small ones come", only_small, r#"{"mtu": 1500}"#, fail(Reason::Unhealthy), Phase::Rtt, 3),
];

fn only_the_second(count: usize, answer: Vec<u8>) -> Vec<Vec<u8>> {
    if count == 2 { vec![answer] } else { vec![] }
}

fn only_small(_: usize, answer: Vec<u8>) -> Vec<Vec<u8>> {
    if answer.len() > LENGTH { vec![] } else { vec![answer] }
}

/// The answer with another octet there.
fn with_other(at: usize, mut answer: Vec<u8>) -> Vec<u8> {
    answer[at] ^= 0x81;
    answer
}

#[test]
fn answers_end_where_the_table_says() {
    let (_reflectors, to, _) = reflector(LOOPBACK, &["127.0.0.1"]);
    let meet = |(what, back, more, found, phase, replied): Row| {
        let mut settings: serde_json::Value = serde_json::from_str(more).unwrap();
        (settings["address"], settings["packets"]) = (json!(relay(to, back).to_string()), json!(3));
        // What is lost is waited for to the end.
        let patience = if replied < 3 || found != Finding::Ok { AMPLE } else { LONG };
        let (met, trace) = attempt(settings, Span::ZERO, patience);
        assert_eq!((met, trace.last), (found, Some(phase)), "{what}, with {more}");
        assert_eq!((exchange(&trace).sent, exchange(&trace).replied), (3, replied), "{what}, with {more}");
        assert_eq!(trace.latency.is_some(), found != fail(Reason::Timeout), "{what}, with {more}: large packets have no part in it");
    };
    std::thread::scope(|scope| ANSWERS_TABLE.into_iter().for_each(|row| drop(scope.spawn(move || meet(row)))));
}

#[test]
fn reordering_and_duplicates_are_counted_and_harm_nothing() {
    let (_reflectors, to, _) = reflector(LOOPBACK, &["127.0.0.1"]);
    let mut held = Vec::new();
    let shuffling = relay(to, move |count, answer| match count {
        1 => {
            held = answer;
            vec![]
        }
        2 => vec![answer.clone(), std::mem::take(&mut held), answer],
        _ => vec![vec![0; 20], answer],
    });
    let (finding, trace) = attempt(json!({"address": shuffling.to_string(), "packets": 3}), Span::ZERO, LONG);
    let measured = exchange(&trace);
    assert_eq!((finding, measured.replied, measured.reordered, measured.ignored), (Finding::Ok, 3, 1, 2));
}

#[test]
fn a_port_that_nobody_listens_at_refuses_at_once() {
    let nobody = UdpSocket::bind(LOOPBACK).unwrap().local_addr().unwrap();
    let (finding, trace) = attempt(json!({"address": nobody.to_string()}), Span::ZERO, LONG);
    assert_eq!((finding, exchange(&trace).replied), (Finding::Fail(Reason::Refused), 0));
}

#[test]
fn an_answer_is_as_long_as_its_question_and_repeats_what_it_does_not_understand() {
    let (_reflectors, to, counts) = reflector(LOOPBACK, &["127.0.0.1"]);
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut room = [0; 9_216];
    for (seq, length) in (0..).zip([44, 45, 100, 1_472, 9_000]) {
        let request = Request { seq: seq + 40, sent: Stamp(9), error: ErrorEstimate(0x8001), ssid: 5 };
        let packet = [&request.to_bytes()[..], &vec![0xa5; length - LENGTH]].concat();
        // What is too short, or no request, is passed over: the next answer is the one to the packet after it.
        socket.send(&packet[..43]).unwrap();
        socket.send(&vec![0xff; length]).unwrap();
        socket.send(&packet).unwrap();
        let received = socket.recv(&mut room).unwrap();
        assert_eq!((received, &room[LENGTH..received]), (length, &packet[LENGTH..]));
        let reply = Reply::from_bytes(&room[..received]).unwrap();
        assert_eq!((reply.seq, reply.request_seq, reply.request_sent, reply.request_error), (seq, seq + 40, Stamp(9), request.error));
        assert_eq!((reply.ssid, reply.request_ttl), (5, 64));
    }
    assert_eq!((counts.answered(), counts.ignored(Ignored::Length), counts.ignored(Ignored::NoRequest)), (5, 5, 5));
}

#[test]
fn undeclared_peers_get_no_answer() {
    let (_reflectors, to, counts) = reflector(LOOPBACK, &["192.0.2.0/24", "::1"]);
    let (finding, _) = attempt(json!({"address": to.to_string(), "packets": 2}), Span::ZERO, AMPLE);
    assert_eq!(finding, Finding::Fail(Reason::Timeout));
    assert_eq!((counts.answered(), counts.ignored(Ignored::Undeclared)), (0, 2));
}

#[test]
fn a_reflector_does_not_answer_what_a_reflector_said() {
    let (_reflectors, to, counts) = reflector(LOOPBACK, &["127.0.0.1"]);
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let request = Request { seq: 0, sent: Stamp(9), error: ErrorEstimate(1), ssid: 1 };
    let mut room = [0; LENGTH];
    socket.send_to(&request.to_bytes(), to).unwrap();
    socket.recv(&mut room).unwrap();
    socket.send_to(&room, to).unwrap();
    let end = now() + LONG;
    while counts.ignored(Ignored::NoRequest) == 0 && now() < end {
        std::thread::yield_now();
    }
    assert_eq!((counts.answered(), counts.ignored(Ignored::NoRequest)), (1, 1));
}

/// The loopback of a network of the test's own, which carries packets of up to 1400 bytes.
fn narrow_loopback() -> Result<(), String> {
    configure(&["link set lo mtu 1400"])
}

#[test]
fn packets_that_are_too_large_for_the_path_are_unhealthy_only_if_asked_for() {
    for (address, peer) in [(LOOPBACK, "127.0.0.1"), ("[::1]:0", "::1")] {
        in_namespace(narrow_loopback, move || {
            let (_reflectors, to, counts) = reflector(address, &[peer]);
            let to = to.to_string();
            assert_eq!(attempt(json!({"address": to}), Span::ZERO, LONG).0, Finding::Ok);
            let (finding, trace) = attempt(json!({"address": to, "packets": 3, "mtu": 1400}), Span::ZERO, LONG);
            assert_eq!((finding, exchange(&trace).sent), (Finding::Ok, 3), "what is padded is not counted among them");
            assert_eq!(counts.answered(), 5 + 3 + 3);
            let (finding, _) = attempt(json!({"address": to, "mtu": 1401}), Span::ZERO, LONG);
            assert_eq!(finding, Finding::Fail(Reason::Unhealthy), "{to}");
        });
    }
}

#[test]
fn silence_is_a_timeout_and_no_route_is_unreachable() {
    in_namespace(black_hole, || {
        let (finding, trace) = attempt(json!({"address": "192.0.2.7:862", "packets": 2, "mtu": 1500}), Span::ZERO, AMPLE);
        assert_eq!((finding, exchange(&trace).sent), (Finding::Fail(Reason::Timeout), 2));
        let (finding, trace) = attempt(json!({"address": "198.51.100.1:862"}), Span::ZERO, LONG);
        assert_eq!((finding, trace.facts.exchange), (Finding::Fail(Reason::Unreachable), None));
    });
}

/// How a server treats a connection.
type Manner = fn(TcpStream);

/// Reads what is asked, all of it.
fn hear(stream: &mut TcpStream) -> [u8; 64] {
    let mut question = [0; 64];
    stream.read_exact(&mut question).unwrap();
    question
}

/// A reflector, and at the same port of TCP a server of this manner; or nobody.
fn beside_tcp(manner: Option<Manner>) -> SocketAddr {
    let Some(manner) = manner else { return independent_reflector() };
    let (listener, socket) = std::iter::repeat_with(|| TcpListener::bind(LOOPBACK).unwrap())
        .find_map(|listener| UdpSocket::bind(listener.local_addr().unwrap()).ok().map(|socket| (listener, socket)))
        .unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(manner));
    independent_reflector_at(socket)
}

/// Which manner of echoing, how an attempt with `tcp_echo` ends, and how far its connection comes.
const ECHOES_TABLE: [(&str, Option<Manner>, Finding, Phase); 7] = [
    ("all at once", Some(|mut stream| echo(&mut stream, |octets| vec![octets.to_vec()])), Finding::Ok, Phase::Transfer),
    ("in pieces", Some(|mut stream| echo(&mut stream, |octets| octets.map(|octet| vec![octet]).into())), Finding::Ok, Phase::Transfer),
    (
        "other octets",
        Some(|mut stream| echo(&mut stream, |octets| vec![octets.map(|octet| !octet).to_vec()])),
        fail(Reason::Content),
        Phase::Transfer,
    ),
    ("half of them", Some(|mut stream| echo(&mut stream, |octets| vec![octets[..32].to_vec()])), fail(Reason::Reset), Phase::Transfer),
    ("none, and the end", Some(|mut stream| echo(&mut stream, |_| vec![])), fail(Reason::Reset), Phase::Transfer),
    ("none, ever", Some(std::mem::forget), fail(Reason::Timeout), Phase::Transfer),
    ("nobody listens", None, fail(Reason::Refused), Phase::Connect),
];

/// Says the pieces that `answer` makes of what it hears.
fn echo(stream: &mut TcpStream, answer: fn([u8; 64]) -> Vec<Vec<u8>>) {
    let question = hear(stream);
    answer(question).iter().for_each(|piece| stream.write_all(piece).unwrap());
}

#[test]
fn echoes_end_where_the_table_says() {
    for (what, manner, found, farthest) in ECHOES_TABLE {
        let to = beside_tcp(manner).to_string();
        let patience = if found == fail(Reason::Timeout) { AMPLE } else { LONG };
        let (met, trace) = attempt(json!({"address": to, "tcp_echo": true}), Span::ZERO, patience);
        assert_eq!((met, exchange(&trace).replied), (found, 5), "{what}");
        let of_connection: Vec<_> = trace.phases().map(|(phase, _)| phase).filter(|phase| *phase != Phase::Rtt).collect();
        assert!(of_connection.contains(&Phase::Connect) && of_connection.last() == Some(&farthest), "{what}: {of_connection:?}");
        assert_eq!(trace.latency, exchange(&trace).round_trip, "{what}: the latency is that of the packets");
        assert_eq!(attempt(json!({"address": to}), Span::ZERO, LONG).0, Finding::Ok, "{what}, where nobody asks for it");
    }
}

#[test]
fn our_reflector_echoes_to_peers_over_both_versions() {
    for (address, peer) in [(LOOPBACK, "127.0.0.0/8"), ("[::1]:0", "::1")] {
        let (_reflectors, to, counts) = reflector(address, &[peer]);
        let (finding, trace) = attempt(json!({"address": to.to_string(), "tcp_echo": true}), Span::ZERO, LONG);
        assert_eq!((finding, exchange(&trace).replied), (Finding::Ok, 5));
        assert_eq!(counts.answered(), 5 + 1);
    }
}

/// What comes over a connection until its other end closes it.
fn all_of(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut said = Vec::new();
    // It may close before it has read everything: then the end is an error.
    let _ = stream.read_to_end(&mut said);
    said
}

#[test]
fn a_stranger_is_hung_up_on() {
    let (_reflectors, to, counts) = reflector(LOOPBACK, &["192.0.2.0/24", "::1"]);
    let mut stream = TcpStream::connect(to).unwrap();
    let _ = stream.write_all(b"hello");
    assert_eq!(all_of(stream), b"");
    assert_eq!((counts.answered(), counts.ignored(Ignored::Undeclared)), (0, 1));
}

#[test]
fn a_peer_is_echoed_so_much_over_so_many_connections() {
    let (_reflectors, to, counts) = reflector(LOOPBACK, &["127.0.0.1"]);
    let mut talkative = TcpStream::connect(to).unwrap();
    talkative.write_all(&[7; MOST_BYTES]).unwrap();
    assert_eq!(all_of(talkative), [7; MOST_BYTES], "and then it closes");
    let open = |_| {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(b"a").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream
    };
    let mut held: Vec<_> = (0..MOST_CONNECTIONS).map(open).collect();
    assert_eq!(all_of(TcpStream::connect(to).unwrap()), b"");
    assert_eq!((counts.answered(), counts.ignored(Ignored::TooMany)), (1 + MOST_CONNECTIONS as u64, 1));
    held.pop();
    let end = now() + LONG;
    let is_answered = || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(b"a").is_ok() && stream.read_exact(&mut [0]).is_ok()
    };
    assert!(std::iter::repeat_with(is_answered).take_while(|_| now() < end).any(|answered| answered), "one has gone, another may come");
}

/// For `probe/README.md`.
pub(crate) fn truth() -> Vec<Truth> {
    let answer = |(what, _, settings, finding, phase, _): &Row| {
        vec![(*what).to_owned(), format!("`{settings}`"), truth::outcome(*finding), truth::phase(*phase)]
    };
    let echo = |(what, _, finding, phase): &(&str, Option<Manner>, Finding, Phase)| truth::row(*what, *finding, *phase);
    vec![
        Truth {
            title: "network: of the answers to three packets",
            columns: &["answers", "settings", "outcome", "phase"],
            rows: ANSWERS_TABLE.iter().map(answer).collect(),
        },
        Truth {
            title: "network: with `tcp_echo`, what was said comes back so",
            columns: &["echo", "outcome", "phase"],
            rows: ECHOES_TABLE.iter().map(echo).collect(),
        },
    ]
}
