use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vigie_contract::Span;

use super::*;
use crate::check::{Phase, build};
use crate::clock::wall_now;
use crate::net::{self, Source};
use crate::resolve::Resolver;

const ACCESS_KEY: &str = "AKVIGIE";
const SECRET_KEY: &str = "a/secret+of=40";

/// A check and what its attempts need.
struct Bench {
    net: Net,
    check: Box<dyn Check>,
    vantage: &'static str,
    /// How far the probe's clock is ahead.
    ahead: Span,
}

impl Bench {
    fn new(server: SocketAddr, settings: &Value) -> Self {
        Self::with_keys(server, settings, ACCESS_KEY, SECRET_KEY)
    }

    fn with_keys(server: SocketAddr, settings: &Value, access_key: &str, secret_key: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let secret = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            json!({"file": dir.path().join(name)})
        };
        let (access_key, secret_key) = (secret("access", access_key), secret("secret", secret_key));
        let mut block = json!({
            "kind": "s3", "endpoint": format!("http://{server}"), "bucket": "canary", "region": "fr1",
            "access_key": access_key, "secret_key": secret_key,
        });
        block.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let net = Net::new(Source::default(), Resolver::of_system(), Err("none".to_owned()), net::trust(None).unwrap());
        let check = build(&block, &net).unwrap();
        Self { net, check, vantage: "az05", ahead: Span::ZERO }
    }

    fn rotating(server: SocketAddr) -> Self {
        Self::new(server, &json!({}))
    }

    fn getting(server: SocketAddr) -> Self {
        Self::new(server, &json!({"operation": "get", "object": "known"}))
    }

    async fn attempt(&self, is_retry: bool) -> (Finding, Trace) {
        let mut trace = Trace::new(now());
        let wall = wall_now() + self.ahead;
        let (target, vantage, deadline) = ("s3-fr1", self.vantage, now());
        let attempt = Attempt { net: &self.net, id: "run-s3-fr1-0-1", target, vantage, is_retry, wall, deadline, clock_error: Span::ZERO };
        let found = self.check.attempt(&attempt, &mut trace).await;
        trace.close(now());
        (found, trace)
    }

    async fn first(&self) -> Finding {
        self.attempt(false).await.0
    }

    async fn retry(&self) -> Finding {
        self.attempt(true).await.0
    }
}

/// Somebody else's S3 server, over a directory with the bucket `canary`.
async fn store() -> (SocketAddr, TempDir) {
    let root = TempDir::new().unwrap();
    std::fs::create_dir(root.path().join("canary")).unwrap();
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone()));
        }
    });
    (address, root)
}

/// The object of a rotation's `round`, counted from 1, in the server's directory.
fn file(root: &TempDir, vantage: &str, round: u64) -> PathBuf {
    root.path().join(format!("canary/vigie/s3-fr1/{vantage}/{}", round % OBJECTS))
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
    let (server, root) = store().await;
    let bench = Bench::rotating(server);
    for round in 1..=OBJECTS + 1 {
        let file = file(&root, "az05", round);
        for (step, status) in [("PUT", 200), ("HEAD", 200), ("GET", 200), ("LIST", 200), ("DELETE", 204)] {
            let (found, trace) = bench.attempt(false).await;
            assert_eq!((found, trace.facts.http_status), (Finding::Ok, Some(status)), "{step} of round {round}");
            assert_eq!(file.exists(), step != "DELETE", "{step} of round {round}");
            assert_eq!(trace.counts_from, trace.began, "{step}: the latency is that of the whole attempt");
        }
    }
}

#[tokio::test]
async fn vantages_share_no_object_and_leave_few() {
    let (server, root) = store().await;
    for vantage in ["az05", "az06"] {
        for _ in 0..20 {
            // A probe that is killed after its PUT, and started again.
            let killed = Bench { vantage, ..Bench::rotating(server) };
            assert_eq!(killed.first().await, Finding::Ok);
        }
    }
    let count = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    assert_eq!(count(&root.path().join("canary/vigie/s3-fr1")), 2);
    assert_eq!(count(file(&root, "az05", 1).parent().unwrap()), 1);
    let steady = Bench::rotating(server);
    for _ in 0..5 * 4 * OBJECTS {
        assert_eq!(steady.first().await, Finding::Ok);
    }
    assert!(count(file(&root, "az05", 1).parent().unwrap()) <= OBJECTS as usize);
}

#[tokio::test]
async fn other_bytes_than_were_written_are_corrupt() {
    let (server, root) = store().await;
    let bench = Bench::rotating(server);
    assert_eq!([bench.first().await, bench.first().await], [Finding::Ok; 2]);
    let mut bytes = std::fs::read(file(&root, "az05", 1)).unwrap();
    bytes[700] ^= 1;
    std::fs::write(file(&root, "az05", 1), bytes).unwrap();
    assert_eq!(bench.first().await, Finding::Fail(Reason::Corrupt));
    assert_eq!(bench.retry().await, Finding::Fail(Reason::Corrupt), "the retry reads the same object again");
    assert_eq!(bench.first().await, Finding::Ok);
    assert!(file(&root, "az05", 2).exists(), "the next slot writes another");
    std::fs::write(file(&root, "az05", 2), "short").unwrap();
    assert_eq!(bench.first().await, Finding::Fail(Reason::Corrupt), "HEAD says another length");
}

