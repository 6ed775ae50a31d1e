//! Durability (contract, line 10.1): canary objects that are written once and then only looked at, for years, and what that shows.
//!
//! A *manifest* names the objects, with the hash of their content. A *look* at one is a line in the *journal* of a vantage. A *report* is
//! made of the manifest and the journals of several vantages. All are files of NDJSON, to be kept as long as the objects.
//!
//! | what is seen of an object | outcome |
//! |---|---|
//! | GET: 2xx, and the content has the hash of the manifest | present |
//! | HEAD: 2xx, and the length is right: it is there, but nobody has read it | present |
//! | 2xx, and the content or the length is another | altered |
//! | 404 with the code `NoSuchKey` or `NoSuchVersion` to a signed GET; after a HEAD, whose answer has no code, a GET is asked | absent |
//! | no connection, no answer in time, 429, `SlowDown`, 5xx, anything that no S3 server says | unavailable |
//! | 401, 403, any other 4xx, `NoSuchBucket`, our clock: we ask wrongly or must not | refused |
//!
//! Only `altered` and `absent` speak against durability, and neither is a loss yet: an object is *lost* when two vantages have both seen
//! it so again and again for a day, and none has seen it present since ([`Report`]).

mod bound;
mod bucket;
mod report;

use serde::{Deserialize, Serialize};
use vigie_contract::{Span, Time};

pub use bound::most_events;
pub use bucket::Bucket;
pub use report::{Loss, Report};

/// The size of every object.
pub const OBJECT_BYTES: usize = 1_024;
/// One vantage looks no oftener than this: a tenth of a second apart.
pub const APART: Span = Span::from_us(100_000);

/// An object of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Where it is.
    pub bucket: String,
    /// Its name.
    pub key: String,
    /// The hash of its content, in hexadecimal.
    pub sha256: String,
    /// The length of its content.
    pub size_bytes: usize,
    /// Which version of it, in a bucket that keeps versions.
    pub version_id: Option<String>,
    /// When its writing was acknowledged.
    pub written_us: Time,
}

/// How an object is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Its content is read and hashed.
    Get,
    /// Only its head is asked for.
    Head,
}

/// What a look has found: the table of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is there.
    Present,
    /// It is there, and another.
    Altered,
    /// It is not there.
    Absent,
    /// Nobody can say.
    Unavailable,
    /// Nobody tells us.
    Refused,
}

/// A look at an object: a line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// When its answer was there.
    pub at_us: Time,
    /// From where.
    pub vantage: String,
    /// At what.
    pub bucket: String,
    /// The object's name.
    pub key: String,
    /// How.
    pub how: How,
    /// What was found.
    pub outcome: Outcome,
    /// Why, in a word: the status with the store's code, or the reason of a failure.
    pub said: String,
}
