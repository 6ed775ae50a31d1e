//! Echo requests and replies as bytes: RFC 792 for IPv4, RFC 4443 for IPv6.
//!
//! ```text
//! 0        1        2                 4                 6                 8          16        24            64
//! | type   | code   | checksum        | identifier      | sequence number | nonce    | tag     | 0x18 … 0x3f |
//! ```
//!
//! All numbers are big-endian. The nonce is the run's, so that another program's echoes are never ours; the tag is the echo's and
//! cannot be guessed, so that a late or forged reply never counts for another echo. The rest is as `ping` fills it.

use std::net::IpAddr;

/// A request's length, and that of a reply to it.
pub(super) const LENGTH: usize = HEADER + PAYLOAD;
const HEADER: usize = 8;
/// As `ping` sends by default.
const PAYLOAD: usize = 56;
const COOKIE: usize = 16;

/// What makes an echo ours, and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cookie {
    pub(super) nonce: u64,
    pub(super) tag: u64,
}

/// An IP version, and with it the flavour of ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

/// An echo reply, or an echo request as an error message quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) ident: u16,
    pub(super) seq: u16,
    pub(super) payload: &'a [u8],
}

impl Version {
    pub(super) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn request_type(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }

    pub(super) fn reply_type(self) -> u8 {
        match self {
            Self::V4 => 0,
            Self::V6 => 129,
        }
    }
}

/// A request. For IPv6 the kernel adds the checksum, since it covers the addresses; for a datagram socket it sets the identifier too.
pub(super) fn request(version: Version, ident: u16, seq: u16, cookie: Cookie) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = version.request_type();
    bytes[4..6].copy_from_slice(&ident.to_be_bytes());
    bytes[6..8].copy_from_slice(&seq.to_be_bytes());
    bytes[HEADER..].copy_from_slice(&payload(cookie));
    if version == Version::V4 {
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn payload(cookie: Cookie) -> [u8; PAYLOAD] {
    let mut bytes = std::array::from_fn(|at| (HEADER + at) as u8);
    bytes[..8].copy_from_slice(&cookie.nonce.to_be_bytes());
    bytes[8..COOKIE].copy_from_slice(&cookie.tag.to_be_bytes());
    bytes
}

/// An echo reply, if that is what `bytes` are and they arrived whole: over IPv6 the kernel has verified the checksum.
pub(super) fn reply(version: Version, bytes: &[u8]) -> Option<Message<'_>> {
    let is_whole = version == Version::V6 || checksum(bytes) == 0;
    message(version.reply_type(), bytes).filter(|_| is_whole)
}

/// The echo request that an error message quotes: at least its header, of the payload as much as the router liked.
pub(super) fn quoted(version: Version, bytes: &[u8]) -> Option<Message<'_>> {
    message(version.request_type(), bytes)
}

fn message(kind: u8, bytes: &[u8]) -> Option<Message<'_>> {
    let (header, payload) = bytes.split_first_chunk::<HEADER>()?;
    let [icmp_type, 0, _, _, ident @ .., s0, s1] = *header else { return None };
    (icmp_type == kind).then_some(Message { ident: u16::from_be_bytes(ident), seq: u16::from_be_bytes([s0, s1]), payload })
}

impl Message<'_> {
    /// The cookie, as far as it is there.
    pub(super) fn cookie(&self) -> Option<Cookie> {
        let (nonce, rest) = self.payload.split_first_chunk()?;
        let tag = rest.first_chunk()?;
        Some(Cookie { nonce: u64::from_be_bytes(*nonce), tag: u64::from_be_bytes(*tag) })
    }

    /// Whether the payload is exactly the one that was sent with `cookie`.
    pub(super) fn carries(&self, cookie: Cookie) -> bool {
        self.payload == payload(cookie)
    }
}

