//! Grafana's dashboards: made from one source, as Grafana's schema has it, readable for everybody, and full: each query of each panel,
//! variable and annotation is answered by the real Prometheus and the real ClickHouse of a region that has seen something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use vigie_aggregator::clock::wall_now;
use vigie_contract::Span;
use vigie_counterparts::console::Console;
use vigie_counterparts::identity::Identity;
use vigie_tests::browser::Browser;
use vigie_tests::cluster::Cluster;
use vigie_tests::grafana::{Choice, Chosen, LANGUAGES, Source, dashboards, directory};
use vigie_tests::kafka::Kafka;
use vigie_tests::program::{Program, wait_for};
use vigie_tests::prometheus::{Prometheus, SCRAPE_INTERVAL_S};

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
}

/// Every value under a key, wherever it is.
fn under<'a>(tree: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match tree {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            if name == key {
                found.push(value);
            }
            under(value, key, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| under(item, key, found)),
        _ => {}
    }
}

fn all_under<'a>(tree: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    under(tree, key, &mut found);
    found
}

fn list<'a>(tree: &'a Value, path: &str) -> &'a [Value] {
    tree.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[test]
fn what_is_committed_is_what_the_source_writes() {
    run(Command::new("python3").arg(directory().join("generate.py")).arg("--check")).unwrap();
}

#[test]
fn they_are_what_grafana_s_own_schema_allows() {
    let judge = |files: &[std::path::PathBuf]| run(vigie_tests::grafana::schema_judge().args(files));
    let files: Vec<_> = LANGUAGES.iter().flat_map(|language| dashboards(language).into_keys().map(move |name| (language, name))).collect();
    let files: Vec<_> = files.iter().map(|(language, name)| directory().join(language).join(name).with_extension("json")).collect();
    judge(&files).unwrap();
    // And it judges.
    let dir = tempfile::tempdir().unwrap();
    for (pointer, value) in [
        ("/refresh", serde_json::json!(30)),
        ("/panels/0/fieldConfig/defaults/thresholds/mode", serde_json::json!("relative")),
        ("/panels/0/options/colorMode", serde_json::json!("rainbow")),
        ("/panels/0/targets/0/expression", serde_json::json!("1")),
    ] {
        let mut wrong = dashboards("en")["wall"].clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        wrong.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
        let path = dir.path().join("wrong.json");
        std::fs::write(&path, wrong.to_string()).unwrap();
        let said = judge(&[path]).unwrap_err();
        assert!(said.contains(name), "{pointer}: {said}");
    }
}

#[test]
fn both_languages_ask_the_same_and_say_it_in_their_words() {
    let [english, french] = LANGUAGES.map(dashboards);
    assert_eq!(english.keys().collect::<Vec<_>>(), french.keys().collect::<Vec<_>>());
    for (name, one) in &english {
        let other = &french[name];
        for key in ["expr", "rawSql", "unit", "gridPos"] {
            assert_eq!(all_under(one, key), all_under(other, key), "{name}: {key}");
        }
        assert_ne!(one["title"], other["title"], "{name}");
        let texts = |tree| all_under(tree, "description").into_iter().cloned().collect::<Vec<_>>();
        let (in_english, in_french) = (texts(one), texts(other));
        assert!(in_english.len() == in_french.len() && in_english.iter().zip(&in_french).all(|(one, other)| one != other), "{name}");
    }
}

#[test]
fn uids_are_stable_and_every_link_leads_to_one_or_to_the_status_page() {
    let known: BTreeSet<String> = LANGUAGES
        .iter()
        .flat_map(|language| dashboards(language).into_iter().map(move |(name, one)| (format!("vigie-{name}-{language}"), one)))
        .map(|(uid, one)| {
            assert_eq!(one["uid"], uid.as_str());
            uid
        })
        .collect();
    for (name, one) in LANGUAGES.iter().flat_map(|language| dashboards(language)) {
        let urls: Vec<&str> = all_under(&one, "url").into_iter().map(|url| url.as_str().unwrap()).collect();
        for url in &urls {
            let uid = url.strip_prefix("/d/").map(|rest| rest.split('?').next().unwrap());
            assert!(url.starts_with("${page}") || uid.is_some_and(|uid| known.contains(uid)), "{name}: {url}");
        }
        assert!(urls.contains(&"${page}"), "{name}: no way to the status page");
        let others = urls.iter().filter(|url| url.starts_with("/d/")).collect::<BTreeSet<_>>().len();
        assert!(others >= LANGUAGES.len() + 3, "{name}: {urls:?}");
    }
}

