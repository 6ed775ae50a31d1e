//! What can go wrong, and with which requests.

use std::borrow::Cow;
use std::time::Duration;

use super::Route;

/// A fault that requests meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with a page of the proxy before the console.
    Status(u16),
    /// No answer.
    Hang,
    /// The head of an answer and half of its body, then nothing.
    HangWithinBody,
    /// The connection ends without an answer.
    Reset,
    /// The right answer, but so much later.
    Slow(Duration),
    /// 200 and a page that is another.
    OtherPage,
    /// 200 and a page with these words.
    Says(String),
    /// The form without its token.
    NoToken,
    /// The form, with this status: a password that is wrong, a session that is lost.
    Form(u16),
    /// The form, which says that the account is locked.
    Locked,
    /// 200 and a form that asks for a code.
    SecondFactor,
    /// A redirection.
    Leads {
        /// To here.
        to: Cow<'static, str>,
        /// With this status.
        status: u16,
    },
    /// A redirection to where the request already is, for ever.
    Circle,
}

/// How connections are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// As they should be.
    Open,
    /// Reset as soon as something has come over them: a firewall to which the address is a stranger.
    Cut,
    /// By what speaks neither TLS nor HTTP.
    Babble,
}

/// The requests that a fault meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Everything,
    /// Those of one route.
    Only(Route),
}

impl Scope {
    pub(super) fn holds(self, route: Option<Route>) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(one) => route == Some(one),
        }
    }
}
