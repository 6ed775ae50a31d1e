//! The probe's own echo engine: one `ping` for all targets (RFC 792, RFC 4443, icmp(7), raw(7)).
//!
//! One socket for each IP version serves every target, more only when more than 32 768 echoes wait at once. A socket is a *datagram*
//! socket where `net.ipv4.ping_group_range` permits it: the kernel hands it only the replies to its own requests. Otherwise it is
//! *raw*, which needs `CAP_NET_RAW`, with a filter that does the same.
//!
//! - **Time.** The kernel stamps a reply as it takes it from the device; how long it then waited for us is subtracted, so a busy probe
//!   does not measure itself and replies may be taken in batches. The request's time is read right before it is handed to the kernel.
//! - **Whose reply.** Number, source address (but for multicast) and the whole payload must be right, the tag in it unpredictable.
//!   Duplicates and late, foreign and damaged replies are ignored and counted.
//! - **Errors** of the network come by the socket's error queue with the request that they quote. Linux and routers limit the rate of
//!   such errors (`net.ipv4.icmp_ratelimit`): without one an unreachable target is a timeout. Replies are not limited so.
//! - **The probe's own faults** never look like a target's: a send buffer that stays full, more echoes than numbers, and silence after
//!   the kernel dropped something from our full queue are [`LocalFault`]s.

mod moment;
mod packet;
mod socket;
#[cfg(test)]
pub(crate) mod tests;
mod waiting;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;
use vigie_contract::Reason;

use crate::check::Finding;
use crate::clock::now;
use crate::net::{Source, fault};
pub(crate) use moment::Moment;
use packet::Version;
use socket::{BATCH, Complaint, Inbox, Received, Socket};
use waiting::Waiting;

/// Sockets per IP version at most: 262 144 echoes that wait at once.
const MOST_SHARDS: usize = 8;
/// Replies are taken this far apart while they come thick, so that many share one wake-up of the probe.
const GATHER: Duration = Duration::from_millis(2);
/// They come thick once so many times in a row they were closer together, and while so many are taken at once.
const THICK_WAKES: u32 = 4;
const THICK: usize = 2;
/// A send buffer that is full is tried again after this.
const BUFFER_WAIT: Duration = Duration::from_millis(1);
/// So often a request is handed to the kernel while it answers with errors of earlier ones.
const MOST_SENDS: usize = 4;
/// So many batches are taken at once at most, more than a full queue: a flood shall not stop the probe.
const MOST_BATCHES: usize = 1_024;
/// The kernel's table of drops is read at most this often.
const DROPS_AGE: Duration = Duration::from_millis(10);

/// The engine. Clones share the sockets; the last one closes them.
///
/// It lives in one thread, inside a [`LocalSet`](tokio::task::LocalSet).
#[derive(Clone, Debug)]
pub struct Pinger(Rc<Engine>);

/// How echoes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By datagram sockets: no privilege but `net.ipv4.ping_group_range`.
    Datagram,
    /// By raw sockets: `CAP_NET_RAW`.
    Raw,
}

/// Why echoes cannot be sent over an IP version.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The system permits neither kind of socket.
    #[error(
        "no privilege to send ICMP: either net.ipv4.ping_group_range (now `{range}`) must include a group of this process, or it needs \
         CAP_NET_RAW"
    )]
    Unprivileged {
        /// The first and last group that may have datagram sockets.
        range: String,
    },
    /// There is no such IP version, or no such source address.
    #[error("the system refuses a socket for ICMP: {0}")]
    System(#[source] io::Error),
}

/// What became of an echo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Echo {
    /// It came back.
    Replied {
        /// From the hand-over to the kernel until the kernel had the reply.
        rtt: Duration,
        /// The reply's TTL or hop limit on arrival.
        hop_limit: Option<u8>,
    },
    /// The network said that it did not get there.
    Undelivered(Undelivered),
    /// This host has no way there: what errno says.
    NoRoute(Errno),
    /// No reply until the deadline.
    TimedOut,
    /// The probe's own fault: says nothing about the target.
    LocalFault(LocalFault),
}

/// An ICMP error about an echo (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Destination unreachable, packet too big, time exceeded or parameter problem, by its number.
    pub icmp_type: u8,
    /// The number of its cause.
    pub code: u8,
    /// Who says so.
    pub from: Option<IpAddr>,
}

/// Why the probe could not make out what became of an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalFault {
    /// The kernel dropped replies that the probe did not take in time; this one may be among them.
    Starved,
    /// It came back, but whether in time nobody knows: the wall clock was set meanwhile.
    Undated,
    /// Too many echoes wait, or the send buffer stayed full.
    Overload,
    /// No socket for this IP version.
    Unavailable,
    /// The system refused to send it.
    Refused(Errno),
}

