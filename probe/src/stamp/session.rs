//! What a sender knows of the packets that it sent: which came back, when, and what follows from that.

use std::time::Instant;

use vigie_contract::{Span, Time};

use super::packet::{ErrorEstimate, LENGTH, Reply, Request, Stamp};
use crate::clock::span;

/// The packets of one attempt, numbered from 0.
#[derive(Debug)]
pub(super) struct Session {
    /// Different in every attempt, beside the port that the kernel draws for it.
    ssid: u16,
    error: Option<Span>,
    sent: Vec<Sent>,
    /// The highest number that was answered.
    highest: Option<u32>,
    reordered: u32,
    ignored: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    stamp: Stamp,
    journey: Option<Journey>,
}

/// One packet's way to the reflector and back.
#[derive(Clone, Copy, Debug)]
struct Journey {
    /// Without the time that the reflector took.
    round_trip: Span,
    one_way: Option<OneWay>,
}

/// Delays by two clocks: each may be off by `error`, and be negative for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OneWay {
    pub(crate) forward: Span,
    pub(crate) back: Span,
    pub(crate) error: Span,
}

/// What an attempt measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub(crate) sent: u32,
    pub(crate) replied: u32,
    /// Replies to an earlier packet than one that was already answered (RFC 4737's type P reordered).
    pub(crate) reordered: u32,
    /// Datagrams that answered nothing: duplicates, forgeries, late replies to an earlier attempt, noise.
    pub(crate) ignored: u32,
    /// The median round trip without the time that the reflector took.
    pub(crate) round_trip: Option<Span>,
    /// The mean difference between the round trips of two packets that were answered one after the other, by number.
    pub(crate) jitter: Option<Span>,
    /// Medians; `None` unless both ends know how far their clocks may be off.
    pub(crate) one_way: Option<OneWay>,
}

impl Session {
    /// `error`: how far our clock may be off, if that is known.
    pub(super) fn new(error: Option<Span>) -> Self {
        let ssid = (crate::random::u64() as u16).max(1);
        Self { ssid, error, sent: Vec::new(), highest: None, reordered: 0, ignored: 0 }
    }

    /// The next packet, which is sent at `at`.
    pub(super) fn request(&mut self, at: Instant, wall: Time) -> [u8; LENGTH] {
        let (seq, stamp) = (self.sent.len() as u32, Stamp::of(wall));
        self.sent.push(Sent { at, stamp, journey: None });
        Request { seq, sent: stamp, error: ErrorEstimate::of(self.error), ssid: self.ssid }.to_bytes()
    }

    /// A datagram that arrived from the reflector's address; whether it answers a packet. It does if it repeats its number and its stamp,
    /// and has the session's identifier or, from a reflector that knows RFC 8762 only, none.
    pub(super) fn take(&mut self, bytes: &[u8], arrived: Instant) -> bool {
        let reply = Reply::from_bytes(bytes).filter(|reply| reply.ssid == self.ssid || reply.ssid == 0);
        let answered = reply.and_then(|reply| {
            let sent = self.sent.get_mut(reply.request_seq as usize)?;
            (sent.stamp == reply.request_sent && sent.journey.is_none()).then_some((reply, sent))
        });
        let Some((reply, sent)) = answered else {
            self.ignored += 1;
            return false;
        };
        sent.journey = Some(journey(&reply, sent, arrived, self.error));
        if self.highest.is_some_and(|highest| reply.request_seq < highest) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(reply.request_seq));
        true
    }

    pub(super) fn sent(&self) -> u32 {
        self.sent.len() as u32
    }

    /// How many packets were answered.
    pub(super) fn replied(&self) -> u32 {
        self.sent.iter().filter(|sent| sent.journey.is_some()).count() as u32
    }

    pub(super) fn exchange(&self) -> Exchange {
        let journeys: Vec<Journey> = self.sent.iter().filter_map(|sent| sent.journey).collect();
        let one_ways: Vec<OneWay> = journeys.iter().filter_map(|journey| journey.one_way).collect();
        let differences = journeys.windows(2).map(|pair| (pair[1].round_trip.us() - pair[0].round_trip.us()).abs());
        let steps = journeys.len().saturating_sub(1) as i64;
        let one_way = |of: fn(&OneWay) -> Span| median(one_ways.iter().map(of));
        Exchange {
            sent: self.sent(),
            replied: self.replied(),
            reordered: self.reordered,
            ignored: self.ignored,
            round_trip: median(journeys.iter().map(|journey| journey.round_trip)),
            jitter: differences.sum::<i64>().checked_div(steps).map(Span::from_us),
            one_way: one_way(|delay| delay.forward).zip(one_way(|delay| delay.back)).map(|(forward, back)| {
                let error = one_ways.iter().map(|delay| delay.error).max().unwrap_or(Span::ZERO);
                OneWay { forward, back, error }
            }),
        }
    }
}

