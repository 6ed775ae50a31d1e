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
    hold(peer, behaviour).await?;
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
                hold(peer, behaviour).await?;
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
                hold(peer, behaviour).await?;
                client.write_all(&answer[..bytes]).await?;
            }
        }
    }
}

/// Of a client whose packets do not arrive nothing is heard any more, on this connection for ever.
async fn hold(peer: IpAddr, behaviour: &Shared) -> io::Result<()> {
    let is_cut = lock(behaviour).cut.contains(&peer);
    if is_cut {
        sleep(HANG).await;
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A door before a server that says back what it hears, and a client of it.
    async fn client(behaviour: &Shared) -> TcpStream {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let inside = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = door.local_addr().unwrap();
        tokio::spawn(lead(door, inside, Arc::clone(behaviour)));
        TcpStream::connect(address).await.unwrap()
    }

    async fn answer(client: &mut TcpStream) -> io::Result<usize> {
        client.write_all(b"?").await?;
        client.read(&mut [0; 8]).await
    }

    #[tokio::test]
    async fn what_is_asked_is_answered_as_late_as_is_said() {
        let behaviour = Shared::default();
        let mut client = client(&behaviour).await;
        assert_eq!(answer(&mut client).await.unwrap(), 1);
        lock(&behaviour).delay = Duration::from_millis(200);
        let began = tokio::time::Instant::now();
        assert_eq!(answer(&mut client).await.unwrap(), 1);
        assert!(began.elapsed() >= Duration::from_millis(200));
    }

    #[tokio::test]
    async fn who_is_cut_off_is_held_and_others_are_not() {
        let behaviour = Shared::default();
        let (stranger, other) = ([127, 0, 103, 1].into(), [127, 0, 101, 1].into());
        lock(&behaviour).cut.insert(stranger);
        hold(other, &behaviour).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), hold(stranger, &behaviour)).await.is_err());
    }
}
