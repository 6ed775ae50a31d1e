//! The composition of `deploy/compose`: Debian's docker-compose, which knows the schema, reads it, and what it would start of vigie is
//! started here with the same words, against real Kafka and ClickHouse.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use vigie_tests::clickhouse::{ClickHouse, Options};
use vigie_tests::kafka::Kafka;
use vigie_tests::program::{Program, vigie, wait_for};
use vigie_tests::region::Web;

/// Where vigie listens in each container: what Prometheus scrapes, what is published, what is asked for health.
const LISTEN: [&str; 2] = ["--listen", "0.0.0.0:8420"];

/// The composition as docker-compose understands it, with secrets made for it.
struct Composition {
    dir: tempfile::TempDir,
    services: Vec<(String, Value)>,
    secrets: Value,
}

impl Composition {
    fn read() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (from, here) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/compose"), dir.path().join("deploy/compose"));
        fs::create_dir_all(&here).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_file()) {
            fs::copy(entry.path(), here.join(entry.file_name())).unwrap();
        }
        say(Command::new("./make-secrets").current_dir(&here), "");
        let yaml = say(Command::new("docker-compose").args(["--file", "compose.yaml", "config"]).current_dir(&here), "");
        let to_json = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
        let json: Value = serde_json::from_str(&say(Command::new("/usr/bin/python3").args(["-c", to_json]), &yaml)).unwrap();
        let services = json["services"].as_object().unwrap().iter().map(|(name, service)| (name.clone(), service.clone())).collect();
        Self { dir, services, secrets: json["secrets"].clone() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("deploy/compose").join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// The services that are vigie.
    fn vigies(&self) -> Vec<(&str, &Value)> {
        let is_vigie = |service: &Value| service["image"].as_str().unwrap().starts_with("vigie:");
        self.services.iter().filter(|(_, service)| is_vigie(service)).map(|(name, service)| (name.as_str(), service)).collect()
    }

    /// The arguments of a service, each path in them where this machine has what the container would have there; texts are changed by
    /// `as_here`.
    fn arguments(&self, name: &str, service: &Value, as_here: impl Fn(&str) -> String) -> Vec<String> {
        let root = self.dir.path().join("containers").join(name);
        let inside = |path: &str| root.join(path.trim_start_matches('/'));
        let put = |path: &str, text: &str| {
            fs::create_dir_all(inside(path).parent().unwrap()).unwrap();
            fs::write(inside(path), as_here(text).replace("/run/secrets/", &format!("{}/", inside("/run/secrets").display()))).unwrap();
        };
        let mut mounted = Vec::new();
        for volume in list(&service["volumes"]) {
            let [source, target, _] = *volume.split(':').collect::<Vec<_>>() else { panic!("{volume}") };
            match source.strip_prefix('/') {
                Some(_) => put(target, &fs::read_to_string(source).unwrap()),
                None => fs::create_dir_all(inside(target)).unwrap(),
            }
            mounted.push(target);
        }
        for secret in service["secrets"].as_array().into_iter().flatten() {
            let source = secret["source"].as_str().unwrap();
            put(&format!("/run/secrets/{source}"), &fs::read_to_string(self.secrets[source]["file"].as_str().unwrap()).unwrap());
        }
        let here = |argument: &str| {
            if !argument.starts_with('/') {
                return argument.to_owned();
            }
            assert!(mounted.iter().any(|path| argument.starts_with(path)), "{name}: {argument} is not mounted: {mounted:?}");
            inside(argument).display().to_string()
        };
        list(&service["command"]).into_iter().map(here).collect()
    }
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().map(|item| item.as_str().unwrap()).collect()).unwrap_or_default()
}

