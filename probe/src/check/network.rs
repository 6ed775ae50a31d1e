//! `kind = "network"`: of a few STAMP packets (RFC 8762), enough come back from a reflector.
//!
//! The latency is the median round trip of an attempt, without the time that the reflector took: one packet that met a queue is not the
//! path's, and one lucky packet neither. Loss, reordering, jitter and the delays of each way, with their error, are told beside it. Each
//! attempt has its own port and session identifier, so that a late answer to an earlier one counts for nothing.
//!
//! | what is seen | outcome | reason | phase |
//! |---|---|---|---|
//! | more than `most_lost` packets unanswered at the deadline | fail | timeout | rtt |
//! | ICMP port unreachable, before enough answers | fail | refused | rtt |
//! | ICMP administratively prohibited, or no route | fail | unreachable | rtt |
//! | all packets sent and enough answers, whatever else came: duplicates, forgeries, errors | ok | | |
//! | `tcp_echo`: enough packets are answered, but no connection is accepted, or it does not bring back what was sent | fail | refused, unreachable, reset, content, timeout | connect, transfer |
//! | `mtu`: enough small packets are answered, but no packet of that size, or the path's MTU is smaller | fail | unhealthy | rtt |
//! | `mtu` over IPv4 while the system forbids the don't-fragment bit (`net.ipv4.ip_no_pmtu_disc`) | void | internal | rtt |
//! | the name does not resolve | as everywhere | dns, resolver | resolve |
//! | no descriptors, no ports, a local filter | void | descriptors, internal | rtt |
//!
//! With `tcp_echo` each attempt also sends 64 octets over TCP to the same port and wants them back (RFC 862), as our reflector sends them: what
//! lies on the way may let one protocol through and not the other. Its phases are told beside; the latency is that of the packets.
//!
//! Routers may not fragment the packets of size `mtu`: over IPv6 they never do, over IPv4 the kernel sets the don't-fragment bit on what
//! fits the path as it knows it. It believes for ten minutes what a router said about a path (`net.ipv4.route.mtu_expires`): so long a
//! failure may outlive its cause. Make it a target of its own, beside one without `mtu`.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use serde::Deserialize;
use tokio::net::UdpSocket;
use vigie_contract::Reason;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::clock::now;
use crate::net::{Host, Net, late_fault, own_fault};
use crate::stamp::echo;
use crate::stamp::packet::padding;
use crate::stamp::sender::{Order, exchange};
use crate::stamp::{Exchange, MOST_BYTES};

/// More would be a load, not a measurement; they are 20 ms apart.
const MOST_PACKETS: u32 = 50;
const USUAL_PACKETS: u32 = 5;
/// The smallest MTU that IPv4 hosts must take whole; it is larger than a packet without padding.
const LEAST_MTU: u16 = 576;
const IPV4_AND_UDP_BYTES: usize = 28;
const IPV6_AND_UDP_BYTES: usize = 48;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// `host:port` of the reflector; 862 is the port of STAMP.
    address: String,
    /// How many packets an attempt sends, 20 ms apart.
    #[serde(default = "usual_packets")]
    packets: u32,
    /// How many of them may be lost; without it all but one.
    most_lost: Option<u32>,
    /// The size, in bytes with the IP header, of as many more packets that no router may fragment: the path's MTU must be this at least.
    mtu: Option<u16>,
    /// Whether what is sent over TCP to the same port must come back, too.
    #[serde(default)]
    tcp_echo: bool,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

fn usual_packets() -> u32 {
    USUAL_PACKETS
}

struct Network {
    host: Host,
    port: u16,
    packets: u32,
    most_lost: u32,
    mtu: Option<u16>,
    has_echo: bool,
}

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        Host::with_port(&self.address)?;
        let wrong = |why: String| Err(CheckError::Shape(why));
        if !(1..=MOST_PACKETS).contains(&self.packets) {
            return wrong(format!("`packets` is from 1 to {MOST_PACKETS}"));
        }
        if self.most_lost.is_some_and(|lost| lost >= self.packets) {
            return wrong(format!("`most_lost` is below the {} packets: one at least must come back", self.packets));
        }
        if self.mtu.is_some_and(|mtu| !(LEAST_MTU..=MOST_BYTES).contains(&mtu)) {
            return wrong(format!("`mtu` is from {LEAST_MTU} to {MOST_BYTES} bytes"));
        }
        Ok(())
    }

    /// Of an attempt; so many more of the size of the MTU where one is asked for, and a connection for an echo.
    pub(super) fn packets(&self) -> u64 {
        u64::from(self.packets) * if self.mtu.is_some() { 2 } else { 1 } + u64::from(self.tcp_echo)
    }

    pub(super) fn build(self) -> Result<impl Check + use<>, CheckError> {
        let (host, port) = Host::with_port(&self.address)?;
        let most_lost = self.most_lost.unwrap_or(self.packets.saturating_sub(1));
        Ok(Network { host, port, packets: self.packets, most_lost, mtu: self.mtu, has_echo: self.tcp_echo })
    }
}

