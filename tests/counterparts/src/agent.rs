//! The agent in a canary VM: a stateless STAMP reflector that tells how its VM is. Written from the figures of RFC 8762 and of the probe's
//! module `vitals`, octets moved by hand. It answers anybody: let it listen on loopback only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How soon it notices that it shall stop.
const PATIENCE: Duration = Duration::from_millis(50);
/// A request that asks for vitals: 44 octets of STAMP, a TLV of type 252 with 72 octets.
const QUESTION: usize = 44 + 4 + 72;

/// What the VM says of itself: totals in microseconds, but for `ticks`, hundredths of a second of all processors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guest {
    /// Another one after every boot.
    pub boot: u128,
    /// Since the boot.
    pub up_us: u64,
    /// Of that, suspended.
    pub asleep_us: u64,
    /// How long the agent has run.
    pub lived_us: u64,
    /// Of all processors.
    pub ticks: u64,
    /// Of these, taken by the hypervisor.
    pub stolen_ticks: u64,
    /// What threads waited for a processor.
    pub waited_us: u64,
    /// How far the clock may be off.
    pub clock_error_us: u64,
}

/// How the agent answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    #[default]
    Right,
    /// Not at all: the VM is gone, or paused.
    Silent,
    /// To the first two packets not at all.
    Lossy,
    /// Each answer twice.
    Twice,
    /// With the answer to the packet before.
    Late,
    /// With a sequence number that was not sent.
    OtherSequence,
    /// With a time that was not sent.
    OtherTime,
    /// Under a session identifier that is not the sender's.
    OtherSession,
    /// As a reflector that knows nothing of vitals.
    PlainStamp,
    /// With less than was asked.
    Short,
}

#[derive(Debug, Default)]
struct State {
    guest: Guest,
    manner: Manner,
    /// The answer to the packet before.
    last: Vec<u8>,
    asked: u64,
}

/// An agent that runs until it is dropped.
#[derive(Debug)]
pub struct Agent {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Starts one on loopback.
    pub fn start(guest: Guest) -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), guest)
    }

    /// Starts one at this address, of loopback; port 0 takes any that is free.
    pub fn start_at(address: SocketAddr, guest: Guest) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let (address, stop) = (socket.local_addr()?, Arc::new(AtomicBool::new(false)));
        let state = Arc::new(Mutex::new(State { guest, ..State::default() }));
        let (its_state, its_stop) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut room = [0; 9_216];
            while !its_stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
                let answers = lock(&its_state).answers(&room[..length]);
                answers.iter().for_each(|answer| drop(socket.send_to(answer, from)));
            }
        });
        Ok(Self { address, state, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers like this.
    pub fn set_manner(&self, manner: Manner) {
        let mut state = lock(&self.state);
        (state.manner, state.asked) = (manner, 0);
    }

    /// From now on the VM is like this.
    pub fn set_guest(&self, guest: Guest) {
        lock(&self.state).guest = guest;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn answers(&mut self, request: &[u8]) -> Vec<Vec<u8>> {
        if request.len() < 44 {
            return Vec::new();
        }
        self.asked += 1;
        let mut answer = self.right_answer(request);
        let late = std::mem::replace(&mut self.last, answer.clone());
        match self.manner {
            Manner::Silent => return Vec::new(),
            Manner::Lossy if self.asked <= 2 => return Vec::new(),
            Manner::Right | Manner::Lossy => {}
            Manner::Twice => return vec![answer.clone(), answer],
            Manner::Late => return vec![late],
            Manner::OtherSequence => answer[27] ^= 0x80,
            Manner::OtherTime => answer[35] ^= 1,
            Manner::OtherSession => answer[15] ^= 1,
            Manner::PlainStamp => answer[44..].copy_from_slice(&request[44..]),
            Manner::Short => answer.truncate(QUESTION - 1),
        }
        vec![answer]
    }

    /// The request's head comes back behind the reflector's own, whose times are zero: it does not know them.
    fn right_answer(&self, request: &[u8]) -> Vec<u8> {
        let mut answer = request.to_vec();
        answer[24..38].copy_from_slice(&request[..14]);
        answer[4..14].fill(0);
        answer[40] = 255;
        if request.len() == QUESTION && request[45] == 252 {
            let Guest { boot, up_us, asleep_us, lived_us, ticks, stolen_ticks, waited_us, clock_error_us } = self.guest;
            answer[44] = 0;
            answer[48..64].copy_from_slice(&boot.to_be_bytes());
            let numbers = [up_us, asleep_us, lived_us, ticks, stolen_ticks, waited_us, clock_error_us];
            answer[64..].copy_from_slice(&numbers.map(u64::to_be_bytes).concat());
        }
        answer
    }
}
