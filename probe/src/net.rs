//! The way to a target: resolve, connect, TLS, each a phase of its own, each error told apart by whose fault it is.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use vigie_contract::Reason;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::check::{CheckError, Finding, Phase, Trace};
use crate::icmp::Pinger;
use crate::openiaas::Sessions;
use crate::resolve::Resolver;

/// Where a check goes: an address, or a name that the probe's own resolver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// What all checks of a probe share.
pub(crate) struct Net {
    pub(crate) source: Source,
    pub(crate) resolver: Resolver,
    /// The echo engine, or why there is none.
    pub(crate) pinger: Result<Pinger, String>,
    /// Those at the provider's API.
    pub(crate) sessions: Sessions,
    public_roots: Arc<ClientConfig>,
}

/// The addresses that a vantage measures from; the system's choice where none is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// For IPv4.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Source {
    /// The address to send from to `to`, with any port.
    pub(crate) fn toward(self, to: IpAddr) -> Option<SocketAddr> {
        let from = match to {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        };
        from.map(|ip| SocketAddr::new(ip, 0))
    }
}

impl Host {
    /// From a catalogue's text; IPv6 addresses with or without brackets.
    pub(crate) fn parse(text: &str) -> Result<Self, CheckError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self::Ip(ip));
        }
        let sound =
            !text.is_empty() && text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if sound {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(CheckError::Shape(format!("`{text}` is neither an address nor a host's name")))
        }
    }

    /// `host:port`.
    pub(crate) fn with_port(text: &str) -> Result<(Self, u16), CheckError> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| CheckError::Shape(format!("`{text}` has no port: write host:port")))?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| CheckError::Shape(format!("`{text}` has no port from 1 to 65535")))?;
        Ok((Self::parse(host)?, port))
    }

    /// What TLS verifies.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, CheckError> {
        match self {
            Self::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
            Self::Name(name) => {
                ServerName::try_from(name.clone()).map_err(|_| CheckError::Shape(format!("`{name}` cannot be the name in a certificate")))
            }
        }
    }
}

impl Net {
    /// `public_roots` are what [`trust`] makes of no file. In the thread that checks: the echo engine stays there.
    pub(crate) fn new(source: Source, resolver: Resolver, pinger: Result<Pinger, String>, public_roots: Arc<ClientConfig>) -> Self {
        Self { source, resolver, pinger, sessions: Sessions::default(), public_roots }
    }

    /// The TLS settings that trust the certificates in `ca`, or the public authorities.
    pub(crate) fn trust(&self, ca: Option<&Path>) -> Result<Arc<ClientConfig>, CheckError> {
        match ca {
            Some(_) => trust(ca),
            None => Ok(Arc::clone(&self.public_roots)),
        }
    }

    /// Phase resolve: the address of `host`.
    pub(crate) async fn resolve(&self, host: &Host, trace: &mut Trace) -> Result<IpAddr, Finding> {
        trace.begin(Phase::Resolve);
        let ip = match host {
            Host::Ip(ip) => *ip,
            Host::Name(name) => self.resolver.lookup(name, self.source).await?,
        };
        trace.facts.ip_protocol = Some(if ip.is_ipv4() { 4 } else { 6 });
        Ok(ip)
    }

    /// Phases resolve and connect.
    pub(crate) async fn connect(&self, host: &Host, port: u16, trace: &mut Trace) -> Result<TcpStream, Finding> {
        let ip = self.resolve(host, trace).await?;
        trace.begin(Phase::Connect);
        let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(|error| own_fault(&error))?;
        if let Some(from) = self.source.toward(ip) {
            socket.bind(from).map_err(|error| own_fault(&error))?;
        }
        let to = SocketAddr::new(ip, port);
        match socket.connect(to).await {
            // A rule of this host refuses datagrams, too, and at once.
            Err(error) if is_prohibited(&error) => {
                Self::datagram_socket(self.source, to).await?;
                Err(late_fault(&error))
            }
            connected => connected.map_err(|error| fault(&error)),
        }
    }

    /// Phase tls, and what the certificates say.
    pub(crate) async fn secure(
        &self,
        stream: TcpStream,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
        trace: &mut Trace,
    ) -> Result<TlsStream<TcpStream>, Finding> {
        trace.begin(Phase::Tls);
        // A handshake's last words and the request are two small writes, of which the second would wait for the first's receipt.
        stream.set_nodelay(true).map_err(|error| own_fault(&error))?;
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
        let secured = handshake.await.map_err(|error| tls_fault(&error))?;
        let chain = secured.get_ref().1.peer_certificates().unwrap_or_default();
        trace.facts.certificate_expiry_s = earliest_expiry(chain).into_iter().chain(trace.facts.certificate_expiry_s).min();
        Ok(secured)
    }

