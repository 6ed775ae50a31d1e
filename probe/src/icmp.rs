//! stub
use std::net::*;
use std::time::*;
use vigie_contract::Reason;
#[derive(Clone)]
pub struct Pinger {}
pub struct Echo {
    pub outcome: EchoOutcome,
    pub rtt: Option<Duration>,
    pub hop_limit: Option<u8>,
}
pub enum EchoOutcome {
    Replied,
    Unreachable { icmp_type: u8, code: u8, from: Option<IpAddr> },
    TimedOut,
    LocalFault(LocalFault),
}
pub enum LocalFault {
    Starved,
}
impl LocalFault {
    pub fn reason(&self) -> Reason {
        Reason::Starved
    }
}
impl Pinger {
    pub async fn echo(&self, _to: IpAddr, _n: usize, _d: Instant) -> Echo {
        std::future::pending().await
    }
}

pub struct Setup {
    pub source_v4: Option<Ipv4Addr>,
    pub source_v6: Option<Ipv6Addr>,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Unprivileged;
pub enum Mode {
    Datagram,
    Raw,
}
impl Pinger {
    pub fn start(_: Setup) -> Result<Pinger, Unprivileged> {
        Err(Unprivileged)
    }
    pub fn mode(&self, _: bool) -> Result<Mode, &Unprivileged> {
        Ok(Mode::Raw)
    }
}