/// Red, green and blue as seen without red, green or blue receptors, of light from 0 to 1 (Viénot, Brettel and Mollon 1999; the last row
/// after Machado, Oliveira and Fernandes 2009).
const EYES: [[[f64; 3]; 3]; 4] = [
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    [[0.112_38, 0.887_62, 0.0], [0.112_38, 0.887_62, 0.0], [0.004_01, -0.004_01, 1.0]],
    [[0.292_75, 0.707_25, 0.0], [0.292_75, 0.707_25, 0.0], [-0.022_34, 0.022_34, 1.0]],
    [[1.255_528, -0.076_749, -0.178_779], [-0.078_411, 0.930_809, 0.147_602], [0.004_733, 0.691_367, 0.303_9]],
];

/// A colour in CIE L*a*b*, as these eyes see it.
fn seen(colour: &str, eyes: &[[f64; 3]; 3]) -> [f64; 3] {
    let channel = |at: usize| f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
    let light = [1, 3, 5].map(channel).map(|code| if code <= 0.040_45 { code / 12.92 } else { ((code + 0.055) / 1.055).powf(2.4) });
    let times = |rows: &[[f64; 3]; 3], of: [f64; 3]| rows.map(|row| row[0] * of[0] + row[1] * of[1] + row[2] * of[2]);
    let light = times(eyes, light).map(|part| part.clamp(0.0, 1.0));
    let [x, y, z] = times(&[[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], light);
    let root = |part: f64| if part > 0.008_856 { part.cbrt() } else { 7.787 * part + 16.0 / 116.0 };
    let [x, y, z] = [root(x / 0.950_47), root(y), root(z / 1.088_83)];
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// Colours that are so far from each other are told apart at a glance; 2.3 is just seen by those who look for it.
const FAR: f64 = 15.0;

/// How far two colours are from each other to the eyes that tell them apart worst.
fn distance(one: &str, other: &str) -> f64 {
    let of = |eyes| {
        let (one, other) = (seen(one, eyes), seen(other, eyes));
        one.iter().zip(other).map(|(one, other)| (one - other).powi(2)).sum::<f64>().sqrt()
    };
    EYES.iter().map(of).fold(f64::INFINITY, f64::min)
}

#[test]
fn nothing_is_told_apart_by_colour_alone_and_colours_by_all_eyes() {
    assert!(distance("#C4162A", "#37872D") < FAR, "Grafana's red and green are told apart: the test tests nothing");
    for (name, one) in LANGUAGES.iter().flat_map(|language| dashboards(language)) {
        for mapping in all_under(&one, "mappings").into_iter().chain(all_under(&one, "value").into_iter().filter(|value| value.is_array()))
        {
            for mapped in list(mapping, "").iter().filter_map(|mapped| mapped["options"].as_object()) {
                let words: BTreeSet<&str> = mapped.values().map(|word| word["text"].as_str().unwrap()).collect();
                assert_eq!(words.len(), mapped.len(), "{name}: two values, one word: {words:?}");
            }
        }
        for thresholds in all_under(&one, "steps").into_iter().filter(|steps| steps.is_array()) {
            let colours: BTreeSet<&str> = list(thresholds, "").iter().map(|step| step["color"].as_str().unwrap()).collect();
            for one in &colours {
                for other in colours.iter().filter(|other| *other > one) {
                    assert!(distance(one, other) > FAR, "{name}: {one} and {other} differ by {}", distance(one, other));
                }
            }
        }
    }
}

fn now_s() -> u64 {
    u64::try_from(wall_now().us()).unwrap() / 1_000_000
}

/// Another target, whose certificate ends, and the credential that it is asked with.
fn what_ends(cluster: &Cluster) -> (Console, Runtime) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let identity = Identity::new().unwrap();
    std::fs::write(cluster.dir.path().join("authority.pem"), &identity.pem).unwrap();
    std::fs::write(cluster.dir.path().join("bearer"), "a-secret\n").unwrap();
    let console = runtime.block_on(Console::start(([127, 0, 0, 1], 0).into(), Some(identity))).unwrap();
    let path = cluster.dir.path().join("c.toml");
    let catalogue = std::fs::read_to_string(&path).unwrap();
    let target = format!(
        "[[target]]\nid = \"console\"\nvantages = [\"v\"]\nperiod = \"2s\"\ntimeout = \"400ms\"\n\
         check = {{ kind = \"http\", url = \"{}/login\", ca = \"authority.pem\", bearer = {{ file = \"bearer\", expires = \"2037-01-01T00:00:00Z\" }} }}\n\
         [[service]]\nid = \"console/r1\"\nindicator = \"I\"\nneeds = \"console\"\nsince = 2026-01-01T00:00:00Z\n",
        console.url()
    );
    std::fs::write(&path, catalogue + &target).unwrap();
    cluster.vigie(&["publish", "--kafka", "kafka.toml", "--catalogue", "c.toml", "--yes"]);
    (console, runtime)
}

/// A region that has seen what a region sees, and goes on doing so.
struct Seen {
    cluster: Cluster,
    prometheus: Prometheus,
    began: u64,
    _console: (Console, Runtime),
}

/// As in `deploy/production/clickhouse-users.xml`, with a password that a test may know, and the server's own profile for readers, which
/// allows less.
fn reader() -> String {
    let path = directory().join("../deploy/production/clickhouse-users.xml");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, text) = text.split_once("<vigie_reader>").unwrap();
    let (text, _) = text.split_once("</vigie_reader>").unwrap();
    let text = text.replace("<password_sha256_hex from_env=\"VIGIE_READER_SHA256\"/>", "<password>a-reader</password>");
    format!("<vigie_reader>{}</vigie_reader>", text.replace("vigie_reading", "readonly"))
}

