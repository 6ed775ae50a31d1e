//! The check against who listens on loopback, whoever that says it is.

use serde_json::json;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use vigie_contract::Reason;
use vigie_counterparts::console::{Console, Door};
use vigie_counterparts::identity::Identity;

use super::*;
use crate::check::Phase;
use crate::check::bench::Bench;
use crate::check::truth::{self, Truth, fail};

/// Who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// Whom the authority vouches for.
    Known,
    /// The same, after its certificate's end.
    Expired,
    /// Whom the authority does not know.
    Stranger,
    /// Whom it vouches for, under another name.
    Misnamed,
    /// Who hangs up when spoken to.
    Cuts,
    /// Who speaks no TLS.
    Babbles,
    /// Who never says a word.
    Silent,
    Nobody,
}

const SERVERS_TABLE: [(Server, Finding, Phase); 8] = [
    (Server::Known, Finding::Ok, Phase::Tls),
    (Server::Expired, fail(Reason::Tls), Phase::Tls),
    (Server::Stranger, fail(Reason::Tls), Phase::Tls),
    (Server::Misnamed, fail(Reason::Tls), Phase::Tls),
    (Server::Cuts, fail(Reason::Reset), Phase::Tls),
    (Server::Babbles, fail(Reason::Tls), Phase::Tls),
    (Server::Silent, fail(Reason::Timeout), Phase::Tls),
    (Server::Nobody, fail(Reason::Refused), Phase::Connect),
];

#[tokio::test]
async fn servers_end_where_the_table_says() {
    for (server, found, phase) in SERVERS_TABLE {
        let own = if server == Server::Expired { Identity::expired() } else { Identity::new() }.unwrap();
        let authority = if server == Server::Stranger { Identity::new().unwrap() } else { own.clone() };
        let ca = NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), &authority.pem).unwrap();
        let mut console = Console::start("127.0.0.1:0".parse().unwrap(), Some(own)).await.unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut address = console.url().trim_start_matches("https://").to_owned();
        match server {
            Server::Cuts => console.set_door(Door::Cut),
            Server::Babbles => console.set_door(Door::Babble),
            Server::Nobody => console.close().await,
            Server::Silent => address = silent.local_addr().unwrap().to_string(),
            Server::Known | Server::Expired | Server::Stranger | Server::Misnamed => {}
        }
        let mut block = json!({"kind": "tls", "address": address, "ca": ca.path()});
        if server == Server::Misnamed {
            block["server_name"] = json!("elsewhere.test");
        }
        let bench = Bench::new("tls", &block);
        let is_spoken_to = async {
            let (stream, _) = silent.accept().await.unwrap();
            stream.readable().await.unwrap();
            stream
        };
        let (met, trace) = match server {
            Server::Silent => bench.attempt_until(is_spoken_to).await,
            _ => bench.attempt(false).await,
        };
        assert_eq!((met, trace.last), (found, Some(phase)), "{server:?}");
        assert_eq!(trace.facts.certificate_expiry_s.is_some(), found == Finding::Ok, "{server:?}");
    }
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let row = |(server, finding, phase): &(Server, Finding, Phase)| truth::row(truth::fault(server), *finding, *phase);
    vec![Truth { title: "tls: who listens", columns: &["server", "outcome", "phase"], rows: SERVERS_TABLE.iter().map(row).collect() }]
}