/// What the engine has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Replies in time.
    pub replied: u64,
    /// Replies to what had been answered.
    pub duplicate: u64,
    /// Replies after the deadline.
    pub late: u64,
    /// Replies and errors that do not belong to an echo of ours.
    pub foreign: u64,
    /// Replies to ours with another payload.
    pub corrupt: u64,
    /// Datagrams that the kernel dropped because our queue was full.
    pub dropped: u64,
}

#[derive(Debug)]
struct Engine {
    v4: Result<Family, Unavailable>,
    v6: Result<Family, Unavailable>,
    counts: Rc<Cell<Counts>>,
}

/// The sockets of one IP version.
#[derive(Debug)]
struct Family {
    settings: Settings,
    nonce: u64,
    counts: Rc<Cell<Counts>>,
    mode: Mode,
    shards: RefCell<Vec<(Rc<Shard>, AbortHandle)>>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    version: Version,
    source: Option<IpAddr>,
    receive_bytes: usize,
}

/// One socket and who waits at it.
struct Shard {
    socket: Socket,
    waiting: RefCell<Waiting>,
    inbox: RefCell<Inbox>,
    counts: Rc<Cell<Counts>>,
    reaped: Cell<Moment>,
    drops_read: Cell<Instant>,
}

/// A place among those who wait; given up when it is dropped.
struct Ticket {
    shard: Rc<Shard>,
    seq: u16,
}

/// An echo did not get away.
enum Unsent {
    /// The send buffer is full.
    Full,
    For(Echo),
}

impl Mode {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Datagram => "datagram",
            Self::Raw => "raw",
        }
    }
}

impl LocalFault {
    /// The word for a sample.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Starved => Reason::Starved,
            Self::Undated => Reason::Clock,
            Self::Overload => Reason::Overload,
            Self::Unavailable => Reason::Internal,
            Self::Refused(errno) => match fault(&errno.into()) {
                Finding::Void(reason) => reason,
                _ => Reason::Internal,
            },
        }
    }
}

impl Pinger {
    /// Opens the sockets. An error if there is a way for neither IP version: then it is the one of IPv4.
    ///
    /// # Panics
    ///
    /// Outside a [`LocalSet`](tokio::task::LocalSet).
    pub fn start(source: Source) -> Result<Self, Unavailable> {
        Self::with(source, &[Mode::Datagram, Mode::Raw], socket::RECEIVE_BYTES)
    }

    fn with(source: Source, modes: &[Mode], receive_bytes: usize) -> Result<Self, Unavailable> {
        let counts = Rc::default();
        let open = |version, source| Family::open(Settings { version, source, receive_bytes }, modes, &counts);
        let (v4, v6) = (open(Version::V4, source.v4.map(IpAddr::V4)), open(Version::V6, source.v6.map(IpAddr::V6)));
        match (v4, v6) {
            (Err(error), Err(_)) => Err(error),
            (v4, v6) => Ok(Self(Rc::new(Engine { v4, v6, counts }))),
        }
    }

    /// How echoes are sent over IPv4, or why they cannot be.
    pub fn v4(&self) -> Result<Mode, &Unavailable> {
        self.0.v4.as_ref().map(|family| family.mode)
    }

    /// How echoes are sent over IPv6, or why they cannot be.
    pub fn v6(&self) -> Result<Mode, &Unavailable> {
        self.0.v6.as_ref().map(|family| family.mode)
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.0.counts.get();
        for family in [&self.0.v4, &self.0.v6].into_iter().flatten() {
            counts.dropped += family.shards.borrow().iter().map(|(shard, _)| u64::from(shard.waiting.borrow().drops())).sum::<u64>();
        }
        counts
    }

