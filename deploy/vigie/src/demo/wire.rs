//! The way to a reflector: a relay of datagrams that can be cut for one address, as the way over a provider's network is. Where the
//! reflector is dead there is silence, as from a machine without power: the system of this one, which lives, would say that nobody listens.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Each attempt of a check has a port of its own: so many are remembered, and forgotten together.
const MOST_CLIENTS: usize = 64;
const DATAGRAM_BYTES: usize = 9_216;

/// A relay that runs until it is dropped.
pub(super) struct Wire {
    address: SocketAddr,
    cut: Arc<Mutex<HashSet<IpAddr>>>,
    relay: tokio::task::JoinHandle<io::Result<()>>,
}

impl Wire {
    /// A relay to `to` on a free port.
    pub(super) async fn to(to: SocketAddr) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = socket.local_addr()?;
        let cut = Arc::default();
        let relay = tokio::spawn(relay(socket, to, Arc::clone(&cut)));
        Ok(Self { address, cut, relay })
    }

    /// Where the clients send.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing from this address passes any more.
    pub(super) fn cut(&self, client: IpAddr) {
        lock(&self.cut).insert(client);
    }

    /// Everything from this address passes again.
    pub(super) fn mend(&self, client: IpAddr) {
        lock(&self.cut).remove(&client);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

fn lock(cut: &Mutex<HashSet<IpAddr>>) -> MutexGuard<'_, HashSet<IpAddr>> {
    cut.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn relay(socket: Arc<UdpSocket>, to: SocketAddr, cut: Arc<Mutex<HashSet<IpAddr>>>) -> io::Result<()> {
    let (mut ways, mut returns) = (HashMap::new(), JoinSet::new());
    let mut room = [0; DATAGRAM_BYTES];
    loop {
        let (bytes, client) = socket.recv_from(&mut room).await?;
        if lock(&cut).contains(&client.ip()) {
            continue;
        }
        if ways.len() == MOST_CLIENTS && !ways.contains_key(&client) {
            ways.clear();
            returns.abort_all();
        }
        let way = match ways.get(&client) {
            Some(way) => Arc::clone(way),
            None => {
                // Without a socket the datagram is lost, as on any way.
                let Ok(way) = connected(to).await else { continue };
                let way = Arc::new(way);
                returns.spawn(bring_back(Arc::clone(&way), Arc::clone(&socket), client));
                ways.insert(client, Arc::clone(&way));
                way
            }
        };
        // An error is what this machine's system says of the datagram before.
        let _ = way.send(&room[..bytes]).await;
        while returns.try_join_next().is_some() {}
    }
}

async fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

async fn bring_back(way: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr) {
    let mut room = [0; DATAGRAM_BYTES];
    loop {
        if let Ok(bytes) = way.recv(&mut room).await {
            let _ = socket.send_to(&room[..bytes], client).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(100);

    async fn is_answered(client: &UdpSocket, patience: Duration) -> bool {
        client.send(b"?").await.unwrap();
        tokio::time::timeout(patience, client.recv(&mut [0; 8])).await.is_ok()
    }

    #[tokio::test]
    async fn datagrams_pass_there_and_back_but_for_who_is_cut_off_and_to_the_dead_there_is_silence() {
        let reflector = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let wire = Wire::to(reflector.local_addr().unwrap()).await.unwrap();
        let reflecting = tokio::spawn(async move {
            let mut room = [0; 8];
            while let Ok((bytes, from)) = reflector.recv_from(&mut room).await {
                reflector.send_to(&room[..bytes], from).await.unwrap();
            }
        });
        let client = connected(wire.address()).await.unwrap();
        assert!(is_answered(&client, LONG).await);
        wire.cut(Ipv4Addr::LOCALHOST.into());
        assert!(!is_answered(&client, SHORT).await);
        wire.mend(Ipv4Addr::LOCALHOST.into());
        assert!(is_answered(&client, LONG).await);
        reflecting.abort();
        let _ = reflecting.await;
        assert!(!is_answered(&client, SHORT).await);
        assert!(!is_answered(&client, SHORT).await);
    }
}
