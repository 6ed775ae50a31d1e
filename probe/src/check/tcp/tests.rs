//! The check against servers that say something or nothing.

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::check::bench::Bench;
use crate::check::truth::{self, Truth, fail};

/// What a server does after it was told `HELLO` and is expected to say `220`.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// It says these one after the other, and then hangs up.
    Says(&'static [&'static str]),
    /// It says more than anybody waits for.
    Babbles,
    /// It says nothing, and does not hang up.
    Silent,
    /// It does not read what it is told, and hangs up.
    Cuts,
}

use Manner::{Babbles, Cuts, Says, Silent};

const MANNERS_TABLE: [(Manner, Finding, Phase); 8] = [
    (Says(&["220 mail.test ESMTP\r\n"]), Finding::Ok, Phase::Request),
    (Says(&["before, 2", "20 after"]), Finding::Ok, Phase::Request),
    (Says(&["421 not now\r\n"]), fail(Reason::Content), Phase::Request),
    (Says(&["22"]), fail(Reason::Content), Phase::Request),
    (Says(&[]), fail(Reason::Reset), Phase::Request),
    (Babbles, fail(Reason::Content), Phase::Request),
    (Silent, fail(Reason::Timeout), Phase::Request),
    (Cuts, fail(Reason::Reset), Phase::Request),
];

const HELLO: &str = "HELLO";

impl Manner {
    /// Takes a connection, and treats it so; who falls silent keeps it.
    async fn meet(self, listener: &TcpListener) -> Option<TcpStream> {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        if !matches!(self, Cuts) {
            stream.read_exact(&mut [0; HELLO.len()]).await.unwrap();
        }
        match self {
            Says(texts) => {
                for text in texts {
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
            }
            // The other end hangs up before it has heard everything.
            Babbles => while stream.write_all(&[b'x'; MOST_BYTES]).await.is_ok() {},
            Silent => return Some(stream),
            Cuts => {}
        }
        None
    }
}

#[tokio::test]
async fn manners_end_where_the_table_says() {
    for (manner, found, phase) in MANNERS_TABLE {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let bench = Bench::new("tcp", &json!({"kind": "tcp", "address": address, "send": HELLO, "expect": "220"}));
        let served = manner.meet(&listener);
        let (met, trace) = match manner {
            Silent => bench.attempt_until(served).await,
            _ => tokio::join!(bench.attempt(false), served).0,
        };
        assert_eq!((met, trace.last), (found, Some(phase)), "{manner:?}");
    }
}

#[tokio::test]
async fn a_connection_is_enough_where_nothing_is_expected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (found, trace) = Bench::new("tcp", &json!({"kind": "tcp", "address": address})).attempt(false).await;
    assert_eq!((found, trace.last), (Finding::Ok, Some(Phase::Connect)));
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let row = |(manner, finding, phase): &(Manner, Finding, Phase)| truth::row(truth::fault(manner), *finding, *phase);
    vec![Truth {
        title: "tcp: `220` is expected of a server",
        columns: &["manner", "outcome", "phase"],
        rows: MANNERS_TABLE.iter().map(row).collect(),
    }]
}
