//! One ICMP socket: icmp(7), raw(7), ip(7), ipv6(7). All that talks to the kernel.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmmsg, recvmsg, sendto, setsockopt, sockopt,
};
use nix::sys::stat::fstat;
use socket2::{Domain, Protocol, SockFilter, Type};

use super::packet::{self, Version};
use super::{Mode, Undelivered};

/// So many replies are taken from the kernel at once.
pub(super) const BATCH: usize = 64;
/// Room for a reply, an IPv4 header with all its options, and a byte more, which shows a reply that is too long.
const ROOM: usize = packet::LENGTH + 60 + 1;
/// Room for the control messages that we ask for: time stamp, hop limit, drops; and of an error, with its sender.
const CONTROL_ROOM: usize = 256;
/// A queue for 20 000 pings that are all answered while the probe does not run for half a second: a small datagram occupies about 800
/// bytes of it, and the kernel doubles what one asks for.
const SEND_BYTES: usize = 4 << 20;
pub(super) const RECEIVE_BYTES: usize = 8 << 20;

/// A socket that sends echo requests and receives only the replies to its own.
#[derive(Debug)]
pub(super) struct Socket {
    descriptor: socket2::Socket,
    version: Version,
    mode: Mode,
    /// What the kernel, or our filter, knows our replies by.
    ident: u16,
    inode: u64,
}

/// Where replies are received; used again and again.
pub(super) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    rooms: Box<[[u8; ROOM]]>,
}

/// A datagram that may be a reply.
pub(super) struct Received<'a> {
    /// From the ICMP header on.
    pub(super) bytes: &'a [u8],
    pub(super) from: IpAddr,
    /// By `CLOCK_REALTIME`, in nanoseconds, as the kernel took it from the device.
    pub(super) stamp_ns: Option<i64>,
    pub(super) hop_limit: Option<u8>,
}

/// An ICMP error about something that we sent.
pub(super) struct Complaint<'a> {
    /// What it quotes, from the ICMP header on.
    pub(super) quoted: &'a [u8],
    /// Where that was sent.
    pub(super) to: IpAddr,
    pub(super) error: Undelivered,
}

