//! One attempt of a sender: a few packets, evenly spaced, and the replies to them.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::UdpSocket;
use vigie_contract::Span;

use super::packet::LENGTH;
use super::session::{Exchange, Session};
use super::socket::{self, ROOM, Received};
use crate::clock::{now, wall_now};
use crate::icmp::Moment;

/// The time between two packets.
const SPACING: Duration = Duration::from_millis(20);

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    pub(crate) packets: u32,
    /// So many replies end it.
    pub(crate) enough: u32,
    /// What follows the [`LENGTH`] octets of each packet.
    pub(crate) tail: &'a [u8],
    /// How far our clock may be off, if that is known.
    pub(crate) clock_error: Option<Span>,
}

/// Sends over `socket`, which is connected to the reflector, and takes replies until enough are there or `deadline`; `hear` is given what
/// follows the [`LENGTH`] octets of each. An error of the socket ends it early: what was measured until then is returned beside it.
pub(crate) async fn exchange(
    socket: &UdpSocket,
    order: Order<'_>,
    deadline: Instant,
    hear: impl FnMut(&[u8]),
) -> (Exchange, Option<io::Error>) {
    let mut session = Session::new(order.clock_error);
    let error = converse(socket, order, deadline, hear, &mut session).await.err();
    (session.exchange(), error)
}

async fn converse(
    socket: &UdpSocket,
    order: Order<'_>,
    deadline: Instant,
    mut hear: impl FnMut(&[u8]),
    session: &mut Session,
) -> io::Result<()> {
    socket::prepare(socket, socket.peer_addr()?.is_ipv4())?;
    let (mut room, began) = (vec![0; ROOM], now());
    let mut next = began;
    while session.replied() < order.enough {
        tokio::select! {
            biased;
            received = socket.async_io(Interest::READABLE, || socket::receive(socket, &mut room)) => {
                let received = received?;
                let packet = &room[..received.bytes];
                if session.take(packet, arrival(received, began)) {
                    hear(&packet[LENGTH..]);
                }
            }
            () = tokio::time::sleep_until(next.into()), if session.sent() < order.packets => {
                let packet = [&session.request(now(), wall_now())[..], order.tail].concat();
                socket.send(&packet).await?;
                next += SPACING;
            }
            () = tokio::time::sleep_until(deadline.into()) => break,
        }
    }
    Ok(())
}

/// When it arrived: by the kernel's stamp, unless there is none or it makes no sense.
fn arrival(received: Received, began: Instant) -> Instant {
    let moment = Moment::now();
    received.stamp_ns.and_then(|stamp_ns| moment.arrival(stamp_ns, began)).unwrap_or(moment.at)
}
