//! Who a server is, for TLS.

use std::io;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// The certificate and the key of a server on loopback.
#[derive(Clone)]
pub struct Identity {
    /// Its certificate, which signs itself: the authority to trust.
    pub pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// One that holds.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn new() -> io::Result<Self> {
        Self::until(4096)
    }

    /// One that has expired.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn expired() -> io::Result<Self> {
        Self::until(2020)
    }

    /// One that holds until this year.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn until(year: i32) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private);
        Ok(Self { pem: certificate.pem(), config: Arc::new(config.map_err(io::Error::other)?) })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}
