use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vigie_contract::Span;
use vigie_counterparts::identity::Identity;
use vigie_counterparts::object_store::{ACCESS_KEY, ObjectStore, Program, SECRET_KEY};

use super::*;
use crate::check::Phase;
use crate::check::bench::Bench;
use crate::check::truth::{self, Truth, fail, void};

fn bench(server: impl Into<Place>, settings: &Value) -> Bench {
    bench_with_keys(server, settings, ACCESS_KEY, SECRET_KEY)
}

fn bench_with_keys(server: impl Into<Place>, settings: &Value, access_key: &str, secret_key: &str) -> Bench {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name)
    };
    let Place { url, ca } = server.into();
    let mut block = json!({
        "kind": "s3", "endpoint": url, "bucket": "canary", "region": "fr1",
        "access_key": {"file": file("access", access_key)}, "secret_key": {"file": file("secret", secret_key)},
    });
    if let Some(ca) = ca {
        block["ca"] = json!(file("ca.pem", &ca));
    }
    block.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Bench::new("s3-fr1", &block)
}

fn rotating(server: impl Into<Place>) -> Bench {
    bench(server, &json!({}))
}

/// Of a probe whose clock is so far ahead.
fn rotating_ahead(server: impl Into<Place>, ahead: Span) -> Bench {
    let mut bench = rotating(server);
    bench.ahead = ahead;
    bench
}

fn getting(server: impl Into<Place>) -> Bench {
    bench(server, &json!({"operation": "get", "object": "known"}))
}

/// Where a server is, and the certificate of the authority that vouches for it.
struct Place {
    url: String,
    ca: Option<String>,
}

impl From<SocketAddr> for Place {
    fn from(server: SocketAddr) -> Self {
        Self { url: format!("http://{server}"), ca: None }
    }
}

impl From<&Store> for Place {
    fn from(store: &Store) -> Self {
        let (scheme, address) = (if store.ca.is_some() { "https" } else { "http" }, store.server.address());
        Self { url: format!("{scheme}://{address}"), ca: store.ca.clone() }
    }
}

/// Somebody else's S3 server, over a directory with the bucket `canary`.
struct Store {
    server: Server,
    ca: Option<String>,
    root: TempDir,
}

enum Server {
    Ours(ObjectStore),
    Other(Program),
}

impl Server {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Ours(store) => store.address,
            Self::Other(program) => program.address,
        }
    }
}

impl Store {
    fn new(serve: impl FnOnce(&Path) -> Server, ca: Option<String>) -> Self {
        let root = TempDir::new().unwrap();
        std::fs::create_dir(root.path().join("canary")).unwrap();
        Self { server: serve(root.path()), ca, root }
    }

    fn plain() -> Self {
        Self::new(|root| Server::Ours(ObjectStore::start(root, 0, None).unwrap()), None)
    }

    fn over_tls() -> Self {
        let identity = Identity::new().unwrap();
        let pem = identity.pem.clone();
        Self::new(|root| Server::Ours(ObjectStore::start(root, 0, Some(identity)).unwrap()), Some(pem))
    }

    /// One without TLS, one with it, and the program that `VIGIE_S3` names, if it names one.
    fn all() -> Vec<Self> {
        let other =
            std::env::var_os("VIGIE_S3").map(|program| Self::new(|root| Server::Other(Program::start(&program, root).unwrap()), None));
        [Self::plain(), Self::over_tls()].into_iter().chain(other).collect()
    }

    /// The object of a rotation's `round`, counted from 1, in the server's directory.
    fn file(&self, vantage: &str, round: u64) -> PathBuf {
        self.root.path().join(format!("canary/vigie/s3-fr1/{vantage}/{}", round % OBJECTS))
    }
}

type Heard = Arc<Mutex<Vec<String>>>;

