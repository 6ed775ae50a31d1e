//! A second, slow model of SPEC §1 to §8, pointwise and from the text: every definition is evaluated at every instant at which anything
//! can change. It shares the contract's types with the engine, and nothing else.

mod derive;
mod figures;
mod intake;

use std::collections::BTreeMap;

use vigie_contract::{Catalogue, Claim, Exclusion, Outcome};

pub use self::figures::replay;

/// `−∞`, for arithmetic.
pub(crate) const NEVER: i64 = i64::MIN / 8;

/// A sample that counts: deduplicated, its outcome what it is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) stamp: i64,
    pub(crate) outcome: Outcome,
    pub(crate) period: i64,
    pub(crate) timeout: i64,
    pub(crate) latency: Option<i64>,
}

impl Point {
    pub(crate) fn hold(&self) -> i64 {
        5 * self.period / 2 + self.timeout
    }
}

/// What the log holds, after §1.
pub(crate) struct Facts {
    pub(crate) catalogue: Option<Catalogue>,
    pub(crate) now: i64,
    /// By (target, vantage), as positions in the catalogue.
    pub(crate) samples: BTreeMap<(usize, usize), Vec<Point>>,
    /// The counting revision of each claim, by id.
    pub(crate) claims: BTreeMap<String, Claim>,
    /// All revisions of each exclusion, by rev, with their append times.
    pub(crate) exclusions: BTreeMap<String, BTreeMap<u64, (Exclusion, i64)>>,
}
