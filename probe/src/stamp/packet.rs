//! Requests and replies as bytes: RFC 8762 §4.2.1 and §4.3.1, with the session identifier (SSID) of RFC 8972 §3.
//!
//! ```text
//! request  0          4                  12       14     16                                                           44
//!          | sequence | sent             | error  | SSID | zero                                                       |
//! reply    0          4                  12       14     16         24         28                  36       38   40    41   44
//!          | sequence | answered         | error  | SSID | received | sequence | sent              | error  | 0  | TTL | 0  |
//!          |-- the reflector's ------------------------------------| |-- as the sender wrote them ----------|    | as received
//! ```
//!
//! All numbers are big-endian. Either may be longer: by an Extra Padding TLV (RFC 8972 §4.1) when we are the sender.

use vigie_contract::{Span, Time};

/// The length of a request or reply without padding.
pub(crate) const LENGTH: usize = 44;
/// Where a request has zeros and a reply has what the reflector saw.
const REFLECTED: usize = 16;
/// The head of a TLV: flags, type, length of what follows.
pub(crate) const TLV_HEAD: usize = 4;
/// Flag U, set by a sender in every TLV; a reflector that understands it clears it.
const UNRECOGNISED: u8 = 0x80;
/// The flags of a TLV that a reflector has understood.
pub(crate) const RECOGNISED: u8 = 0;
const EXTRA_PADDING: u8 = 1;
/// From the epoch of NTP, 1900, to that of Unix.
const EPOCHS_APART_S: i64 = 2_208_988_800;
const SECOND_US: i64 = 1_000_000;

/// A moment as NTP writes it: seconds since 1900 and 2⁻³² s, modulo 136 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) u64);

/// How far a stamp may be off (RFC 4656 §4.1.2): S, whether the clock is synchronised; Z, whether stamps are PTP's; six bits of scale;
/// eight of multiplier: multiplier × 2^(scale − 32) s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorEstimate(pub(crate) u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) seq: u32,
    pub(crate) sent: Stamp,
    pub(crate) error: ErrorEstimate,
    pub(crate) ssid: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Counted by the reflector, or the request's if it keeps no count.
    pub(crate) seq: u32,
    pub(crate) answered: Stamp,
    pub(crate) error: ErrorEstimate,
    /// The request's; zero from a reflector that knows RFC 8762 only.
    pub(crate) ssid: u16,
    pub(crate) received: Stamp,
    pub(crate) request_seq: u32,
    pub(crate) request_sent: Stamp,
    pub(crate) request_error: ErrorEstimate,
    /// The hops that were left to the request; 255 if the reflector cannot tell.
    pub(crate) request_ttl: u8,
}

impl Stamp {
    pub(crate) fn of(time: Time) -> Self {
        let (s, us) = (time.us().div_euclid(SECOND_US), time.us().rem_euclid(SECOND_US));
        let fraction = ((us as u64) << 32).div_ceil(SECOND_US as u64);
        Self((((s + EPOCHS_APART_S) as u64) << 32) | fraction)
    }

    /// How much later than `earlier` this is, to the nearest microsecond; right across the end of an era of NTP.
    pub(crate) fn since(self, earlier: Self) -> Span {
        let fractions = self.0.wrapping_sub(earlier.0).cast_signed();
        Span::from_us(((i128::from(fractions) * i128::from(SECOND_US) + (1 << 31)) >> 32) as i64)
    }
}

impl ErrorEstimate {
    const SYNCHRONISED: u16 = 1 << 15;
    const PTP: u16 = 1 << 14;
    /// The largest there is, of a clock that is not synchronised.
    const UNKNOWN: Self = Self(0x3fff);
    const MOST_SCALE: u32 = 0x3f;

