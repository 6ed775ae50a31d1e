//! Where everything of the demo's region is: loopback addresses, one for each machine that it would be.

use std::net::Ipv4Addr;

use super::server::Kind;

/// The zones.
pub(super) const ZONES: [&str; 3] = ["az05", "az06", "az07"];
/// The anchors in the Internet.
pub(super) const ANCHORS: [u8; 6] = [1, 2, 3, 4, 5, 6];
/// What is measured from, and the address that it measures from: in each zone the agent and its neighbour, and three machines outside.
pub(super) const VANTAGES: [(&str, Ipv4Addr); 9] = [
    ("az05", Ipv4Addr::new(127, 0, 5, 1)),
    ("az05-b", Ipv4Addr::new(127, 0, 5, 2)),
    ("az06", Ipv4Addr::new(127, 0, 6, 1)),
    ("az06-b", Ipv4Addr::new(127, 0, 6, 2)),
    ("az07", Ipv4Addr::new(127, 0, 7, 1)),
    ("az07-b", Ipv4Addr::new(127, 0, 7, 2)),
    ("isp-a", Ipv4Addr::new(127, 0, 101, 1)),
    ("isp-b", Ipv4Addr::new(127, 0, 102, 1)),
    ("isp-c", Ipv4Addr::new(127, 0, 103, 1)),
];

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The web server on a zone's responder.
    Web(&'static str),
    /// Its STAMP reflector.
    Responder(&'static str),
    /// A well-known server in the Internet.
    Anchor(u8),
    /// The console.
    Console,
    /// The orchestration API.
    Api,
    /// The object store.
    S3,
    /// The region's resolver.
    Dns,
}

impl Place {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let of_zones = ZONES.into_iter().flat_map(|zone| [Self::Web(zone), Self::Responder(zone)]);
        of_zones.chain(ANCHORS.map(Self::Anchor)).chain([Self::Console, Self::Api, Self::S3, Self::Dns])
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Web(_) => Kind::Web,
            Self::Responder(_) => Kind::Responder,
            Self::Anchor(_) => Kind::Anchor,
            Self::Console => Kind::Console,
            Self::Api => Kind::Api,
            Self::S3 => Kind::S3,
            Self::Dns => Kind::Dns,
        }
    }

    pub(super) fn ip(self) -> Ipv4Addr {
        match self {
            Self::Web(zone) | Self::Responder(zone) => Ipv4Addr::new(127, 0, number(zone), 3),
            Self::Anchor(anchor) => Ipv4Addr::new(127, 0, 200 + anchor, 1),
            Self::Console => Ipv4Addr::new(127, 0, 1, 1),
            Self::Api => Ipv4Addr::new(127, 0, 1, 2),
            Self::S3 => Ipv4Addr::new(127, 0, 1, 3),
            Self::Dns => Ipv4Addr::new(127, 0, 1, 4),
        }
    }
}

fn number(zone: &str) -> u8 {
    zone.trim_start_matches("az").parse().unwrap_or(0)
}
