//! `kind = "http"`: a request on a fresh connection is answered with the expected status, headers and body.
//!
//! | what is seen | outcome, reason | phase |
//! |---|---|---|
//! | an expected status, and the headers and the text that are expected | ok | |
//! | no address, no connection, no TLS, no answer in time | as every check: dns, refused, unreachable, tls, timeout … | resolve, connect, tls, processing, transfer |
//! | the connection is reset or ends, before or within the answer | fail reset | tls, processing, transfer |
//! | what is no HTTP | fail protocol | processing, transfer |
//! | 429 | void throttled | transfer |
//! | 401; 403 with `bearer` | void credential | transfer |
//! | 403 without it | void address | transfer |
//! | any other status that is not expected; redirections are not followed | fail status | transfer |
//! | an expected status, but not the headers, or not the text within the first MiB | fail content | transfer |

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use vigie_contract::Reason;

use super::tcp::contains;
use super::{Answer, Asked, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::exchange::{Address, Exchange, Server, http_fault, tell_apart};
use crate::limits::MOST_BODY_BYTES;
use crate::net::{Host, Net};
use crate::secret::SecretSource;

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
    server: Server,
    method: Method,
    /// Path and query: what stands in the request line.
    path: Uri,
    headers: HeaderMap,
    status: Vec<u16>,
    body: Option<String>,
    expect_headers: Vec<(HeaderName, String)>,
    has_credential: bool,
}

fn shape(why: impl Into<String>) -> CheckError {
    CheckError::Shape(why.into())
}

impl Block {
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
        Address::parse(&self.url)?;
        self.method()?;
        self.request_headers()?;
        self.expected_headers()?;
        if let Some(wrong) = self.status.iter().find(|status| !(100..600).contains(*status)) {
            return Err(shape(format!("{wrong} is no HTTP status")));
        }
        self.connect.as_deref().map(Host::with_port).transpose().map(|_| ())
    }

    /// With a credential it is an API that is asked. A second attempt differs in its `x-request-id` only.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let request = || Some(format!("{} {}", self.method().ok()?, Address::parse(&self.url).ok()?.path));
        self.bearer.as_ref().and_then(|_| request()).map(|what| Asked::new(what, None, 2_000)).into_iter().collect()
    }

    pub(super) fn secrets(&self) -> Vec<&SecretSource> {
        self.bearer.iter().collect()
    }

    pub(super) fn build(self, net: &Net) -> Result<impl Check + use<>, CheckError> {
        let address = Address::parse(&self.url)?;
        let server = address.server(net, self.connect.as_deref(), self.ca.as_deref())?;
        let mut headers = self.request_headers()?;
        headers.insert(HOST, address.authority);
        if let Some(bearer) = &self.bearer {
            let secret = bearer.read()?;
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", secret.reveal())).map_err(|_| shape("the bearer token cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Http {
            server,
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
        let stream = attempt.net.connect(&self.server.host, self.server.port, trace).await?;
        match &self.server.tls {
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
        let mut exchange = Exchange::over(stream, self.server.tls.is_some()).await?;
        let response = exchange.send(self.request(attempt.id)).await?;
        trace.begin(Phase::Transfer);
        trace.facts.http_status = Some(response.status().as_u16());
        self.judge_status(response.status())?;
        self.judge_headers(&response)?;
        let length = exchange.drive(self.judge_body(response)).await?;
        trace.facts.content_bytes = Some(length);
        Ok(())
    }

    fn request(&self, id: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers.clone();
        tell_apart(&mut request, id);
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

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