    /// At least `bound`, if it is known and can be told.
    pub(crate) fn of(bound: Option<Span>) -> Self {
        let Some(bound) = bound else { return Self::UNKNOWN };
        let fractions = ((u128::from(bound.us().max(1).unsigned_abs())) << 32).div_ceil(SECOND_US as u128);
        let scale = (128 - fractions.leading_zeros()).saturating_sub(8);
        // Rounding up may need one more bit.
        let scale = if fractions.div_ceil(1 << scale) > 255 { scale + 1 } else { scale };
        if scale > Self::MOST_SCALE {
            return Self::UNKNOWN;
        }
        Self(Self::SYNCHRONISED | (scale as u16) << 8 | fractions.div_ceil(1 << scale) as u16)
    }

    /// The bound; `None` if the clock is not synchronised, or the multiplier is the zero that RFC 4656 forbids.
    pub(crate) fn bound(self) -> Option<Span> {
        let (scale, multiplier) = (u32::from(self.0 >> 8 & 0x3f), u128::from(self.0 & 0xff));
        let us = ((multiplier << scale) * SECOND_US as u128).div_ceil(1 << 32);
        let is_known = self.0 & Self::SYNCHRONISED != 0 && multiplier > 0;
        is_known.then(|| Span::from_us(i64::try_from(us).unwrap_or(i64::MAX / 8)))
    }

    /// Whether the stamps beside it are PTP's (Z).
    pub(crate) fn is_of_ptp(self) -> bool {
        self.0 & Self::PTP != 0
    }
}

impl Request {
    pub(crate) fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&self.seq.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.sent.0.to_be_bytes());
        bytes[12..14].copy_from_slice(&self.error.0.to_be_bytes());
        bytes[14..REFLECTED].copy_from_slice(&self.ssid.to_be_bytes());
        bytes
    }

    /// A request, if `bytes` begin with one: not a reply, which has its stamps where a request has zeros.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.first_chunk::<LENGTH>()?);
        let request = Self { seq: fields.u32(), sent: Stamp(fields.u64()), error: ErrorEstimate(fields.u16()), ssid: fields.u16() };
        fields.0.iter().all(|byte| *byte == 0).then_some(request)
    }
}

impl Reply {
    pub(crate) fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&self.seq.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.answered.0.to_be_bytes());
        bytes[12..14].copy_from_slice(&self.error.0.to_be_bytes());
        bytes[14..REFLECTED].copy_from_slice(&self.ssid.to_be_bytes());
        bytes[REFLECTED..24].copy_from_slice(&self.received.0.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.request_seq.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.request_sent.0.to_be_bytes());
        bytes[36..38].copy_from_slice(&self.request_error.0.to_be_bytes());
        bytes[40] = self.request_ttl;
        bytes
    }

    /// A reply, if `bytes` are long enough for one; what must be zero is not looked at, as the RFC says.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.first_chunk::<LENGTH>()?);
        let (seq, answered, error, ssid) = (fields.u32(), Stamp(fields.u64()), ErrorEstimate(fields.u16()), fields.u16());
        let (received, request_seq, request_sent) = (Stamp(fields.u64()), fields.u32(), Stamp(fields.u64()));
        let (request_error, _) = (ErrorEstimate(fields.u16()), fields.u16());
        let [request_ttl, ..] = fields.u32().to_be_bytes();
        Some(Self { seq, answered, error, ssid, received, request_seq, request_sent, request_error, request_ttl })
    }
}

/// What is left to read of a packet; zeros after its end.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; BYTES] };
        self.0 = rest;
        *field
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

/// A TLV (RFC 8972 §4) as a sender writes it.
pub(crate) fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = (value.len() as u16).to_be_bytes();
    [&[UNRECOGNISED, kind, high, low], value].concat()
}

