//! The way from a probe to the aggregator: a relay that can be cut, as a real uplink is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A relay that runs until it is dropped.
pub(super) struct Uplink {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
    relay: tokio::task::JoinHandle<()>,
}

impl Uplink {
    /// A relay to `to` on a free port.
    pub(super) async fn to(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (is_cut, cut) = watch::channel(false);
        let relay = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, to, cut.clone()));
            }
        });
        Ok(Self { address, is_cut, relay })
    }

    /// Where the probe connects.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes any more, neither new connections nor old ones.
    pub(super) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Everything passes again.
    pub(super) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(mut from: TcpStream, to: SocketAddr, mut cut: watch::Receiver<bool>) {
    if *cut.borrow() {
        return;
    }
    let Ok(mut to) = TcpStream::connect(to).await else { return };
    tokio::select! {
        // Either side's end is the end: there is nobody to tell.
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        _ = cut.wait_for(|cut| *cut) => {}
    }
}
