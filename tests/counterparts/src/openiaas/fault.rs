//! What can go wrong, and with which requests.

use super::Route;

/// A fault that requests meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with a page in HTML, as the proxy before the API gives it.
    Status(u16),
    /// No answer.
    Hang,
    /// The head of an answer and half of its body, then nothing.
    HangWithinBody,
    /// The connection ends without an answer.
    Reset,
    /// 429, as documented; the block after hammering too.
    Throttled {
        /// The header `Retry-After`, in seconds.
        retry_after_s: Option<u32>,
    },
    /// 401, whatever the token.
    Unauthorized,
    /// 403 from the API: the right is missing.
    Forbidden,
    /// 403 from before the API: the address is not in the tenant's list.
    NotListed,
    /// 206 and the first half of the list.
    Partial,
    /// 200 and JSON that ends too early.
    BrokenJson,
    /// 200 and what is JSON, but not what was asked for.
    OtherJson,
    /// The token in quotes and with a line's end, as some have met it.
    QuotedToken,
}

/// The requests that a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Everything,
    /// All but the login.
    Reads,
    /// Those of one route.
    Only(Route),
}

impl Scope {
    pub(super) fn holds(self, route: Option<Route>) -> bool {
        match self {
            Self::Everything => true,
            Self::Reads => route != Some(Route::Login),
            Self::Only(one) => route == Some(one),
        }
    }
}
