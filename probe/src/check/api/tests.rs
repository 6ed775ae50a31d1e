use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vigie_contract::Span;
use vigie_counterparts::openiaas::{Fault, Route, Scope};

use super::*;
use crate::check::Phase;
use crate::check::truth::{self, Truth, fail, void};
use crate::openiaas::tests::{Bench, all, farthest};

/// A fault, the requests that meet it, and how the slot that meets it ends.
type Row = (Scope, Fault, Finding, Phase);

const LOGIN: Scope = Scope::Only(Route::Login);

const READS_TABLE: [Row; 19] = [
    (Scope::Reads, Fault::Status(500), fail(Reason::Status), Phase::Transfer),
    (Scope::Reads, Fault::Status(502), fail(Reason::Status), Phase::Transfer),
    (Scope::Reads, Fault::Status(503), fail(Reason::Status), Phase::Transfer),
    (Scope::Reads, Fault::Status(302), fail(Reason::Status), Phase::Transfer),
    (Scope::Reads, Fault::Hang, fail(Reason::Timeout), Phase::Processing),
    (Scope::Reads, Fault::HangWithinBody, fail(Reason::Timeout), Phase::Transfer),
    (Scope::Reads, Fault::Reset, fail(Reason::Reset), Phase::Processing),
    (Scope::Reads, Fault::BrokenJson, fail(Reason::Content), Phase::Transfer),
    (Scope::Reads, Fault::OtherJson, fail(Reason::Content), Phase::Transfer),
    (Scope::Reads, Fault::Status(200), fail(Reason::Content), Phase::Transfer),
    (Scope::Reads, Fault::Throttled { retry_after_s: None }, void(Reason::Throttled), Phase::Transfer),
    (Scope::Reads, Fault::Throttled { retry_after_s: Some(7) }, void(Reason::Throttled), Phase::Transfer),
    (Scope::Everything, Fault::Throttled { retry_after_s: None }, void(Reason::Throttled), Phase::Transfer),
    (Scope::Reads, Fault::Unauthorized, void(Reason::Credential), Phase::Transfer),
    (Scope::Reads, Fault::Forbidden, void(Reason::Credential), Phase::Transfer),
    (Scope::Reads, Fault::NotListed, void(Reason::Address), Phase::Transfer),
    (Scope::Reads, Fault::Status(404), void(Reason::Request), Phase::Transfer),
    (Scope::Reads, Fault::Status(400), void(Reason::Request), Phase::Transfer),
    (Scope::Reads, Fault::Partial, Finding::Ok, Phase::Transfer),
];

const LOGIN_TABLE: [Row; 12] = [
    (LOGIN, Fault::Status(500), fail(Reason::Status), Phase::Transfer),
    (LOGIN, Fault::Status(502), fail(Reason::Status), Phase::Transfer),
    (LOGIN, Fault::Hang, fail(Reason::Timeout), Phase::Processing),
    (LOGIN, Fault::HangWithinBody, fail(Reason::Timeout), Phase::Transfer),
    (LOGIN, Fault::Reset, fail(Reason::Reset), Phase::Processing),
    (LOGIN, Fault::OtherJson, fail(Reason::Content), Phase::Transfer),
    (LOGIN, Fault::Throttled { retry_after_s: None }, void(Reason::Throttled), Phase::Transfer),
    (LOGIN, Fault::Unauthorized, void(Reason::Credential), Phase::Transfer),
    (LOGIN, Fault::Forbidden, void(Reason::Credential), Phase::Transfer),
    (LOGIN, Fault::NotListed, void(Reason::Address), Phase::Transfer),
    (LOGIN, Fault::Status(404), void(Reason::Request), Phase::Transfer),
    (LOGIN, Fault::QuotedToken, Finding::Ok, Phase::Transfer),
];

fn is_hanging(fault: Fault) -> bool {
    matches!(fault, Fault::Hang | Fault::HangWithinBody)
}

/// A slot that meets the fault, after `sound` ones that met none.
async fn meet((scope, fault, found, phase): Row, sound: usize) {
    let mut bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    for _ in 0..sound {
        assert_eq!(bench.slot(&*check).await.0, Finding::Ok);
    }
    bench.api.switch_on(scope, fault);
    if is_hanging(fault) {
        bench.timeout = Duration::from_secs(2);
    }
    let (met, trace) = bench.slot(&*check).await;
    assert_eq!((met, farthest(&trace)), (found, Some(phase)), "{fault:?} met by {scope:?} after {sound} slots");
    bench.timeout = Duration::from_secs(30);
    bench.api.heal();
    bench.pass(Span::from_secs(60));
    // A token that was refused young is replaced once it is old, which the next slot finds out.
    let _ = bench.slot(&*check).await;
    assert_eq!(bench.slot(&*check).await.0, Finding::Ok, "{fault:?} is over");
}

