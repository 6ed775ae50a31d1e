//! Who a server is, for TLS.

use std::io;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

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

    /// One that was made before.
    ///
    /// # Errors
    /// If these are no certificate and its key, in PEM.
    pub fn read(certificate: &str, key: &str) -> io::Result<Self> {
        let parsed = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(io::Error::other)?;
        Self::of(certificate.to_owned(), parsed, key)
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
        Self::of(certificate.pem(), certificate.der().clone(), private)
    }

    fn of(pem: String, certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> io::Result<Self> {
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
        Ok(Self { pem, config: Arc::new(config.map_err(io::Error::other)?) })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}
