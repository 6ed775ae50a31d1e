//! An object store that speaks S3: signed questions and what comes back. What the kind `s3` and [`crate::durability`] share.

use bytes::Bytes;
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use vigie_contract::{Reason, Time};

use crate::check::{Finding, Trace};
use crate::exchange::{Line, Server, tell_apart};
use crate::sigv4::{Canonical, Signer, UNSIGNED_PAYLOAD, encode, stamp};

/// The code of an error is looked for in so much of the answer.
const MOST_ERROR_BYTES: usize = 4_096;

/// One bucket, and who may use it.
pub(crate) struct Store {
    pub(crate) server: Server,
    pub(crate) authority: HeaderValue,
    pub(crate) bucket: String,
    pub(crate) signer: Signer,
}

/// What is sent.
pub(crate) struct Question {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Bytes,
}

/// What came back, whole.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The words beside the status, if they are not the usual ones.
    phrase: Option<ReasonPhrase>,
    /// What the header says: the answer to HEAD has no body.
    pub(crate) length: Option<usize>,
    pub(crate) body: Vec<u8>,
    /// Which version of the object it is about, in a bucket that keeps versions.
    pub(crate) version: Option<String>,
}

impl Question {
    /// About an object, without content.
    pub(crate) fn of_object(method: Method, bucket: &str, object: &str) -> Self {
        Self { method, path: format!("/{bucket}/{}", encode(object, true)), query: String::new(), body: Bytes::new() }
    }
}

impl Store {
    /// The question, signed.
    pub(crate) fn request(&self, question: &Question, wall: Time, id: &str) -> Result<Request<Full<Bytes>>, Finding> {
        let stamp = stamp(wall);
        let host = self.authority.to_str().unwrap_or_default();
        let signed = [("host", host), ("x-amz-content-sha256", UNSIGNED_PAYLOAD), ("x-amz-date", &stamp)];
        let canonical = Canonical {
            method: question.method.as_str(),
            path: &question.path,
            query: &question.query,
            headers: &signed,
            payload: UNSIGNED_PAYLOAD,
        };
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Finding::Void(Reason::Internal));
        let mut authorization = value(&self.signer.authorization(&canonical, &stamp))?;
        authorization.set_sensitive(true);
        let place = if question.query.is_empty() { question.path.clone() } else { format!("{}?{}", question.path, question.query) };
        let mut request = Request::new(Full::new(question.body.clone()));
        *request.method_mut() = question.method.clone();
        *request.uri_mut() = place.parse().map_err(|_| Finding::Void(Reason::Internal))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers.insert(HeaderName::from_static("x-amz-content-sha256"), HeaderValue::from_static(UNSIGNED_PAYLOAD));
        headers.insert(HeaderName::from_static("x-amz-date"), value(&stamp)?);
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vigie/", env!("CARGO_PKG_VERSION"))));
        tell_apart(&mut request, id);
        Ok(request)
    }
}

/// Phases processing and transfer.
pub(crate) async fn ask(line: &mut Line, request: Request<Full<Bytes>>, trace: &mut Trace) -> Result<Reply, Finding> {
    let (head, body) = line.fetch(request, trace).await?;
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let version = head.headers.get("x-amz-version-id").and_then(|version| version.to_str().ok()).map(str::to_owned);
    Ok(Reply { status: head.status, phrase: head.extensions.get::<ReasonPhrase>().cloned(), length, body, version })
}

impl Reply {
    /// What went wrong, in S3's word: from the body (`<Error><Code>SlowDown</Code>…`), or else from beside the status (`503 Slow Down`).
    pub(crate) fn code(&self) -> String {
        let start = String::from_utf8_lossy(&self.body[..self.body.len().min(MOST_ERROR_BYTES)]);
        let tagged = start.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code.trim().to_owned());
        let beside = || self.phrase.as_ref().map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).replace(' ', ""));
        tagged.or_else(beside).unwrap_or_default()
    }

    /// The rows of the table that speak of statuses and codes. `is_ours`: a slot ago we wrote what this is about.
    pub(crate) fn judge_status(&self, is_ours: bool) -> Result<(), Finding> {
        if self.status.is_success() {
            return Ok(());
        }
        Err(match (self.status.as_u16(), self.code().as_str()) {
            // `SlowDownRead` and `SlowDownWrite` are how MinIO says it, `XAdminUserNotFound` is how versitygw says that it knows no such key.
            (429, _) | (_, "SlowDown" | "SlowDownRead" | "SlowDownWrite") => Finding::Void(Reason::Throttled),
            (500.., _) => Finding::Fail(Reason::Status),
            (_, "RequestTimeTooSkewed") => Finding::Void(Reason::Clock),
            (403, "AccessDenied") => Finding::Void(Reason::Address),
            (401 | 403, _)
            | (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthorizationHeaderMalformed" | "XAdminUserNotFound") => {
                Finding::Void(Reason::Credential)
            }
            (404, _) if is_ours => Finding::Fail(Reason::Missing),
            (400..=499, _) | (_, "PermanentRedirect") => Finding::Void(Reason::Request),
            _ => Finding::Fail(Reason::Status),
        })
    }
}
