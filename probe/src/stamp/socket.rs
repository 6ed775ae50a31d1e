//! Datagrams with what the kernel knows about them: when they arrived, from where, and how many hops were left to them.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

/// The longest packet that is looked at: a jumbo frame.
pub(crate) const MOST_BYTES: u16 = 9_216;
/// Room for it.
pub(super) const ROOM: usize = MOST_BYTES as usize;
/// Room for the control messages that we ask for: time stamp and hop limit.
const CONTROL_ROOM: usize = 128;

/// A datagram in the room that it was received into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) bytes: usize,
    pub(super) from: Option<SocketAddr>,
    /// By `CLOCK_REALTIME`.
    pub(super) stamp_ns: Option<i64>,
    pub(super) hop_limit: Option<u8>,
}

/// Asks the kernel to tell with each datagram what [`receive`] returns.
pub(super) fn prepare(socket: &impl AsFd, is_ipv4: bool) -> io::Result<()> {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    if is_ipv4 {
        setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
    }
    Ok(())
}

/// Takes one datagram from the kernel; one that is longer than the room has a length of 0.
pub(super) fn receive(socket: &impl AsFd, room: &mut [u8]) -> io::Result<Received> {
    let mut control = [0; CONTROL_ROOM];
    let mut slices = [IoSliceMut::new(room)];
    let fd = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), MsgFlags::empty())?;
    let bytes = if message.flags.contains(MsgFlags::MSG_TRUNC) { 0 } else { message.bytes };
    let mut received = Received { bytes, from: message.address.as_ref().and_then(address), stamp_ns: None, hop_limit: None };
    for told in message.cmsgs().into_iter().flatten() {
        match told {
            ControlMessageOwned::ScmTimestampns(stamp) => received.stamp_ns = Some(stamp.tv_sec() * 1_000_000_000 + stamp.tv_nsec()),
            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => received.hop_limit = u8::try_from(hops).ok(),
            _ => {}
        }
    }
    Ok(received)
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
