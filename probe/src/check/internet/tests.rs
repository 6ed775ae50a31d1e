//! The check against consoles that stand for anchors: each has a switch for every fault.

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use vigie_counterparts::console::{Console, Door, Fault, Scope};
use vigie_counterparts::identity::Identity;

use super::*;
use crate::check::Phase;
use crate::check::bench::{Bench, documented};
use crate::check::truth::{self, Truth, fail, void};
use crate::icmp::tests::{black_hole, in_namespace};

/// How an anchor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Well,
    /// It answers, with this status.
    Status(u16),
    /// Nobody listens.
    Gone,
    Cut,
    /// It speaks no TLS.
    Babbles,
    /// Its certificate is another's.
    Stranger,
    /// It never answers, and its certificate is the first to expire.
    Hangs,
}

use Manner::{Babbles, Cut, Gone, Hangs, Status, Stranger, Well};

/// Three anchors of which two must be reached, how the attempt ends, and in which phase of the anchor that decides.
const ANCHORS_TABLE: [([Manner; 3], Finding, Phase); 16] = [
    ([Well, Well, Well], Finding::Ok, Phase::Transfer),
    ([Well, Gone, Well], Finding::Ok, Phase::Transfer),
    ([Cut, Well, Well], Finding::Ok, Phase::Transfer),
    ([Well, Well, Hangs], Finding::Ok, Phase::Transfer),
    ([Status(500), Status(403), Gone], Finding::Ok, Phase::Transfer),
    ([Status(429), Gone, Status(301)], Finding::Ok, Phase::Transfer),
    ([Gone, Gone, Gone], fail(Reason::Refused), Phase::Connect),
    ([Well, Gone, Gone], fail(Reason::Refused), Phase::Connect),
    ([Cut, Well, Cut], fail(Reason::Reset), Phase::Tls),
    ([Babbles, Babbles, Well], fail(Reason::Tls), Phase::Tls),
    ([Well, Stranger, Stranger], fail(Reason::Tls), Phase::Tls),
    ([Hangs, Hangs, Well], fail(Reason::Timeout), Phase::Processing),
    ([Hangs, Hangs, Hangs], fail(Reason::Timeout), Phase::Processing),
    ([Gone, Cut, Cut], fail(Reason::Reset), Phase::Tls),
    ([Gone, Well, Cut], fail(Reason::Refused), Phase::Connect),
    ([Cut, Gone, Well], fail(Reason::Reset), Phase::Tls),
];

struct Stand {
    anchors: Vec<Console>,
    /// The authorities that the block names.
    _ca: NamedTempFile,
    block: Value,
}

impl Stand {
    async fn start(manners: [Manner; 3]) -> Self {
        let [own, others, brief] = [Identity::new(), Identity::new(), Identity::until(2100)].map(Result::unwrap);
        let (mut anchors, mut blocks) = (Vec::new(), Vec::new());
        for (at, manner) in (1..).zip(manners) {
            let identity = match manner {
                Stranger => &others,
                Hangs => &brief,
                _ => &own,
            };
            let mut anchor = Console::start(format!("127.0.0.{at}:0").parse().unwrap(), Some(identity.clone())).await.unwrap();
            let address = anchor.url().strip_prefix("https://").unwrap().to_owned();
            blocks.push(json!({"address": address, "https": "127.0.0.1"}));
            match manner {
                Well | Stranger => {}
                Status(status) => anchor.switch_on(Scope::Everything, Fault::Status(status)),
                Hangs => anchor.switch_on(Scope::Everything, Fault::Hang),
                Cut => anchor.set_door(Door::Cut),
                Babbles => anchor.set_door(Door::Babble),
                Gone => anchor.close().await,
            }
            anchors.push(anchor);
        }
        let ca = NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), [own.pem, brief.pem].concat()).unwrap();
        let block = json!({"kind": "internet", "anchors": blocks, "ca": ca.path()});
        Self { anchors, _ca: ca, block }
    }

    fn bench(&self) -> Bench {
        Bench::new("internet", &self.block)
    }
}

fn reached(trace: &Trace) -> Vec<bool> {
    trace.facts.anchors.iter().map(|(_, is_reached)| *is_reached).collect()
}