impl Seen {
    fn start() -> Self {
        let began = now_s() - 5;
        let dir = tempfile::tempdir().unwrap();
        let kafka = Kafka::start(&dir.path().join("kafka"), 1);
        let mut cluster = Cluster::prepare(dir, kafka, &["main"]);
        let console = what_ends(&cluster);
        cluster.clickhouse.kill();
        cluster.clickhouse.options.users = reader();
        cluster.clickhouse.start_again();
        let member = ["aggregate", "--kafka", "kafka.toml", "--clickhouse", "clickhouse.toml", "--deployment", "alpha", "--member", "one"];
        cluster.aggregators[0] = Some(Program::start(cluster.dir.path(), &[&member[..], &["--archive", "archive"]].concat()));
        cluster.start_probe();
        let probe = cluster.probe.as_ref().unwrap().address;
        let jobs = [("vigie-aggregator", cluster.aggregator(0).address), ("vigie-probe", probe)];
        let prometheus = Prometheus::start(&cluster.dir.path().join("prometheus"), &jobs);
        cluster.wait_until_all("up");
        let mut seen = Self { cluster, prometheus, began, _console: console };
        seen.let_things_happen(&probe.to_string());
        seen
    }

    fn rows(&self, sql: &str) -> Result<String, String> {
        self.cluster.clickhouse.query_as("vigie_reader", "a-reader", "vigie", sql)
    }

    fn wait_for_rows(&self, of: &str) {
        wait_for(of, || (self.rows(&format!("SELECT count() FROM {of}")).unwrap().trim() != "0").then_some(()));
    }

    /// An outage that ends, a maintenance, a claim, a record that is refused, blindness, and an outage that lasts.
    fn let_things_happen(&mut self, probe: &str) {
        let cluster = &mut self.cluster;
        let now = wall_now();
        let (start, end) = ((now - Span::from_secs(60)).to_string(), now.to_string());
        let approve =
            ["exclude", "approve", "--id", "CHG-7", "--kind", "maintenance", "--service", "web/r1", "--start", &start, "--end", &end];
        let who = ["--approved-by", "ops", "--override-by", "ops", "--reason", "new switch", "--kafka", "kafka.toml", "--yes"];
        cluster.vigie(&[&approve[..], &who].concat());
        // Of a service that nobody saw down: it counts nothing until support decides.
        let open = ["claim", "open", "--id", "T-1", "--service", "a/r1", "--opened-at", &end, "--actor", "support"];
        cluster.vigie(&[&open[..], &["--reason", "the customer calls", "--kafka", "kafka.toml", "--yes"]].concat());
        cluster.append("vigie.evidence.v1", &[(b"", b"not json")]);
        cluster.webs[2].set_up(false);
        cluster.wait_for_open(1);
        cluster.webs[2].set_up(true);
        cluster.wait_for_open(0);
        // At the address at which it is scraped.
        assert!(cluster.probe.take().unwrap().stop().success());
        cluster.wait_until_all("unknown");
        let args = ["probe", "--kafka", "kafka.toml", "--catalogue", "c.toml", "--vantage", "v", "--spool", "spool"];
        cluster.probe = Some(Program::start_at(cluster.dir.path(), &args, probe));
        cluster.wait_until_all("up");
        cluster.webs[2].set_up(false);
        cluster.wait_for_open(1);
        for of in ["gaps_current WHERE service = 'web/r1'", "accounts_current", "candidates_current", "dead_letters"] {
            self.wait_for_rows(of);
        }
        self.store_latencies();
    }

