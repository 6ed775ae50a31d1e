//! Logging in: when, by whom, and what comes of it.
//!
//! One attempt logs in while the others wait; one that is given up meanwhile frees the way for the next. Two logins are a second apart at
//! least, and what one found stands for those who come within that second: a service's failure needs two that failed, though, so a second
//! attempt accepts no failure from before its time. A login that was refused or throttled is not repeated at once: 2 s, 4 s, and so on up
//! to 30 s, or as long as `Retry-After` says, up to a minute; a token that still holds is used meanwhile.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::json;
use vigie_contract::{Reason, Span, Time};

use super::Session;
use crate::check::{Attempt, Finding, Phase, Trace};
use crate::clock::{duration, now, span};
use crate::web_token::Claims;

const LOGIN: &str = "/api/iam/v2/auth/personal_access_token";
/// Identical requests are limited to one a second (contract, "Throttling").
const APART: Span = Span::from_secs(1);
const LONGEST_PAUSE: Span = Span::from_secs(30);
const LONGEST_RETRY_AFTER: Span = Span::from_secs(60);
/// So long before its end a token is renewed; one that lives shorter than twice that, after half its life.
const BEFORE_ITS_END: Span = Span::from_secs(60);
/// A token that is refused this soon was not refused for its age.
const YOUNG: Span = Span::from_secs(60);
/// How long the documentation says that a token lives.
const USUAL_LIFE: Span = Span::from_secs(300);
/// One that says that it lives longer is renewed all the same.
const LONGEST_LIFE_S: i64 = 86_400;

/// A web token. It has no `Debug`.
#[derive(Clone)]
pub(super) struct Token {
    /// The value of a header `authorization`; marked as sensitive.
    pub(super) bearer: HeaderValue,
    given: Time,
    renewal: Time,
    end: Time,
}

/// What came of logging in, for those who come after. Times are wall times: one that lies ahead means that the clock was set, and says
/// nothing.
#[derive(Default)]
pub(super) struct Logins {
    /// When the last one began.
    began: Option<Time>,
    /// What it found instead of a token, and until when that stands.
    found: Option<(Finding, Time)>,
    /// How many in a row were refused.
    refused: u32,
}

/// Wall time now.
pub(super) fn wall(attempt: &Attempt<'_>, trace: &Trace) -> Time {
    attempt.wall + span(now().saturating_duration_since(trace.began))
}

