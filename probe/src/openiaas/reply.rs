//! What the API answers: its status judged, its JSON read.

use std::fmt;
use std::marker::PhantomData;

use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use hyper::http::response::Parts;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde_json::{Map, Value};
use vigie_contract::{Reason, Span};

use crate::check::Finding;
use crate::limits::MOST_BODY_BYTES;

/// An answer, read as far as a probe reads.
pub(crate) struct Reply {
    pub(super) status: StatusCode,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Span>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn of((head, body): (Parts, Vec<u8>)) -> Self {
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        Self { status: head.status, retry_after: seconds.map(|seconds| Span::from_secs(seconds.into())), body }
    }

    /// The rows of the table that speak of statuses.
    pub(super) fn judge_status(&self) -> Result<(), Finding> {
        Err(match self.status.as_u16() {
            200..=299 => return Ok(()),
            429 => Finding::Void(Reason::Throttled),
            401 => Finding::Void(Reason::Credential),
            403 if self.is_object() => Finding::Void(Reason::Credential),
            403 => Finding::Void(Reason::Address),
            400..=499 => Finding::Void(Reason::Request),
            _ => Finding::Fail(Reason::Status),
        })
    }

    fn is_object(&self) -> bool {
        self.item::<Map<String, Value>>().is_ok()
    }

    /// Whether this may not be all that there is: the server says so, or the probe read no further.
    pub(crate) fn is_partial(&self) -> bool {
        self.status == StatusCode::PARTIAL_CONTENT || self.is_cut()
    }

    fn is_cut(&self) -> bool {
        self.body.len() > MOST_BODY_BYTES
    }

    /// The elements of a list, as far as it was read.
    pub(crate) fn items<T: DeserializeOwned>(&self) -> Result<Vec<T>, Finding> {
        let mut items = Vec::new();
        let mut json = serde_json::Deserializer::from_slice(&self.body);
        let read = json.deserialize_seq(Collect { items: &mut items, element: PhantomData });
        match read.and_then(|()| json.end()) {
            Ok(()) => Ok(items),
            Err(error) if self.is_cut() && error.is_eof() => Ok(items),
            Err(_) => Err(Finding::Fail(Reason::Content)),
        }
    }

    /// The one thing that was asked for.
    pub(crate) fn item<T: DeserializeOwned>(&self) -> Result<T, Finding> {
        serde_json::from_slice(&self.body).map_err(|_| Finding::Fail(Reason::Content))
    }
}

/// Keeps the elements that came before a list breaks off.
struct Collect<'a, T> {
    items: &'a mut Vec<T>,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element()? {
            self.items.push(item);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openiaas::Zone;

    fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: StatusCode::from_u16(status).unwrap(), retry_after: None, body: body.into() }
    }

    #[test]
    fn a_list_that_the_probe_read_no_further_is_no_broken_one() {
        let long: Vec<_> = (0..40_000).map(|n| json!({"id": n.to_string(), "name": "a".repeat(20)})).collect();
        let long = serde_json::to_vec(&long).unwrap();
        let cut = reply(200, &long[..=MOST_BODY_BYTES]);
        assert!(cut.is_partial());
        assert!(cut.items::<Zone>().unwrap().len() > 20_000);
        let broken = reply(200, &long[..MOST_BODY_BYTES]);
        assert_eq!(broken.items::<Zone>(), Err(Finding::Fail(Reason::Content)), "the server ended it there");
    }

    #[test]
    fn a_list_holds_what_was_asked_for_and_nothing_follows_it() {
        for (body, expected) in [
            (r#"[{"id": "a", "name": "b", "more": 1}]"#, Ok(1)),
            ("[]", Ok(0)),
            (r#"[{"name": "b"}]"#, Err(Finding::Fail(Reason::Content))),
            (r#"{"error": {}}"#, Err(Finding::Fail(Reason::Content))),
            ("[] []", Err(Finding::Fail(Reason::Content))),
            ("<html>", Err(Finding::Fail(Reason::Content))),
            ("", Err(Finding::Fail(Reason::Content))),
        ] {
            assert_eq!(reply(200, body).items::<Zone>().map(|items| items.len()), expected, "{body}");
        }
    }
}