/// What follows the header of an IPv4 packet, which a raw socket hands over too.
pub(super) fn without_ipv4_header(bytes: &[u8]) -> Option<&[u8]> {
    let first = *bytes.first()?;
    let header = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && header >= 20).then(|| bytes.get(header..))?
}

/// The Internet checksum (RFC 1071): zero over bytes that carry a right one.
fn checksum(bytes: &[u8]) -> u16 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let sum = sum + odd.first().map_or(0, |byte| u32::from(*byte) << 8);
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) as u16 + (folded >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: Cookie = Cookie { nonce: 0x0102_0304_0506_0708, tag: 0x1112_1314_1516_1718 };

    fn reply_to(version: Version, mut request: [u8; LENGTH]) -> [u8; LENGTH] {
        request[0] = version.reply_type();
        request[2..4].fill(0);
        let sum = checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
        request
    }

    #[test]
    fn the_checksum_is_the_one_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0x01]), !0x0100);
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0xff; 64]), 0);
    }

    #[test]
    fn a_request_is_read_back_as_a_quotation_and_its_reply_as_a_reply() {
        for version in [Version::V4, Version::V6] {
            let request = request(version, 0xbeef, 0x1234, COOKIE);
            let quotation = quoted(version, &request).unwrap();
            assert_eq!((quotation.ident, quotation.seq, quotation.cookie()), (0xbeef, 0x1234, Some(COOKIE)));
            assert_eq!(reply(version, &request), None, "our own request on a loopback is no reply");
            let bytes = reply_to(version, request);
            let reply = reply(version, &bytes).unwrap();
            assert!((reply.ident, reply.seq) == (0xbeef, 0x1234) && reply.carries(COOKIE));
            assert!(!reply.carries(Cookie { tag: 0, ..COOKIE }));
        }
        assert_eq!(checksum(&request(Version::V4, 1, 2, COOKIE)), 0);
    }

    #[test]
    fn hostile_bytes_are_no_reply() {
        let sound = reply_to(Version::V4, request(Version::V4, 7, 9, COOKIE));
        for bit in 0..LENGTH * 8 {
            let mut damaged = sound;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(reply(Version::V4, &damaged), None, "bit {bit}");
            let carries = reply(Version::V6, &damaged).is_some_and(|reply| reply.carries(COOKIE));
            assert!(!carries || bit < 64, "bit {bit}");
        }
        for length in 0..LENGTH {
            let carries = |version| reply(version, &sound[..length]).is_some_and(|reply| reply.carries(COOKIE));
            assert!(!carries(Version::V4) && !carries(Version::V6));
        }
        let longer = [&reply_to(Version::V6, request(Version::V6, 7, 9, COOKIE))[..], &[0]].concat();
        assert!(!reply(Version::V6, &longer).unwrap().carries(COOKIE));
    }

    #[test]
    fn an_error_may_quote_no_more_than_the_header() {
        let bytes = request(Version::V4, 7, 9, COOKIE);
        assert_eq!(quoted(Version::V4, &bytes[..8]).unwrap().cookie(), None);
        assert_eq!(quoted(Version::V4, &bytes[..23]).unwrap().cookie(), None);
        assert_eq!(quoted(Version::V4, &bytes[..24]).unwrap().cookie(), Some(COOKIE));
        assert_eq!(quoted(Version::V4, &bytes[..7]), None);
        assert_eq!(quoted(Version::V6, &bytes), None);
    }

    #[test]
    fn an_ipv4_header_may_lie_about_its_length() {
        let mut packet = vec![0x45; 20];
        packet.extend([1, 2, 3]);
        assert_eq!(without_ipv4_header(&packet), Some(&[1, 2, 3][..]));
        packet[0] = 0x4f;
        assert_eq!(without_ipv4_header(&packet), None);
        packet[0] = 0x44;
        assert_eq!(without_ipv4_header(&packet), None);
        packet[0] = 0x65;
        assert_eq!(without_ipv4_header(&packet), None);
        assert_eq!(without_ipv4_header(&[]), None);
    }
}
