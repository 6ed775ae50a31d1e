//! One attempt of a sender: a few packets, evenly spaced, and the replies to them.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::UdpSocket;
use vigie_contract::Span;

use super::packet::padding;
use super::session::{Exchange, Session};
use super::socket::{self, ROOM, Received};
use crate::clock::{now, wall_now};
use crate::icmp::Moment;

/// The time between two packets.
const SPACING: Duration = Duration::from_millis(20);

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) packets: u32,
    /// Of each packet: at least [`super::packet::LENGTH`].
    pub(crate) bytes: usize,
    /// How far our clock may be off, if that is known.
    pub(crate) clock_error: Option<Span>,
}

/// Sends over `socket`, which is connected to the reflector, and takes replies until all are there or `deadline`. An error of the socket
/// ends it early: what was measured until then is returned beside it.
pub(crate) async fn exchange(socket: &UdpSocket, order: Order, deadline: Instant) -> (Exchange, Option<io::Error>) {
    let mut session = Session::new(order.clock_error);
    let error = converse(socket, order, deadline, &mut session).await.err();
    (session.exchange(), error)
}

async fn converse(socket: &UdpSocket, order: Order, deadline: Instant, session: &mut Session) -> io::Result<()> {
    socket::prepare(socket, socket.peer_addr()?.is_ipv4())?;
    let (padding, mut room, began) = (padding(order.bytes), vec![0; ROOM], now());
    let mut next = began;
    while session.sent() < order.packets || !session.is_complete() {
        tokio::select! {
            biased;
            received = socket.async_io(Interest::READABLE, || socket::receive(socket, &mut room)) => {
                let received = received?;
                session.take(&room[..received.bytes], arrival(received, began));
            }
            () = tokio::time::sleep_until(next.into()), if session.sent() < order.packets => {
                let packet = [&session.request(now(), wall_now())[..], &padding].concat();
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
