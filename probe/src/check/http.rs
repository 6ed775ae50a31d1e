//! `kind = "http"`: a request on a fresh connection is answered with the expected status, headers and body.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection};
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use vigie_contract::Reason;

use super::tcp::contains;
use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::limits::MOST_BODY_BYTES;
use crate::net::{Host, Net, fault};
use crate::secret::SecretSource;

/// Read at a time: most answers of canaries are shorter, and memory of this size is taken and given back cheaply.
const READ_BYTES: usize = 1_024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    url: String,
    /// `GET`, `HEAD` or `OPTIONS`: a check changes nothing.
    method: Option<String>,
    /// The statuses to expect; 200 to 299 if none is written.
    #[serde(default)]
    status: Vec<u16>,
    /// A text that the body contains.
    body: Option<String>,
    /// Headers of the answer, each containing the text.
    #[serde(default)]
    expect_headers: std::collections::BTreeMap<String, String>,
    /// Headers of the request; nothing secret belongs here.
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    /// Sent as `Authorization: Bearer …`.
    bearer: Option<SecretSource>,
    /// Connect here instead of the URL's host: `host:port`.
    connect: Option<String>,
    /// A PEM file of the authorities to trust instead of the public ones.
    ca: Option<PathBuf>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

struct Http {
    host: Host,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    method: Method,
    /// Path and query: what stands in the request line.
    path: Uri,
    headers: HeaderMap,
    status: Vec<u16>,
    body: Option<String>,
    expect_headers: Vec<(HeaderName, String)>,
    has_credential: bool,
}

/// Where the URL points.
struct Address {
    host: Host,
    port: u16,
    is_tls: bool,
    authority: HeaderValue,
    path: Uri,
}

fn shape(why: impl Into<String>) -> CheckError {
    CheckError::Shape(why.into())
}

impl Block {
    fn address(&self) -> Result<Address, CheckError> {
        let url = &self.url;
        let uri: Uri = url.parse().map_err(|error| shape(format!("`{url}` is no URL: {error}")))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(other) => return Err(shape(format!("`{other}` in `{url}` is neither http nor https"))),
            None => return Err(shape(format!("`{url}` has no scheme: write http://… or https://…"))),
        };
        let authority = uri.authority().ok_or_else(|| shape(format!("`{url}` has no host")))?;
        if authority.as_str().contains('@') {
            return Err(shape("a URL must not carry a password: give `bearer` a file or an environment variable"));
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Address {
            host: Host::parse(authority.host())?,
            port,
            is_tls,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| shape(format!("`{url}` has no host")))?,
            path: path.parse().map_err(|_| shape(format!("`{url}` has no path")))?,
        })
    }

    fn method(&self) -> Result<Method, CheckError> {
        match self.method.as_deref() {
            None | Some("GET") => Ok(Method::GET),
            Some("HEAD") => Ok(Method::HEAD),
            Some("OPTIONS") => Ok(Method::OPTIONS),
            Some(other) => Err(shape(format!("method `{other}` is not GET, HEAD or OPTIONS: a check changes nothing"))),
        }
    }

    fn request_headers(&self) -> Result<HeaderMap, CheckError> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vigie/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| shape(format!("`{name}` is no name of a header")))?;
            if name == AUTHORIZATION {
                return Err(shape("`authorization` must not stand in the catalogue: give `bearer` a file or an environment variable"));
            }
            let value = value.parse().map_err(|_| shape(format!("the value of header `{name}` cannot be sent")))?;
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn expected_headers(&self) -> Result<Vec<(HeaderName, String)>, CheckError> {
        let expected = self.expect_headers.iter();
        expected
            .map(|(name, text)| Ok((name.parse().map_err(|_| shape(format!("`{name}` is no name of a header")))?, text.clone())))
            .collect()
    }

    pub(super) fn validate(&self) -> Result<(), CheckError> {
        self.address()?;
        self.method()?;
        self.request_headers()?;
        self.expected_headers()?;
        if let Some(wrong) = self.status.iter().find(|status| !(100..600).contains(*status)) {
            return Err(shape(format!("{wrong} is no HTTP status")));
        }
        self.connect.as_deref().map(Host::with_port).transpose().map(|_| ())
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        let address = self.address()?;
        let mut headers = self.request_headers()?;
        headers.insert(HOST, address.authority);
        if let Some(bearer) = &self.bearer {
            let secret = bearer.read()?;
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", secret.reveal())).map_err(|_| shape("the bearer token cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let tls = if address.is_tls { Some((net.trust(self.ca.as_deref())?, address.host.server_name()?)) } else { None };
        let (host, port) = self.connect.as_deref().map(Host::with_port).transpose()?.unwrap_or((address.host, address.port));
        Ok(Http {
            host,
            port,
            tls,
            method: self.method()?,
            path: address.path,
            headers,
            expect_headers: self.expected_headers()?,
            status: self.status,
            body: self.body,
            has_credential: self.bearer.is_some(),
        })
    }
}