#[tokio::test]
async fn anchors_end_where_the_table_says() {
    for (manners, found, phase) in ANCHORS_TABLE {
        let stand = Stand::start(manners).await;
        let mut bench = stand.bench();
        // Long enough for all that do answer.
        bench.patience = Duration::from_secs(if manners.contains(&Hangs) && found != Finding::Ok { 2 } else { 60 });
        let (met, trace) = bench.attempt(false).await;
        assert_eq!((met, trace.last), (found, Some(phase)), "{manners:?}");
        assert_eq!(reached(&trace), manners.map(|manner| matches!(manner, Well | Status(_))), "{manners:?}");
        assert_eq!(trace.latency.is_some(), found == Finding::Ok, "{manners:?}");
        assert_eq!(trace.phases().last().map(|(phase, _)| phase), Some(phase), "{manners:?}: it has a length, too");
        if found == fail(Reason::Timeout) {
            assert!(stand.anchors.iter().any(Console::is_hanging), "{manners:?}: they were asked");
        }
    }
}

#[tokio::test]
async fn the_latency_is_that_of_the_quorum() {
    let stand = Stand::start([Well, Well, Hangs]).await;
    let (found, trace) = stand.bench().attempt(false).await;
    assert_eq!(found, Finding::Ok);
    let waited = span(now().saturating_duration_since(trace.began));
    assert!(trace.latency.unwrap() + span(GRACE) <= waited, "{:?} and the grace are within {waited}", trace.latency);
    let phases: i64 = trace.phases().map(|(_, length)| length.us()).sum();
    assert!(phases <= trace.latency.unwrap().us() + 5, "those of the anchor that decided");
    assert_eq!(trace.facts.certificate_expiry_s, Some(4_102_444_800), "that of the one that hangs");
}

#[tokio::test]
async fn who_fails_after_the_quorum_decides_nothing() {
    let mut stand = Stand::start([Well, Well, Gone]).await;
    let late = TcpListener::bind("127.0.0.3:0").await.unwrap();
    stand.block["anchors"][2]["address"] = json!(late.local_addr().unwrap().to_string());
    let hangs_up = async {
        let (stream, _) = late.accept().await.unwrap();
        tokio::time::sleep(GRACE / 2).await;
        drop(stream);
    };
    let bench = stand.bench();
    let ((found, trace), ()) = tokio::join!(bench.attempt(false), hangs_up);
    assert_eq!((found, trace.last, reached(&trace)), (Finding::Ok, Some(Phase::Transfer), vec![true, true, false]));
}

#[tokio::test]
async fn an_anchor_is_asked_for_no_more_than_a_head() {
    let stand = Stand::start([Well; 3]).await;
    assert_eq!(stand.bench().first().await, Finding::Ok);
    for anchor in &stand.anchors {
        for heard in anchor.take_heard() {
            assert_eq!((&*heard.line, heard.header("host"), heard.header("connection")), ("HEAD /", "127.0.0.1", "close"));
            assert!(heard.header("user-agent").starts_with("vigie/") && !heard.header("x-request-id").is_empty(), "{heard:?}");
        }
    }
}

#[tokio::test]
async fn a_block_may_have_a_quorum_of_its_own() {
    let mut stand = Stand::start([Gone, Well, Gone]).await;
    stand.block["quorum"] = json!(1);
    let (found, trace) = stand.bench().attempt(false).await;
    assert_eq!(found, Finding::Ok);
    let names: Vec<_> = trace.facts.anchors.iter().map(|(name, _)| json!({"address": **name, "https": "127.0.0.1"})).collect();
    assert_eq!(stand.block["anchors"], json!(names));
}

#[tokio::test]
async fn a_connection_is_enough_where_no_name_is_given() {
    let mut stand = Stand::start([Babbles, Well, Gone]).await;
    for at in 0..3 {
        stand.block["anchors"][at].as_object_mut().unwrap().remove("https");
    }
    let (found, trace) = stand.bench().attempt(false).await;
    assert_eq!((found, trace.last, reached(&trace)), (Finding::Ok, Some(Phase::Connect), vec![true, true, false]));
}

