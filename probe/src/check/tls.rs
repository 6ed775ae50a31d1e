//! `kind = "tls"`: a full handshake whose certificates verify; tells when the first of them expires.
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | the handshake is done | ok | |
//! | no address, no connection | as `tcp`: dns, resolver, refused, unreachable, timeout … | resolve, connect |
//! | a certificate that has expired, is another's, or comes from an authority that is not trusted | fail tls | tls |
//! | what is no TLS, or a refusal in it | fail tls | tls |
//! | the connection is reset or ends | fail reset | tls |
//! | no answer in time | fail timeout | tls |

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Trace};
use crate::net::{Host, Net};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    address: String,
    /// The name in the certificate, if it is not that of `address`.
    server_name: Option<String>,
    /// A PEM file of the authorities to trust instead of the public ones.
    ca: Option<PathBuf>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

struct Tls {
    host: Host,
    port: u16,
    name: ServerName<'static>,
    trust: Arc<ClientConfig>,
}

impl Block {
    fn name(&self) -> Result<ServerName<'static>, CheckError> {
        match &self.server_name {
            Some(name) => Host::parse(name)?.server_name(),
            None => Host::with_port(&self.address)?.0.server_name(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), CheckError> {
        Host::with_port(&self.address)?;
        self.name().map(|_| ())
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        let (host, port) = Host::with_port(&self.address)?;
        Ok(Tls { host, port, name: self.name()?, trust: net.trust(self.ca.as_deref())? })
    }
}

impl Check for Tls {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move {
            let stream = match attempt.net.connect(&self.host, self.port, trace).await {
                Ok(stream) => stream,
                Err(finding) => return finding,
            };
            attempt.net.secure(stream, &self.trust, &self.name, trace).await.err().unwrap_or(Finding::Ok)
        })
    }

    fn kind(&self) -> Kind {
        Kind::Tls
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