    /// Monthly latency counts are stored with each whole hour, which the test does not wait for: what the engine says now, as it will say it.
    fn store_latencies(&self) {
        let answer = wait_for("latencies", || {
            let answer = self.cluster.aggregator(0).json("/api/v1/latencies");
            (!list(&answer, "/latencies").is_empty()).then_some(answer)
        });
        for line in list(&answer, "/latencies") {
            let (target, month) = (line["target"].as_str().unwrap(), line["month"].as_str().unwrap());
            let (ok, over, max_us) = (&line["ok"], &line["over"], &line["max_us"]);
            self.cluster.clickhouse.query(&format!(
                "INSERT INTO vigie.latency (log_group, target, month, ver, as_of_us, ok, over, max_us) \
                 SELECT log_group, '{target}', '{month}', ver, as_of_us, {ok}, {over}, {max_us} FROM vigie.frontiers_current"
            ));
        }
    }

    /// What Grafana asks for the choices of a variable, and what it is answered.
    fn values(&self, variable: &Value, choice: &Choice) -> Vec<String> {
        let source = Source::of(variable);
        match source {
            Source::Prometheus => {
                let query = choice.fill(source, variable["query"]["query"].as_str().unwrap()).unwrap();
                let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
                let (series, label) = inside.rsplit_once(", ").unwrap();
                let found = self.prometheus.ask("/api/v1/query", &[("query", &format!("group by ({label}) ({series})"))]).unwrap();
                let found = list(&found, "/result").iter().map(|one| one["metric"][label].as_str().unwrap().to_owned());
                found.collect::<BTreeSet<_>>().into_iter().collect()
            }
            Source::ClickHouse => {
                let query = choice.fill(source, variable["query"].as_str().unwrap()).unwrap();
                self.rows(&query).unwrap().lines().map(str::to_owned).collect()
            }
        }
    }

    /// What is chosen at the head of a dashboard: all where one may, of services the one that is down, else the first.
    fn choice(&self, dashboard: &Value) -> Choice {
        // A point of a panel stands for two seconds.
        let rate_interval = 4 * SCRAPE_INTERVAL_S.max(2);
        let mut choice = Choice { variables: BTreeMap::new(), from: self.began, to: now_s() + 1, interval: 2, rate_interval };
        for variable in list(dashboard, "/templating/list").iter().filter(|variable| variable["type"] == "query") {
            let name = variable["name"].as_str().unwrap();
            let mut values = wait_for(name, || Some(self.values(variable, &choice)).filter(|values| !values.is_empty()));
            let is_many = variable["includeAll"] == true;
            if !is_many {
                values = vec![values.iter().find(|value| *value == "web/r1").unwrap_or(&values[0]).clone()];
            }
            choice.variables.insert(name.to_owned(), Chosen { values, is_many });
        }
        choice
    }

    /// What a query of a panel is answered now.
    fn answer(&self, query: &Value, choice: &Choice) -> Result<Value, String> {
        let source = Source::of(query);
        match source {
            Source::Prometheus => {
                let text = choice.fill(source, query["expr"].as_str().unwrap())?;
                let (from, to, step) = (choice.from.to_string(), choice.to.to_string(), format!("{}s", choice.interval));
                if query["instant"] == true {
                    self.prometheus.ask("/api/v1/query", &[("query", &text)])
                } else {
                    self.prometheus.ask("/api/v1/query_range", &[("query", &text), ("start", &from), ("end", &to), ("step", &step)])
                }
            }
            Source::ClickHouse => {
                let text = choice.fill(source, query["rawSql"].as_str().unwrap())?;
                let answer = self.rows(&format!("{text} FORMAT JSON"))?;
                serde_json::from_str(&answer).map_err(|error| error.to_string())
            }
        }
    }
}

