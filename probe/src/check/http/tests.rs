//! The check against a web console with a switch for every fault, of which it reads one page.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vigie_counterparts::console::{Console, Door, FORM_MARKER, Fault, Scope};
use vigie_counterparts::identity::Identity;

use super::*;
use crate::check::bench::Bench;
use crate::check::truth::{self, Truth, fail, void};

/// What the request meets, and how the slot ends, without a credential and with one.
const FAULTS_TABLE: [(Fault, [Finding; 2], Phase); 16] = [
    (Fault::Status(500), [fail(Reason::Status); 2], Phase::Transfer),
    (Fault::Status(502), [fail(Reason::Status); 2], Phase::Transfer),
    (Fault::Status(503), [fail(Reason::Status); 2], Phase::Transfer),
    (Fault::Status(404), [fail(Reason::Status); 2], Phase::Transfer),
    (Fault::Status(400), [fail(Reason::Status); 2], Phase::Transfer),
    (Fault::Status(401), [void(Reason::Credential); 2], Phase::Transfer),
    (Fault::Status(403), [void(Reason::Address), void(Reason::Credential)], Phase::Transfer),
    (Fault::Status(429), [void(Reason::Throttled); 2], Phase::Transfer),
    (Fault::Circle, [fail(Reason::Status); 2], Phase::Transfer),
    (Fault::Hang, [fail(Reason::Timeout); 2], Phase::Processing),
    (Fault::HangWithinBody, [fail(Reason::Timeout); 2], Phase::Transfer),
    (Fault::Reset, [fail(Reason::Reset); 2], Phase::Processing),
    (Fault::OtherPage, [fail(Reason::Content); 2], Phase::Transfer),
    (Fault::NoToken, [Finding::Ok; 2], Phase::Transfer),
    (Fault::Form(201), [Finding::Ok; 2], Phase::Transfer),
    (Fault::Slow(Duration::from_millis(1)), [Finding::Ok; 2], Phase::Transfer),
];

/// How connections are met, without TLS and with it.
const DOORS_TABLE: [(Door, [(Finding, Phase); 2]); 3] = [
    (Door::Open, [(Finding::Ok, Phase::Transfer); 2]),
    (Door::Cut, [(fail(Reason::Reset), Phase::Processing), (fail(Reason::Reset), Phase::Tls)]),
    (Door::Babble, [(fail(Reason::Protocol), Phase::Processing), (fail(Reason::Tls), Phase::Tls)]),
];

/// What is expected of the page, and how a slot ends to which it is answered as it always is.
const EXPECTATIONS_TABLE: [(&str, Finding, Phase); 6] = [
    (r#"{"status": [200, 404]}"#, Finding::Ok, Phase::Transfer),
    (r#"{"status": [204]}"#, fail(Reason::Status), Phase::Transfer),
    (r#"{"body": "another"}"#, fail(Reason::Content), Phase::Transfer),
    (r#"{"expect_headers": {"content-type": "text/html"}}"#, Finding::Ok, Phase::Transfer),
    (r#"{"expect_headers": {"content-type": "json"}}"#, fail(Reason::Content), Phase::Transfer),
    (r#"{"expect_headers": {"x-other": ""}}"#, fail(Reason::Content), Phase::Transfer),
];

/// A console, and what its checks need.
struct Stand {
    console: Console,
    files: TempDir,
}

impl Stand {
    async fn start(identity: Option<Identity>) -> Self {
        let files = TempDir::new().unwrap();
        std::fs::write(files.path().join("token"), "t0k3n").unwrap();
        std::fs::write(files.path().join("ca.pem"), identity.as_ref().map_or("", |identity| &identity.pem)).unwrap();
        Self { console: Console::start("127.0.0.1:0".parse().unwrap(), identity).await.unwrap(), files }
    }

    fn bench(&self, settings: &Value) -> Bench {
        let mut block = json!({"kind": "http", "url": format!("{}/login", self.console.url()), "body": FORM_MARKER});
        if self.console.url().starts_with("https") {
            block["ca"] = json!(self.files.path().join("ca.pem"));
        }
        block.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        Bench::new("http", &block)
    }
}

#[tokio::test]
async fn faults_end_where_the_table_says() {
    let stand = Stand::start(None).await;
    let credential = json!({"bearer": {"file": stand.files.path().join("token")}});
    for (fault, found, phase) in FAULTS_TABLE {
        for (settings, found) in [json!({}), credential.clone()].iter().zip(found) {
            let mut bench = stand.bench(settings);
            stand.console.switch_on(Scope::Everything, fault.clone());
            let (met, trace) = match fault {
                Fault::Hang => bench.attempt_until(stand.console.hears()).await,
                Fault::HangWithinBody => {
                    bench.patience = Duration::from_secs(1);
                    bench.slot().await
                }
                _ => bench.slot().await,
            };
            assert_eq!((met, trace.last), (found, Some(phase)), "{fault:?} with {settings}");
            stand.console.heal();
            assert_eq!(stand.bench(settings).slot().await.0, Finding::Ok, "{fault:?} is over");
        }
    }
}

#[tokio::test]
async fn doors_end_where_the_table_says() {
    for (door, expected) in DOORS_TABLE {
        for (identity, (found, phase)) in [None, Some(Identity::new().unwrap())].into_iter().zip(expected) {
            let stand = Stand::start(identity).await;
            stand.console.set_door(door);
            let (met, trace) = stand.bench(&json!({})).slot().await;
            assert_eq!((met, trace.last), (found, Some(phase)), "{door:?} at {}", stand.console.url());
        }
    }
}

#[tokio::test]
async fn expectations_end_where_the_table_says() {
    let stand = Stand::start(None).await;
    for (settings, found, phase) in EXPECTATIONS_TABLE {
        let (met, trace) = stand.bench(&serde_json::from_str(settings).unwrap()).slot().await;
        assert_eq!((met, trace.last), (found, Some(phase)), "{settings}");
    }
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let fault = |(fault, [without, with], phase): &(Fault, [Finding; 2], Phase)| {
        vec![truth::fault(fault), truth::outcome(*without), truth::outcome(*with), truth::phase(*phase)]
    };
    let door = |(door, [(plain, processing), (secure, tls)]): &(Door, [(Finding, Phase); 2])| {
        vec![truth::fault(door), truth::outcome(*plain), truth::phase(*processing), truth::outcome(*secure), truth::phase(*tls)]
    };
    let expectation = |(settings, finding, phase): &(&str, Finding, Phase)| truth::row(format!("`{settings}`"), *finding, *phase);
    vec![
        Truth {
            title: "http: the request meets it",
            columns: &["fault", "outcome", "with a credential", "phase"],
            rows: FAULTS_TABLE.iter().map(fault).collect(),
        },
        Truth {
            title: "http: connections are met so",
            columns: &["door", "outcome", "phase", "with TLS", "phase"],
            rows: DOORS_TABLE.iter().map(door).collect(),
        },
        Truth {
            title: "http: a page is well, and this is expected of it",
            columns: &["settings", "outcome", "phase"],
            rows: EXPECTATIONS_TABLE.iter().map(expectation).collect(),
        },
    ]
}
