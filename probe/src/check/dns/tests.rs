//! The check against a server with a switch for every fault.

use std::time::Duration;

use serde_json::{Value, json};
use vigie_counterparts::dns::{ADDRESS, Dns as Server, Manner};

use super::*;
use crate::check::bench::{Bench, phases};
use crate::check::truth::{self, Truth, fail, void};
use crate::icmp::tests::{behind_a_router_with, configure};

/// How the server answers, and how the attempt ends where the address that it has is expected, and where NXDOMAIN is. All of them end in
/// the phase request.
const ANSWERS_TABLE: [(Manner, Finding, Finding); 17] = [
    (Manner::Right, Finding::Ok, fail(Reason::Status)),
    (Manner::RightAtLast, Finding::Ok, fail(Reason::Status)),
    (Manner::Truncated, Finding::Ok, fail(Reason::Status)),
    (Manner::ServFail, fail(Reason::Status), fail(Reason::Status)),
    (Manner::NxDomain, fail(Reason::Status), Finding::Ok),
    (Manner::Refused, void(Reason::Address), void(Reason::Address)),
    (Manner::Empty, fail(Reason::Content), fail(Reason::Status)),
    (Manner::OtherAddress, fail(Reason::Content), fail(Reason::Status)),
    (Manner::Garbage, fail(Reason::Protocol), fail(Reason::Protocol)),
    (Manner::TruncatedThenCut, fail(Reason::Reset), fail(Reason::Reset)),
    (Manner::TruncatedThenGarbage, fail(Reason::Protocol), fail(Reason::Protocol)),
    (Manner::OtherId, fail(Reason::Timeout), fail(Reason::Timeout)),
    (Manner::OtherQuestion, fail(Reason::Timeout), fail(Reason::Timeout)),
    (Manner::Echo, fail(Reason::Timeout), fail(Reason::Timeout)),
    (Manner::Noise, fail(Reason::Timeout), fail(Reason::Timeout)),
    (Manner::Silent, fail(Reason::Timeout), fail(Reason::Timeout)),
    (Manner::Late, fail(Reason::Timeout), fail(Reason::Timeout)),
];

fn bench(server: &Server, more: &Value) -> Bench {
    let mut block = json!({"kind": "dns", "server": server.address().to_string(), "name": "www.vigie.test"});
    block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Bench::new("dns", &block)
}

#[tokio::test]
async fn answers_end_where_the_table_says() {
    let server = Server::start().unwrap();
    for (manner, of_address, of_none) in ANSWERS_TABLE {
        for (settings, found) in [(json!({"expect": [ADDRESS.to_string()]}), of_address), (json!({"code": "NXDOMAIN"}), of_none)] {
            let bench = bench(&server, &settings);
            server.set_manner(manner);
            let (met, trace) = match found {
                // The first question has come and was not answered: the time that is left brings nothing.
                Finding::Fail(Reason::Timeout) => bench.attempt_until(server.hears()).await,
                _ => bench.attempt(false).await,
            };
            assert_eq!((met, phases(&trace)), (found, "resolve request".to_owned()), "{manner:?} with {settings}");
        }
        server.set_manner(Manner::Right);
        assert_eq!(bench(&server, &json!({})).first().await, Finding::Ok, "{manner:?} is over");
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_a_late_one_is_no_others() {
    let server = Server::start().unwrap();
    server.set_manner(Manner::Late);
    let mut bench = bench(&server, &json!({"expect": [ADDRESS.to_string()]}));
    bench.patience = Duration::from_secs(2);
    let (found, trace) = bench.attempt(false).await;
    assert_eq!((found, trace.facts.answer_records), (Finding::Ok, Some(1)), "the second datagram brings the answer to the first");
    // The answer that is held is that of an attempt that is over: the next one gets it only once it has asked twice itself.
    assert_eq!(bench.retry().await, Finding::Ok);
}

#[tokio::test]
async fn nobody_listens() {
    let server = Server::start().unwrap();
    let bench = bench(&server, &json!({}));
    drop(server);
    assert_eq!(bench.first().await, fail(Reason::Refused));
}

#[test]
fn a_router_that_prohibits_the_stream_only_is_no_rule_of_this_host() {
    for (version, at) in [("-4", "10.9.0.2:53"), ("-6", "[fd09::2]:53")] {
        let at_router = move || {
            // Before it looks whether an address is its own.
            configure(&[
                &format!("{version} rule add pref 1 lookup local"),
                &format!("{version} rule del pref 0 lookup local"),
                &format!("{version} rule add pref 0 ipproto tcp dport 53 prohibit"),
            ])?;
            let server = Server::start_at(at.parse().unwrap()).map_err(|error| error.to_string())?;
            server.set_manner(Manner::Truncated);
            Ok(server)
        };
        behind_a_router_with(
            at_router,
            || Ok(()),
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let bench = Bench::new("dns", &json!({"kind": "dns", "server": at, "name": "www.vigie.test"}));
                assert_eq!(runtime.block_on(bench.first()), fail(Reason::Unreachable), "{at}");
            },
        );
    }
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let row = |(manner, address, absence): &(Manner, Finding, Finding)| {
        vec![truth::fault(manner), truth::outcome(*address), truth::outcome(*absence)]
    };
    vec![Truth {
        title: "dns: the server answers so",
        columns: &["manner", "the address is expected", "NXDOMAIN is expected"],
        rows: ANSWERS_TABLE.iter().map(row).collect(),
    }]
}
