//! Web tokens (RFC 7519): what one says of its own life. Its signature is a matter between those who give it and those who take it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use vigie_contract::Time;

/// What a token says of itself, in Unix seconds.
#[derive(Deserialize)]
pub(crate) struct Claims {
    pub(crate) exp: i64,
    /// Tells its whole life without a look at our clock.
    pub(crate) iat: Option<i64>,
}

impl Claims {
    /// Of a text that is a web token with an end.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else { return None };
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()
    }

    /// Its end, which may be beyond all that can be computed with.
    pub(crate) fn expiry(&self) -> Time {
        Time::clamped(self.exp.saturating_mul(1_000_000))
    }
}
