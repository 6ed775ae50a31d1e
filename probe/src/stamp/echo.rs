//! Echo over TCP (RFC 862), beside the test packets: what is sent comes back. Both ends.
//!
//! The responder answers the same peers as the reflector, and nobody else: whom it does not know it hangs up on. It says only what it was
//! told, and only after the three steps of TCP have shown that the asker is where it says. One peer has so many connections at a time, and
//! each ends after so much and so long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use vigie_contract::Reason;

use super::peer::Prefix;
use super::reflector::{Counts, Ignored};
use crate::check::{Finding, Phase, Trace};
use crate::net::{Host, Net, fault};
use crate::random;

/// What is sent to be echoed.
const QUESTION_BYTES: usize = 64;
/// No more is sent back over one connection.
pub(super) const MOST_BYTES: usize = 1_024;
/// A mesh of dozens of targets, each for some milliseconds.
pub(super) const MOST_CONNECTIONS: usize = 32;
/// A connection ends by then.
const LONGEST: Duration = Duration::from_secs(10);
/// How soon the responder notices that it shall stop, and goes on after an error.
const PATIENCE: Duration = Duration::from_millis(200);

/// Answers `peers` until it is told to `stop`.
pub(super) fn respond(listener: std::net::TcpListener, peers: &[Prefix], stop: &AtomicBool, counts: &Arc<Counts>) -> io::Result<()> {
    let peers: Vec<_> = peers.iter().map(|prefix| (*prefix, Arc::new(Semaphore::new(MOST_CONNECTIONS)))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        while !stop.load(Ordering::Relaxed) {
            match tokio::time::timeout(PATIENCE, listener.accept()).await {
                Ok(Ok((stream, from))) => admit(stream, from, &peers, counts),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the echo responder cannot accept");
                    tokio::time::sleep(PATIENCE).await;
                }
                Err(_) => {}
            }
        }
        Ok(())
    })
}

fn admit(stream: TcpStream, from: SocketAddr, peers: &[(Prefix, Arc<Semaphore>)], counts: &Arc<Counts>) {
    let ip = from.ip().to_canonical();
    let Some((_, free)) = peers.iter().find(|(prefix, _)| prefix.contains(ip)) else { return counts.note(Err(Ignored::Undeclared)) };
    let Ok(place) = Arc::clone(free).try_acquire_owned() else { return counts.note(Err(Ignored::TooMany)) };
    let counts = Arc::clone(counts);
    tokio::spawn(async move {
        // Whoever hangs up or is slow has the end of it.
        let _ = tokio::time::timeout(LONGEST, echo(stream, &counts)).await;
        drop(place);
    });
}

/// A connection is counted before its first answer leaves: whoever has it, finds it counted.
async fn echo(mut stream: TcpStream, counts: &Counts) -> io::Result<()> {
    let mut room = [0; MOST_BYTES];
    let mut echoed = 0;
    while echoed < MOST_BYTES {
        let heard = stream.read(&mut room[echoed..]).await?;
        if heard == 0 {
            break;
        }
        if echoed == 0 {
            counts.note(Ok(()));
        }
        stream.write_all(&room[echoed..echoed + heard]).await?;
        echoed += heard;
    }
    Ok(())
}

/// Sends what nobody else has, and waits until it has come back. Phases connect and transfer.
pub(crate) async fn ask(net: &Net, to: SocketAddr, trace: &mut Trace) -> Result<(), Finding> {
    let mut stream = net.connect(&Host::Ip(to.ip()), to.port(), trace).await?;
    trace.begin(Phase::Transfer);
    let question: Vec<u8> = (0..QUESTION_BYTES / 8).flat_map(|_| random::u64().to_be_bytes()).collect();
    let mut answer = [0; QUESTION_BYTES];
    stream.write_all(&question).await.map_err(|error| fault(&error))?;
    stream.read_exact(&mut answer).await.map_err(|error| fault(&error))?;
    if question == answer { Ok(()) } else { Err(Finding::Fail(Reason::Content)) }
}