/// Whether an answer shows something: a number of Prometheus, a row of ClickHouse.
fn shows(answer: &Value) -> bool {
    let is_number = |point: &Value| point[1].as_str().is_some_and(|value| value != "NaN");
    let has_number = |series: &Value| is_number(&series["value"]) || list(series, "/values").iter().any(is_number);
    list(answer, "/result").iter().any(has_number) || !list(answer, "/data").is_empty()
}

/// What a dashboard shows, by panel and query.
type Answers = BTreeMap<String, BTreeMap<String, Value>>;

#[test]
fn every_query_is_answered_and_no_panel_is_empty() {
    let seen = Seen::start();
    for (name, dashboard) in dashboards("en") {
        let mut choice = seen.choice(&dashboard);
        let mut answers = Answers::new();
        for panel in list(&dashboard, "/panels").iter().filter(|panel| panel["type"] != "row") {
            let of_panel = answers.entry(panel["id"].to_string()).or_default();
            for query in list(panel, "/targets") {
                let what = format!("{name}, {}: something to show for {query}", panel["title"]);
                let answer = wait_for(&what, || {
                    // What comes meanwhile is looked at too.
                    choice.to = now_s() + 1;
                    Some(seen.answer(query, &choice).unwrap_or_else(|error| panic!("{what}: {error}"))).filter(shows)
                });
                every_column_is_named(panel, query, &answer);
                of_panel.insert(query["refId"].as_str().unwrap().to_owned(), answer);
            }
            assert!(!of_panel.is_empty(), "{name}, {}: it asks nothing", panel["title"]);
        }
        for annotation in list(&dashboard, "/annotations/list") {
            let answer = seen.answer(&annotation["target"], &choice).unwrap();
            let row = list(&answer, "/data").first().unwrap_or_else(|| panic!("{name}: no {}", annotation["name"]));
            assert!(["time", "timeEnd", "text", "tags"].iter().all(|column| row[column].is_string()), "{row}");
        }
        if let Some(to) = std::env::var_os("VIGIE_SCREENSHOTS") {
            for language in LANGUAGES {
                for (kind, width) in [("dashboard", 1_400), ("phone", 390)] {
                    let to = Path::new(&to).join(format!("{kind}-{name}-{language}.png"));
                    picture(&to, &dashboards(language)[&name], language, width, &answers, &choice);
                }
            }
        }
    }
}

/// Every column of a table has a heading, and every heading is of a column; series have a time.
fn every_column_is_named(panel: &Value, query: &Value, answer: &Value) {
    if Source::of(query) != Source::ClickHouse {
        return;
    }
    let columns = list(answer, "/meta").iter().map(|column| (column["name"].as_str().unwrap(), column["type"].as_str().unwrap()));
    let columns: BTreeMap<&str, &str> = columns.collect();
    if query["format"] == 0 {
        assert!(columns["time"].contains("DateTime"), "{}: {columns:?}", panel["title"]);
    } else if panel["type"] == "table" {
        let named = list(panel, "/fieldConfig/overrides").iter().map(|one| one["matcher"]["options"].as_str().unwrap());
        assert_eq!(columns.keys().copied().collect::<BTreeSet<_>>(), named.collect(), "{}", panel["title"]);
    }
}

/// Draws what a dashboard shows, so wide, for the eyes of a person: Grafana itself is not here.
fn picture(to: &Path, dashboard: &Value, language: &str, width: u32, answers: &Answers, choice: &Choice) {
    let of = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().unwrap();
    let panels = list(dashboard, "/panels");
    // Where there is no room Grafana puts one below the other, and the links at the head take several lines.
    let rows = if width < 769 {
        panels.iter().map(|panel| of(panel, "h")).sum::<u64>() + 3
    } else {
        panels.iter().map(|panel| of(panel, "y") + of(panel, "h")).max().unwrap()
    };
    let height = u32::try_from(rows * 36 + 80).unwrap();
    let range = serde_json::json!({ "from": choice.from, "to": choice.to });
    let answers = serde_json::to_string(answers).unwrap();
    let data = format!("const DASHBOARD = {dashboard}, ANSWERS = {answers}, RANGE = {range};").replace("</", "<\\/");
    let page = include_str!("../src/grafana/draw.html").replace("<body>", &format!("<body><script>{data}</script>"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("page.html");
    std::fs::write(&path, page).unwrap();
    let browser = Browser::start(width, height, language);
    browser.open(&format!("file://{}", path.display()));
    browser.wait("document.body.dataset.drawn === 'yes'");
    browser.screenshot(to);
}
