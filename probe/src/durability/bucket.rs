//! Writes canary objects and looks at them.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONNECTION, HeaderValue};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use vigie_contract::Reason;

use super::{How, Look, OBJECT_BYTES, Object, Outcome};
use crate::check::{self, CheckError, Finding, Trace};
use crate::clock::{now, wall_now};
use crate::net::{self, Net, Source};
use crate::random;
use crate::resolve::Resolver;
use crate::s3::{Question, Reply, Store, ask};
use crate::sigv4::{encode, hex};

/// A bucket of canary objects.
pub struct Bucket {
    net: Net,
    store: Store,
    timeout: Duration,
}

impl Bucket {
    /// The object store of a `check` of kind `s3`, with this bucket or that of the check; an answer is waited for so long.
    ///
    /// # Errors
    /// If the check is of another kind or cannot be made.
    pub fn of(check: &Value, bucket: Option<&str>, timeout: Duration) -> Result<Self, CheckError> {
        let net = Net::new(Source::default(), Resolver::of_system(), Err("nobody asks for echoes".to_owned()), net::trust(None)?);
        Ok(Self { store: check::object_store(check, bucket, &net)?, net, timeout })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.store.bucket
    }

    /// Writes a new object whose name begins with `prefix`.
    ///
    /// # Errors
    /// In words why nothing was written, or perhaps: such an object is in no manifest, and nobody will miss it.
    pub async fn write(&self, prefix: &str) -> Result<Object, String> {
        let key = format!("{prefix}{}", random::run_id().map_err(|error| format!("no random numbers: {error}"))?);
        let content = content(&key);
        let question = Question { body: content.clone(), ..Question::of_object(Method::PUT, &self.store.bucket, &key) };
        let reply = self.ask(&question).await.map_err(|finding| said(finding, None))?;
        reply.judge_status(false).map_err(|finding| said(finding, Some(&reply)))?;
        let sha256 = hex(digest(&SHA256, &content).as_ref());
        // A bucket that keeps no versions has none, or one of this name.
        let version_id = reply.version.filter(|version| version != "null");
        Ok(Object { bucket: self.store.bucket.clone(), key, sha256, size_bytes: content.len(), version_id, written_us: wall_now() })
    }

    /// Looks at an object of the manifest.
    pub async fn look(&self, object: &Object, how: How, vantage: &str) -> Look {
        let (how, (outcome, said)) = match (how, self.see(object, how).await) {
            (How::Head, (Outcome::Absent, _)) => (How::Get, self.see(object, How::Get).await),
            seen => seen,
        };
        let (bucket, key) = (object.bucket.clone(), object.key.clone());
        Look { at_us: wall_now(), vantage: vantage.to_owned(), bucket, key, how, outcome, said }
    }

    async fn see(&self, object: &Object, how: How) -> (Outcome, String) {
        let method = if how == How::Get { Method::GET } else { Method::HEAD };
        let query = object.version_id.as_ref().map(|version| format!("versionId={}", encode(version, false))).unwrap_or_default();
        let question = Question { query, ..Question::of_object(method, &object.bucket, &object.key) };
        match self.ask(&question).await {
            Err(finding) => (Outcome::Unavailable, said(finding, None)),
            Ok(reply) => judge(object, how, &reply),
        }
    }

    async fn ask(&self, question: &Question) -> Result<Reply, Finding> {
        let mut trace = Trace::new(now());
        let work = async {
            let mut request = self.store.request(question, wall_now(), &format!("{:016x}", random::u64()))?;
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            ask(&mut self.store.server.open(&self.net, &mut trace).await?, request, &mut trace).await
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or(Err(Finding::Fail(Reason::Timeout)))
    }
}

/// The table of [`super`].
fn judge(object: &Object, how: How, reply: &Reply) -> (Outcome, String) {
    let outcome = match reply.judge_status(false) {
        Ok(()) if how == How::Get && hex(digest(&SHA256, &reply.body).as_ref()) == object.sha256 => Outcome::Present,
        Ok(()) if how == How::Head && reply.length.is_none_or(|length| length == object.size_bytes) => Outcome::Present,
        Ok(()) => Outcome::Altered,
        Err(_) if reply.status == 404 && (how == How::Head || ["NoSuchKey", "NoSuchVersion"].contains(&reply.code().as_str())) => {
            Outcome::Absent
        }
        Err(Finding::Void(reason)) if reason != Reason::Throttled => Outcome::Refused,
        Err(_) => Outcome::Unavailable,
    };
    (outcome, said(reply.judge_status(false).err().unwrap_or(Finding::Ok), Some(reply)))
}

/// `404 NoSuchKey`, or why there is no answer.
fn said(finding: Finding, reply: Option<&Reply>) -> String {
    match (reply, finding) {
        (Some(reply), Finding::Ok) => reply.status.as_u16().to_string(),
        (Some(reply), _) => format!("{} {}", reply.status.as_u16(), reply.code()).trim_end().to_owned(),
        (None, Finding::Fail(reason) | Finding::Void(reason)) => format!("{reason:?}").to_lowercase(),
        (None, Finding::Ok) => String::new(),
    }
}

/// 1 KiB that no store can make smaller, another one for each name.
fn content(key: &str) -> Bytes {
    let block = |n: usize| digest(&SHA256, format!("{n} {key}").as_bytes());
    (0..OBJECT_BYTES / 32).flat_map(|n| block(n).as_ref().to_vec()).collect()
}

#[cfg(test)]
mod tests;