impl Check for Http {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.fetch(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Http
    }
}

impl Http {
    async fn fetch(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let stream = attempt.net.connect(&self.host, self.port, trace).await?;
        match &self.tls {
            None => self.exchange(stream, attempt, trace).await,
            Some((trust, name)) => {
                let stream = attempt.net.secure(stream, trust, name, trace).await?;
                self.exchange(stream, attempt, trace).await
            }
        }
    }

    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        attempt: &Attempt<'_>,
        trace: &mut Trace,
    ) -> Result<(), Finding> {
        trace.begin(Phase::Processing);
        let shaken = http1::Builder::new().read_buf_exact_size(Some(READ_BYTES)).handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| http_fault(&error))?;
        let mut connection = Driver { connection, says_goodbye: self.tls.is_some(), is_done: false };
        let response = connection.drive(sender.send_request(self.request(attempt.id))).await.map_err(|error| http_fault(&error))?;
        trace.begin(Phase::Transfer);
        trace.facts.http_status = Some(response.status().as_u16());
        self.judge_status(response.status())?;
        self.judge_headers(&response)?;
        let length = connection.drive(self.judge_body(response)).await?;
        trace.facts.content_bytes = Some(length);
        Ok(())
    }

    fn request(&self, id: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        // No two requests are identical: the provider throttles doubles (contract, "Throttling").
        if let Ok(id) = HeaderValue::from_str(id) {
            request.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
        }
        request
    }

    fn judge_status(&self, status: StatusCode) -> Result<(), Finding> {
        let expected = if self.status.is_empty() { status.is_success() } else { self.status.contains(&status.as_u16()) };
        match status {
            _ if expected => Ok(()),
            StatusCode::TOO_MANY_REQUESTS => Err(Finding::Void(Reason::Throttled)),
            StatusCode::UNAUTHORIZED => Err(Finding::Void(Reason::Credential)),
            StatusCode::FORBIDDEN if self.has_credential => Err(Finding::Void(Reason::Credential)),
            StatusCode::FORBIDDEN => Err(Finding::Void(Reason::Address)),
            _ => Err(Finding::Fail(Reason::Status)),
        }
    }

    fn judge_headers(&self, response: &Response<Incoming>) -> Result<(), Finding> {
        let has = |(name, text): &(HeaderName, String)| {
            response.headers().get_all(name).iter().any(|value| contains(value.as_bytes(), text.as_bytes()))
        };
        if self.expect_headers.iter().all(has) { Ok(()) } else { Err(Finding::Fail(Reason::Content)) }
    }

    /// Reads the body to its end, or to the ceiling, and returns its length.
    async fn judge_body(&self, response: Response<Incoming>) -> Result<u64, Finding> {
        let mut body = response.into_body();
        let mut kept = Vec::new();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| http_fault(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            length += data.len();
            if self.body.is_some() {
                kept.extend_from_slice(data);
            }
            if length > MOST_BODY_BYTES {
                break;
            }
        }
        match &self.body {
            Some(marker) if !contains(&kept, marker.as_bytes()) => Err(Finding::Fail(Reason::Content)),
            _ => Ok(length as u64),
        }
    }
}

/// A connection that runs while something on it is waited for, in the same task: a task of its own would cost a wake-up per step.
struct Driver<S: AsyncRead + AsyncWrite> {
    connection: Connection<TokioIo<S>, Full<Bytes>>,
    /// TLS is closed with a word, so that servers do not log a truncation; TCP is closed with the socket.
    says_goodbye: bool,
    is_done: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            loop {
                if let Poll::Ready(done) = work.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
                if self.is_done || self.poll(context).is_pending() {
                    return Poll::Pending;
                }
                // Its end has woken the work, with the error that there was.
                self.is_done = true;
            }
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if self.says_goodbye { Pin::new(&mut self.connection).poll(context) } else { self.connection.poll_without_shutdown(context) }
    }
}

fn http_fault(error: &hyper::Error) -> Finding {
    use std::error::Error;
    if let Some(error) = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) {
        return fault(error);
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Finding::Fail(Reason::Reset);
    }
    Finding::Fail(Reason::Protocol)
}
