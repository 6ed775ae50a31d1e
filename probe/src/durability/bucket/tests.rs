use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vigie_contract::Time;
use vigie_counterparts::object_store::{ACCESS_KEY, ObjectStore, SECRET_KEY};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn bucket_with(server: SocketAddr, secret: &str, timeout: Duration) -> Bucket {
    let dir = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        json!({"file": dir.path().join(name)})
    };
    let check = json!({
        "kind": "s3", "endpoint": format!("http://{server}"), "bucket": "other", "region": "fr1",
        "access_key": file("access", ACCESS_KEY), "secret_key": file("secret", secret),
    });
    Bucket::of(&check, Some("canary"), timeout).unwrap()
}

fn bucket(server: SocketAddr) -> Bucket {
    bucket_with(server, SECRET_KEY, LONG)
}

/// What is seen of `object`, and what the store said.
async fn seen(bucket: &Bucket, object: &Object, how: How) -> (Outcome, How, String) {
    let look = bucket.look(object, how, "az05").await;
    assert_eq!((look.vantage.as_str(), &look.bucket, &look.key), ("az05", &object.bucket, &object.key));
    (look.outcome, look.how, look.said)
}

fn store(root: &Path) -> ObjectStore {
    std::fs::create_dir_all(root.join("canary")).unwrap();
    ObjectStore::start(root, 0, None).unwrap()
}

#[tokio::test]
async fn an_object_is_present_until_it_is_altered_or_absent() {
    let root = TempDir::new().unwrap();
    let store = store(root.path());
    let bucket = bucket(store.address);
    let (object, other) = (bucket.write("durability/").await.unwrap(), bucket.write("durability/").await.unwrap());
    assert!(object.key.starts_with("durability/") && object.key != other.key && object.sha256 != other.sha256);
    assert_eq!((object.bucket.as_str(), object.size_bytes, &object.version_id), ("canary", OBJECT_BYTES, &None));
    for how in [How::Get, How::Head] {
        assert_eq!(seen(&bucket, &object, how).await, (Outcome::Present, how, "200".to_owned()));
    }
    let file = root.path().join("canary").join(&object.key);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1_000] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(seen(&bucket, &object, How::Get).await.0, Outcome::Altered);
    assert_eq!(seen(&bucket, &object, How::Head).await.0, Outcome::Present, "its length is right");
    std::fs::write(&file, "short").unwrap();
    assert_eq!(seen(&bucket, &object, How::Head).await.0, Outcome::Altered);
    std::fs::remove_file(&file).unwrap();
    for how in [How::Get, How::Head] {
        assert_eq!(seen(&bucket, &object, how).await, (Outcome::Absent, How::Get, "404 NoSuchKey".to_owned()), "a HEAD tells no code");
    }
    assert_eq!(seen(&bucket, &other, How::Get).await.0, Outcome::Present);
}

#[tokio::test]
async fn whoever_may_not_look_or_gets_no_answer_has_seen_nothing() {
    let root = TempDir::new().unwrap();
    let store = store(root.path());
    let object = bucket(store.address).write("").await.unwrap();
    let stranger = bucket_with(store.address, "another", LONG);
    assert_eq!(seen(&stranger, &object, How::Get).await, (Outcome::Refused, How::Get, "403 SignatureDoesNotMatch".to_owned()));
    assert!(stranger.write("").await.unwrap_err().contains("SignatureDoesNotMatch"));
    // Where nobody listens, nor did: what was closed here may live on for a moment in a process that another test starts.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    assert_eq!(seen(&bucket(nobody), &object, How::Get).await, (Outcome::Unavailable, How::Get, "refused".to_owned()));
}

/// A server that answers everything with this, or with nothing at all; and the first lines of what it was asked.
async fn saying(answer: Option<String>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = vec![0; 8_192];
            let length = stream.read(&mut question).await.unwrap_or(0);
            notes.lock().unwrap().extend(String::from_utf8_lossy(&question[..length]).lines().next().map(str::to_owned));
            match &answer {
                Some(answer) => {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
                None => silent.push(stream),
            }
        }
    });
    (address, heard)
}

#[tokio::test]
async fn what_a_store_says_ends_where_the_table_says() {
    let object = Object {
        bucket: "canary".to_owned(),
        key: "k".to_owned(),
        sha256: hex(digest(&SHA256, b"right").as_ref()),
        size_bytes: 5,
        version_id: Some("v 1".to_owned()),
        written_us: Time::from_us(0),
    };
    let error = |status: &str, code: &str| {
        let body = format!("<Error><Code>{code}</Code></Error>");
        Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
    };
    let table = [
        (Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nright".to_owned()), Outcome::Present, "200"),
        (Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong".to_owned()), Outcome::Altered, "200"),
        (Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nrig".to_owned()), Outcome::Unavailable, "reset"),
        (error("404 Not Found", "NoSuchKey"), Outcome::Absent, "404 NoSuchKey"),
        (error("404 Not Found", "NoSuchVersion"), Outcome::Absent, "404 NoSuchVersion"),
        (error("404 Not Found", "NoSuchBucket"), Outcome::Refused, "404 NoSuchBucket"),
        (Some("HTTP/1.1 404 Not Found\r\ncontent-length: 6\r\n\r\n<html>".to_owned()), Outcome::Refused, "404"),
        (error("403 Forbidden", "AccessDenied"), Outcome::Refused, "403 AccessDenied"),
        (error("403 Forbidden", "RequestTimeTooSkewed"), Outcome::Refused, "403 RequestTimeTooSkewed"),
        (error("400 Bad Request", "InvalidRequest"), Outcome::Refused, "400 InvalidRequest"),
        (error("503 Service Unavailable", "SlowDown"), Outcome::Unavailable, "503 SlowDown"),
        (error("429 Too Many Requests", "TooManyRequests"), Outcome::Unavailable, "429 TooManyRequests"),
        (error("500 Internal Server Error", "InternalError"), Outcome::Unavailable, "500 InternalError"),
        (None, Outcome::Unavailable, "timeout"),
    ];
    for (answer, outcome, said) in table {
        let timeout = if answer.is_some() { LONG } else { Duration::from_millis(50) };
        let (server, heard) = saying(answer.clone()).await;
        let bucket = bucket_with(server, SECRET_KEY, timeout);
        assert_eq!(seen(&bucket, &object, How::Get).await, (outcome, How::Get, said.to_owned()), "{answer:?}");
        assert_eq!(*heard.lock().unwrap(), ["GET /canary/k?versionId=v%201 HTTP/1.1"]);
    }
}

#[test]
fn only_a_check_of_kind_s3_names_an_object_store() {
    let check = json!({"kind": "tcp", "address": "a:1"});
    assert!(Bucket::of(&check, None, LONG).err().unwrap().to_string().contains("`s3`"));
}
