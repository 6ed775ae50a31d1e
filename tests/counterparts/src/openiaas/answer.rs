//! One request, answered or not.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::{Fault, Heard, Route, State, lock};
use crate::words::{Cut, Words};

/// A login is shorter.
const MOST_BODY_BYTES: usize = 65_536;

struct Question {
    source: IpAddr,
    method: String,
    path: String,
    query: String,
    authorization: String,
    body: Bytes,
}

pub(super) async fn answer(state: Arc<Mutex<State>>, source: IpAddr, request: Request<Incoming>) -> Result<Response<Words>, Cut> {
    let (head, body) = request.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = Limited::new(body, MOST_BODY_BYTES).collect().await.map_err(|_| Cut)?.to_bytes();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let (method, path) = (head.method.to_string(), head.uri.path().to_owned());
    let question = Question { source, method, path, query, authorization: text(AUTHORIZATION), body };
    let (fault, said) = {
        let mut state = lock(&state);
        let (fault, said) = state.meet(&question);
        let status = (!matches!(fault, Some(Fault::Hang | Fault::Reset))).then_some(said.status().as_u16());
        let at_us = (state.clock)();
        state.note(Heard { at_us, source, line: format!("{} {}", head.method, head.uri), user_agent: text(USER_AGENT), status });
        (fault, said)
    };
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Reset) => Err(Cut),
        Some(Fault::HangWithinBody) => Ok(said.map(Words::half)),
        _ => Ok(said),
    }
}

impl State {
    /// The fault that the question meets, and what is answered to it.
    fn meet(&mut self, question: &Question) -> (Option<Fault>, Response<Words>) {
        let asked = Route::of(&question.method, &question.path);
        let route = asked.map(|(route, _)| route);
        let fault = self.faults.iter().rev().find(|(scope, _)| scope.holds(route)).map(|(_, fault)| *fault);
        let said = match fault {
            Some(Fault::Status(status)) => page(status),
            Some(Fault::Throttled { retry_after_s }) => throttled(retry_after_s),
            Some(Fault::Unauthorized) => refusal(StatusCode::UNAUTHORIZED),
            Some(Fault::Forbidden) => refusal(StatusCode::FORBIDDEN),
            Some(Fault::NotListed) => page(403),
            Some(Fault::OtherJson) => json_of(StatusCode::OK, &json!({"hello": "world"})),
            _ => self.serve(asked, question, fault),
        };
        (fault, said)
    }

    /// The answer of an API that is well, but for a fault in how it says it.
    fn serve(&mut self, asked: Option<(Route, Option<&str>)>, question: &Question, fault: Option<Fault>) -> Response<Words> {
        let (now_us, is_login) = ((self.clock)(), matches!(asked, Some((Route::Login, _))));
        let identity = format!("{} {}?{} {}", question.method, question.path, question.query, String::from_utf8_lossy(&question.body));
        if !self.limits.admit(question.source, is_login, identity, now_us) {
            return throttled(None);
        }
        if is_login {
            return self.log_in(&question.body, now_us / 1_000_000, fault);
        }
        if !self.tokens.holds(&question.authorization, now_us / 1_000_000) {
            return refusal(StatusCode::UNAUTHORIZED);
        }
        let found = match asked {
            None => return refusal(StatusCode::NOT_FOUND),
            Some((route, Some(id))) => self.world.one(route, id).cloned(),
            Some((route, None)) => match self.world.filtered(route, &question.query) {
                None => return page(500),
                Some(list) if fault == Some(Fault::Partial) => return json_of(StatusCode::PARTIAL_CONTENT, &half(list)),
                Some(list) => Some(Value::Array(list)),
            },
        };
        match found {
            None => refusal(StatusCode::NOT_FOUND),
            Some(found) if fault == Some(Fault::BrokenJson) => {
                let text = found.to_string();
                said(StatusCode::OK, "application/json", text[..text.len() - 1].to_owned())
            }
            Some(found) => json_of(StatusCode::OK, &found),
        }
    }

    fn log_in(&mut self, body: &[u8], now_s: i64, fault: Option<Fault>) -> Response<Words> {
        match self.tokens.give(body, now_s) {
            None => refusal(StatusCode::UNAUTHORIZED),
            Some(token) => {
                let token = if fault == Some(Fault::QuotedToken) { format!("\"{token}\"\n") } else { token };
                said(StatusCode::OK, "text/html; charset=utf-8", token)
            }
        }
    }
}

fn half(mut list: Vec<Value>) -> Value {
    list.truncate(list.len() / 2);
    Value::Array(list)
}

fn said(status: StatusCode, content_type: &'static str, text: String) -> Response<Words> {
    let mut response = Response::new(Words::Whole(Some(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json_of(status: StatusCode, value: &Value) -> Response<Words> {
    said(status, "application/json; charset=utf-8", value.to_string())
}

/// An error as the API words it.
fn refusal(status: StatusCode) -> Response<Words> {
    let message = status.canonical_reason().unwrap_or_default();
    json_of(status, &json!({"error": {"status": format!("{} {message}", status.as_u16()), "message": message}}))
}

/// An error as the proxy before it does.
fn page(status: u16) -> Response<Words> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    said(status, "text/html", format!("<html><head><title>{status}</title></head><body><hr>nginx</body></html>"))
}

fn throttled(retry_after_s: Option<u32>) -> Response<Words> {
    let mut response = refusal(StatusCode::TOO_MANY_REQUESTS);
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
