//! The echoes of one socket that wait for their replies: what counts as whose answer. Knows no socket and reads no clock.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::task::Waker;
use std::time::Instant;

use rustc_hash::FxBuildHasher;

use super::packet::{Cookie, Message};
use super::{Counts, Echo, LocalFault};

/// So many echoes wait at one socket at most: half of the sequence numbers, so that the next free one is near and none is used again
/// soon.
const MOST_WAITING: usize = 1 << 15;

/// Who waits, by sequence number.
#[derive(Debug)]
pub(super) struct Waiting {
    nonce: u64,
    tags: RandomState,
    sent: u64,
    next: u16,
    waiters: HashMap<u16, Waiter, FxBuildHasher>,
    /// Whether the last echo with a number was answered: tells a duplicate from a late reply.
    answered: Vec<bool>,
    /// Datagrams that the kernel has dropped because our receive queue was full.
    drops: u32,
}

#[derive(Debug)]
struct Waiter {
    to: IpAddr,
    tag: u64,
    sent: Instant,
    deadline: Instant,
    drops: u32,
    waker: Option<Waker>,
    echo: Option<Echo>,
}

impl Waiting {
    pub(super) fn new(nonce: u64) -> Self {
        Self { nonce, tags: RandomState::new(), sent: 0, next: 0, waiters: HashMap::default(), answered: vec![false; 1 << 16], drops: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiters.len() >= MOST_WAITING
    }

    /// An echo to `to` that is about to be sent: its sequence number and what it must carry.
    pub(super) fn admit(&mut self, to: IpAddr, deadline: Instant) -> (u16, Cookie) {
        while self.waiters.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let seq = self.next;
        self.next = self.next.wrapping_add(1);
        self.sent += 1;
        let tag = self.tags.hash_one(self.sent);
        self.answered[usize::from(seq)] = false;
        self.waiters.insert(seq, Waiter { to, tag, sent: deadline, deadline, drops: self.drops, waker: None, echo: None });
        (seq, Cookie { nonce: self.nonce, tag })
    }

    /// When it was handed to the kernel.
    pub(super) fn note_sent(&mut self, seq: u16, sent: Instant) {
        if let Some(waiter) = self.waiters.get_mut(&seq) {
            waiter.sent = sent;
        }
    }

    /// A reply from `from` that was seen at `seen`. `arrival` tells when one came to what was sent at the given time, if that is known.
    pub(super) fn reply(
        &mut self,
        message: &Message<'_>,
        from: IpAddr,
        hop_limit: Option<u8>,
        seen: Instant,
        arrival: impl FnOnce(Instant) -> Option<Instant>,
        counts: &mut Counts,
    ) -> Option<Waker> {
        let Some(cookie) = message.cookie().filter(|cookie| cookie.nonce == self.nonce) else {
            counts.foreign += 1;
            return None;
        };
        if !message.carries(cookie) {
            counts.corrupt += 1;
            return None;
        }
        let Some(waiter) = self.waiters.get_mut(&message.seq) else {
            *(if self.answered[usize::from(message.seq)] { &mut counts.duplicate } else { &mut counts.late }) += 1;
            return None;
        };
        if waiter.tag != cookie.tag {
            counts.late += 1;
            return None;
        }
        // To a multicast group anybody answers, from an address of his own.
        if waiter.to != from && !waiter.to.is_multicast() {
            counts.foreign += 1;
            return None;
        }
        if waiter.echo.is_some() {
            counts.duplicate += 1;
            return None;
        }
        let arrived = arrival(waiter.sent);
        if arrived.is_some_and(|arrived| arrived > waiter.deadline) {
            counts.late += 1;
            return None;
        }
        counts.replied += 1;
        self.answered[usize::from(message.seq)] = true;
        waiter.echo = Some(match arrived {
            None if seen > waiter.deadline => Echo::LocalFault(LocalFault::Undated),
            _ => Echo::Replied { rtt: arrived.unwrap_or(seen).saturating_duration_since(waiter.sent), hop_limit },
        });
        waiter.waker.take()
    }

    /// The network says that an echo to `to` did not get there. `quoted` may end after its header; the kernel has made sure that a
    /// socket of this host sent it.
    pub(super) fn undelivered(&mut self, quoted: &Message<'_>, to: IpAddr, echo: Echo, counts: &mut Counts) -> Option<Waker> {
        let cookie = quoted.cookie();
        let waiter = self.waiters.get_mut(&quoted.seq).filter(|waiter| waiter.to == to && waiter.echo.is_none());
        let waiter = waiter.filter(|waiter| cookie.is_none_or(|cookie| cookie == Cookie { nonce: self.nonce, tag: waiter.tag }));
        let Some(waiter) = waiter else {
            counts.foreign += 1;
            return None;
        };
        waiter.echo = Some(echo);
        waiter.waker.take()
    }

    /// What became of an echo, if anything has; otherwise `waker` is woken when it does.
    pub(super) fn poll(&mut self, seq: u16, waker: &Waker) -> Option<Echo> {
        let waiter = self.waiters.get_mut(&seq)?;
        if waiter.echo.is_none() && !waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            waiter.waker = Some(waker.clone());
        }
        waiter.echo.take()
    }

