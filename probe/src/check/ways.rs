//! What is on the way to a target, and what the kinds that go there say of it: a network of the test's own, behind a router.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::LocalSet;
use vigie_contract::Reason;

use super::bench::Bench;
use super::truth::{self, Truth, fail, void};
use super::{Finding, Phase};
use crate::icmp::tests::{behind_a_router, configure};

/// Long enough to hear what the network says, which is soon.
const LONG: Duration = Duration::from_secs(60);
/// Silence is as long as it is listened to.
const SHORT: Duration = Duration::from_millis(200);

/// The check of an address.
type Make = fn(&str) -> Value;

/// The kinds, the check of an address, and the phase in which each meets the way.
const KINDS: [(&str, Make, Phase); 5] = [
    ("icmp", |to| json!({"kind": "icmp", "address": to}), Phase::Rtt),
    ("tcp", |to| json!({"kind": "tcp", "address": with_port(to)}), Phase::Connect),
    ("dns", |to| json!({"kind": "dns", "server": with_port(to), "name": "www.vigie.test"}), Phase::Request),
    ("network", |to| json!({"kind": "network", "address": with_port(to)}), Phase::Rtt),
    ("compute", |to| json!({"kind": "compute", "path": "peer", "address": with_port(to)}), Phase::Rtt),
];

fn with_port(to: &str) -> String {
    if to.contains(':') { format!("[{to}]:862") } else { format!("{to}:862") }
}

const UNREACHABLE: Finding = fail(Reason::Unreachable);
const TIMEOUT: Finding = fail(Reason::Timeout);
const INTERNAL: Finding = void(Reason::Internal);

const NOBODY: [Finding; 5] = [Finding::Ok, fail(Reason::Refused), fail(Reason::Refused), fail(Reason::Refused), void(Reason::Request)];
/// A socket of UDP is told only what is final, and this is not (udp(7)).
const UNTOLD: [Finding; 5] = [UNREACHABLE, UNREACHABLE, TIMEOUT, TIMEOUT, TIMEOUT];

/// How the way is, where it is so, and how an attempt of each kind ends there.
const WAYS_TABLE: [(&str, &str, [Finding; 5]); 11] = [
    ("the host is there, and nobody listens", "10.9.0.2", NOBODY),
    ("the host is there, and nobody listens", "fd09::2", NOBODY),
    ("packets vanish", "203.0.113.1", [TIMEOUT; 5]),
    ("a router says that it is unreachable", "198.51.100.1", UNTOLD),
    ("a router says that it is unreachable", "2001:db8:1::1", UNTOLD),
    ("a router says that it is prohibited", "198.51.100.129", [UNREACHABLE; 5]),
    ("a router says that it is prohibited", "2001:db8:2::1", [UNREACHABLE; 5]),
    ("this host has no route", "192.0.2.1", [UNREACHABLE; 5]),
    ("this host has no route", "2001:db8:3::1", [UNREACHABLE; 5]),
    ("this host's own rules prohibit it", "192.0.2.129", [INTERNAL; 5]),
    ("this host's own rules prohibit it", "2001:db8:4::1", [INTERNAL; 5]),
];

/// Beside what the router does.
fn own_rules() -> Result<(), String> {
    configure(&[
        "route add throw 192.0.2.0/25",
        "route add prohibit 192.0.2.128/25",
        "-6 route add throw 2001:db8:3::/48",
        "-6 route add prohibit 2001:db8:4::/48",
    ])
}

#[test]
fn ways_end_where_the_table_says() {
    for (way, to, found) in WAYS_TABLE {
        for ((kind, check, phase), found) in KINDS.into_iter().zip(found) {
            // A router limits how often it says something to the same host.
            behind_a_router(own_rules, move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let (met, trace) = LocalSet::new().block_on(&runtime, async {
                    let mut bench = Bench::with_pinger(kind, &check(to));
                    bench.patience = if found == TIMEOUT { SHORT } else { LONG };
                    bench.attempt(false).await
                });
                assert_eq!((met, trace.last), (found, Some(phase)), "{kind}: {way}, {to}");
            });
        }
    }
}

/// For `probe/README.md`.
pub(super) fn truth() -> Vec<Truth> {
    let row = |(way, to, findings): &(&str, &str, [Finding; 5])| {
        let version = if to.contains(':') { "6" } else { "4" };
        let mut row = vec![(*way).to_owned(), version.to_owned()];
        row.extend(
            findings.iter().zip(KINDS).map(|(finding, (_, _, phase))| format!("{}, {}", truth::outcome(*finding), truth::phase(phase))),
        );
        row
    };
    vec![Truth {
        title: "icmp, tcp, dns, network, compute: on the way to a target",
        columns: &["what", "IP version", "icmp", "tcp", "dns", "network", "compute, a peer"],
        rows: WAYS_TABLE.iter().map(row).collect(),
    }]
}