    /// Sends one echo of 56 bytes to `to` and waits for what becomes of it, until `deadline` at the latest.
    ///
    /// What arrived by then counts even if the probe comes to look at it later.
    pub async fn echo(&self, to: IpAddr, deadline: Instant) -> Echo {
        let family = match Version::of(to) {
            Version::V4 => &self.0.v4,
            Version::V6 => &self.0.v6,
        };
        let Ok(family) = family else { return Echo::LocalFault(LocalFault::Unavailable) };
        let ticket = loop {
            match family.send(to, deadline) {
                Ok(ticket) => break ticket,
                Err(Unsent::For(echo)) => return echo,
                Err(Unsent::Full) if now() + BUFFER_WAIT < deadline => tokio::time::sleep(BUFFER_WAIT).await,
                Err(Unsent::Full) => return Echo::LocalFault(LocalFault::Overload),
            }
        };
        let mut expiry = pin!(tokio::time::sleep_until(deadline.into()));
        poll_fn(|context| {
            let echo = ticket.shard.waiting.borrow_mut().poll(ticket.seq, context.waker());
            match echo {
                Some(echo) => Poll::Ready(echo),
                None if expiry.as_mut().poll(context).is_ready() || now() >= deadline => Poll::Ready(ticket.expire(deadline)),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Family {
    /// With a first socket of the first of `modes` that the system permits.
    fn open(settings: Settings, modes: &[Mode], counts: &Rc<Cell<Counts>>) -> Result<Self, Unavailable> {
        let nonce = crate::random::u64();
        let mut refusal = Errno::EPERM.into();
        for &mode in modes {
            match settings.open(mode) {
                Ok(socket) => {
                    let receive_bytes = socket.receive_bytes();
                    tracing::debug!(version = ?settings.version, mode = mode.as_str(), receive_bytes, "echoes can be sent");
                    let shards = RefCell::new(vec![Shard::start(socket, nonce, counts)]);
                    return Ok(Self { settings, nonce, counts: Rc::clone(counts), mode, shards });
                }
                Err(error) => refusal = error,
            }
        }
        Err(match refusal.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => {
                let range = std::fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap_or_default();
                Unavailable::Unprivileged { range: range.split_ascii_whitespace().collect::<Vec<_>>().join(" ") }
            }
            _ => Unavailable::System(refusal),
        })
    }

    fn send(&self, to: IpAddr, deadline: Instant) -> Result<Ticket, Unsent> {
        let shard = self.shard()?;
        let (seq, cookie) = shard.waiting.borrow_mut().admit(to, deadline);
        let ticket = Ticket { shard, seq };
        let request = packet::request(self.settings.version, ticket.shard.socket.ident(), seq, cookie);
        ticket.send(to, &request).map(|()| ticket)
    }

    /// One with room for another echo.
    fn shard(&self) -> Result<Rc<Shard>, Unsent> {
        let mut shards = self.shards.borrow_mut();
        if let Some((shard, _)) = shards.iter().find(|(shard, _)| !shard.waiting.borrow().is_full()) {
            return Ok(Rc::clone(shard));
        }
        let socket = if shards.len() < MOST_SHARDS { self.settings.open(self.mode).ok() } else { None };
        let socket = socket.ok_or(Unsent::For(Echo::LocalFault(LocalFault::Overload)))?;
        let (shard, reader) = Shard::start(socket, self.nonce, &self.counts);
        shards.push((Rc::clone(&shard), reader));
        Ok(shard)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.shards.borrow().iter().for_each(|(_, reader)| reader.abort());
    }
}

impl Settings {
    fn open(&self, mode: Mode) -> io::Result<Socket> {
        Socket::open(mode, self.version, self.source, self.receive_bytes)
    }
}

impl Ticket {
    fn send(&self, to: IpAddr, request: &[u8]) -> Result<(), Unsent> {
        let mut error = Errno::EIO;
        for _ in 0..MOST_SENDS {
            let sent = now();
            match self.shard.socket.send(to, request) {
                Ok(()) => {
                    self.shard.waiting.borrow_mut().note_sent(self.seq, sent);
                    return Ok(());
                }
                Err(Errno::EAGAIN | Errno::ENOBUFS) => return Err(Unsent::Full),
                Err(refusal) => error = refusal,
            }
            // The kernel tells an error of an earlier request at the next call, whatever that is for.
            self.shard.take_complaints();
        }
        Err(Unsent::For(match fault(&error.into()) {
            Finding::Fail(_) => Echo::NoRoute(error),
            _ => Echo::LocalFault(LocalFault::Refused(error)),
        }))
    }

    fn expire(&self, deadline: Instant) -> Echo {
        // The reply may be in the kernel's queue since before the deadline, if the probe did not run.
        if self.shard.reaped.get().at < deadline {
            self.shard.reap();
            self.shard.take_complaints();
        }
        self.shard.read_drops(deadline);
        self.shard.waiting.borrow_mut().expire(self.seq)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shard.waiting.borrow_mut().forget(self.seq);
    }
}

impl Shard {
    /// With a task that takes its replies.
    fn start(socket: Socket, nonce: u64, counts: &Rc<Cell<Counts>>) -> (Rc<Self>, AbortHandle) {
        let moment = Moment::now();
        let shard = Rc::new(Self {
            socket,
            waiting: RefCell::new(Waiting::new(nonce)),
            inbox: RefCell::new(Inbox::new()),
            counts: Rc::clone(counts),
            reaped: Cell::new(moment),
            drops_read: Cell::new(moment.at),
        });
        let reader = Rc::clone(&shard);
        let task = tokio::task::spawn_local(async move { reader.keep_reaping().await });
        (shard, task.abort_handle())
    }

    /// Takes replies for ever: each by a wake-up of its own while they are few, many by one while they come thick. For the latter the
    /// socket must be watched by nobody, or every datagram would wake the thread all the same.
    async fn keep_reaping(&self) {
        loop {
            #[expect(deprecated, reason = "what replaces it is unsafe; a borrowed descriptor keeps the promise that it asks for")]
            let watch = AsyncFd::with_interest(self.socket.as_fd(), Interest::READABLE | Interest::ERROR);
            if let Ok(watch) = watch {
                let mut thick_wakes = 0;
                while thick_wakes < THICK_WAKES
                    && let Ok(mut ready) = watch.ready(Interest::READABLE | Interest::ERROR).await
                {
                    ready.clear_ready();
                    if ready.ready().is_error() {
                        self.take_complaints();
                    }
                    let last = self.reaped.get().at;
                    self.reap();
                    let is_thick = self.reaped.get().at.saturating_duration_since(last) < GATHER;
                    thick_wakes = if is_thick { thick_wakes + 1 } else { 0 };
                }
            }
            loop {
                tokio::time::sleep(GATHER).await;
                if self.reap() < THICK {
                    break;
                }
            }
        }
    }

    /// Takes all replies from the kernel and wakes who waits for them; returns how many they were.
    fn reap(&self) -> usize {
        let mut wakers: Vec<Waker> = Vec::new();
        let mut total = 0;
        for _ in 0..MOST_BATCHES {
            match self.take_batch(&mut wakers) {
                Ok(count) => {
                    total += count;
                    if count < BATCH {
                        break;
                    }
                }
                Err(Errno::EAGAIN) => break,
                // An error of an earlier request: it is in the error queue.
                Err(_) => self.take_complaints(),
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        total
    }

    fn take_batch(&self, wakers: &mut Vec<Waker>) -> Result<usize, Errno> {
        let last = self.reaped.get();
        let mut moment = None;
        let mut drops = None;
        let mut counts = self.counts.get();
        let version = self.socket.version();
        let mut waiting = self.waiting.borrow_mut();
        let taken = self.socket.receive(
            &mut self.inbox.borrow_mut(),
            |dropped| drops = Some(dropped),
            |Received { bytes, from, stamp_ns, hop_limit }| {
                let moment = *moment.get_or_insert_with(Moment::now);
                let stamp_ns = stamp_ns.filter(|_| !moment.is_stepped_since(last));
                let arrival = |sent| stamp_ns.and_then(|stamp_ns| moment.arrival(stamp_ns, sent));
                let message = packet::reply(version, bytes).filter(|message| message.ident == self.socket.ident());
                match message {
                    Some(message) => wakers.extend(waiting.reply(&message, from, hop_limit, moment.at, arrival, &mut counts)),
                    None => counts.foreign += 1,
                }
            },
        );
        if let Some(drops) = drops {
            waiting.note_drops(drops);
        }
        self.counts.set(counts);
        self.reaped.set(moment.unwrap_or_else(Moment::now));
        taken
    }

    /// Takes all errors from the kernel's error queue and wakes whose echoes they are about.
    fn take_complaints(&self) {
        let mut wakers: Vec<Waker> = Vec::new();
        let mut counts = self.counts.get();
        let version = self.socket.version();
        let mut take = |Complaint { quoted, to, error }: Complaint<'_>| {
            let quoted = packet::quoted(version, quoted).filter(|quoted| quoted.ident == self.socket.ident());
            match quoted {
                Some(quoted) => {
                    wakers.extend(self.waiting.borrow_mut().undelivered(&quoted, to, Echo::Undelivered(error), &mut counts));
                }
                None => counts.foreign += 1,
            }
        };
        for _ in 0..MOST_BATCHES {
            if self.socket.complaint(&mut take).is_err() {
                break;
            }
        }
        self.counts.set(counts);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Learns of drops after the last reply, which no datagram tells of: whether any of those before `deadline` are unknown.
    fn read_drops(&self, deadline: Instant) {
        let (at, last) = (now(), self.drops_read.get());
        if last < deadline && at.saturating_duration_since(last) >= DROPS_AGE {
            self.drops_read.set(at);
            if let Some(drops) = self.socket.drops() {
                self.waiting.borrow_mut().note_drops(drops);
            }
        }
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("socket", &self.socket).finish_non_exhaustive()
    }
}