#[test]
fn what_is_our_own_fault_excuses_what_it_could_have_changed_and_no_more() {
    const REACHED: Reached = Ok(());
    const SILENT: Reached = Err(fail(Reason::Timeout));
    const REFUSED: Reached = Err(fail(Reason::Refused));
    const NO_SOCKET: Reached = Err(void(Reason::Descriptors));
    const NO_WAY: Reached = Err(void(Reason::Internal));
    for (found, quorum, expected) in [
        (&[REACHED, REACHED, NO_SOCKET][..], 2, Finding::Ok),
        (&[REACHED, NO_SOCKET, SILENT], 2, void(Reason::Descriptors)),
        (&[NO_SOCKET, NO_SOCKET, NO_SOCKET], 2, void(Reason::Descriptors)),
        (&[SILENT, NO_WAY, NO_SOCKET], 2, void(Reason::Internal)),
        (&[SILENT, SILENT, NO_WAY], 2, fail(Reason::Timeout)),
        (&[NO_SOCKET, SILENT, REFUSED, REFUSED], 2, fail(Reason::Refused)),
        (&[SILENT, REFUSED, REFUSED, SILENT], 1, fail(Reason::Timeout)),
        (&[NO_WAY, NO_WAY, SILENT, REFUSED, NO_SOCKET, REACHED], 5, fail(Reason::Timeout)),
    ] {
        assert_eq!(judge(found, quorum), expected, "{found:?}");
    }
}

#[test]
fn a_machine_without_a_way_out_says_nothing_and_a_black_hole_fails() {
    in_namespace(black_hole, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let attempt = |addresses: [&str; 3]| {
            let anchors = addresses.map(|address| json!({"address": address}));
            runtime.block_on(async {
                let mut bench = Bench::new("internet", &json!({"kind": "internet", "anchors": anchors}));
                bench.patience = Duration::from_millis(500);
                let (found, trace) = bench.attempt(false).await;
                (found, trace.last)
            })
        };
        let nowhere = ["198.51.100.1:443", "203.0.113.1:443", "[2001:db8::1]:443"];
        assert_eq!(attempt(nowhere), (void(Reason::Internal), Some(Phase::Connect)));
        let one_silent = ["192.0.2.7:443", "198.51.100.1:443", "203.0.113.1:443"];
        assert_eq!(attempt(one_silent), (void(Reason::Internal), Some(Phase::Connect)), "the two others could have been reached");
        let two_silent = ["192.0.2.7:443", "192.0.2.8:443", "198.51.100.1:443"];
        assert_eq!(attempt(two_silent), (fail(Reason::Timeout), Some(Phase::Connect)), "and no way to a third");
    });
}

#[test]
fn the_documented_example_is_sound() {
    crate::check::validate(&documented(include_str!("../internet.rs"))).unwrap();
}

#[test]
fn a_block_that_cannot_be_used_says_everything_that_is_wrong() {
    let error = |anchors: &[&str], more: Value| {
        let anchors: Vec<_> = anchors.iter().map(|address| json!({"address": address})).collect();
        let mut block = json!({"kind": "internet", "anchors": anchors});
        block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        crate::check::validate(&block).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let three = ["192.0.2.1:443", "198.51.100.1:443", "[2001:db8::1]:443"];
    assert_eq!(error(&three, json!({})), "");
    assert_eq!(error(&three, json!({"quorum": 1})), "");
    assert_eq!(error(&three[..2], json!({})), "there are from 3 to 16 `anchors`, not 2", "and nothing of a quorum that two have not");
    for quorum in [0, 3, 17] {
        assert!(error(&three, json!({"quorum": quorum})).contains("`quorum`"), "{quorum}");
    }
    let many: Vec<_> = (1..=17).map(|at| format!("192.0.2.{at}:443")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(error(&many[..16], json!({})), "");
    assert!(error(&many, json!({})).contains("not 17"));
    assert!(error(&three, json!({"anchors": vec![json!({"address": "192.0.2.1:443", "https": "a b"}); 3]})).contains("`a b`"));
    assert!(error(&three, json!({"colour": 1})).contains("colour"));
    let all = error(&["www.example:443", "192.0.2.1:443", "[::ffff:192.0.2.1]:80", "192.0.2.2"], json!({"quorum": 9}));
    for expected in ["`www.example:443` is a name", "are one host", "has no port", "not 9"] {
        assert!(all.contains(expected), "{expected} in {all}");
    }
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let row = |(anchors, finding, phase): &([Manner; 3], Finding, Phase)| {
        vec![truth::fault(anchors), truth::outcome(*finding), truth::phase(*phase)]
    };
    vec![Truth {
        title: "internet: three anchors are so, and two must be reached",
        columns: &["anchors", "outcome", "phase"],
        rows: ANCHORS_TABLE.iter().map(row).collect(),
    }]
}