impl Check for Network {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.measure(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Network
    }
}

impl Network {
    async fn measure(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let to = SocketAddr::new(attempt.net.resolve(&self.host, trace).await?, self.port);
        trace.begin(Phase::Rtt);
        let socket = Net::datagram_socket(attempt.net.source, to).await?;
        let clock_error = Some(attempt.clock_error).filter(|error| error.us() > 0);
        let order = Order { packets: self.packets, enough: self.packets, tail: &[], clock_error };
        let mut connection = Trace::new(now());
        let (small, large, echoed) = tokio::join!(
            exchange(&socket, order, attempt.deadline, |_| {}),
            self.pass_mtu(attempt, to, order),
            self.echo(attempt, to, &mut connection)
        );
        let (figures, error) = small;
        trace.facts.exchange = Some(figures);
        trace.close(now());
        connection.phases().filter(|(phase, _)| *phase != Phase::Resolve).for_each(|(phase, length)| trace.set(phase, length));
        if figures.sent < self.packets || figures.sent - figures.replied > self.most_lost {
            return Err(error.map_or(Finding::Fail(Reason::Timeout), |error| late_fault(&error)));
        }
        if let Some(round_trip) = figures.round_trip {
            trace.set(Phase::Rtt, round_trip);
            trace.latency = Some(round_trip);
        }
        large?;
        echoed
    }

    /// Whether what is sent over TCP, if it is, comes back.
    async fn echo(&self, attempt: &Attempt<'_>, to: SocketAddr, trace: &mut Trace) -> Result<(), Finding> {
        if !self.has_echo {
            return Ok(());
        }
        let last_moment = attempt.last_moment(trace.began).into();
        let echoed = tokio::time::timeout_at(last_moment, echo::ask(attempt.net, to, trace)).await;
        trace.close(now());
        echoed.unwrap_or(Err(Finding::Fail(Reason::Timeout)))
    }

    /// Whether packets of the size that is asked for, if one is, come through.
    async fn pass_mtu(&self, attempt: &Attempt<'_>, to: SocketAddr, order: Order<'_>) -> Result<(), Finding> {
        let Some(mtu) = self.mtu else { return Ok(()) };
        let socket = Net::datagram_socket(attempt.net.source, to).await?;
        forbid_fragments(&socket, to)?;
        let headers = if to.is_ipv4() { IPV4_AND_UDP_BYTES } else { IPV6_AND_UDP_BYTES };
        let padding = padding(usize::from(mtu) - headers);
        let (Exchange { replied, .. }, error) = exchange(&socket, Order { tail: &padding, ..order }, attempt.deadline, |_| {}).await;
        let is_too_large = error.as_ref().and_then(std::io::Error::raw_os_error) == Some(Errno::EMSGSIZE as i32);
        match error {
            _ if is_too_large || is_narrower(&socket, to, mtu) => Err(Finding::Fail(Reason::Unhealthy)),
            _ if replied > 0 => Ok(()),
            Some(error) => Err(late_fault(&error)),
            None => Err(Finding::Fail(Reason::Unhealthy)),
        }
    }
}

/// Over IPv6 the kernel refuses what would have to be cut. Over IPv4 it sets the don't-fragment bit unless the system says otherwise, and
/// cuts what is larger than what it knows of the path: see [`is_narrower`].
fn forbid_fragments(socket: &UdpSocket, to: SocketAddr) -> Result<(), Finding> {
    if to.is_ipv6() {
        return setsockopt(socket, sockopt::Ipv6DontFrag, &true).map_err(|errno| own_fault(&errno.into()));
    }
    let sysctl = std::fs::read_to_string("/proc/sys/net/ipv4/ip_no_pmtu_disc").map_err(|error| own_fault(&error))?;
    if sysctl.trim() == "0" { Ok(()) } else { Err(Finding::Void(Reason::Internal)) }
}

/// Whether the kernel knows that the way to where an IPv4 socket is connected is narrower than `mtu`.
fn is_narrower(socket: &impl AsFd, to: SocketAddr, mtu: u16) -> bool {
    to.is_ipv4() && getsockopt(socket, sockopt::IpMtu).is_ok_and(|known| known < i32::from(mtu))
}

#[cfg(test)]
pub(super) use crate::stamp::tests::truth;
