//! The reflector: answers the test packets of declared peers, and nothing else.
//!
//! What it cannot be used for:
//! - Amplification. An answer is written over the request, so that it is exactly as long; what is shorter than 44 octets gets none.
//! - Reflection to strangers. A forged source must be a declared peer's; and each declared prefix is answered a bounded rate.
//! - An endless conversation of two reflectors, which a single forged packet would begin. A reply has its stamps where RFC 8762 wants a
//!   request to be zero, and only what is zero there is answered. (The RFC says to ignore what must be zero on receipt: a sender that
//!   fills it, as TWAMP Light may, is not answered.)
//!
//! It is stateful (RFC 8762 §4.2): the replies of a session, which is a source address, port and SSID, are numbered from 0, so that a
//! sender can tell on which way a packet was lost. Over so many sessions that the table is full, a reply repeats the request's number, as
//! that of a stateless reflector does. What follows the 44 octets is sent back as it came: TLVs keep the flag that says that nobody
//! understood them (RFC 8972 §4), but for the one that asks for the machine's [`Vitals`].
//!
//! A reply leaves from the address that the reflector is bound to. On a machine with several addresses bind it to one of them: a
//! connected sender hears only the one that it asked.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use vigie_contract::Time;

use super::echo;
use super::packet::{ErrorEstimate, LENGTH, Reply, Request, Stamp};
use super::peer::Prefix;
use super::socket::{self, ROOM};
use crate::clock::{Clock, now, wall_now};
use crate::vitals::{Vitals, Watch};

/// So often a declared peer is answered: a mesh of dozens of targets, five packets a second each.
const PACE: Duration = Duration::from_millis(1);
/// So far ahead of its pace a peer may be: a burst of 200.
const BURST: Duration = Duration::from_millis(200);
const MOST_SESSIONS: usize = 4_096;
/// A session that is silent for this long has ended: ours are one attempt.
const SESSION_ENDS: Duration = Duration::from_secs(60);
/// The table is searched for ended sessions at most this often.
const SWEEP: Duration = Duration::from_secs(1);
/// How soon it notices that it shall stop.
const PATIENCE: Duration = Duration::from_millis(200);
/// So often another port is tried where any will do: one that is free for TCP may not be for UDP.
const MOST_PORTS: usize = 16;
/// What is told when the kernel does not say how many hops were left (RFC 8762 §4.3.1).
const UNKNOWN_TTL: u8 = 255;

/// Why a datagram, or a connection, is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// Shorter than a test packet, or longer than a jumbo frame.
    Length,
    /// From whom nobody declared.
    Undeclared,
    /// Not zero where a request is: a reply, or no STAMP.
    NoRequest,
    /// More than this peer may ask, or more connections than it may have.
    TooMany,
    /// The kernel did not send the answer.
    Unsent,
}

impl Ignored {
    pub(crate) const ALL: [Self; 5] = [Self::Length, Self::Undeclared, Self::NoRequest, Self::TooMany, Self::Unsent];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Undeclared => "undeclared",
            Self::NoRequest => "no_request",
            Self::TooMany => "too_many",
            Self::Unsent => "unsent",
        }
    }
}

/// What the reflectors of a probe have done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    answered: AtomicU64,
    ignored: [AtomicU64; Ignored::ALL.len()],
}

