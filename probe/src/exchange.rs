//! HTTP/1.1 with a target: whom a URL names, and a connection whose every error is told apart by whose fault it is.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use vigie_contract::Reason;

use crate::check::{CheckError, Finding, Phase, Trace};
use crate::limits::MOST_BODY_BYTES;
use crate::net::{Host, Net, fault};

/// Read at a time: most answers of canaries are shorter, and memory of this size is taken and given back cheaply.
const READ_BYTES: usize = 1_024;

/// Where a URL points.
pub(crate) struct Address {
    host: Host,
    port: u16,
    is_tls: bool,
    pub(crate) authority: HeaderValue,
    /// Path and query: what stands in the request line.
    pub(crate) path: Uri,
}

/// Whom to connect to, and whom to believe to be it.
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, CheckError> {
        let shape = |why: String| CheckError::Shape(why);
        let uri: Uri = url.parse().map_err(|error| shape(format!("`{url}` is no URL: {error}")))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(other) => return Err(shape(format!("`{other}` in `{url}` is neither http nor https"))),
            None => return Err(shape(format!("`{url}` has no scheme: write http://… or https://…"))),
        };
        let authority = uri.authority().ok_or_else(|| shape(format!("`{url}` has no host")))?;
        if authority.as_str().contains('@') {
            return Err(shape("a URL must not carry a password: it belongs into a file or an environment variable".to_owned()));
        }
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host: Host::parse(authority.host())?,
            port,
            is_tls,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| shape(format!("`{url}` has no host")))?,
            path: path.parse().map_err(|_| shape(format!("`{url}` has no path")))?,
        })
    }

    /// The server there, or behind `connect` (`host:port`) under the URL's name; `ca` holds the authorities to trust instead of the public
    /// ones.
    pub(crate) fn server(&self, net: &Net, connect: Option<&str>, ca: Option<&Path>) -> Result<Server, CheckError> {
        let place = connect.map(Host::with_port).transpose()?;
        self.server_at(place, || net.trust(ca))
    }

    /// The server there, or at `place` under the URL's name, with the settings of `trust` if it speaks TLS.
    pub(crate) fn server_at(
        &self,
        place: Option<(Host, u16)>,
        trust: impl FnOnce() -> Result<Arc<ClientConfig>, CheckError>,
    ) -> Result<Server, CheckError> {
        let tls = if self.is_tls { Some((trust()?, self.host.server_name()?)) } else { None };
        let (host, port) = place.unwrap_or_else(|| (self.host.clone(), self.port));
        Ok(Server { host, port, tls })
    }
}

impl Server {
    /// Phases resolve, connect and tls.
    pub(crate) async fn open(&self, net: &Net, trace: &mut Trace) -> Result<Line, Finding> {
        let stream = net.connect(&self.host, self.port, trace).await?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some((trust, name)) => Box::new(net.secure(stream, trust, name, trace).await?),
        };
        Ok(Box::new(Exchange::over(stream, self.tls.is_some()).await?))
    }
}

/// No two requests are identical: the provider throttles doubles (contract, "Throttling").
pub(crate) fn tell_apart<B>(request: &mut Request<B>, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        request.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
    }
}

/// A connection to a server, with TLS or without.
pub(crate) type Line = Box<Exchange<Box<dyn Stream>>>;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection for one request after the other.
pub(crate) struct Exchange<S: AsyncRead + AsyncWrite> {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange<S> {
    /// `says_goodbye`: TLS is closed with a word, so that servers do not log a truncation; TCP is closed with the socket.
    pub(crate) async fn over(stream: S, says_goodbye: bool) -> Result<Self, Finding> {
        let shaken = http1::Builder::new().read_buf_exact_size(Some(READ_BYTES)).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| http_fault(&error))?;
        Ok(Self { sender, driver: Driver { connection: Some(connection), says_goodbye } })
    }

    /// Sends the request and waits for the head of its answer.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Finding> {
        self.driver.drive(self.sender.send_request(request)).await.map_err(|error| http_fault(&error))
    }

    /// Sends the request and reads the whole answer, or as much of it as a probe ever reads. Phases processing and transfer.
    pub(crate) async fn fetch(&mut self, request: Request<Full<Bytes>>, trace: &mut Trace) -> Result<(Parts, Vec<u8>), Finding> {
        trace.begin(Phase::Processing);
        let (head, body) = self.send(request).await?.into_parts();
        trace.begin(Phase::Transfer);
        trace.facts.http_status = Some(head.status.as_u16());
        let body = self.drive(read(body)).await?;
        trace.facts.content_bytes = Some(body.len() as u64);
        Ok((head, body))
    }

    /// Does `work` that waits for the connection: reads an answer's body.
    pub(crate) async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        self.driver.drive(work).await
    }

    /// Whether another request can be sent; not if the server has closed the connection meanwhile.
    pub(crate) async fn is_ready(&mut self) -> bool {
        self.driver.drive(self.sender.ready()).await.is_ok()
    }
}

/// A connection that runs while something on it is waited for, in the same task: a task of its own would cost a wake-up per step.
struct Driver<S: AsyncRead + AsyncWrite> {
    /// None once it has ended: whoever still waits for it then learns so.
    connection: Option<Connection<TokioIo<S>, Full<Bytes>>>,
    says_goodbye: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            loop {
                if let Poll::Ready(done) = work.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
                if self.poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Ready when the connection ends, with the error that there was told to the work; pending ever after.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.connection else { return Poll::Pending };
        let polled = if self.says_goodbye { Pin::new(connection).poll(context) } else { connection.poll_without_shutdown(context) };
        polled.map(|_| self.connection = None)
    }
}

/// The body to its end, or to just beyond the ceiling.
async fn read(mut incoming: Incoming) -> Result<Vec<u8>, Finding> {
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| http_fault(&error))?;
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if body.len() > MOST_BODY_BYTES {
            break;
        }
    }
    Ok(body)
}

/// What an error of the connection says about the target.
pub(crate) fn http_fault(error: &hyper::Error) -> Finding {
    use std::error::Error;
    if let Some(error) = error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) {
        return fault(error);
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Finding::Fail(Reason::Reset);
    }
    Finding::Fail(Reason::Protocol)
}
