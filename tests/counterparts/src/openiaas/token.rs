//! Personal access tokens, and the JSON web tokens that a login gives for them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The personal access token that the API knows.
pub const TOKEN_ID: &str = "5d6f0c1e-0000-4000-8000-0000000000aa";
/// Its secret.
pub const TOKEN_SECRET: &str = "8c1fd7a2-0000-4000-8000-0000000000bb";

const USUAL_LIFE_S: i64 = 300;

/// Whom it believes.
pub(super) struct Tokens {
    pub(super) life_s: i64,
    /// Those given out, and until when in Unix seconds they hold.
    given: Vec<(String, i64)>,
    count: u64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { life_s: USUAL_LIFE_S, given: Vec::new(), count: 0 }
    }
}

impl Tokens {
    /// The token for a login with this body; none if it is refused.
    pub(super) fn give(&mut self, body: &[u8], now_s: i64) -> Option<String> {
        let login: Value = serde_json::from_slice(body).ok()?;
        if login["id"] != TOKEN_ID || login["secret"] != TOKEN_SECRET {
            return None;
        }
        self.count += 1;
        let expires_s = now_s + self.life_s;
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"alg": "HS256", "typ": "JWT"}));
        let claims = part(json!({
            "userId": "5d6f0c1e-0000-4000-8000-000000000001",
            "companyId": "5d6f0c1e-0000-4000-8000-000000000002",
            "scope": {"id": "5d6f0c1e-0000-4000-8000-000000000003"},
            "iat": now_s,
            "exp": expires_s,
        }));
        // Nobody but this API looks at the signature, and it knows what it gave.
        let token = format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(self.count.to_be_bytes()));
        self.given.retain(|(_, expires_s)| *expires_s > now_s);
        self.given.push((token.clone(), expires_s));
        Some(token)
    }

    /// Whether the value of a header `authorization` is a token that holds.
    pub(super) fn holds(&self, authorization: &str, now_s: i64) -> bool {
        let bearer = authorization.strip_prefix("Bearer ");
        bearer.is_some_and(|bearer| self.given.iter().any(|(token, expires_s)| token == bearer && now_s < *expires_s))
    }
}