#[tokio::test]
async fn reads_end_where_the_table_says() {
    all(READS_TABLE.into_iter().flat_map(|row| [1, 2, 4].map(|sound| meet(row, sound)))).await;
}

#[tokio::test]
async fn logins_end_where_the_table_says() {
    all(LOGIN_TABLE.into_iter().map(|row| meet(row, 0))).await;
}

#[tokio::test]
async fn nobody_listens() {
    let mut bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    bench.api.go_down().await;
    let (found, trace) = bench.slot(&*check).await;
    assert_eq!((found, farthest(&trace)), (fail(Reason::Refused), Some(Phase::Connect)));
    bench.api.come_up().await.unwrap();
    assert_eq!(bench.slot(&*check).await.0, Finding::Ok);
}

#[tokio::test]
async fn reads_take_turns_and_name_their_zone() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({}));
    for _ in 0..12 {
        assert_eq!(bench.slot(&*check).await.0, Finding::Ok);
    }
    let list = |list: &str, zone: &str| format!("GET {ZONES}/{list}?machineManagerId=manager-{zone}");
    let mut expected = Vec::new();
    for zone in ["az05", "az06", "az07"] {
        expected.push(format!("GET {ZONES}"));
        expected.extend(LISTS_OF_A_ZONE.map(|of_zone| list(of_zone, zone)));
    }
    assert_eq!(bench.lines()[1..], expected, "but for the login before them");
}

#[tokio::test]
async fn a_second_attempt_is_another_read_and_identical_ones_are_rare() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({"zone": "az06"}));
    assert_eq!(bench.slot(&*check).await.0, Finding::Ok);
    bench.api.switch_on(Scope::Reads, Fault::Status(502));
    bench.lines();
    for _ in 0..8 {
        assert_eq!(bench.slot(&*check).await.0, fail(Reason::Status));
    }
    let heard: Vec<_> = bench.api.take_heard().into_iter().filter(|heard| heard.line.starts_with("GET")).collect();
    assert_eq!(heard.len(), 16);
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for heard in &heard {
        let apart_us = last.insert(&heard.line, heard.at_us).map_or(i64::MAX, |before| heard.at_us - before);
        assert!(apart_us > 30_000_000, "{} after {apart_us} us", heard.line);
        assert!(heard.line.ends_with(ZONES) || heard.line.ends_with("?machineManagerId=manager-az06"), "{}", heard.line);
    }
    assert_eq!(last.len(), 4);
}

#[tokio::test]
async fn a_zone_that_is_not_there_is_not_the_apis_fault() {
    let bench = Bench::start().await;
    let check = bench.check("api", &json!({"zone": "az99"}));
    assert_eq!(bench.slot(&*check).await.0, void(Reason::Request));
    bench.api.switch_on(Scope::Reads, Fault::Partial);
    assert_eq!(bench.slot(&*check).await.0, Finding::Ok, "a part of a list proves no absence");
    let by_id = bench.check("api", &json!({"zone": "manager-az05"}));
    bench.api.heal();
    assert_eq!(bench.slot(&*by_id).await.0, Finding::Ok);
}

#[test]
fn a_block_that_cannot_be_used_says_why_and_reads_no_secret() {
    let access = json!({"endpoint": "https://api.test", "token_id": {"env": "NO_SUCH_ID"}, "token_secret": {"env": "NO_SUCH_SECRET"}});
    let error = |key: &str, value: serde_json::Value| {
        let mut access = access.clone();
        access[key] = value;
        let said = crate::check::validate(&json!({"kind": "api", "api": access}));
        said.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error("endpoint", json!("https://api.test/")), "");
    assert!(error("endpoint", json!("https://api.test/api")).contains("path"));
    assert!(error("endpoint", json!("https://id:secret@api.test")).contains("password"));
    assert!(error("connect", json!("192.0.2.1")).contains("port"));
    assert!(error("secret", json!("s")).contains("`secret`"));
    assert!(error("token_id", json!("plain")).contains("token_id") || !error("token_id", json!("plain")).is_empty());
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let row = |(met_by, fault, finding, phase): &Row| {
        vec![truth::fault(met_by), truth::fault(fault), truth::outcome(*finding), truth::phase(*phase)]
    };
    let table =
        |title, rows: &[Row]| Truth { title, columns: &["met by", "fault", "outcome", "phase"], rows: rows.iter().map(row).collect() };
    vec![table("api: a read", &READS_TABLE), table("api: a login", &LOGIN_TABLE)]
}
