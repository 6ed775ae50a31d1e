//! To an aggregator's ingest over HTTP, with the vantage's token.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use vigie_contract::Time;

use super::{Acknowledged, Sink, SinkError};
use crate::check::CheckError;
use crate::net::{Host, trust};
use crate::secret::Secret;

/// A batch that is not acknowledged within this is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer no more is read.
const MOST_ANSWER_BYTES: usize = 65_536;

/// An aggregator's `/api/v1/evidence`.
pub struct HttpSink {
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, tokio_rustls::rustls::pki_types::ServerName<'static>)>,
    authority: HeaderValue,
    path: Uri,
    token: HeaderValue,
    /// Connections that wait for the next batch; the lanes deliver at the same time.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// What the ingest answers.
#[derive(Deserialize)]
struct Answer {
    appended_at_us: i64,
}

impl HttpSink {
    /// To the aggregator at `url`, `http://host:port` or `https://…`, trusting `ca` or the public authorities.
    pub fn new(url: &str, token: &Secret, ca: Option<&std::path::Path>) -> Result<Self, CheckError> {
        let wrong = |why: &str| CheckError::Shape(format!("`{url}` {why}: write http://host:port"));
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("is neither http nor https")),
        };
        let base = uri.path().trim_end_matches('/');
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).map_err(|_| wrong("cannot be given the token"))?;
        token.set_sensitive(true);
        let tls = if is_tls { Some((trust(ca)?, Host::parse(authority.host())?.server_name()?)) } else { None };
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            tls,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("has no host"))?,
            path: format!("{base}/api/v1/evidence").parse().map_err(|_| wrong("has no path"))?,
            token,
            idle: Mutex::new(Vec::new()),
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, SinkError> {
        let unavailable = |error: &dyn std::fmt::Display| SinkError::Unavailable(format!("{}:{}: {error}", self.host, self.port));
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| unavailable(&error))?;
        stream.set_nodelay(true).map_err(|error| unavailable(&error))?;
        let Some((config, name)) = &self.tls else {
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| unavailable(&error))?;
            tokio::spawn(connection);
            return Ok(sender);
        };
        let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await.map_err(|error| unavailable(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| unavailable(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn post(&self, batch: &[Bytes]) -> Result<Acknowledged, SinkError> {
        let mut body = BytesMut::with_capacity(batch.iter().map(|record| record.len() + 1).sum());
        for record in batch {
            body.extend_from_slice(record);
            body.extend_from_slice(b"\n");
        }
        let mut request = Request::new(Full::new(body.freeze()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers.insert(AUTHORIZATION, self.token.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        let idle = self.idle.lock().await.pop().filter(|sender| !sender.is_closed());
        let mut sender = match idle {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await.map_err(|error| SinkError::Unavailable(error.to_string()))?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MOST_ANSWER_BYTES).collect().await;
        let answer = answer.map_err(|error| SinkError::Unavailable(error.to_string()))?.to_bytes();
        self.idle.lock().await.push(sender);
        let said = || String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
        match status {
            StatusCode::OK => {}
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::REQUEST_TIMEOUT => {
                return Err(SinkError::Refused(format!("{status}: {}", said())));
            }
            status => return Err(SinkError::Unavailable(format!("{status}: {}", said()))),
        }
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|_| SinkError::Unavailable("the answer is not an ingest's".to_owned()))?;
        Ok(Acknowledged { appended_at: Some(Time::from_us(answer.appended_at_us)), left: None })
    }
}

impl Sink for HttpSink {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> Pin<Box<dyn Future<Output = Result<Acknowledged, SinkError>> + Send + 'a>> {
        Box::pin(async move {
            match tokio::time::timeout(PATIENCE, self.post(batch)).await {
                Ok(answer) => answer,
                Err(_) => Err(SinkError::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()))),
            }
        })
    }
}