impl Counts {
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn ignored(&self, why: Ignored) -> u64 {
        self.ignored[why as usize].load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, answered: Result<(), Ignored>) {
        let count = answered.map_or_else(|why| &self.ignored[why as usize], |()| &self.answered);
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reflectors that run, each in a thread of its own, and an echo responder beside each; they end with this.
#[derive(Debug, Default)]
pub(crate) struct Reflectors {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Reflectors {
    /// Binds another one to `address`; returns where it listens.
    pub(crate) fn start(
        &mut self,
        address: SocketAddr,
        peers: &[Prefix],
        clock: Arc<Clock>,
        counts: Arc<Counts>,
    ) -> io::Result<SocketAddr> {
        let (socket, listener) = bind(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket::prepare(&socket, address.is_ipv4())?;
        let (stop, mut rules, mut watch) = (Arc::clone(&self.stop), Rules::new(peers, now()), Watch::start(now())?);
        let listens = socket.local_addr()?;
        let (peers, may_stop, noted) = (peers.to_vec(), Arc::clone(&self.stop), Arc::clone(&counts));
        self.threads.push(std::thread::Builder::new().name("vigie-echo".into()).spawn(move || {
            if let Err(error) = echo::respond(listener, &peers, &may_stop, &noted) {
                tracing::warn!(%error, "the echo responder cannot start");
            }
        })?);
        self.threads.push(std::thread::Builder::new().name("vigie-reflect".into()).spawn(move || {
            let mut room = vec![0; ROOM];
            while !stop.load(Ordering::Relaxed) {
                match reflect(&socket, &mut room, &mut rules, &mut watch, &clock, &counts) {
                    // Nothing came; or an ICMP error about an earlier answer.
                    Ok(()) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => {}
                    Err(errno) => {
                        tracing::warn!(%errno, "the reflector cannot receive");
                        std::thread::sleep(PATIENCE);
                    }
                }
            }
        })?);
        Ok(listens)
    }
}

/// The same port for both; any, if its number is 0.
fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tried = 0;
    loop {
        let listener = TcpListener::bind(address)?;
        match UdpSocket::bind(listener.local_addr()?) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() == 0 && tried < MOST_PORTS => tried += 1,
            socket => return Ok((socket?, listener)),
        }
    }
}

impl Drop for Reflectors {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Takes one datagram and answers it, or counts why not. It is counted before the answer leaves: whoever has it, finds it counted.
fn reflect(socket: &UdpSocket, room: &mut [u8], rules: &mut Rules, watch: &mut Watch, clock: &Clock, counts: &Counts) -> Result<(), Errno> {
    let received = socket::receive(socket, room);
    let at = now();
    watch.beat(at);
    let received = received.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    let packet = &mut room[..received.bytes];
    let asked = received.from.ok_or(Ignored::Undeclared).and_then(|from| Ok((from, rules.reply(from, packet, at)?)));
    counts.note(asked.as_ref().map(|_| ()).map_err(|why| *why));
    let Ok((from, reply)) = asked else { return Ok(()) };
    let reply = Reply {
        received: Stamp::of(received.stamp_ns.map_or_else(wall_now, |stamp_ns| Time::from_us(stamp_ns / 1_000))),
        request_ttl: received.hop_limit.unwrap_or(UNKNOWN_TTL),
        error: ErrorEstimate::of(Some(clock.error(at)).filter(|error| error.us() > 0)),
        answered: Stamp::of(wall_now()),
        ..reply
    };
    let (head, tail) = packet.split_at_mut(LENGTH);
    head.copy_from_slice(&reply.to_bytes());
    Vitals::answer(tail, || watch.vitals(clock.error(at)));
    if socket.send_to(packet, from).is_err() {
        counts.note(Err(Ignored::Unsent));
    }
    Ok(())
}

/// Whom to answer, how often, and with which number.
#[derive(Debug)]
struct Rules {
    peers: Vec<Peer>,
    sessions: HashMap<(SocketAddr, u16), Session>,
    swept: Instant,
}

#[derive(Debug)]
struct Peer {
    prefix: Prefix,
    /// When it has used up what it may ask: never more than [`BURST`] ahead.
    paid: Instant,
}

#[derive(Debug)]
struct Session {
    next: u32,
    heard: Instant,
}

impl Rules {
    fn new(peers: &[Prefix], at: Instant) -> Self {
        let peers = peers.iter().map(|prefix| Peer { prefix: *prefix, paid: at }).collect();
        Self { peers, sessions: HashMap::new(), swept: at }
    }

    /// The reply to `packet`, but for what only the socket and the clock know.
    fn reply(&mut self, from: SocketAddr, packet: &[u8], at: Instant) -> Result<Reply, Ignored> {
        let ip = from.ip().to_canonical();
        let peer = self.peers.iter_mut().find(|peer| peer.prefix.contains(ip)).ok_or(Ignored::Undeclared)?;
        if packet.len() < LENGTH {
            return Err(Ignored::Length);
        }
        let request = Request::from_bytes(packet).ok_or(Ignored::NoRequest)?;
        let paid = peer.paid.max(at) + PACE;
        if paid > at + BURST {
            return Err(Ignored::TooMany);
        }
        peer.paid = paid;
        Ok(Reply {
            seq: self.number(from, &request, at),
            answered: Stamp(0),
            error: ErrorEstimate(0),
            ssid: request.ssid,
            received: Stamp(0),
            request_seq: request.seq,
            request_sent: request.sent,
            request_error: request.error,
            request_ttl: UNKNOWN_TTL,
        })
    }

    fn number(&mut self, from: SocketAddr, request: &Request, at: Instant) -> u32 {
        if self.sessions.len() >= MOST_SESSIONS && at >= self.swept + SWEEP {
            self.swept = at;
            self.sessions.retain(|_, session| at < session.heard + SESSION_ENDS);
        }
        let is_full = self.sessions.len() >= MOST_SESSIONS;
        let key = (from, request.ssid);
        if is_full && !self.sessions.contains_key(&key) {
            return request.seq;
        }
        let session = self.sessions.entry(key).or_insert(Session { next: 0, heard: at });
        let number = session.next;
        *session = Session { next: number.wrapping_add(1), heard: at };
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(seq: u32, ssid: u16) -> [u8; LENGTH] {
        Request { seq, sent: Stamp(u64::from(seq)), error: ErrorEstimate::of(None), ssid }.to_bytes()
    }

    fn rules(peers: &[&str], at: Instant) -> Rules {
        Rules::new(&peers.iter().map(|peer| peer.parse().unwrap()).collect::<Vec<_>>(), at)
    }

    fn from(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_requests_of_declared_peers_are_answered() {
        let at = now();
        let mut rules = rules(&["192.0.2.0/24", "2001:db8::1"], at);
        assert_eq!(rules.reply(from("198.51.100.1:99"), &request(0, 1), at), Err(Ignored::Undeclared));
        assert_eq!(rules.reply(from("[2001:db8::2]:99"), &request(0, 1), at), Err(Ignored::Undeclared));
        let peer = from("192.0.2.9:99");
        assert_eq!(rules.reply(peer, &request(0, 1)[..43], at), Err(Ignored::Length));
        assert_eq!(rules.reply(peer, &[], at), Err(Ignored::Length));
        assert!(rules.reply(from("[::ffff:192.0.2.9]:99"), &request(0, 1), at).is_ok());
        let reply = rules.reply(peer, &request(5, 1), at).unwrap();
        assert_eq!((reply.seq, reply.request_seq, reply.request_sent, reply.ssid), (0, 5, Stamp(5), 1));
        let answer = Reply { received: Stamp(1), ..reply }.to_bytes();
        assert_eq!(rules.reply(peer, &answer, at), Err(Ignored::NoRequest), "a reply is never answered, from whatever port");
    }

    #[test]
    fn each_session_is_numbered_from_zero_and_the_table_is_bounded() {
        let at = now();
        let mut rules = rules(&["0.0.0.0/0"], at);
        let mut time = at;
        let mut ask = |port: u16, ssid: u16, seq: u32, rest: Duration| {
            time += 2 * PACE + rest;
            let from = SocketAddr::new([192, 0, 2, 1].into(), port);
            let number = rules.reply(from, &request(seq, ssid), time).unwrap().seq;
            assert!(rules.sessions.len() <= MOST_SESSIONS);
            number
        };
        let soon = Duration::ZERO;
        assert_eq!([ask(1, 1, 7, soon), ask(1, 1, 8, soon), ask(1, 2, 7, soon), ask(2, 1, 7, soon), ask(1, 1, 9, soon)], [0, 1, 0, 0, 2]);
        for port in 0..MOST_SESSIONS as u16 {
            ask(port + 10, 1, 0, soon);
        }
        assert_eq!(ask(9, 1, 77, soon), 77, "stateless while the table is full");
        assert_eq!(ask(1, 1, 10, soon), 3, "and as before for whom it knows");
        assert_eq!(ask(9, 1, 77, SESSION_ENDS), 0);
    }

    #[test]
    fn a_peer_is_answered_at_a_bounded_rate_and_costs_no_other_peer_anything() {
        let at = now();
        let mut rules = rules(&["192.0.2.1", "192.0.2.2"], at);
        let mut answered =
            |peer: &str, packets: u32, at| (0..packets).filter(|seq| rules.reply(from(peer), &request(*seq, 1), at).is_ok()).count();
        assert_eq!(answered("192.0.2.1:1", 1_000, at), 200);
        assert_eq!(answered("192.0.2.2:1", 10, at), 10);
        assert_eq!(answered("192.0.2.1:2", 100, at + Duration::from_millis(50)), 50);
        assert_eq!(answered("192.0.2.1:2", 1_000, at + Duration::from_secs(9)), 200);
    }
}