/// What follows a request to make it `length` long: an Extra Padding TLV, if there is room for its head.
pub(crate) fn padding(length: usize) -> Vec<u8> {
    let room = length.saturating_sub(LENGTH);
    room.checked_sub(TLV_HEAD).map_or_else(|| vec![0; room], |value| tlv(EXTRA_PADDING, &vec![0; value]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_and_its_reply_are_the_bytes_of_the_rfc() {
        // 2020-03-19T14:41:31.5Z; an error of 2^-10 s.
        let sent = Stamp::of(Time::from_us(1_584_628_891_500_000));
        let request = Request { seq: 1, sent, error: ErrorEstimate::of(Some(Span::from_us(976))), ssid: 0xbeef };
        let expected = "00000001 e21e031b 80000000 8f80 beef 00000000 00000000 00000000 00000000 00000000 00000000 00000000";
        assert_eq!(request.to_bytes().as_slice(), hex(expected));
        let reply = Reply {
            seq: 7,
            answered: Stamp(0xe21e_031b_c000_0000),
            error: ErrorEstimate(0x8001),
            ssid: 0xbeef,
            received: Stamp(0xe21e_031b_a000_0000),
            request_seq: 1,
            request_sent: sent,
            request_error: request.error,
            request_ttl: 64,
        };
        let expected = "00000007 e21e031b c0000000 8001 beef e21e031b a0000000 00000001 e21e031b 80000000 8f80 0000 40 000000";
        assert_eq!(reply.to_bytes().as_slice(), hex(expected));
        assert_eq!(Request::from_bytes(&reply.to_bytes()), None, "a reply is no request");
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn a_difference_is_right_across_eras() {
        assert_eq!(Stamp(0x0000_0000_8000_0000).since(Stamp(0xffff_ffff_8000_0000)), Span::from_secs(1));
        assert_eq!(Stamp(0).since(Stamp(1 << 32)), Span::from_secs(-1));
    }

    #[test]
    fn an_unknown_error_is_said_to_be_unknown() {
        assert_eq!(ErrorEstimate::of(None).0, 0x3fff);
        assert_eq!(ErrorEstimate::of(None).bound(), None);
        assert_eq!(ErrorEstimate::of(Some(Span::from_us(i64::MAX))), ErrorEstimate::UNKNOWN);
        assert_eq!(ErrorEstimate(0x8000).bound(), None);
        assert_eq!(ErrorEstimate(0xa001).bound(), Some(Span::from_secs(1)));
        assert!(ErrorEstimate(0x4001).is_of_ptp() && !ErrorEstimate(0xbfff).is_of_ptp());
    }

    #[test]
    fn padding_is_a_tlv_of_the_length_that_was_asked_for() {
        assert!(padding(44).is_empty());
        assert_eq!(padding(46), [0, 0]);
        assert_eq!(padding(50), [0x80, 1, 0, 2, 0, 0]);
        assert_eq!(padding(1472)[..4], [0x80, 1, 0x05, 0x90]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a: u64, b: u64, c: u64, seq: u32, theirs: u32, error: u16, other: u16, ssid: u16, request_ttl: u8) {
            let error = ErrorEstimate(error);
            let request = Request { seq, sent: Stamp(a), error, ssid };
            prop_assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
            let reply = Reply {
                seq: theirs, answered: Stamp(b), error: ErrorEstimate(other), ssid, received: Stamp(c),
                request_seq: seq, request_sent: Stamp(a), request_error: error, request_ttl,
            };
            prop_assert_eq!(Reply::from_bytes(&reply.to_bytes()), Some(reply));
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Reply::from_bytes(&bytes).is_some(), bytes.len() >= LENGTH);
            prop_assert!(Request::from_bytes(&bytes).is_none() || bytes.len() >= LENGTH);
        }

        #[test]
        fn an_error_is_never_told_smaller_and_hardly_larger(us in 1..i64::MAX / 32) {
            let bound = ErrorEstimate::of(Some(Span::from_us(us))).bound().unwrap().us();
            prop_assert!(us <= bound && bound <= us + us / 127 + 1, "{us} {bound}");
        }

        #[test]
        fn stamps_are_as_far_apart_as_times(from in 0..4_000_000_000_000_000i64, us in -1_000_000_000_000i64..1_000_000_000_000) {
            let (from, to) = (Time::from_us(from), Time::from_us(from + us));
            let apart = Stamp::of(to).since(Stamp::of(from)).us();
            prop_assert_eq!(apart, us);
        }
    }
}