/// A server that follows a script: of each connection, the answers to its requests, after which it closes it; at
/// [`HANG`] it falls silent instead. Tells the heads of the requests.
async fn scripted(script: Vec<Vec<String>>) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Heard::default();
    let notes = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut hung = Vec::new();
        for answers in script {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let Some((head, _)) = hear(&mut stream).await else { break };
                notes.lock().unwrap().push(head);
                if answer == HANG {
                    hung.push(stream);
                    break;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (address, heard)
}

const HANG: &str = "hang";

/// Reads a request: its head in lower case, and its body. Nothing if the probe closes the connection instead.
async fn hear(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut said = Vec::new();
    loop {
        if stream.read_buf(&mut said).await.unwrap_or(0) == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&said);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.split_once("content-length: ").map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap());
        if body.len() >= length {
            return Some((head, body.to_owned()));
        }
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn error(status: &str, code: &str) -> String {
    answer(status, &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>No.</Message></Error>"))
}

fn object() -> String {
    answer("200 OK", &"x".repeat(OBJECT_BYTES))
}

/// The methods of the requests, in order.
fn methods(heard: &Heard) -> Vec<String> {
    heard.lock().unwrap().iter().map(|head| head.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_rotation_does_all_five_and_begins_again() {
    for store in Store::all() {
        let bench = rotating(&store);
        for round in 1..=OBJECTS + 1 {
            let file = store.file("az05", round);
            for (step, status) in [("PUT", 200), ("HEAD", 200), ("GET", 200), ("LIST", 200), ("DELETE", 204)] {
                let (found, trace) = bench.attempt(false).await;
                assert_eq!((found, trace.facts.http_status), (Finding::Ok, Some(status)), "{step} of round {round}");
                assert_eq!(file.exists(), step != "DELETE", "{step} of round {round}");
                assert_eq!(trace.counts_from, trace.began, "{step}: the latency is that of the whole attempt");
                assert_eq!(trace.phases().any(|(phase, _)| phase == Phase::Tls), store.ca.is_some());
            }
        }
    }
}

#[tokio::test]
async fn vantages_share_no_object_and_leave_few() {
    for store in Store::all() {
        for vantage in ["az05", "az06"] {
            for _ in 0..20 {
                // A probe that is killed after its PUT, and started again.
                let mut killed = rotating(&store);
                killed.vantage = vantage;
                assert_eq!(killed.first().await, Finding::Ok);
            }
        }
        // Some servers remove a directory with its last object.
        let count = |dir: &Path| std::fs::read_dir(dir).map_or(0, Iterator::count);
        assert_eq!(count(&store.root.path().join("canary/vigie/s3-fr1")), 2);
        assert_eq!(count(store.file("az05", 1).parent().unwrap()), 1);
        let steady = rotating(&store);
        for _ in 0..5 * 4 * OBJECTS {
            assert_eq!(steady.first().await, Finding::Ok);
        }
        assert!(count(store.file("az05", 1).parent().unwrap()) <= OBJECTS as usize);
    }
}

/// What befalls an object.
type Blow = fn(&Path);

/// The step of a rotation before which something befalls its object, what befalls it, and how the step ends.
const OBJECTS_TABLE: [(Step, &str, Blow, Finding, Phase); 7] = [
    (Step::Head, "is gone", remove, fail(Reason::Missing), Phase::Transfer),
    (Step::Get, "is gone", remove, fail(Reason::Missing), Phase::Transfer),
    (Step::List, "is gone", remove, fail(Reason::Missing), Phase::Transfer),
    (Step::Delete, "is gone", remove, Finding::Ok, Phase::Transfer),
    (Step::Head, "is shorter", shorten, fail(Reason::Corrupt), Phase::Transfer),
    (Step::Get, "is shorter", shorten, fail(Reason::Corrupt), Phase::Transfer),
    (Step::Get, "has another bit", flip, fail(Reason::Corrupt), Phase::Transfer),
];

fn remove(object: &Path) {
    std::fs::remove_file(object).unwrap();
}

fn shorten(object: &Path) {
    std::fs::write(object, "short").unwrap();
}

fn flip(object: &Path) {
    let mut bytes = std::fs::read(object).unwrap();
    bytes[700] ^= 1;
    std::fs::write(object, bytes).unwrap();
}

#[tokio::test]
async fn what_befalls_an_object_ends_where_the_table_says() {
    for (step, what, befall, found, phase) in OBJECTS_TABLE {
        for store in Store::all() {
            let bench = rotating(&store);
            for _ in 0..step as usize {
                assert_eq!(bench.first().await, Finding::Ok);
            }
            befall(&store.file("az05", 1));
            let (met, trace) = bench.attempt(false).await;
            assert_eq!((met, trace.last), (found, Some(phase)), "{step:?}: the object {what}");
            if met != Finding::Ok {
                assert_eq!(bench.retry().await, found, "{step:?}: the retry asks for the same object again, which {what}");
            }
            assert_eq!(bench.first().await, Finding::Ok, "the next slot begins with PUT");
            assert!(store.file("az05", 2).exists(), "of another");
        }
    }
}

/// A rotation of something wrong.
type Wrong = fn(&Store) -> Bench;

/// What is wrong on our side, a rotation that has it, and how its first step ends.
const OURS_TABLE: [(&str, Wrong, Finding, Phase); 4] = [
    (
        "the secret key is another",
        |store| bench_with_keys(store, &json!({}), ACCESS_KEY, "another"),
        void(Reason::Credential),
        Phase::Transfer,
    ),
    (
        "the access key is another",
        |store| bench_with_keys(store, &json!({}), "AKOTHER", SECRET_KEY),
        void(Reason::Credential),
        Phase::Transfer,
    ),
    ("the clock is an hour ahead", |store| rotating_ahead(store, Span::HOUR), void(Reason::Clock), Phase::Transfer),
    ("the clock is an hour behind", |store| rotating_ahead(store, Span::ZERO - Span::HOUR), void(Reason::Clock), Phase::Transfer),
];

#[tokio::test]
async fn what_is_wrong_with_us_ends_where_the_table_says() {
    for (what, bench, found, phase) in OURS_TABLE {
        for store in Store::all() {
            let (met, trace) = bench(&store).attempt(false).await;
            assert_eq!((met, trace.last), (found, Some(phase)), "{what}");
        }
    }
}

/// The object that `get` was told to read, and how that ends.
const KNOWN_TABLE: [(&str, Option<&[u8]>, Finding, Phase); 3] = [
    ("is not there", None, void(Reason::Request), Phase::Transfer),
    ("is not 1 KiB", Some(b"not 1 KiB"), void(Reason::Request), Phase::Transfer),
    ("is 1 KiB", Some(&[7; OBJECT_BYTES]), Finding::Ok, Phase::Transfer),
];

#[tokio::test]
async fn the_object_that_we_were_told_of_ends_where_the_table_says() {
    for store in Store::all() {
        let reader = getting(&store);
        for (what, content, found, phase) in KNOWN_TABLE {
            if let Some(content) = content {
                std::fs::write(store.root.path().join("canary/known"), content).unwrap();
            }
            let (met, trace) = reader.attempt(false).await;
            assert_eq!((met, trace.last), (found, Some(phase)), "it {what}");
        }
        assert_eq!(reader.retry().await, Finding::Ok, "a parameter more changes nothing");
    }
}

#[tokio::test]
async fn over_tls_a_latency_holds_no_handshake_and_a_stranger_is_told_nothing() {
    let store = Store::over_tls();
    std::fs::write(store.root.path().join("canary/known"), [7; OBJECT_BYTES]).unwrap();
    let bench = getting(&store);
    for slot in 0..3 {
        let (found, trace) = bench.attempt(false).await;
        assert_eq!(found, Finding::Ok);
        assert_eq!(trace.phases().any(|(phase, _)| phase == Phase::Tls), slot == 0, "the connection is kept");
        assert!(trace.counts_from > trace.began);
    }
    let stranger = rotating(Place { ca: Some(Identity::new().unwrap().pem), ..Place::from(&store) });
    let (found, trace) = stranger.attempt(false).await;
    assert_eq!((found, trace.phases().last().unwrap().0), (Finding::Fail(Reason::Tls), Phase::Tls));
    assert!(!store.file("az05", 1).exists());
}

/// What a server says to a request.
#[derive(Clone, Copy, Debug)]
enum Said {
    /// This status, and an error of this code.
    Error(&'static str, &'static str),
    /// This status, and this body.
    Answer(&'static str, &'static str),
    /// This, and then it closes the connection.
    Raw(&'static str),
    /// Nothing, and it closes nothing.
    Silence,
}

impl Said {
    /// For a script.
    fn text(self) -> String {
        match self {
            Self::Error(status, code) => error(status, code),
            Self::Answer(status, body) => answer(status, body),
            Self::Raw(text) => text.to_owned(),
            Self::Silence => HANG.to_owned(),
        }
    }
}

/// What the first PUT of all is answered, and how it ends.
const ANSWERS_TABLE: [(Said, Finding, Phase); 25] = [
    (Said::Error("500 Internal Server Error", "InternalError"), fail(Reason::Status), Phase::Transfer),
    (Said::Error("503 Service Unavailable", "ServiceUnavailable"), fail(Reason::Status), Phase::Transfer),
    (Said::Answer("502 Bad Gateway", "<html>"), fail(Reason::Status), Phase::Transfer),
    (Said::Answer("503 Service Unavailable", ""), fail(Reason::Status), Phase::Transfer),
    (Said::Answer("302 Found", ""), fail(Reason::Status), Phase::Transfer),
    (Said::Error("503 Slow Down", "SlowDown"), void(Reason::Throttled), Phase::Transfer),
    (Said::Error("503 Service Unavailable", "SlowDown"), void(Reason::Throttled), Phase::Transfer),
    (Said::Answer("503 Slow Down", ""), void(Reason::Throttled), Phase::Transfer),
    (Said::Answer("429 Too Many Requests", ""), void(Reason::Throttled), Phase::Transfer),
    (Said::Error("403 Forbidden", "AccessDenied"), void(Reason::Address), Phase::Transfer),
    (Said::Error("403 Forbidden", "InvalidAccessKeyId"), void(Reason::Credential), Phase::Transfer),
    (Said::Error("403 Forbidden", "SignatureDoesNotMatch"), void(Reason::Credential), Phase::Transfer),
    (Said::Error("400 Bad Request", "AuthorizationHeaderMalformed"), void(Reason::Credential), Phase::Transfer),
    (Said::Error("404 Not Found", "XAdminUserNotFound"), void(Reason::Credential), Phase::Transfer),
    (Said::Answer("403 Forbidden", ""), void(Reason::Credential), Phase::Transfer),
    (Said::Answer("401 Unauthorized", ""), void(Reason::Credential), Phase::Transfer),
    (Said::Error("403 Forbidden", "RequestTimeTooSkewed"), void(Reason::Clock), Phase::Transfer),
    (Said::Error("400 Bad Request", "XAmzContentSHA256Mismatch"), void(Reason::Request), Phase::Transfer),
    (Said::Error("404 Not Found", "NoSuchBucket"), void(Reason::Request), Phase::Transfer),
    (Said::Error("301 Moved Permanently", "PermanentRedirect"), void(Reason::Request), Phase::Transfer),
    (Said::Error("400 Bad Request", "RequestTimeTooSkewed"), void(Reason::Clock), Phase::Transfer),
    (Said::Raw("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nfewer"), fail(Reason::Reset), Phase::Transfer),
    (Said::Raw(""), fail(Reason::Reset), Phase::Processing),
    (Said::Raw("SSH-2.0-OpenSSH_9.9\r\n\r\n"), fail(Reason::Protocol), Phase::Processing),
    (Said::Silence, fail(Reason::Timeout), Phase::Processing),
];

#[tokio::test]
async fn answers_end_where_the_table_says() {
    for (said, found, phase) in ANSWERS_TABLE {
        let (server, heard) = scripted(vec![vec![said.text()], Vec::new()]).await;
        let bench = rotating(server);
        let (met, trace) = match said {
            Said::Silence => bench.attempt_until(has_heard(&heard, 1)).await,
            _ => bench.attempt(false).await,
        };
        assert_eq!((met, trace.last), (found, Some(phase)), "{said:?}");
    }
}

/// What a LIST is answered with 200, and how it ends.
const LISTINGS_TABLE: [(&str, Finding, Phase); 2] = [
    ("<html>", fail(Reason::Content), Phase::Transfer),
    ("<ListBucketResult><Key>other</Key></ListBucketResult>", fail(Reason::Missing), Phase::Transfer),
];

#[tokio::test]
async fn listings_end_where_the_table_says() {
    for (said, found, phase) in LISTINGS_TABLE {
        let (server, heard) = store_then(said).await;
        let bench = rotating(server);
        // PUT and HEAD are taken on trust, GET cannot be: so this server hands back what it was given.
        for _ in 0..3 {
            assert_eq!(bench.first().await, Finding::Ok);
        }
        let (met, trace) = bench.attempt(false).await;
        assert_eq!((met, trace.last), (found, Some(phase)), "{said}");
        let heard = heard.lock().unwrap();
        assert!(heard[3].starts_with("get /canary?list-type=2&max-keys=16&prefix=vigie%2fs3-fr1%2faz05%2f http/1.1"), "{}", heard[3]);
    }
}

/// A server that keeps one object, and answers LIST with `listing`.
async fn store_then(listing: &'static str) -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Heard::default();
    let notes = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut kept = String::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (head, body) = hear(&mut stream).await.unwrap();
            let said = match head.split(' ').next().unwrap() {
                "put" => {
                    kept = body;
                    answer("200 OK", "")
                }
                "get" if head.contains("list-type") => answer("200 OK", listing),
                "get" => answer("200 OK", &kept),
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n".to_owned(),
            };
            notes.lock().unwrap().push(head);
            stream.write_all(said.as_bytes()).await.unwrap();
        }
    });
    (address, heard)
}

#[tokio::test]
async fn a_retry_repeats_the_step_and_a_failed_step_begins_the_rotation_anew() {
    let (fine, broken) = (answer("200 OK", ""), error("500 Internal Server Error", "InternalError"));
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1024\r\n\r\n".to_owned();
    let slow = error("503 Slow Down", "SlowDown");
    let script = [&broken, &fine, &broken, &head, &slow, &fine].map(|answer| vec![answer.clone()]);
    let (server, heard) = scripted(script.to_vec()).await;
    let bench = rotating(server);
    assert_eq!(bench.first().await, Finding::Fail(Reason::Status));
    assert_eq!(bench.retry().await, Finding::Ok);
    assert_eq!(bench.first().await, Finding::Fail(Reason::Status));
    assert_eq!(bench.retry().await, Finding::Ok);
    assert_eq!(bench.first().await, Finding::Void(Reason::Throttled));
    assert_eq!(bench.first().await, Finding::Ok);
    assert_eq!(methods(&heard), ["put", "put", "head", "head", "get", "put"]);
    let heard = heard.lock().unwrap();
    let path = |at: usize| heard[at].split(' ').nth(1).unwrap().to_owned();
    assert_eq!(path(0), "/canary/vigie/s3-fr1/az05/1");
    assert!(path(1) == path(0) && path(3) == path(0) && path(5) == "/canary/vigie/s3-fr1/az05/2");
}

#[tokio::test]
async fn an_attempt_that_is_given_up_begins_the_rotation_anew() {
    let fine = || vec![answer("200 OK", "")];
    let (server, heard) = scripted(vec![fine(), vec![HANG.to_owned()], fine()]).await;
    let bench = rotating(server);
    assert_eq!(bench.first().await, Finding::Ok);
    give_up(&bench, &heard, 2).await;
    assert_eq!(bench.first().await, Finding::Ok);
    assert_eq!(methods(&heard), ["put", "head", "put"]);
}

/// Waits until a server has heard so many requests.
async fn has_heard(heard: &Heard, requests: usize) {
    while heard.lock().unwrap().len() < requests {
        tokio::task::yield_now().await;
    }
}

/// Drops an attempt once the server has heard `requests`.
async fn give_up(bench: &Bench, heard: &Heard, requests: usize) {
    tokio::select! {
        (found, _) = bench.attempt(false) => panic!("{found:?} without an answer"),
        () = has_heard(heard, requests) => {}
    }
}

#[tokio::test]
async fn get_keeps_its_connection_and_counts_from_the_request() {
    let (server, heard) = scripted(vec![vec![object(), object(), object()]]).await;
    let bench = getting(server);
    for slot in 0..3 {
        let (found, trace) = bench.attempt(false).await;
        assert_eq!(found, Finding::Ok, "slot {slot}");
        let has = |phase| trace.phases().any(|(reached, _)| reached == phase);
        assert_eq!(has(Phase::Connect), slot == 0, "slot {slot}");
        assert!(has(Phase::Processing) && has(Phase::Transfer));
        assert!(trace.counts_from > trace.began);
    }
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|head| head.starts_with("get /canary/known http/1.1") && !head.contains("connection: close")));
}