    /// A socket for datagrams to `to`.
    pub(crate) async fn datagram_socket(source: Source, to: SocketAddr) -> Result<UdpSocket, Finding> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let from = source.toward(to.ip()).unwrap_or(SocketAddr::new(any, 0));
        let socket = UdpSocket::bind(from).await.map_err(|error| own_fault(&error))?;
        socket.connect(to).await.map_err(|error| fault(&error))?;
        Ok(socket)
    }
}

/// The TLS settings that trust the certificates in `ca`, or the public authorities.
pub(crate) fn trust(ca: Option<&Path>) -> Result<Arc<ClientConfig>, CheckError> {
    let public = || RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let own = |error: rustls::Error| CheckError::File(error.to_string());
    let Some(path) = ca else { return tls_config(public()).map(Arc::new).map_err(own) };
    let wrong = |why: String| CheckError::File(format!("cannot use the authorities in {}: {why}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let added = certificate.map_err(|error| wrong(error.to_string())).map(|certificate| roots.add(certificate));
        added?.map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    tls_config(roots).map(Arc::new).map_err(|error| wrong(error.to_string()))
}

/// A full handshake each time: a resumed one would not show an expired certificate.
fn tls_config(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn earliest_expiry(chain: &[CertificateDer<'_>]) -> Option<i64> {
    chain
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .map(|(_, certificate)| certificate.validity().not_after.timestamp())
        .min()
}

/// What an error on the way to a target, or from it, says about the target.
pub(crate) fn fault(error: &io::Error) -> Finding {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => return Finding::Fail(Reason::Refused),
        Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED | Errno::ENOTCONN) => return Finding::Fail(Reason::Reset),
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN) => return Finding::Fail(Reason::Unreachable),
        Some(Errno::ETIMEDOUT) => return Finding::Fail(Reason::Timeout),
        Some(_) => return own_fault(error),
        None => {}
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Finding::Fail(Reason::Reset),
        io::ErrorKind::TimedOut => Finding::Fail(Reason::Timeout),
        _ => Finding::Fail(Reason::Protocol),
    }
}

/// As [`fault`], once a socket for datagrams is connected to there: no rule of this host stood against that. So what is prohibited is what
/// a router says over IPv6 (RFC 4443, type 1, codes 1, 5 and 6); over IPv4 its word is another.
pub(crate) fn late_fault(error: &io::Error) -> Finding {
    if is_prohibited(error) { Finding::Fail(Reason::Unreachable) } else { fault(error) }
}

fn is_prohibited(error: &io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw) == Some(Errno::EACCES)
}

/// An error that can only be the probe's own: descriptors, ports, memory, rights.
pub(crate) fn own_fault(error: &io::Error) -> Finding {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) => Finding::Void(Reason::Descriptors),
        _ => Finding::Void(Reason::Internal),
    }
}

fn tls_fault(error: &io::Error) -> Finding {
    let is_tls = error.get_ref().is_some_and(|inner| inner.downcast_ref::<rustls::Error>().is_some());
    if is_tls { Finding::Fail(Reason::Tls) } else { fault(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_or_refused() {
        assert_eq!(Host::with_port("127.0.0.1:80").unwrap(), (Host::Ip("127.0.0.1".parse().unwrap()), 80));
        assert_eq!(Host::with_port("[::1]:443").unwrap(), (Host::Ip("::1".parse().unwrap()), 443));
        assert_eq!(Host::with_port("s3.example:9000").unwrap(), (Host::Name("s3.example".into()), 9000));
        for wrong in ["s3.example", "s3.example:0", "s3.example:99999", ":80", "a b:80", "é.fr:80"] {
            assert!(Host::with_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_are_told_apart_by_whose_fault_they_are() {
        let of = |errno: Errno| fault(&io::Error::from_raw_os_error(errno as i32));
        assert_eq!(of(Errno::ECONNREFUSED), Finding::Fail(Reason::Refused));
        assert_eq!(of(Errno::ECONNRESET), Finding::Fail(Reason::Reset));
        assert_eq!(of(Errno::EHOSTUNREACH), Finding::Fail(Reason::Unreachable));
        assert_eq!(of(Errno::EMFILE), Finding::Void(Reason::Descriptors));
        assert_eq!(of(Errno::EADDRNOTAVAIL), Finding::Void(Reason::Descriptors));
        assert_eq!(of(Errno::ENOBUFS), Finding::Void(Reason::Internal));
        assert_eq!(of(Errno::EPERM), Finding::Void(Reason::Internal));
    }
}