#[tokio::test]
async fn an_object_that_is_gone_is_missing_at_every_step_but_its_deletion() {
    for (after, expected) in
        [(1, Finding::Fail(Reason::Missing)), (2, Finding::Fail(Reason::Missing)), (3, Finding::Fail(Reason::Missing)), (4, Finding::Ok)]
    {
        let (server, root) = store().await;
        let bench = Bench::rotating(server);
        for _ in 0..after {
            assert_eq!(bench.first().await, Finding::Ok);
        }
        std::fs::remove_file(file(&root, "az05", 1)).unwrap();
        assert_eq!(bench.first().await, expected, "after {after} steps");
        assert_eq!(bench.first().await, Finding::Ok, "the next slot begins with PUT");
        assert!(file(&root, "az05", 2).exists());
    }
}

#[tokio::test]
async fn our_keys_our_clock_and_the_object_we_were_told_of_are_ours() {
    let (server, root) = store().await;
    let wrong_secret = Bench::with_keys(server, &json!({}), ACCESS_KEY, "another");
    assert_eq!(wrong_secret.first().await, Finding::Void(Reason::Credential));
    let wrong_key = Bench::with_keys(server, &json!({}), "AKOTHER", SECRET_KEY);
    assert_eq!(wrong_key.first().await, Finding::Void(Reason::Credential));
    let fast = Bench { ahead: Span::HOUR, ..Bench::rotating(server) };
    assert_eq!(fast.first().await, Finding::Void(Reason::Clock));
    let no_object = Bench::getting(server);
    assert_eq!(no_object.first().await, Finding::Void(Reason::Request));
    std::fs::write(root.path().join("canary/known"), "not 1 KiB").unwrap();
    assert_eq!(no_object.first().await, Finding::Void(Reason::Request));
    std::fs::write(root.path().join("canary/known"), [7; OBJECT_BYTES]).unwrap();
    assert_eq!(no_object.first().await, Finding::Ok);
}

#[tokio::test]
async fn statuses_and_codes_end_where_the_table_says() {
    let (status, throttled) = (Finding::Fail(Reason::Status), Finding::Void(Reason::Throttled));
    let (address, credential) = (Finding::Void(Reason::Address), Finding::Void(Reason::Credential));
    let (clock, request) = (Finding::Void(Reason::Clock), Finding::Void(Reason::Request));
    let table = [
        (error("500 Internal Server Error", "InternalError"), status),
        (error("503 Service Unavailable", "ServiceUnavailable"), status),
        (answer("502 Bad Gateway", "<html>"), status),
        (answer("503 Service Unavailable", ""), status),
        (answer("302 Found", ""), status),
        (error("503 Slow Down", "SlowDown"), throttled),
        (error("503 Service Unavailable", "SlowDown"), throttled),
        (answer("503 Slow Down", ""), throttled),
        (answer("429 Too Many Requests", ""), throttled),
        (error("403 Forbidden", "AccessDenied"), address),
        (error("403 Forbidden", "InvalidAccessKeyId"), credential),
        (error("403 Forbidden", "SignatureDoesNotMatch"), credential),
        (error("400 Bad Request", "AuthorizationHeaderMalformed"), credential),
        (answer("403 Forbidden", ""), credential),
        (answer("401 Unauthorized", ""), credential),
        (error("403 Forbidden", "RequestTimeTooSkewed"), clock),
        (error("400 Bad Request", "XAmzContentSHA256Mismatch"), request),
        (error("404 Not Found", "NoSuchBucket"), request),
        (error("301 Moved Permanently", "PermanentRedirect"), request),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nfewer".to_owned(), Finding::Fail(Reason::Reset)),
        (String::new(), Finding::Fail(Reason::Reset)),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(), Finding::Fail(Reason::Protocol)),
    ];
    for (said, expected) in table {
        let (server, _) = scripted(vec![vec![said.clone()]]).await;
        assert_eq!(Bench::rotating(server).first().await, expected, "{said}");
    }
}

#[tokio::test]
async fn what_is_no_listing_is_content_and_one_without_us_is_missing() {
    for (said, reason) in [("<html>", Reason::Content), ("<ListBucketResult><Key>other</Key></ListBucketResult>", Reason::Missing)] {
        let (server, heard) = store_then(said).await;
        let bench = Bench::rotating(server);
        // PUT and HEAD are taken on trust, GET cannot be: so this server hands back what it was given.
        for _ in 0..3 {
            assert_eq!(bench.first().await, Finding::Ok);
        }
        assert_eq!(bench.first().await, Finding::Fail(reason));
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
    let bench = Bench::rotating(server);
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
    let bench = Bench::rotating(server);
    assert_eq!(bench.first().await, Finding::Ok);
    give_up(&bench, &heard, 2).await;
    assert_eq!(bench.first().await, Finding::Ok);
    assert_eq!(methods(&heard), ["put", "head", "put"]);
}

/// Drops an attempt once the server has heard `requests`.
async fn give_up(bench: &Bench, heard: &Heard, requests: usize) {
    let has_asked = async {
        while heard.lock().unwrap().len() < requests {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        (found, _) = bench.attempt(false) => panic!("{found:?} without an answer"),
        () = has_asked => {}
    }
}

#[tokio::test]
async fn get_keeps_its_connection_and_counts_from_the_request() {
    let (server, heard) = scripted(vec![vec![object(), object(), object()]]).await;
    let bench = Bench::getting(server);
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
    let bench = Bench::getting(server);
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
    let bench = Bench::getting(server);
    assert_eq!(bench.first().await, Finding::Fail(Reason::Status));
    let (found, trace) = bench.attempt(true).await;
    assert_eq!(found, Finding::Ok);
    assert!(trace.phases().any(|(phase, _)| phase == Phase::Connect));
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