#[tokio::test]
async fn get_connects_again_where_the_server_closed() {
    let closing = |body: &str| format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let script = vec![vec![object()], vec![closing(&"x".repeat(OBJECT_BYTES))], vec![object(), String::new()], vec![object()]];
    let (server, heard) = scripted(script).await;
    let bench = getting(server);
    for slot in 0..3 {
        let (found, trace) = bench.attempt(false).await;
        assert_eq!(found, Finding::Ok, "slot {slot}");
        assert!(trace.phases().any(|(phase, _)| phase == Phase::Connect), "slot {slot}");
    }
    // The third connection is closed at the moment that the fourth request comes.
    assert_eq!(bench.first().await, Finding::Ok);
    assert_eq!(heard.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_second_attempt_at_get_trusts_no_kept_connection() {
    let broken = error("500 Internal Server Error", "InternalError");
    // The first connection would have an answer for the second attempt.
    let (server, heard) = scripted(vec![vec![broken, HANG.to_owned()], vec![object(), HANG.to_owned()], vec![object()]]).await;
    let bench = getting(server);
    assert_eq!(bench.first().await, Finding::Fail(Reason::Status));
    let (found, trace) = bench.attempt(true).await;
    assert_eq!(found, Finding::Ok);
    assert!(trace.phases().any(|(phase, _)| phase == Phase::Connect));
    assert!(heard.lock().unwrap()[1].starts_with("get /canary/known?x-id=getobject http/1.1"), "no double of the first");
    // Nor does anybody use a connection whose answer never came.
    give_up(&bench, &heard, 3).await;
    assert_eq!(bench.first().await, Finding::Ok);
}

#[test]
fn a_block_that_cannot_be_used_says_why_and_reads_no_secret() {
    let error = |more: Value| {
        let mut block = json!({
            "kind": "s3", "endpoint": "https://s3.example", "bucket": "b", "region": "fr1",
            "access_key": {"env": "NO_SUCH_KEY"}, "secret_key": {"env": "NO_SUCH_SECRET"},
        });
        block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        crate::check::validate(&block).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error(json!({})), "");
    assert_eq!(error(json!({"operation": "get", "object": "a b/c"})), "");
    assert!(error(json!({"operation": "get"})).contains("`object`"));
    assert!(error(json!({"object": "o"})).contains("`get`"));
    assert!(error(json!({"operation": "put"})).contains("put"));
    assert!(error(json!({"endpoint": "https://s3.example/bucket"})).contains("path"));
    assert!(error(json!({"endpoint": "https://key:secret@s3.example"})).contains("password"));
    assert!(error(json!({"bucket": "a/b"})).contains("bucket"));
    assert!(error(json!({"region": ""})).contains("region"));
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let object = |(step, what, _, finding, phase): &(Step, &str, Blow, Finding, Phase)| {
        [vec![truth::fault(step)], truth::row(*what, *finding, *phase)].concat()
    };
    let answers = ANSWERS_TABLE.iter().map(|(said, finding, phase)| truth::row(truth::fault(said), *finding, *phase));
    let listings = LISTINGS_TABLE.iter().map(|(said, finding, phase)| truth::row(format!("`{said}`"), *finding, *phase));
    let ours = OURS_TABLE.iter().map(|(what, _, finding, phase)| truth::row(*what, *finding, *phase));
    let known = KNOWN_TABLE.iter().map(|(what, _, finding, phase)| truth::row(*what, *finding, *phase));
    let table = |title, columns, rows| Truth { title, columns, rows };
    vec![
        table("s3: PUT is answered so", &["answer", "outcome", "phase"], answers.collect()),
        table("s3: LIST is answered so", &["answer", "outcome", "phase"], listings.collect()),
        table("s3: before a step of a rotation", &["step", "the object", "outcome", "phase"], OBJECTS_TABLE.iter().map(object).collect()),
        table("s3: what is wrong with us", &["what", "outcome", "phase"], ours.collect()),
        table("s3: the object that `get` was told of", &["it", "outcome", "phase"], known.collect()),
    ]
}
