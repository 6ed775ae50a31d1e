//! The API as its document describes it: every path of the `OpenAPI` document is asked, and every answer is valid by it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vigie_tests::program::{PATIENCE, TOKEN, get, request, wait_for};
use vigie_tests::region::Region;

/// The document, and which of its paths were asked.
struct Document {
    text: Value,
    asked: BTreeSet<String>,
}

impl Document {
    /// The answer to `path` is one that the document describes under `template`.
    #[track_caller]
    fn check(&mut self, template: &str, method: &str, path: &str, (status, body): (u16, String)) -> Value {
        self.asked.insert(format!("{method} {template}"));
        let response = &self.text["paths"][template][method]["responses"][status.to_string()];
        assert!(response.is_object(), "{method} {path} answers {status}, which the document does not know: {body}");
        let response = match response["$ref"].as_str() {
            Some(reference) => self.text.pointer(reference.trim_start_matches('#')).unwrap(),
            None => response,
        };
        let Some(schema) = response["content"].get("application/json").map(|media| media["schema"].clone()) else { return Value::Null };
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        let whole = json!({ "allOf": [schema], "components": self.text["components"] });
        let validator = jsonschema::validator_for(&whole).unwrap();
        let errors: Vec<String> = validator.iter_errors(&answer).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{method} {path} answers {status}: {errors:#?}\n{answer:#}");
        answer
    }
}

#[test]
fn every_answer_is_as_the_openapi_document_says() {
    let region = Region::start();
    let address = region.aggregator.address;
    region.break_web();
    let claim = ["claim", "open", "--service", "web/r1", "--actor", "support", "--reason", "a customer called", "--yes", "--id"];
    region.vigie(&[&claim[..], &["T-1"]].concat());
    let early = ["claim", "open", "--id", "T-2", "--service", "a/r1", "--actor", "support", "--reason", "uncorroborated", "--yes"];
    region.vigie(&[&early[..], &["--opened-at", "2026-02-01T00:00:00Z"]].concat());
    #[rustfmt::skip]
    region.vigie(&["exclude", "approve", "--id", "M-1", "--kind", "maintenance", "--service", "web/r1", "--start", "2030-01-01T00:00:00Z",
        "--end", "2030-01-02T00:00:00Z", "--approved-by", "boss", "--reason", "works", "--yes"]);
    let id = region.mend_web();

    let mut document = Document { text: region.aggregator.json("/api/v1/openapi.json"), asked: BTreeSet::new() };
    let mut ask = |template: &str, path: &str, expected: u16| {
        let answer = get(address, path).unwrap();
        assert_eq!(answer.0, expected, "{path}: {}", answer.1);
        document.check(template, "get", path, answer)
    };
    let services = ask("/api/v1/services", "/api/v1/services", 200);
    assert_eq!(services["services"][2]["targets"], json!(["web"]));
    let accounts = ask("/api/v1/accounts", "/api/v1/accounts?service=web/r1", 200);
    assert_eq!(accounts["accounts"][0]["objective"], "99.9");
    let timeline = ask("/api/v1/timeline", "/api/v1/timeline?service=web/r1", 200);
    assert_eq!(timeline["services"][0]["measured"], json!([timeline["start_us"], timeline["frontier_us"]]));
    for path in ["status", "services", "targets", "accounts", "latencies", "claims", "exclusions", "timeline", "windows", "openapi.json"] {
        let path = format!("/api/v1/{path}");
        ask(&path, &path, 200);
    }
    let windows = ask("/api/v1/windows", "/api/v1/windows?service=web/r1&status=closed", 200);
    assert_eq!(windows["windows"][0]["claims"], json!(["T-1"]));
    assert_eq!(windows["windows"][0]["kind"], "mixed");
    for query in ["month=2026-13", "month=last", "status=broken", "colour=blue"] {
        ask("/api/v1/windows", &format!("/api/v1/windows?{query}"), 400);
    }
    ask("/api/v1/windows", "/api/v1/windows?service=nobody", 404);
    ask("/api/v1/windows/{id}", &format!("/api/v1/windows/{id}"), 200);
    ask("/api/v1/windows/{id}", "/api/v1/windows/none", 404);
    let samples = ask("/api/v1/windows/{id}/samples", &format!("/api/v1/windows/{id}/samples"), 200);
    let outcomes: Vec<&Value> = samples["vantages"][0]["samples"].as_array().unwrap().iter().map(|sample| &sample["outcome"]).collect();
    assert!(outcomes.contains(&&json!("fail")) && outcomes.contains(&&json!("ok")), "{samples}");
    ask("/api/v1/windows/{id}/samples", "/api/v1/windows/none/samples", 404);
    for lang in ["fr", "en"] {
        ask("/api/v1/windows/{id}/explanation", &format!("/api/v1/windows/{id}/explanation?lang={lang}"), 200);
        ask("/api/v1/explanation", &format!("/api/v1/explanation?service=web/r1&at=2026-03-01T00:00:00Z&lang={lang}"), 200);
    }
    ask("/api/v1/windows/{id}/explanation", &format!("/api/v1/windows/{id}/explanation?lang=tlh"), 400);
    ask("/api/v1/explanation", "/api/v1/explanation?service=web/r1", 400);
    ask("/api/v1/explanation", "/api/v1/explanation?service=nobody&at=0", 404);
    ask("/healthz", "/healthz", 200);
    ask("/readyz", "/readyz", 200);
    ask("/metrics", "/metrics", 200);

    let sample = |vantage: &str| {
        json!({ "v": 1, "type": "sample", "target": "a", "vantage": vantage, "run": "r", "seq": 0, "t0": 1_774_567_890_000_000_i64,
                "t1": 1_774_567_890_000_000_i64, "outcome": "ok", "period_us": 1_000_000, "timeout_us": 1_000, "clock_error_us": 0 })
        .to_string()
    };
    let bearer = format!("Bearer {TOKEN}");
    let mut post = |token: &str, body: &str, expected: u16| {
        let answer = request(address, "POST", "/api/v1/evidence", &[("authorization", token)], body).unwrap();
        assert_eq!(answer.0, expected, "{}", answer.1);
        assert!(!answer.1.contains(TOKEN));
        document.check("/api/v1/evidence", "post", "/api/v1/evidence", answer);
    };
    post(&bearer, &sample("v"), 200);
    post(&bearer, &sample("w"), 422);
    post(&bearer, "{\"v\":1,\"type\":\"claim\"}", 422);
    post(&bearer.to_lowercase(), &sample("v"), 200);
    post(&bearer, &" ".repeat((8 << 20) + 1), 413);
    post("Bearer nonsense-nonsense-nonsense", &sample("v"), 401);
    // Whoever is nobody is told so before a byte of what he wants to send is read.
    let mut stranger = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stranger, b"POST /api/v1/evidence HTTP/1.1\r\nhost: a\r\ncontent-length: 8000000\r\n\r\n").unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stranger), &mut first).unwrap();
    assert_eq!(first, "HTTP/1.1 401 Unauthorized\r\n");

    // A stream, whose first event is the status.
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /api/v1/events HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream)).map(Result::unwrap);
    let data = lines.find_map(|line| line.strip_prefix("data:").map(str::to_owned)).unwrap();
    assert!(serde_json::from_str::<Value>(&data).unwrap()["services"].is_array());
    document.asked.insert("get /api/v1/events".to_owned());

    let described = document.text["paths"].as_object().unwrap().iter();
    let described: BTreeSet<String> = described
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().filter(|key| ["get", "post"].contains(&key.as_str())).map(move |key| format!("{key} {path}"))
        })
        .collect();
    assert_eq!(document.asked, described, "asked, and described");
}

/// Pages that people leave open, or that an enemy opens, do not keep probes from delivering.
#[test]
fn there_is_room_for_samples_however_many_streams_are_open() {
    let region = Region::start();
    let mut open = Vec::new();
    let refused = (0..1_000).find_map(|_| {
        let mut stream = std::net::TcpStream::connect(region.aggregator.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /api/v1/events HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut status = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut status).unwrap();
        open.push(stream);
        (!status.contains(" 200 ")).then_some(status)
    });
    assert!(refused.as_ref().is_some_and(|status| status.contains(" 503 ")), "{refused:?}");
    let delivered = region.probe.metric("vigie_probe_samples_delivered_total");
    wait_for("samples", || (region.probe.metric("vigie_probe_samples_delivered_total") > delivered).then_some(()));
    assert_eq!(region.aggregator.get("/readyz").0, 200);
}