/// What a program says that must succeed.
fn say(command: &mut Command, input: &str) -> String {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_composition_is_whole_pinned_and_tells_no_secret() {
    let composition = Composition::read();
    // What is mounted is a file of the composition, which was copied, or of the project around it.
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let volumes = composition.services.iter().flat_map(|(_, service)| list(&service["volumes"]));
    let sources = volumes.filter_map(|volume| volume.split(':').next()).map(Path::new);
    let mounted: Vec<&Path> = sources.filter_map(|source| source.strip_prefix(composition.dir.path()).ok()).collect();
    assert!(["deploy/prometheus", "deploy/alertmanager"].iter().all(|path| mounted.contains(&Path::new(path))), "{mounted:?}");
    for path in mounted {
        assert!(composition.dir.path().join(path).exists() || project.join(path).exists(), "{} is mounted", path.display());
    }
    let mut kinds = [0; 3];
    for (name, service) in &composition.services {
        let tag = service["image"].as_str().unwrap().split_once(':').unwrap_or_else(|| panic!("{name} has no version")).1;
        assert!(tag.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit()), "{name}: {tag} is no version");
        let is_once = service["restart"] == "on-failure";
        assert_eq!(service["healthcheck"].is_null(), is_once, "{name}: what stays is asked for its health");
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let is_secret = variable.contains("PASSWORD") && !variable.ends_with("_FILE");
            assert!(!is_secret, "{name}: {variable} = {value}");
        }
        ["aggregator-", "probe-"].iter().zip(&mut kinds).for_each(|(kind, count)| *count += usize::from(name.starts_with(kind)));
        kinds[2] += usize::from(["kafka", "clickhouse", "prometheus", "alertmanager", "grafana"].contains(&name.as_str()));
    }
    assert_eq!(kinds, [2, 3, 5]);
    for (name, secret) in composition.secrets.as_object().unwrap() {
        assert!(fs::metadata(secret["file"].as_str().unwrap()).unwrap().len() >= 24, "{name}");
    }
    say(Command::new("promtool").args(["check", "config", "--syntax-only"]).arg(composition.file("prometheus.yml")), "");
    let checked = vigie(composition.dir.path(), &["check", "deploy/compose/region.toml"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn every_vigie_of_the_composition_starts_with_its_words_and_supervises() {
    let composition = Composition::read();
    let kafka = Kafka::start(&composition.dir.path().join("kafka"), 1);
    let options = Options { users: users(&composition), ..Options::default() };
    let clickhouse = ClickHouse::start_with(&composition.dir.path().join("clickhouse"), options);
    let webs = ["prometheus:9090", "alertmanager:9093", "grafana:3000"].map(|name| (name, Web::start()));
    let as_here = |text: &str| {
        let text = text.replace("\"kafka:9092\"", &format!("\"{}\"", kafka.bootstrap()));
        let text = text.replace("http://clickhouse:8123", &clickhouse.url());
        webs.iter().fold(text, |text, (name, web)| text.replace(name, &web.address.to_string()))
    };
    let scraped = composition.text("prometheus.yml");
    let (mut waiting, mut begun, mut running) = (composition.vigies(), BTreeSet::from(["kafka", "clickhouse"]), Vec::new());
    while !waiting.is_empty() {
        let is_due = |(_, service): &(&str, &Value)| service["depends_on"].as_object().unwrap().keys().all(|name| begun.contains(&**name));
        let (due, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_due);
        assert!(!due.is_empty(), "these wait for each other: {later:?}");
        for (name, service) in due {
            let arguments = composition.arguments(name, service, as_here);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            if service["restart"] == "on-failure" {
                // As the composition does: again, until it succeeds.
                wait_for(&format!("the success of {name}"), || {
                    let ended = vigie(composition.dir.path(), &arguments);
                    println!("{name}: {}", String::from_utf8_lossy(&ended.stderr));
                    ended.status.success().then_some(())
                });
            } else {
                let Some((arguments, LISTEN)) = arguments.split_last_chunk().map(|(rest, last)| (rest, *last)) else {
                    panic!("{name} must end with {LISTEN:?}: {arguments:?}")
                };
                assert!(scraped.contains(&format!("\"{name}:8420\"")), "Prometheus does not know {name}");
                running.push((name, service, Program::start(composition.dir.path(), arguments)));
            }
            begun.insert(name);
        }
        waiting = later;
    }
    for (name, service, program) in &running {
        let words = list(&service["healthcheck"]["test"]);
        assert_eq!(words[0], "CMD", "{name}");
        let port = format!("/{}", program.address.port());
        wait_for(&format!("the health of {name}"), || {
            let mut command = Command::new(words[1]);
            command.args(words[2..].iter().map(|word| word.replace("/8420", &port)));
            command.output().unwrap().status.success().then_some(())
        });
    }
    let aggregators = running.iter().filter(|(name, ..)| name.starts_with("aggregator-"));
    for (name, _, aggregator) in aggregators {
        wait_for(&format!("{name} to see everything up"), || {
            let services = aggregator.json("/api/v1/services")["services"].as_array()?.clone();
            (services.len() == 4 && services.iter().all(|service| service["state"] == "up")).then_some(())
        });
    }
}

/// The users of ClickHouse that vigie is in the composition: the administrator that the image makes, and the writer as production has it.
fn users(composition: &Composition) -> String {
    let production = include_str!("../../deploy/production/clickhouse-users.xml");
    let writer = production.split_once("<vigie_writer>").unwrap().1.split_once("</vigie_writer>").unwrap().0;
    let hashes = composition.text("secrets/clickhouse.env");
    let hash = hashes.lines().find_map(|line| line.strip_prefix("VIGIE_WRITER_SHA256=")).unwrap();
    let known_by = "<password_sha256_hex from_env=\"VIGIE_WRITER_SHA256\"/>";
    assert!(writer.contains(known_by));
    let writer = writer.replace(known_by, &format!("<password_sha256_hex>{hash}</password_sha256_hex>"));
    let admin = composition.text("secrets/clickhouse_admin_password");
    format!(
        "<vigie_admin><password>{admin}</password><networks><ip>::/0</ip></networks><profile>default</profile>\
         <quota>default</quota></vigie_admin><vigie_writer>{writer}</vigie_writer>"
    )
}