/// From the four stamps. The round trip is ours, by a clock that nobody sets; the reflector's two only say how long it kept the packet,
/// and are not believed if that is longer than all of it. PTP's time has no known distance from ours, so it says nothing here.
fn journey(reply: &Reply, sent: &Sent, arrived: Instant, error: Option<Span>) -> Journey {
    let all = span(arrived.saturating_duration_since(sent.at));
    if reply.error.is_of_ptp() {
        return Journey { round_trip: all, one_way: None };
    }
    let kept = reply.answered.since(reply.received);
    let is_believed = (Span::ZERO..=all).contains(&kept);
    let round_trip = if is_believed { all - kept } else { all };
    let forward = reply.received.since(sent.stamp);
    let one_way = error.zip(reply.error.bound()).filter(|_| is_believed);
    let one_way = one_way.map(|(ours, theirs)| OneWay { forward, back: round_trip - forward, error: ours + theirs });
    Journey { round_trip, one_way }
}

/// The lower one of an even number.
fn median(values: impl Iterator<Item = Span>) -> Option<Span> {
    let mut sorted: Vec<Span> = values.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::now;

    const WALL: Time = Time::from_us(1_800_000_000_000_000);
    const MS: i64 = 1_000;

    fn ms(ms: i64) -> Span {
        Span::from_us(ms * MS)
    }

    /// The reply to `request` that a reflector received at `received_ms` after [`WALL`] by its clock and kept for a millisecond.
    fn reply(request: &[u8], received_ms: i64) -> Reply {
        let request = Request::from_bytes(request).unwrap();
        Reply {
            seq: request.seq,
            answered: Stamp::of(WALL + ms(received_ms + 1)),
            error: ErrorEstimate::of(Some(ms(2))),
            ssid: request.ssid,
            received: Stamp::of(WALL + ms(received_ms)),
            request_seq: request.seq,
            request_sent: request.sent,
            request_error: request.error,
            request_ttl: 64,
        }
    }

    #[test]
    fn four_stamps_give_three_delays() {
        let (mut session, at) = (Session::new(Some(ms(3))), now());
        let request = session.request(at, WALL);
        session.take(&reply(&request, 4).to_bytes(), at + Duration::from_millis(12));
        let exchange = session.exchange();
        assert_eq!((exchange.sent, exchange.replied, exchange.ignored), (1, 1, 0));
        assert_eq!(exchange.round_trip, Some(ms(11)));
        let one_way = exchange.one_way.unwrap();
        assert_eq!((one_way.forward, one_way.back), (ms(4), ms(7)));
        assert!((5 * MS..6 * MS).contains(&one_way.error.us()), "{one_way:?}");
        assert_eq!(exchange.jitter, None);
    }

    #[test]
    fn a_clock_that_is_not_known_tells_no_one_way_delay() {
        let at = now();
        let exchange = |ours: Option<Span>, change: fn(&mut Reply)| {
            let mut session = Session::new(ours);
            let mut reply = reply(&session.request(at, WALL), 4);
            change(&mut reply);
            session.take(&reply.to_bytes(), at + Duration::from_millis(12));
            session.exchange()
        };
        assert_eq!(exchange(None, |_| {}).one_way, None);
        assert_eq!(exchange(None, |_| {}).round_trip, Some(ms(11)));
        assert_eq!(exchange(Some(ms(1)), |reply| reply.error = ErrorEstimate(0)).one_way, None);
        let ptp = exchange(Some(ms(1)), |reply| reply.error = ErrorEstimate(0xc001));
        assert_eq!((ptp.one_way, ptp.round_trip), (None, Some(ms(12))));
        let lied = exchange(Some(ms(1)), |reply| reply.answered = Stamp(0));
        assert_eq!((lied.one_way, lied.round_trip), (None, Some(ms(12))), "kept for longer than it was away");
    }

    #[test]
    fn duplicates_forgeries_and_noise_answer_nothing() {
        let (mut session, at) = (Session::new(None), now());
        let requests = [session.request(at, WALL), session.request(at, WALL + ms(20))];
        let good = reply(&requests[0], 4);
        let other = good.ssid.wrapping_add(1).max(1);
        let forged = [
            Reply { ssid: other, ..good },
            Reply { request_seq: 1, ..good },
            Reply { request_seq: 2, ..good },
            Reply { request_sent: Stamp(good.request_sent.0 + 1), ..good },
        ];
        assert!(forged.iter().all(|reply| !session.take(&reply.to_bytes(), at)));
        assert!(!session.take(&good.to_bytes()[..43], at) && !session.take(&[], at));
        assert_eq!(session.exchange(), Exchange { sent: 2, ignored: 6, ..Exchange::default() });
        assert!(session.take(&Reply { ssid: 0, ..good }.to_bytes(), at));
        assert!(!session.take(&good.to_bytes(), at), "a duplicate");
        let exchange = session.exchange();
        assert_eq!((exchange.replied, exchange.ignored), (1, 7));
    }

    #[test]
    fn what_is_overtaken_is_reordered_and_jitter_goes_by_number() {
        let (mut session, at) = (Session::new(None), now());
        let requests: Vec<_> = (0..4).map(|_| session.request(at, WALL)).collect();
        for (seq, after_ms) in [(0, 11), (3, 15), (1, 17), (2, 19)] {
            session.take(&reply(&requests[seq], 4).to_bytes(), at + Duration::from_millis(after_ms));
        }
        let exchange = session.exchange();
        assert_eq!((exchange.reordered, exchange.replied), (2, 4));
        assert_eq!(exchange.round_trip, Some(ms(14)), "the lower median of 10, 14, 16 and 18");
        assert_eq!(exchange.jitter, Some(ms(4)), "(6 + 2 + 4) / 3");
        assert_eq!(session.replied(), 4);
    }
}
