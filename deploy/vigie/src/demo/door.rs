//! The door before a server of the demo's region: a relay that knows whose packets do not arrive, and how late an answer is.
//!
//! Behind it the client's address is its own still: all of 127.0.0.0/8 is this machine's.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;

/// A connection that is left to hang is closed after this.
const HANG: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 16_384;

/// What happens to those who come.
#[derive(Debug, Default)]
pub(super) struct Behaviour {
    /// Answers come this much later than they could.
    pub(super) delay: Duration,
    /// Addresses whose packets do not arrive.
    pub(super) cut: HashSet<IpAddr>,
}

pub(super) type Shared = Arc<Mutex<Behaviour>>;

pub(super) fn lock(behaviour: &Shared) -> MutexGuard<'_, Behaviour> {
    behaviour.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leads everybody to the server at `to`; ends only if the listener does.
pub(super) async fn lead(listener: TcpListener, to: SocketAddr, behaviour: Shared) -> io::Result<()> {
    loop {
        let (client, peer) = listener.accept().await?;
        let behaviour = Arc::clone(&behaviour);
        tokio::spawn(async move {
            // Either side's end is the end: there is nobody to tell.
            let _ = pass(client, peer.ip(), to, &behaviour).await;
        });
    }
}

async fn pass(mut client: TcpStream, peer: IpAddr, to: SocketAddr, behaviour: &Shared) -> io::Result<()> {
    hold(peer, behaviour).await;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(peer, 0))?;
    let mut server = socket.connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut question, mut answer) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut is_asked = false;
    loop {
        tokio::select! {
            asked = client.read(&mut question) => {
                let bytes = asked?;
                if bytes == 0 {
                    return Ok(());
                }
                hold(peer, behaviour).await;
                server.write_all(&question[..bytes]).await?;
                is_asked = true;
            }
            answered = server.read(&mut answer) => {
                let bytes = answered?;
                if bytes == 0 {
                    return Ok(());
                }
                // Once for each answer, in however many parts it comes.
                if std::mem::take(&mut is_asked) {
                    let delay = lock(behaviour).delay;
                    sleep(delay).await;
                }
                hold(peer, behaviour).await;
                client.write_all(&answer[..bytes]).await?;
            }
        }
    }
}

/// Of a client whose packets do not arrive nothing is heard any more.
async fn hold(peer: IpAddr, behaviour: &Shared) {
    let is_cut = lock(behaviour).cut.contains(&peer);
    if is_cut {
        sleep(HANG).await;
    }
}