impl Socket {
    /// A socket of this kind from `source`, if the system lets us have it.
    pub(super) fn open(mode: Mode, version: Version, source: Option<IpAddr>, receive_bytes: usize) -> io::Result<Self> {
        let (domain, protocol) = match version {
            Version::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Version::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let kind = match mode {
            Mode::Datagram => Type::DGRAM,
            Mode::Raw => Type::RAW,
        };
        let socket = socket2::Socket::new(domain, kind.nonblocking(), Some(protocol))?;
        let any: IpAddr = if version == Version::V4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let ident = match mode {
            // Bound to port 0 the kernel chooses an identifier that nobody else has; it is the port from then on.
            Mode::Datagram => {
                socket.bind(&SocketAddr::new(source.unwrap_or(any), 0).into())?;
                socket.local_addr()?.as_socket().map_or(0, |local| local.port())
            }
            Mode::Raw => {
                let ident = crate::random::u64() as u16;
                socket.attach_filter(&filter(version, ident))?;
                if let Some(source) = source {
                    socket.bind(&SocketAddr::new(source, 0).into())?;
                }
                ident
            }
        };
        // The larger buffers need CAP_NET_ADMIN; without it we get what net.core.rmem_max and wmem_max allow.
        if setsockopt(&socket, sockopt::RcvBufForce, &receive_bytes).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &receive_bytes)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BYTES).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &SEND_BYTES)?;
        }
        // If nobody else had asked, the kernel begins a little later; until then it stamps a reply when we take it.
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        match version {
            Version::V4 => {
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
                setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            }
            Version::V6 => {
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            }
        }
        let inode = fstat(&socket)?.st_ino;
        Ok(Self { descriptor: socket, version, mode, ident, inode })
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn ident(&self) -> u16 {
        self.ident
    }

    pub(super) fn receive_bytes(&self) -> usize {
        self.descriptor.recv_buffer_size().unwrap_or(0)
    }

    /// Hands a request to the kernel. An error may be one that the kernel kept from an earlier request: [`Self::complaint`] tells.
    pub(super) fn send(&self, to: IpAddr, request: &[u8]) -> Result<(), Errno> {
        let (fd, flags) = (self.descriptor.as_raw_fd(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        let sent = match to {
            IpAddr::V4(ip) => sendto(fd, request, &SockaddrIn::from(SocketAddrV4::new(ip, 0)), flags),
            IpAddr::V6(ip) => sendto(fd, request, &SockaddrIn6::from(SocketAddrV6::new(ip, 0, 0, 0)), flags),
        };
        sent.map(drop)
    }

    /// Takes up to [`BATCH`] datagrams from the kernel and returns how many they were. `told_drops` hears how many the kernel has
    /// dropped so far, if it says so.
    pub(super) fn receive(
        &self,
        inbox: &mut Inbox,
        mut told_drops: impl FnMut(u32),
        mut take: impl FnMut(Received<'_>),
    ) -> Result<usize, Errno> {
        let mut is_cut = false;
        let mut count = 0;
        {
            let mut slices: Vec<_> = inbox.rooms.iter_mut().map(|room| [IoSliceMut::new(room)]).collect();
            for message in recvmmsg(self.descriptor.as_raw_fd(), &mut inbox.headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)? {
                count += 1;
                let (mut stamp_ns, mut hop_limit) = (None, None);
                match message.cmsgs() {
                    Ok(controls) => controls.for_each(|control| match control {
                        ControlMessageOwned::ScmTimestampns(stamp) => {
                            stamp_ns = Some(stamp.tv_sec() * 1_000_000_000 + stamp.tv_nsec());
                        }
                        ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => hop_limit = u8::try_from(hops).ok(),
                        ControlMessageOwned::RxqOvfl(drops) => told_drops(drops),
                        _ => {}
                    }),
                    Err(_) => is_cut = true,
                }
                let bytes = message.iovs().next().unwrap_or_default();
                let bytes = if self.has_ip_header() { packet::without_ipv4_header(bytes) } else { Some(bytes) };
                if let (Some(bytes), Some(from)) = (bytes, message.address.as_ref().and_then(ip)) {
                    take(Received { bytes, from, stamp_ns, hop_limit });
                }
            }
        }
        // nix leaves in a header how much room the last control messages took, and the next get no more. Ours take the same room every
        // time, until the kernel has dropped something and says so in one message more: so once in a socket's life a batch goes without.
        if is_cut {
            *inbox = Inbox::new();
        }
        Ok(count)
    }

    /// Takes one error that the kernel has kept for us; `None` if it is not about an echo or nothing can be learned from it.
    pub(super) fn complaint<T>(&self, take: impl FnOnce(Complaint<'_>) -> T) -> Result<Option<T>, Errno> {
        let (mut room, mut control) = ([0; ROOM], [0; CONTROL_ROOM]);
        let mut slices = [IoSliceMut::new(&mut room)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(self.descriptor.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        let error = message.cmsgs().ok().and_then(|mut controls| controls.find_map(|control| self.undelivered(&control)));
        let (Some(error), Some(to)) = (error, message.address.as_ref().and_then(ip)) else { return Ok(None) };
        let quoted = message.iovs().next().unwrap_or_default();
        Ok(Some(take(Complaint { quoted, to, error })))
    }

    /// The ICMP errors that say that something did not arrive: destination unreachable, packet too big, time exceeded, parameter
    /// problem.
    fn undelivered(&self, control: &ControlMessageOwned) -> Option<Undelivered> {
        let (error, origin, types, from) = match control {
            ControlMessageOwned::Ipv4RecvErr(error, from) if self.version == Version::V4 => {
                let from = from.map(|from| IpAddr::V4(u32::from_be(from.sin_addr.s_addr).into()));
                (error, libc::SO_EE_ORIGIN_ICMP, &[3, 11, 12][..], from)
            }
            ControlMessageOwned::Ipv6RecvErr(error, from) if self.version == Version::V6 => {
                let from = from.map(|from| IpAddr::V6(from.sin6_addr.s6_addr.into()));
                (error, libc::SO_EE_ORIGIN_ICMP6, &[1, 2, 3, 4][..], from)
            }
            _ => return None,
        };
        let is_meant = error.ee_origin == origin && types.contains(&error.ee_type);
        is_meant.then_some(Undelivered { icmp_type: error.ee_type, code: error.ee_code, from })
    }

    /// How many datagrams the kernel has dropped because our queue was full, by its table of sockets: with a datagram it only tells of
    /// drops before that one, so after the last one nothing does.
    pub(super) fn drops(&self) -> Option<u32> {
        let table = match (self.mode, self.version) {
            (Mode::Datagram, Version::V4) => "icmp",
            (Mode::Datagram, Version::V6) => "icmp6",
            (Mode::Raw, Version::V4) => "raw",
            (Mode::Raw, Version::V6) => "raw6",
        };
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        drops_of(&text, self.inode)
    }

    fn has_ip_header(&self) -> bool {
        self.mode == Mode::Raw && self.version == Version::V4
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { headers: MultiHeaders::preallocate(BATCH, Some(vec![0; CONTROL_ROOM])), rooms: vec![[0; ROOM]; BATCH].into() }
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// A socket filter that lets pass only echo replies to `ident`: a raw socket gets all ICMP of the host. For IPv4 it sees the packet
/// from its IP header on, for IPv6 from its ICMP header on.
fn filter(version: Version, ident: u16) -> Vec<SockFilter> {
    const LOAD_X_IP_HEADER_LENGTH: u16 = 0xb1;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_BYTE_X: u16 = 0x50;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_HALF_X: u16 = 0x48;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let op = |code, operand| SockFilter::new(code, 0, 0, operand);
    let unless_equal_skip = |value, skip| SockFilter::new(JUMP_IF_EQUAL, 0, skip, value);
    let (first, load_byte, load_half) = match version {
        Version::V4 => (Some(op(LOAD_X_IP_HEADER_LENGTH, 0)), LOAD_BYTE_X, LOAD_HALF_X),
        Version::V6 => (None, LOAD_BYTE, LOAD_HALF),
    };
    first
        .into_iter()
        .chain([
            op(load_byte, 0),
            unless_equal_skip(version.reply_type().into(), 3),
            op(load_half, 4),
            unless_equal_skip(ident.into(), 1),
            op(RETURN, u32::MAX),
            op(RETURN, 0),
        ])
        .collect()
}

/// The last column of the line with this inode, in a table of `/proc/net` (proc(5)).
fn drops_of(table: &str, inode: u64) -> Option<u32> {
    const INODE: usize = 9;
    let inode = inode.to_string();
    let line = table.lines().find(|line| line.split_ascii_whitespace().nth(INODE) == Some(&inode))?;
    line.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drops_of_a_socket_are_in_the_table_of_the_kernel() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n    \
                     1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 7311 2 0000000000000000 0\n  \
                     255: 00000000:00FF 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 7312 2 0000000000000000 42\n";
        assert_eq!(drops_of(table, 7312), Some(42));
        assert_eq!(drops_of(table, 7311), Some(0));
        assert_eq!(drops_of(table, 73), None);
        assert_eq!(drops_of("", 1), None);
    }
}