    /// What to make of an echo whose time is over. A reply may be among what the kernel dropped: then nobody knows.
    pub(super) fn expire(&mut self, seq: u16) -> Echo {
        match self.waiters.get_mut(&seq) {
            Some(Waiter { echo, .. }) if echo.is_some() => echo.take().unwrap_or(Echo::TimedOut),
            Some(waiter) if waiter.drops != self.drops => Echo::LocalFault(LocalFault::Starved),
            _ => Echo::TimedOut,
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, seq: u16) {
        self.waiters.remove(&seq);
    }

    /// Takes note of how many datagrams the kernel has dropped by now.
    pub(super) fn note_drops(&mut self, drops: u32) {
        self.drops = drops;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn drops(&self) -> u32 {
        self.drops
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Undelivered;
    use super::super::packet::{self, Version};
    use super::*;
    use crate::clock::now;

    const NONCE: u64 = 0xfeed;

    struct World {
        waiting: Waiting,
        counts: Counts,
        start: Instant,
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    impl World {
        fn new() -> Self {
            Self { waiting: Waiting::new(NONCE), counts: Counts::default(), start: now() }
        }

        fn send(&mut self, to: &str) -> (u16, Cookie) {
            let (seq, cookie) = self.waiting.admit(ip(to), self.start + ms(1_000));
            self.waiting.note_sent(seq, self.start);
            (seq, cookie)
        }

        fn reply(&mut self, seq: u16, cookie: Cookie, from: &str, after: Duration) {
            let bytes = packet::request(Version::V6, 0, seq, cookie);
            let message = packet::quoted(Version::V6, &bytes).unwrap();
            self.waiting.reply(&message, ip(from), Some(64), self.start + after, |sent| Some(sent + after), &mut self.counts);
        }

        fn outcome(&mut self, seq: u16) -> Option<Echo> {
            self.waiting.poll(seq, Waker::noop())
        }
    }

    #[test]
    fn a_reply_counts_once_for_its_own_echo() {
        let mut world = World::new();
        let (first, first_cookie) = world.send("192.0.2.1");
        let (second, _) = world.send("192.0.2.1");
        world.reply(first, first_cookie, "192.0.2.1", ms(7));
        world.reply(first, first_cookie, "192.0.2.1", ms(8));
        assert_eq!(world.outcome(first), Some(Echo::Replied { rtt: ms(7), hop_limit: Some(64) }));
        assert_eq!(world.outcome(second), None);
        world.waiting.forget(first);
        world.reply(first, first_cookie, "192.0.2.1", ms(9));
        assert_eq!(world.counts, Counts { replied: 1, duplicate: 2, ..Counts::default() });
    }

    #[test]
    fn a_late_reply_is_no_reply() {
        let mut world = World::new();
        let (seq, cookie) = world.send("192.0.2.1");
        world.reply(seq, cookie, "192.0.2.1", ms(1_001));
        assert_eq!(world.waiting.expire(seq), Echo::TimedOut);
        world.waiting.forget(seq);
        world.reply(seq, cookie, "192.0.2.1", ms(1));
        // The same number again: the old reply must not answer the new echo.
        world.waiting.next = seq;
        let (again, _) = world.send("192.0.2.1");
        assert_eq!(again, seq);
        world.reply(again, cookie, "192.0.2.1", ms(1));
        assert_eq!(world.outcome(again), None);
        assert_eq!(world.counts, Counts { late: 3, ..Counts::default() });
    }

    #[test]
    fn what_arrived_in_time_counts_although_it_is_seen_after_the_deadline() {
        let mut world = World::new();
        let (seq, cookie) = world.send("192.0.2.1");
        world.reply(seq, cookie, "192.0.2.1", ms(1_000));
        assert!(matches!(world.waiting.expire(seq), Echo::Replied { .. }));
    }

    #[test]
    fn a_reply_without_a_time_counts_while_it_cannot_be_late() {
        for (seen, outcome) in [(ms(9), Echo::Replied { rtt: ms(9), hop_limit: None }), (ms(1_001), Echo::LocalFault(LocalFault::Undated))]
        {
            let mut world = World::new();
            let (seq, cookie) = world.send("192.0.2.1");
            let bytes = packet::request(Version::V6, 0, seq, cookie);
            let message = packet::quoted(Version::V6, &bytes).unwrap();
            world.waiting.reply(&message, ip("192.0.2.1"), None, world.start + seen, |_| None, &mut world.counts);
            assert_eq!(world.outcome(seq), Some(outcome));
        }
    }

    #[test]
    fn forged_and_damaged_replies_do_not_count() {
        let mut world = World::new();
        let (seq, cookie) = world.send("192.0.2.1");
        world.reply(seq, Cookie { nonce: 1, ..cookie }, "192.0.2.1", ms(1));
        world.reply(seq, Cookie { tag: cookie.tag ^ 1, ..cookie }, "192.0.2.1", ms(1));
        world.reply(seq, cookie, "192.0.2.2", ms(1));
        world.reply(seq + 1, cookie, "192.0.2.1", ms(1));
        let mut bytes = packet::request(Version::V6, 0, seq, cookie);
        bytes[packet::LENGTH - 1] ^= 1;
        let damaged = packet::quoted(Version::V6, &bytes).unwrap();
        world.waiting.reply(&damaged, ip("192.0.2.1"), None, world.start, Some, &mut world.counts);
        assert_eq!(world.outcome(seq), None);
        assert_eq!(world.counts, Counts { foreign: 2, late: 2, corrupt: 1, ..Counts::default() });
    }

    #[test]
    fn anybody_answers_for_a_group() {
        let mut world = World::new();
        let (seq, cookie) = world.send("224.0.0.1");
        world.reply(seq, cookie, "192.0.2.9", ms(1));
        assert!(matches!(world.outcome(seq), Some(Echo::Replied { .. })));
    }

    #[test]
    fn an_error_must_quote_what_was_sent_and_where() {
        let echo = || Echo::Undelivered(Undelivered { icmp_type: 3, code: 1, from: Some(ip("192.0.2.254")) });
        let mut world = World::new();
        let (seq, cookie) = world.send("192.0.2.1");
        let mut quote = |cookie, length: usize, to| {
            let bytes = packet::request(Version::V4, 0, seq, cookie);
            let quoted = packet::quoted(Version::V4, &bytes[..length]).unwrap();
            world.waiting.undelivered(&quoted, ip(to), echo(), &mut world.counts);
            world.waiting.poll(seq, Waker::noop())
        };
        assert_eq!(quote(Cookie { tag: 1, ..cookie }, packet::LENGTH, "192.0.2.1"), None);
        assert_eq!(quote(cookie, packet::LENGTH, "192.0.2.2"), None);
        assert_eq!(quote(cookie, 8, "192.0.2.1"), Some(echo()));
        assert_eq!(world.counts, Counts { foreign: 2, ..Counts::default() });
    }

    #[test]
    fn after_an_overflow_silence_is_our_own_fault() {
        let mut world = World::new();
        let (before, _) = world.send("192.0.2.1");
        world.waiting.note_drops(3);
        let (after, _) = world.send("192.0.2.1");
        assert_eq!(world.waiting.expire(before), Echo::LocalFault(LocalFault::Starved));
        assert_eq!(world.waiting.expire(after), Echo::TimedOut);
    }

    #[test]
    fn numbers_are_unique_among_what_waits_and_not_soon_used_again() {
        let mut world = World::new();
        let (kept, _) = world.send("192.0.2.1");
        let mut last = kept;
        for _ in 0..70_000 {
            let (seq, _) = world.send("192.0.2.1");
            assert!(seq != kept && (seq == last.wrapping_add(1) || seq == last.wrapping_add(2)));
            world.waiting.forget(seq);
            last = seq;
        }
        while !world.waiting.is_full() {
            world.send("192.0.2.1");
        }
        assert_eq!(world.waiting.waiters.len(), MOST_WAITING);
    }
}