impl Session {
    /// A token that holds, and a note of how long it will. Phase setup while others log in; the phases of the login where it is ours.
    pub(super) async fn token(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<Token, Finding> {
        let found = self.find_token(attempt, trace).await;
        self.token_left.set(match &found {
            Ok(token) => Some((token.end - wall(attempt, trace)).max(Span::ZERO)),
            Err(Finding::Void(_)) => Some(Span::ZERO),
            // That is the API's outage, of which others tell.
            Err(Finding::Ok | Finding::Fail(_)) => None,
        });
        found
    }

    async fn find_token(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<Token, Finding> {
        if let Some(token) = self.held(|token| token.is_fresh(wall(attempt, trace))) {
            return Ok(token);
        }
        trace.begin(Phase::Setup);
        let mut logins = self.logins.lock().await;
        if let Some(token) = self.held(|token| token.is_fresh(wall(attempt, trace))) {
            return Ok(token);
        }
        let found = match logins.standing(wall(attempt, trace), attempt) {
            Some(found) => found,
            None => {
                tokio::time::sleep(duration(logins.too_soon(wall(attempt, trace)))).await;
                let began = wall(attempt, trace);
                logins.begin(began);
                match self.log_in(attempt, began, trace).await {
                    Ok(token) => {
                        logins.refused = 0;
                        self.token.replace(Some(token.clone()));
                        return Ok(token);
                    }
                    Err((found, retry_after)) => {
                        logins.note(found, retry_after);
                        found
                    }
                }
            }
        };
        let old = self.held(|token| token.holds(wall(attempt, trace)));
        old.filter(|_| matches!(found, Finding::Void(_))).ok_or(found)
    }

    fn held(&self, is_fit: impl Fn(&Token) -> bool) -> Option<Token> {
        self.token.borrow().as_ref().filter(|token| is_fit(token)).cloned()
    }

    /// A new token, whose age counts from `began`, or what was found instead and how long the server wants to be left alone.
    async fn log_in(&self, attempt: &Attempt<'_>, began: Time, trace: &mut Trace) -> Result<Token, (Finding, Option<Span>)> {
        self.count(|counts| &mut counts.logins);
        let body = json!({"id": self.account.id.reveal(), "secret": self.account.secret.reveal()}).to_string();
        let plain = |found| (found, None);
        let mut request = self.request(Method::POST, LOGIN, Bytes::from(body), attempt).map_err(plain)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let reply = self.ask(request, attempt, trace).await.map_err(plain)?;
        reply.judge_status().map_err(|found| (found, reply.retry_after))?;
        Token::read(&reply.body, began).ok_or((Finding::Fail(Reason::Content), None))
    }

    /// A read was refused although it had this token. One that has become old is used no more; a young one is until it is a minute old:
    /// to log in again would give another like it.
    pub(super) fn note_refused(&self, token: &Token, at: Time) {
        if token.is_young(at) {
            return self.count(|counts| &mut counts.fresh_token_refused);
        }
        self.token.borrow_mut().take_if(|held| held.bearer == token.bearer);
    }
}

impl Logins {
    /// What an earlier login found, where that still stands.
    fn standing(&self, at: Time, attempt: &Attempt<'_>) -> Option<Finding> {
        let ((found, until), began) = (self.found?, self.began?);
        let is_old_failure = attempt.is_retry && matches!(found, Finding::Fail(_)) && began < attempt.wall;
        (began <= at && at < until && !is_old_failure).then_some(found)
    }

    /// How long the next one has to wait.
    fn too_soon(&self, at: Time) -> Span {
        let ago = self.began.map_or(APART, |began| at - began);
        if (Span::ZERO..APART).contains(&ago) { APART - ago } else { Span::ZERO }
    }

    fn begin(&mut self, at: Time) {
        (self.began, self.found) = (Some(at), None);
    }

    fn note(&mut self, found: Finding, retry_after: Option<Span>) {
        let is_refusal = matches!(found, Finding::Void(Reason::Throttled | Reason::Credential | Reason::Address | Reason::Request));
        let pause = if is_refusal {
            self.refused += 1;
            let growing = Span::from_secs(1 << self.refused.min(5));
            growing.min(LONGEST_PAUSE).max(retry_after.unwrap_or(Span::ZERO).min(LONGEST_RETRY_AFTER))
        } else {
            APART
        };
        self.found = self.began.map(|began| (found, began + pause));
    }
}

impl Token {
    /// From the raw text of the answer, which some have met in quotes.
    fn read(text: &[u8], given: Time) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim().trim_matches('"');
        let life = life(&Claims::read(text)?, given);
        let mut bearer = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        bearer.set_sensitive(true);
        let fresh = (life - BEFORE_ITS_END).max(Span::from_us(life.us() / 2));
        Some(Self { bearer, given, renewal: given + fresh, end: given + life })
    }

    /// Whether it need not be renewed yet.
    fn is_fresh(&self, at: Time) -> bool {
        self.given <= at && at < self.renewal
    }

    fn holds(&self, at: Time) -> bool {
        self.given <= at && at < self.end
    }

    fn is_young(&self, at: Time) -> bool {
        self.given <= at && at - self.given < YOUNG
    }
}

/// How long the token still lives at `at`. By our clock, unless that contradicts the token.
fn life(claims: &Claims, at: Time) -> Span {
    let left_s = claims.exp.saturating_sub(at.us() / 1_000_000);
    let whole_s = claims.iat.map(|iat| claims.exp.saturating_sub(iat)).filter(|whole_s| (1..=LONGEST_LIFE_S).contains(whole_s));
    match whole_s {
        Some(whole_s) if left_s > 0 => Span::from_secs(left_s.min(whole_s)),
        Some(whole_s) => Span::from_secs(whole_s),
        None if left_s > 0 => Span::from_secs(left_s.min(LONGEST_LIFE_S)),
        None => USUAL_LIFE,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn token(claims: &serde_json::Value) -> Option<Token> {
        let text = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        Token::read(text.as_bytes(), Time::from_us(1_000_000_000))
    }

    #[test]
    fn a_tokens_life_is_read_even_with_a_wrong_clock() {
        let life_s = |claims| token(&claims).map(|token| (token.end - token.given).us() / 1_000_000);
        assert_eq!(life_s(json!({"exp": 1_300})), Some(300));
        assert_eq!(life_s(json!({"exp": 1_300, "iat": 1_000})), Some(300));
        assert_eq!(life_s(json!({"exp": 1_050, "iat": 750})), Some(50), "it was given before");
        assert_eq!(life_s(json!({"exp": 9_100, "iat": 9_000})), Some(100), "our clock is slow");
        assert_eq!(life_s(json!({"exp": 600, "iat": 500})), Some(100), "our clock is fast");
        assert_eq!(life_s(json!({"exp": 600})), Some(300));
        assert_eq!(life_s(json!({"exp": i64::MAX, "iat": i64::MIN})), Some(86_400));
        assert_eq!(life_s(json!({"exp": "soon"})), None);
    }

    #[test]
    fn what_is_no_web_token_is_none() {
        for text in ["", "\"\"", "a.b", "a.b.c", "a.e30.c", "<html>", "{\"token\": \"a.b.c\"}", "e30.eyJleHAiOjF9.c.d"] {
            assert!(Token::read(text.as_bytes(), Time::from_us(0)).is_none(), "{text}");
        }
        assert!(Token::read(b" \"e30.eyJleHAiOjF9.c\"\r\n", Time::from_us(0)).is_some());
    }
}
