//! A DNS server that misbehaves as it is told (RFC 1035, octets moved by hand), over datagrams and streams at one address. It has an
//! address for every name: let it listen on loopback only, or in a network of the test's own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

/// What it answers.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// How soon it notices that it shall stop.
const PATIENCE: Duration = Duration::from_millis(50);
const HEAD_BYTES: usize = 12;

/// How the server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    #[default]
    Right,
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// NXDOMAIN.
    NxDomain,
    /// No error and no records.
    Empty,
    /// With another address.
    OtherAddress,
    /// Under an id that was not asked.
    OtherId,
    /// To a question that was not asked.
    OtherQuestion,
    /// With the question itself.
    Echo,
    /// With octets that begin with the right id and are no message.
    Garbage,
    /// With an octet that is nothing.
    Noise,
    /// With noise, the echo, another id and another question before the right answer.
    RightAtLast,
    /// Truncated, and whole over a stream.
    Truncated,
    /// Truncated, and the stream ends without an answer.
    TruncatedThenCut,
    /// Truncated, and over a stream what is no message.
    TruncatedThenGarbage,
    /// Not at all.
    Silent,
    /// The right answer to a question only when the next one has come.
    Late,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    /// Whom the last question came from, and its answer.
    held: Option<(SocketAddr, Vec<u8>)>,
    count: watch::Sender<usize>,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    count: watch::Receiver<usize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Dns {
    /// Starts one on loopback.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Starts one there, at any port if it is 0.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub fn start_at(address: SocketAddr) -> io::Result<Self> {
        let (streams, datagrams) = sockets(address)?;
        let address = streams.local_addr()?;
        streams.set_nonblocking(true)?;
        datagrams.set_read_timeout(Some(PATIENCE))?;
        let (sender, count) = watch::channel(0);
        let state = Arc::new(Mutex::new(State { manner: Manner::Right, held: None, count: sender }));
        let stop = Arc::new(AtomicBool::new(false));
        let (of_datagrams, of_streams) = ((Arc::clone(&state), Arc::clone(&stop)), (Arc::clone(&state), Arc::clone(&stop)));
        let threads = vec![
            std::thread::spawn(move || answer_datagrams(&datagrams, &of_datagrams.0, &of_datagrams.1)),
            std::thread::spawn(move || answer_streams(&streams, &of_streams.0, &of_streams.1)),
        ];
        Ok(Self { address, state, count, stop, threads })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers like this.
    pub fn set_manner(&self, manner: Manner) {
        let mut state = lock(&self.state);
        (state.manner, state.held) = (manner, None);
    }

    /// Waits until one question more than until now has come as a datagram, and its answers, if any, are sent.
    pub fn hears(&self) -> impl Future<Output = ()> + use<> {
        let mut count = self.count.clone();
        count.mark_unchanged();
        async move {
            let _ = count.changed().await;
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One port of both kinds: a port that is free for streams may be taken for datagrams.
fn sockets(at: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries_left = 16;
    loop {
        let streams = TcpListener::bind(at)?;
        match UdpSocket::bind(streams.local_addr()?) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => tries_left -= 1,
            datagrams => return Ok((streams, datagrams?)),
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, state: &Mutex<State>, stop: &AtomicBool) {
    let mut room = [0; 4_096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
        let mut state = lock(state);
        for (to, answer) in state.answers(&room[..length], from) {
            let _ = socket.send_to(&answer, to);
        }
        state.count.send_modify(|count| *count += 1);
    }
}

fn answer_streams(listener: &TcpListener, state: &Mutex<State>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // A client that goes away is no fault of ours.
            Ok((stream, _)) => drop(answer_stream(stream, lock(state).manner)),
            Err(_) => std::thread::sleep(PATIENCE / 10),
        }
    }
}

fn answer_stream(mut stream: TcpStream, manner: Manner) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE * 100))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question)?;
    let answer = match (manner, Question::read(&question)) {
        (Manner::TruncatedThenCut, _) | (_, None) => return Ok(()),
        (Manner::TruncatedThenGarbage, Some(question)) => question.garbage(),
        (_, Some(question)) => question.answer(0, &[ADDRESS]),
    };
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat())
}

impl State {
    fn answers(&mut self, request: &[u8], from: SocketAddr) -> Vec<(SocketAddr, Vec<u8>)> {
        let Some(question) = Question::read(request) else { return Vec::new() };
        let right = question.answer(0, &[ADDRESS]);
        let mut other_id = right.clone();
        other_id[0] ^= 0x80;
        // The first letter of the name.
        let mut other_question = right.clone();
        other_question[HEAD_BYTES + 1] ^= 1;
        let mut truncated = question.answer(0, &[]);
        truncated[2] |= 2;
        // Too short for an id.
        let noise = vec![7];
        let answers = match self.manner {
            Manner::Right => vec![right],
            Manner::ServFail => vec![question.answer(2, &[])],
            Manner::NxDomain => vec![question.answer(3, &[])],
            Manner::Refused => vec![question.answer(5, &[])],
            Manner::Empty => vec![question.answer(0, &[])],
            Manner::OtherAddress => vec![question.answer(0, &[Ipv4Addr::new(203, 0, 113, 9)])],
            Manner::OtherId => vec![other_id],
            Manner::OtherQuestion => vec![other_question],
            Manner::Echo => vec![request.to_vec()],
            Manner::Garbage => vec![question.garbage()],
            Manner::Noise => vec![noise],
            Manner::RightAtLast => vec![noise, request.to_vec(), other_id, other_question, right],
            Manner::Truncated | Manner::TruncatedThenCut | Manner::TruncatedThenGarbage => vec![truncated],
            Manner::Silent => Vec::new(),
            Manner::Late => return self.held.replace((from, right)).into_iter().collect(),
        };
        answers.into_iter().map(|answer| (from, answer)).collect()
    }
}

/// A query, as far as answers need it.
struct Question<'a> {
    id: &'a [u8],
    /// Name, type and class, as they came.
    asked: &'a [u8],
}

impl<'a> Question<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let mut end = HEAD_BYTES;
        while *message.get(end)? != 0 {
            end += 1 + usize::from(message[end]);
        }
        Some(Self { id: &message[..2], asked: message.get(HEAD_BYTES..end + 5)? })
    }

    /// With this response code, and an A record for each address.
    fn answer(&self, code: u8, addresses: &[Ipv4Addr]) -> Vec<u8> {
        // Response, recursion desired and available; one question, so many answers.
        let mut answer = [self.id, &[0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0], self.asked].concat();
        for address in addresses {
            // The name at the question's, A, IN, a minute, four octets.
            answer.extend([0xc0, HEAD_BYTES as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
        }
        answer
    }

    /// The right id, and then nonsense.
    fn garbage(&self) -> Vec<u8> {
        [self.id, &[0xff; 40]].concat()
    }
}
