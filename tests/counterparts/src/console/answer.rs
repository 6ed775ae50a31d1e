//! One request, answered or not.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION, SET_COOKIE};
use hyper::{Request, Response, StatusCode};
use url::form_urlencoded;

use super::{FORM_MARKER, Fault, Heard, LOCKED_MARKER, MARKER, PASSWORD, Route, State, USER, lock};
use crate::words::{Cut, Words};

/// A form is shorter.
const MOST_BODY_BYTES: usize = 65_536;

pub(super) async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Words>, Cut> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MOST_BODY_BYTES).collect().await.map_err(|_| Cut)?.to_bytes();
    let heard = Heard {
        line: format!("{} {}", head.method, head.uri),
        form: form_urlencoded::parse(&body).into_owned().collect(),
        headers: head.headers,
    };
    let route = Route::of(head.method.as_str(), head.uri.path());
    let (fault, said) = {
        let mut state = lock(&state);
        let fault = state.faults.iter().rev().find(|(scope, _)| scope.holds(route)).map(|(_, fault)| fault.clone());
        let said = match &fault {
            Some(fault) => state.fail(fault, route, &heard),
            None => state.serve(route, &heard),
        };
        state.is_hanging |= fault == Some(Fault::Hang);
        state.note(heard);
        (fault, said)
    };
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Reset) => Err(Cut),
        Some(Fault::HangWithinBody) => Ok(said.map(Words::half)),
        Some(Fault::Slow(by)) => {
            tokio::time::sleep(by).await;
            Ok(said)
        }
        _ => Ok(said),
    }
}

impl Route {
    fn of(method: &str, path: &str) -> Option<Self> {
        match (method, path) {
            ("GET", "/login") => Some(Self::Form),
            ("POST", "/login") => Some(Self::Login),
            ("GET", "/home") => Some(Self::Home),
            ("GET", "/account") => Some(Self::Account),
            ("GET", "/profile") => Some(Self::Profile),
            _ => None,
        }
    }
}

impl State {
    fn fail(&mut self, fault: &Fault, route: Option<Route>, heard: &Heard) -> Response<Words> {
        match fault {
            Fault::Status(status) => page(*status, &format!("<hr>{status}")),
            Fault::OtherPage => page(200, "<h1>Welcome to nginx!</h1>"),
            Fault::Says(words) => page(200, words),
            Fault::NoToken => form(200, "", ""),
            Fault::Form(status) => form(*status, "t", "Try again."),
            Fault::Locked => form(200, "t", LOCKED_MARKER),
            Fault::SecondFactor => page(200, "<form method=post><input name=code autocomplete='one-time-code'></form>"),
            Fault::Leads { to, status } => redirection(*status, to),
            Fault::Circle => redirection(302, heard.line.split(' ').next_back().unwrap_or_default()),
            Fault::Hang | Fault::HangWithinBody | Fault::Reset | Fault::Slow(_) => self.serve(route, heard),
        }
    }

    /// The answer of a console that is well.
    fn serve(&mut self, route: Option<Route>, heard: &Heard) -> Response<Words> {
        let cookie = |name: &str| {
            let mut pairs = heard.header("cookie").split("; ").filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        match route {
            None => page(404, "Not here."),
            Some(Route::Form) => {
                // A token has what a page has to escape.
                let (visitor, token) = (self.number("visitor"), format!("{}\"<=&>", self.number("token")));
                let mut said = form(200, &token, "");
                set_cookie(&mut said, &format!("visitor={visitor}; Path=/login; HttpOnly"));
                self.visitors.insert(visitor, token);
                said
            }
            Some(Route::Login) => self.log_in(&cookie("visitor"), &heard.form),
            Some(Route::Home) => redirection(302, "account"),
            Some(Route::Account | Route::Profile) if self.sessions.contains(&cookie("session")) => {
                page(200, &format!("{MARKER}<meta name='user-id' content='u 1/2'><p>{USER}</p>"))
            }
            Some(Route::Account | Route::Profile) => redirection(303, "/login"),
        }
    }

    fn log_in(&mut self, visitor: &str, fields: &[(String, String)]) -> Response<Words> {
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let token = self.visitors.remove(visitor);
        if token.is_none() || field("_csrf") != token.as_deref() {
            return page(400, "This form is forged.");
        }
        if field("user") != Some(USER) || field("password") != Some(PASSWORD) {
            return form(200, "t", "Wrong user or password.");
        }
        let session = self.number("session");
        let mut said = redirection(303, "/home");
        set_cookie(&mut said, &format!("session={session}; Path=/; HttpOnly"));
        set_cookie(&mut said, "visitor=; Path=/login; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
        self.sessions.insert(session);
        said
    }
}

fn form(status: u16, token: &str, words: &str) -> Response<Words> {
    let token = token.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('=', "&#x3D;");
    let hidden = if token.is_empty() { String::new() } else { format!("<input type=hidden value=\"{token}\" name='_csrf'>") };
    page(
        status,
        &format!(
            "{FORM_MARKER}<p>{words}</p><form method=\"post\" action=\"/login\">{hidden}\
             <input name=\"user\"><input type=\"password\" name=\"password\"></form>"
        ),
    )
}

fn page(status: u16, words: &str) -> Response<Words> {
    let text = format!("<!doctype html><html><body>{words}</body></html>");
    let mut response = Response::new(Words::Whole(Some(Bytes::from(text))));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn redirection(status: u16, to: &str) -> Response<Words> {
    let mut response = page(status, "Elsewhere.");
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn set_cookie(response: &mut Response<Words>, line: &str) {
    if let Ok(line) = HeaderValue::from_str(line) {
        response.headers_mut().append(SET_COOKIE, line);
    }
}
