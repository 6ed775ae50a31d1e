//! The check against a console with a switch for every fault.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vigie_counterparts::console::{Console, Door, FORM_MARKER, Fault, Heard, LOCKED_MARKER, MARKER, PASSWORD, Route, Scope, USER};
use vigie_counterparts::identity::Identity;

use super::*;
use crate::check::Phase;
use crate::check::bench::{Bench, documented};
use crate::check::truth::{self, Truth, fail, void};

const fn leads(to: &'static str, status: u16) -> Fault {
    Fault::Leads { to: std::borrow::Cow::Borrowed(to), status }
}

/// A fault of a page, how the slot that meets it ends, and in which step and phase.
type Row = (Route, Fault, Finding, &'static str, Phase);

const ELSEWHERE: &str = "http://elsewhere.test/out-of-order?state=1";
const SIGN_ON: &str = "https://id.test/auth?response_type=code&client_id=console&state=1";

const PAGES_TABLE: [Row; 58] = [
    (Route::Form, Fault::Status(500), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, Fault::Status(502), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, Fault::Status(503), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, Fault::Status(304), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, Fault::Status(400), void(Reason::Request), "page", Phase::Transfer),
    (Route::Form, Fault::Status(401), void(Reason::Credential), "page", Phase::Transfer),
    (Route::Form, Fault::Status(403), void(Reason::Address), "page", Phase::Transfer),
    (Route::Form, Fault::Status(404), void(Reason::Request), "page", Phase::Transfer),
    (Route::Form, Fault::Status(499), void(Reason::Request), "page", Phase::Transfer),
    (Route::Form, Fault::Status(429), void(Reason::Throttled), "page", Phase::Transfer),
    (Route::Form, Fault::Hang, fail(Reason::Timeout), "page", Phase::Processing),
    (Route::Form, Fault::HangWithinBody, fail(Reason::Timeout), "page", Phase::Transfer),
    (Route::Form, Fault::Reset, void(Reason::Address), "page", Phase::Processing),
    (Route::Form, Fault::OtherPage, fail(Reason::Content), "page", Phase::Transfer),
    (Route::Form, Fault::NoToken, fail(Reason::Content), "page", Phase::Transfer),
    (Route::Form, Fault::SecondFactor, fail(Reason::Content), "page", Phase::Transfer),
    (Route::Form, Fault::Circle, fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, leads(ELSEWHERE, 302), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, leads(ELSEWHERE, 307), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, leads(ELSEWHERE, 301), void(Reason::Request), "page", Phase::Transfer),
    (Route::Form, leads(ELSEWHERE, 308), void(Reason::Request), "page", Phase::Transfer),
    (Route::Form, leads(SIGN_ON, 302), void(Reason::Credential), "page", Phase::Transfer),
    (Route::Form, leads("https://id.test/saml?SAMLRequest=fZFN", 302), void(Reason::Credential), "page", Phase::Transfer),
    (Route::Form, leads("http://[", 302), fail(Reason::Protocol), "page", Phase::Transfer),
    (Route::Form, leads("http://user@127.0.0.1/", 302), fail(Reason::Protocol), "page", Phase::Transfer),
    (Route::Form, leads("javascript:alert(1)", 302), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, leads("ftp://127.0.0.1/", 302), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, leads(SIGN_ON, 300), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Form, leads(SIGN_ON, 503), fail(Reason::Status), "page", Phase::Transfer),
    (Route::Login, Fault::Status(500), fail(Reason::Status), "login", Phase::Transfer),
    (Route::Login, Fault::Status(502), fail(Reason::Status), "login", Phase::Transfer),
    (Route::Login, Fault::Status(400), void(Reason::Request), "login", Phase::Transfer),
    (Route::Login, Fault::Status(401), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Login, Fault::Status(403), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Login, Fault::Status(423), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Login, Fault::Status(429), void(Reason::Throttled), "login", Phase::Transfer),
    (Route::Login, Fault::Hang, fail(Reason::Timeout), "login", Phase::Processing),
    (Route::Login, Fault::Reset, fail(Reason::Reset), "login", Phase::Processing),
    (Route::Login, Fault::Form(200), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Login, Fault::Form(422), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Login, Fault::Locked, void(Reason::Credential), "login", Phase::Transfer),
    (Route::Login, Fault::SecondFactor, void(Reason::Credential), "login", Phase::Transfer),
    (Route::Login, Fault::OtherPage, fail(Reason::Content), "login", Phase::Transfer),
    (Route::Login, leads("https://mfa.test/", 303), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Login, leads(SIGN_ON, 307), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Home, Fault::Status(502), fail(Reason::Status), "login", Phase::Transfer),
    (Route::Home, Fault::Circle, fail(Reason::Status), "login", Phase::Transfer),
    (Route::Home, Fault::Hang, fail(Reason::Timeout), "login", Phase::Processing),
    (Route::Account, Fault::Status(403), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Account, Fault::Form(200), void(Reason::Credential), "login", Phase::Transfer),
    (Route::Profile, Fault::Status(503), fail(Reason::Status), "profile", Phase::Transfer),
    (Route::Profile, Fault::Status(403), void(Reason::Credential), "profile", Phase::Transfer),
    (Route::Profile, Fault::Status(404), void(Reason::Request), "profile", Phase::Transfer),
    (Route::Profile, Fault::Reset, fail(Reason::Reset), "profile", Phase::Processing),
    (Route::Profile, Fault::Form(200), fail(Reason::Content), "profile", Phase::Transfer),
    (Route::Profile, Fault::Form(422), void(Reason::Request), "profile", Phase::Transfer),
    (Route::Profile, leads(ELSEWHERE, 302), void(Reason::Credential), "profile", Phase::Transfer),
    (Route::Profile, Fault::Slow(Duration::from_millis(20)), Finding::Ok, "profile", Phase::Transfer),
];

/// How connections are met, with TLS or without, and how the slot ends; without and with `reset = "fail"`.
const DOORS_TABLE: [(Door, bool, [Finding; 2], Phase); 4] = [
    (Door::Cut, false, [void(Reason::Address), fail(Reason::Reset)], Phase::Processing),
    (Door::Cut, true, [void(Reason::Address), fail(Reason::Reset)], Phase::Tls),
    (Door::Babble, false, [fail(Reason::Protocol), fail(Reason::Protocol)], Phase::Processing),
    (Door::Babble, true, [fail(Reason::Tls), fail(Reason::Tls)], Phase::Tls),
];

/// A console, and what its checks need.
struct Stand {
    console: Console,
    files: TempDir,
}

impl Stand {
    async fn start() -> Self {
        Self::at("127.0.0.1:0", None).await
    }

    async fn at(address: &str, identity: Option<Identity>) -> Self {
        let files = TempDir::new().unwrap();
        std::fs::write(files.path().join("password"), PASSWORD).unwrap();
        std::fs::write(files.path().join("ca.pem"), identity.as_ref().map_or("", |identity| &identity.pem)).unwrap();
        Self { console: Console::start(address.parse().unwrap(), identity).await.unwrap(), files }
    }

    /// The whole journey, with these settings beside.
    fn block(&self, settings: &Value) -> Value {
        let password = json!({"file": self.files.path().join("password")});
        let mut block = json!({
            "kind": "console",
            "endpoint": self.console.url(),
            "steps": [
                {"name": "page", "get": "/login", "marker": FORM_MARKER, "extract": {"csrf": {"input": "_csrf"}}},
                {
                    "name": "login", "post": "/login", "form": {"user": USER, "_csrf": "{csrf}"}, "secrets": {"password": password},
                    "refused": [LOCKED_MARKER], "marker": MARKER, "extract": {"id": {"meta": "user-id"}},
                },
                {"name": "profile", "get": "/profile?of={id}", "marker": MARKER},
            ],
        });
        if self.console.url().starts_with("https") {
            block["ca"] = json!(self.files.path().join("ca.pem"));
        }
        block.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        block
    }

    fn bench(&self, settings: &Value) -> Bench {
        Bench::new("console", &self.block(settings))
    }

    fn lines(&self) -> Vec<String> {
        self.console.take_heard().into_iter().map(|heard| heard.line).collect()
    }
}

fn steps(trace: &Trace) -> Vec<&str> {
    trace.facts.steps.iter().map(|(name, _)| &**name).collect()
}

#[tokio::test]
async fn pages_end_where_the_table_says() {
    let stand = Stand::start().await;
    for (route, fault, found, step, phase) in PAGES_TABLE {
        let mut bench = stand.bench(&json!({}));
        stand.console.switch_on(Scope::Only(route), fault.clone());
        let (met, trace) = match fault {
            Fault::Hang => {
                let until_it_hangs = async {
                    while !stand.console.is_hanging() {
                        stand.console.hears().await;
                    }
                };
                bench.attempt_until(until_it_hangs).await
            }
            Fault::HangWithinBody => {
                bench.patience = Duration::from_secs(1);
                bench.slot().await
            }
            _ => bench.slot().await,
        };
        let ended = (met, *steps(&trace).last().unwrap(), trace.last.unwrap());
        assert_eq!(ended, (found, step, phase), "{fault:?} of {route:?}");
        stand.console.heal();
        assert_eq!(stand.bench(&json!({})).slot().await.0, Finding::Ok, "{fault:?} is over");
    }
}

#[tokio::test]
async fn doors_end_where_the_table_says() {
    for (door, has_tls, found, phase) in DOORS_TABLE {
        let stand = Stand::at("127.0.0.1:0", has_tls.then(|| Identity::new().unwrap())).await;
        for (found, reset) in found.into_iter().zip(["void", "fail"]) {
            let bench = stand.bench(&json!({"reset": reset}));
            stand.console.set_door(door);
            let (met, trace) = bench.slot().await;
            assert_eq!((met, trace.last), (found, Some(phase)), "{door:?}, TLS: {has_tls}, reset = {reset}");
            stand.console.heal();
            assert_eq!(bench.slot().await.0, Finding::Ok, "{door:?} is over");
        }
    }
}

#[tokio::test]
async fn a_reset_that_a_second_attempt_does_not_meet_is_nothing() {
    let stand = Stand::start().await;
    let bench = stand.bench(&json!({}));
    stand.console.set_door(Door::Cut);
    assert_eq!(bench.first().await, fail(Reason::Reset));
    stand.console.heal();
    assert_eq!(bench.retry().await, Finding::Ok);
}

#[tokio::test]
async fn nobody_listens() {
    let mut stand = Stand::start().await;
    stand.console.close().await;
    let (found, trace) = stand.bench(&json!({})).slot().await;
    assert_eq!((found, trace.last), (fail(Reason::Refused), Some(Phase::Connect)));
}

#[tokio::test]
async fn a_certificate_counts_and_tells_its_end() {
    let stand = Stand::at("127.0.0.1:0", Some(Identity::new().unwrap())).await;
    let (found, trace) = stand.bench(&json!({})).slot().await;
    assert_eq!((found, trace.facts.certificate_expiry_s), (Finding::Ok, Some(67_090_118_400)));
    let stranger = Stand::at("127.0.0.1:0", Some(Identity::new().unwrap())).await;
    let mut block = stand.block(&json!({}));
    block["ca"] = stranger.block(&json!({}))["ca"].clone();
    assert_eq!(Bench::new("console", &block).slot().await.0, fail(Reason::Tls));
    let late = Stand::at("127.0.0.1:0", Some(Identity::expired().unwrap())).await;
    let (found, trace) = late.bench(&json!({})).slot().await;
    assert_eq!((found, trace.last, steps(&trace)), (fail(Reason::Tls), Some(Phase::Tls), vec!["page"]));
    assert!(late.lines().is_empty(), "nothing is said to a stranger");
}

#[tokio::test]
async fn a_journey_goes_as_a_person_would() {
    let stand = Stand::start().await;
    let bench = stand.bench(&json!({}));
    for _ in 0..2 {
        let (found, trace) = bench.attempt(false).await;
        assert_eq!((found, steps(&trace)), (Finding::Ok, vec!["page", "login", "profile"]));
        let whole: i64 = trace.facts.steps.iter().map(|(_, length)| length.us()).sum();
        assert!(trace.phases().map(|(_, length)| length.us()).sum::<i64>() <= whole + 3, "phases are within steps");
        assert_eq!((trace.counts_from, trace.latency), (trace.began, None), "the latency is that of the whole attempt");
        let heard = stand.console.take_heard();
        let lines: Vec<_> = heard.iter().map(|heard| heard.line.as_str()).collect();
        assert_eq!(lines, ["GET /login", "POST /login", "GET /home", "GET /account", "GET /profile?of=u%201%2F2"]);
        let cookies: Vec<_> = heard.iter().map(|heard| heard.header("cookie").trim_end_matches(|c: char| c.is_ascii_digit())).collect();
        assert_eq!(
            cookies,
            ["", "visitor=visitor", "session=session", "session=session", "session=session"],
            "none is left from the attempt before"
        );
        let [_, login @ Heard { form, .. }, ..] = &heard[..] else { panic!("{heard:?}") };
        assert!(form.contains(&("password".to_owned(), PASSWORD.to_owned())) && form.iter().any(|(name, _)| name == "_csrf"), "{form:?}");
        let origin = stand.console.url();
        let of_form = ["origin", "referer", "content-type"].map(|name| login.header(name));
        assert_eq!(of_form, [&origin, &format!("{origin}/"), "application/x-www-form-urlencoded"]);
        for heard in &heard {
            assert_eq!((heard.header("host"), heard.header("connection")), (origin.trim_start_matches("http://"), "close"));
            assert!(heard.header("user-agent").starts_with("vigie/") && heard.header("accept").starts_with("text/html"), "{heard:?}");
            assert!(!heard.header("x-request-id").is_empty());
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_ours_and_goes_nowhere_else() {
    let stand = Stand::start().await;
    std::fs::write(stand.files.path().join("password"), "another").unwrap();
    let (found, trace) = stand.bench(&json!({})).slot().await;
    assert_eq!((found, steps(&trace)), (void(Reason::Credential), vec!["page", "login"]));
    std::fs::write(stand.files.path().join("password"), PASSWORD).unwrap();
    let other = Stand::at("127.0.0.2:0", None).await;
    for status in [307, 308, 303] {
        let to = format!("{}/login", other.console.url()).into();
        stand.console.switch_on(Scope::Only(Route::Login), Fault::Leads { to, status });
        assert_eq!(stand.bench(&json!({})).slot().await.0, void(Reason::Credential), "{status}");
    }
    assert!(other.lines().is_empty(), "a secret, or anything, was sent to a host that is not named");
}

#[tokio::test]
async fn a_host_that_is_named_may_be_led_to_and_gets_no_others_cookies() {
    let (stand, other) = (Stand::start().await, Stand::at("127.0.0.2:0", None).await);
    let to = format!("{}/login", other.console.url()).into();
    stand.console.switch_on(Scope::Only(Route::Home), Fault::Leads { to, status: 302 });
    let last = json!([
        stand.block(&json!({}))["steps"][0].clone(),
        {
            "name": "login", "post": "/login", "form": {"user": USER, "_csrf": "{csrf}"},
            "secrets": {"password": {"file": stand.files.path().join("password")}}, "marker": FORM_MARKER,
        },
    ]);
    let bench = stand.bench(&json!({"hosts": ["127.0.0.2"], "steps": last}));
    assert_eq!(bench.slot().await.0, Finding::Ok);
    assert_eq!(
        other.console.take_heard().into_iter().map(|heard| (heard.line.clone(), heard.header("cookie").to_owned())).collect::<Vec<_>>(),
        [("GET /login".to_owned(), String::new())]
    );
}

#[tokio::test]
async fn a_form_may_say_where_it_goes() {
    let stand = Stand::start().await;
    let mut block = stand.block(&json!({}));
    block["steps"][0]["extract"]["action"] = json!({"after": "action=\"", "before": "\""});
    block["steps"][1]["post"] = "{action}".into();
    assert_eq!(Bench::new("console", &block).slot().await.0, Finding::Ok);
    assert!(stand.lines().contains(&"POST /login".to_owned()));
    block["steps"][0]["extract"]["action"] = json!({"after": "<!doctype ", "before": ">"});
    assert_eq!(Bench::new("console", &block).slot().await.0, void(Reason::Request), "404 at /html");
    let other = Stand::at("127.0.0.2:0", None).await;
    let form = json!({"name": "form", "get": "/login", "marker": "here", "extract": {"action": {"after": "here ", "before": "!"}}});
    let post = json!({"name": "post", "post": "{action}", "marker": "here"});
    let bench = stand.bench(&json!({"steps": [form, post]}));
    for (action, found) in
        [("http://[".to_owned(), fail(Reason::Content)), (format!("{}/login", other.console.url()), fail(Reason::Status))]
    {
        stand.console.switch_on(Scope::Only(Route::Form), Fault::Says(format!("here {action}!")));
        assert_eq!(bench.slot().await.0, found, "{action}");
    }
    assert!(other.lines().is_empty(), "a host that is not named");
}

#[tokio::test]
async fn a_form_on_another_host_is_that_hosts() {
    let (stand, other) = (Stand::start().await, Stand::at("127.0.0.2:0", None).await);
    stand.console.switch_on(Scope::Only(Route::Form), Fault::Leads { to: format!("{}/login", other.console.url()).into(), status: 302 });
    let mut block = stand.block(&json!({"hosts": ["127.0.0.2"]}));
    block["steps"][0]["extract"]["action"] = json!({"after": "action=\"", "before": "\""});
    block["steps"][1]["post"] = "{action}".into();
    block["steps"].as_array_mut().unwrap().truncate(2);
    assert_eq!(Bench::new("console", &block).slot().await.0, Finding::Ok);
    let heard = other.console.take_heard();
    assert_eq!(heard.iter().map(|heard| &heard.line).collect::<Vec<_>>(), ["GET /login", "POST /login", "GET /home", "GET /account"]);
    assert_eq!(heard[1].header("origin"), other.console.url());
}

#[tokio::test]
async fn a_page_may_post_to_another_host_whose_redirections_are_its_own() {
    let (stand, other) = (Stand::start().await, Stand::at("127.0.0.2:0", None).await);
    other.console.switch_on(Scope::Only(Route::Login), leads("/account", 303));
    let to = format!("{}/login", other.console.url());
    let page = |name| json!({"name": name, "get": "/login", "marker": FORM_MARKER});
    let steps = json!([page("page"), {"name": "post", "post": to, "form": {"a": "b"}}, page("again")]);
    assert_eq!(stand.bench(&json!({"hosts": ["127.0.0.2"], "steps": steps})).slot().await.0, Finding::Ok);
    let heard = other.console.take_heard();
    assert_eq!(heard.iter().map(|heard| &heard.line).collect::<Vec<_>>(), ["POST /login", "GET /account", "GET /login"]);
    assert_eq!(heard[0].header("origin"), stand.console.url(), "where the form was");
    assert_eq!(stand.lines(), ["GET /login", "GET /login"]);
}

#[tokio::test]
async fn only_307_and_308_send_a_form_again() {
    let stand = Stand::start().await;
    for (status, line) in [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")] {
        stand.console.switch_on(Scope::Only(Route::Login), leads("/profile", status));
        stand.bench(&json!({})).first().await;
        let heard = stand.console.take_heard();
        assert_eq!((&*heard[2].line, heard[2].form.is_empty()), (&*format!("{line} /profile"), line == "GET"), "{status}");
    }
}

#[tokio::test]
async fn nothing_leads_from_tls_to_plain_text() {
    let (plain, secure) = (Stand::start().await, Stand::at("127.0.0.1:0", Some(Identity::new().unwrap())).await);
    let page = json!([{"name": "page", "get": "/login", "marker": FORM_MARKER}]);
    let ca = secure.files.path().join("ca.pem");
    let benches = [&secure, &plain].map(|stand| stand.bench(&json!({"steps": page, "ca": ca})));
    plain.console.switch_on(Scope::Only(Route::Form), Fault::Leads { to: format!("{}/login", secure.console.url()).into(), status: 302 });
    assert_eq!(benches[1].slot().await.0, Finding::Ok, "the other way is fine");
    secure.console.switch_on(Scope::Only(Route::Form), Fault::Leads { to: format!("{}/home", plain.console.url()).into(), status: 302 });
    for bench in benches {
        assert_eq!(bench.slot().await.0, fail(Reason::Status));
    }
    assert!(!plain.lines().contains(&"GET /home".to_owned()));
}

#[tokio::test]
async fn what_connect_names_stands_for_the_endpoint_only() {
    let (stand, other) = (Stand::start().await, Stand::at("127.0.0.2:0", None).await);
    stand.console.switch_on(Scope::Only(Route::Form), Fault::Leads { to: format!("{}/login", other.console.url()).into(), status: 302 });
    let bench = stand.bench(&json!({
        "endpoint": "http://127.0.0.3",
        "connect": stand.console.url().trim_start_matches("http://"),
        "hosts": ["127.0.0.2"],
        "steps": [{"name": "page", "get": "/login", "marker": FORM_MARKER}],
    }));
    assert_eq!(bench.slot().await.0, Finding::Ok);
    assert_eq!((stand.lines(), other.lines()), (vec!["GET /login".to_owned()], vec!["GET /login".to_owned()]));
}

#[tokio::test]
async fn a_text_that_refuses_a_login_counts_whatever_else_is_there() {
    let stand = Stand::start().await;
    let mut block = stand.block(&json!({}));
    for (fault, refused) in [(Fault::OtherPage, "nginx"), (Fault::Status(400), "<hr>400"), (Fault::Slow(Duration::ZERO), MARKER)] {
        block["steps"][1]["refused"] = json!([refused]);
        stand.console.switch_on(Scope::Only(Route::Login), fault.clone());
        assert_eq!(Bench::new("console", &block).slot().await.0, void(Reason::Credential), "{fault:?}");
    }
}

#[tokio::test]
async fn a_secret_once_sent_counts_for_the_rest_of_the_journey() {
    let (stand, other) = (Stand::start().await, Stand::at("127.0.0.2:0", None).await);
    other.console.switch_on(Scope::Everything, Fault::Status(403));
    let mut steps = stand.block(&json!({}))["steps"].clone();
    steps[2] = json!({"name": "post", "post": format!("{}/login", other.console.url()), "marker": MARKER});
    for (steps, found) in [(steps.clone(), void(Reason::Credential)), (json!([steps[2]]), void(Reason::Address))] {
        assert_eq!(stand.bench(&json!({"hosts": ["127.0.0.2"], "steps": steps})).slot().await.0, found, "{steps}");
    }
}

#[tokio::test]
async fn a_value_has_an_end() {
    let stand = Stand::start().await;
    let extract = json!({"value": {"after": "<b>", "before": "</b>"}});
    let bench = stand.bench(&json!({"steps": [{"name": "page", "get": "/login", "marker": "<b>", "extract": extract}]}));
    for (length, found) in [(MOST_VALUE_BYTES, Finding::Ok), (MOST_VALUE_BYTES + 1, fail(Reason::Content))] {
        stand.console.switch_on(Scope::Only(Route::Form), Fault::Says(format!("<b>{}</b>", "x".repeat(length))));
        assert_eq!(bench.slot().await.0, found, "{length}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_the_first_answer_is_no_strangers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let steps = json!([{"name": "page", "get": "/", "marker": "m"}]);
    let bench = Bench::new("console", &json!({"kind": "console", "endpoint": endpoint, "steps": steps}));
    let half = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    };
    let ((found, trace), ()) = tokio::join!(bench.attempt(true), half);
    assert_eq!((found, trace.last), (fail(Reason::Reset), Some(Phase::Transfer)));
}

#[tokio::test]
async fn redirections_are_bounded_and_may_be_expected() {
    let stand = Stand::start().await;
    assert_eq!(stand.bench(&json!({"redirects": 2})).slot().await.0, Finding::Ok, "/home and /account");
    assert_eq!(stand.bench(&json!({"redirects": 1})).slot().await.0, fail(Reason::Status));
    stand.lines();
    stand.console.switch_on(Scope::Only(Route::Form), Fault::Circle);
    assert_eq!(stand.bench(&json!({"redirects": 10})).first().await, fail(Reason::Status));
    assert_eq!(stand.lines().len(), 11);
    stand.console.heal();
    let expected = json!([{"name": "home", "get": "/home", "status": [302], "marker": "Elsewhere"}]);
    assert_eq!(stand.bench(&json!({"steps": expected})).slot().await.0, Finding::Ok);
    assert_eq!(stand.lines(), ["GET /home"]);
}

#[tokio::test]
async fn any_success_will_do_unless_a_status_is_named() {
    let stand = Stand::start().await;
    for (status, expected, found) in [(201, json!([]), Finding::Ok), (200, json!([201, 302]), fail(Reason::Status))] {
        stand.console.switch_on(Scope::Only(Route::Form), Fault::Form(status));
        let steps = json!([{"name": "page", "get": "/login", "status": expected, "marker": FORM_MARKER}]);
        assert_eq!(stand.bench(&json!({"steps": steps})).slot().await.0, found, "{status}");
    }
}

#[test]
fn the_documented_example_is_sound() {
    crate::check::validate(&documented(include_str!("../console.rs"))).unwrap();
}

#[test]
fn a_block_that_cannot_be_used_says_everything_that_is_wrong() {
    let error = |block: Value| crate::check::validate(&block).err().map(|error| error.to_string()).unwrap_or_default();
    let step = |more: Value| {
        let mut step = json!({"name": "a", "get": "/", "marker": "m"});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        error(json!({"kind": "console", "endpoint": "https://a.test", "hosts": ["b.test"], "steps": [step]}))
    };
    let with = |more: Value| {
        let mut block = json!({"kind": "console", "endpoint": "https://a.test", "steps": [{"name": "a", "get": "/", "marker": "m"}]});
        block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        error(block)
    };
    let secret = json!({"p": {"env": "NO_SUCH_VARIABLE"}});
    for sound in [
        json!({}),
        json!({"get": "https://b.test/x", "status": [100, 599]}),
        json!({"get": null, "post": "/", "form": {"a": "{ not a name }"}, "secrets": secret, "refused": ["no"]}),
    ] {
        assert_eq!(step(sound.clone()), "", "{sound}");
    }
    for (wrong, expected) in [
        (json!({"name": ""}), "name"),
        (json!({"post": "/"}), "`get` or `post`"),
        (json!({"get": null}), "`get` or `post`"),
        (json!({"form": {"a": "b"}}), "for `post`"),
        (json!({"secrets": secret}), "for `post`"),
        (json!({"get": ""}), "is no path"),
        (json!({"get": "login"}), "`login` is no path"),
        (json!({"get": "//b.test/x"}), "is no path"),
        (json!({"get": "http://a.test/x"}), "no https:// URL"),
        (json!({"get": "https://c.test/x"}), "`hosts`"),
        (json!({"get": "https://{x}/"}), "is no path"),
        (json!({"get": "/{x}"}), "no earlier step extracts `x`"),
        (json!({"get": "{x}", "extract": {"x": {"meta": "x"}}}), "no earlier step extracts `x`"),
        (json!({"get": null, "post": "/", "form": {"a": "{x}"}}), "no earlier step extracts `x`"),
        (json!({"status": [99]}), "99"),
        (json!({"status": [600]}), "600"),
        (json!({"marker": ""}), "empty text"),
        (json!({"get": null, "post": "/", "secrets": secret, "refused": [""]}), "empty text"),
        (json!({"marker": null}), "last step needs a `marker`"),
        (json!({"get": null, "post": "/", "secrets": secret, "marker": null}), "a login needs a `marker`"),
        (json!({"refused": ["no"]}), "`refused` is for a login"),
        (json!({"extract": {"x": {"meta": "x", "input": "x"}}}), "one place"),
        (json!({"extract": {"x": {"after": "x"}}}), "one place"),
        (json!({"extract": {"x y": {"meta": "x"}}}), "`x y`"),
        (json!({"get": null, "post": "/", "secrets": secret, "form": {"p": "x"}}), "`p` is there twice"),
        (json!({"get": null, "post": "/", "secrets": {"p": "plain"}}), "never written here"),
        (json!({"colour": 1}), "colour"),
    ] {
        let said = step(wrong.clone());
        assert!(said.contains(expected), "{wrong}: {said}");
    }
    for (wrong, expected) in [
        (json!({"endpoint": "https://a.test/login"}), "path"),
        (json!({"endpoint": "ftp://a.test"}), "ftp"),
        (json!({"endpoint": "https://u:p@a.test"}), "password"),
        (json!({"connect": "192.0.2.1"}), "port"),
        (json!({"hosts": ["a b"]}), "`a b`"),
        (json!({"redirects": 11}), "`redirects`"),
        (json!({"reset": "ok"}), "ok"),
        (json!({"steps": []}), "from 1 to 12"),
        (json!({"steps": vec![json!({"name": "a", "get": "/", "marker": "m"}); 13]}), "from 1 to 12"),
    ] {
        let said = with(wrong.clone());
        assert!(said.contains(expected), "{wrong}: {said}");
    }
    let most: Vec<_> = (0..MOST_STEPS).map(|n| json!({"name": n.to_string(), "get": "/", "marker": "m"})).collect();
    assert_eq!(with(json!({"steps": most})), "");
    for place in ["https://a.test/{x}", "https://a.test?{x}", "https://a.test#{x}"] {
        let first = json!({"name": "a", "get": "/", "extract": {"x": {"meta": "x"}}});
        assert_eq!(with(json!({"steps": [first, {"name": "b", "get": place, "marker": "m"}]})), "", "{place}");
    }
    let login = json!([{"name": "a", "post": "/", "secrets": secret, "marker": "m"}]);
    for host in ["a.test", "localhost.test", "192.0.2.1", "[2001:db8::1]"] {
        assert!(with(json!({"endpoint": format!("http://{host}"), "steps": login})).contains("plain text"), "{host}");
        assert_eq!(with(json!({"endpoint": format!("http://{host}")})), "", "{host}: nothing secret is sent");
    }
    for host in ["[::1]", "127.0.0.1", "localhost"] {
        assert_eq!(with(json!({"endpoint": format!("http://{host}:8080"), "steps": login})), "", "{host}");
    }
    let all = with(
        json!({"redirects": 99, "connect": "x", "steps": [{"name": "a", "get": "/{x}"}, {"name": "a", "get": "/{y}", "status": [1]}]}),
    );
    for expected in ["`redirects`", "`x` has no port", "two steps", "`x`; ", "extracts `y`", "1 is no HTTP status", "last step"] {
        assert!(all.contains(expected), "{expected} in {all}");
    }
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let page = |(route, fault, finding, step, phase): &Row| {
        vec![truth::fault(route), truth::fault(fault), truth::outcome(*finding), (*step).to_owned(), truth::phase(*phase)]
    };
    let door = |(door, has_tls, [usual, strict], phase): &(Door, bool, [Finding; 2], Phase)| {
        let tls = if *has_tls { "with" } else { "without" };
        vec![truth::fault(door), tls.to_owned(), truth::outcome(*usual), truth::outcome(*strict), truth::phase(*phase)]
    };
    vec![
        Truth {
            title: "console: a page meets it",
            columns: &["page", "fault", "outcome", "step", "phase"],
            rows: PAGES_TABLE.iter().map(page).collect(),
        },
        Truth {
            title: "console: connections are met so, on both attempts",
            columns: &["door", "TLS", "outcome", "with `reset = \"fail\"`", "phase"],
            rows: DOORS_TABLE.iter().map(door).collect(),
        },
    ]
}
