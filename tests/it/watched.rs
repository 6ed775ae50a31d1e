//! What watches and pages: the rules of `deploy/prometheus`, `deploy/alertmanager` and `deploy/runbooks`, judged and run by the real
//! programs, agree with each other and with what is exported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use vigie_contract::Span;
use vigie_tests::program::{TOKEN, request, sum_of, vigie, wait_for};
use vigie_tests::region::Region;
use vigie_tests::watcher::Watcher;

/// What every alert says.
const ANNOTATIONS: [&str; 5] = ["summary_en", "summary_fr", "description_en", "description_fr", "runbook_url"];

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path).canonicalize().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

/// The files of a directory whose names end so.
fn files(directory: &str, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(deploy(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.to_str().is_some_and(|path| path.ends_with(suffix))).collect();
    paths.sort();
    paths
}

/// Runs a tool in a directory of `deploy`: whether it was content, and what it said.
fn run(tool: &str, directory: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(tool).args(args).current_dir(deploy(directory)).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}; tests/run installs it"));
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn must(tool: &str, directory: &str, args: &[&str]) -> String {
    let (is_content, said) = run(tool, directory, args);
    assert!(is_content, "{tool} {args:?}: {said}");
    said
}

/// The rules as Prometheus itself reads them.
fn rules() -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, format!("rule_files: [\"{}/*.rules.yml\"]\n", deploy("prometheus").display())).unwrap();
    let args = [format!("--config.file={}", config.display()), format!("--storage.tsdb.path={}", dir.path().join("data").display())];
    let prometheus = Watcher::start("prometheus", dir.path(), &args);
    let groups = prometheus.json("/api/v1/rules")["data"]["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The words of an expression or a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')
}

/// Names of metrics of ours in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    words(text).filter(|word| word.starts_with("vigie_") || word.starts_with("probe_")).collect()
}

/// The reference, by metric: its type and its labels.
fn reference() -> BTreeMap<String, (String, Vec<String>)> {
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let line = |line: &str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells.as_slice() else { return None };
        Some((quoted(name).pop()?, ((*kind).to_owned(), quoted(labels))))
    };
    read("metrics.md").lines().filter(|line| line.starts_with("| `")).filter_map(line).collect()
}

#[test]
fn the_reference_of_metrics_is_what_the_programs_export() {
    let printed = vigie(Path::new("."), &["metrics"]);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), read("metrics.md"), "`vigie metrics > deploy/metrics.md` mends it");
    let reference = reference();
    let region = Region::start();
    region.break_web();
    for program in [&region.aggregator, &region.probe] {
        let exposition = program.get("/metrics").1;
        for line in exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(reference.get(name).map(|(kind, _)| kind.as_str()), Some(kind), "{name}");
        }
        for series in exposition.lines().filter(|line| !line.starts_with('#')) {
            let name = series.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let (_, labels) = family.and_then(|family| reference.get(family)).or(reference.get(name)).unwrap();
            let written: Vec<_> = series.split("=\"").filter_map(|part| part.rsplit(['{', ',']).next()).collect();
            let written = &written[..written.len() - 1];
            assert!(written.iter().all(|label| *label == "le" || labels.iter().any(|known| known == label)), "{series}");
        }
    }
}

#[test]
fn metrics_say_why_and_tell_what_was_seen_from_what_was_not() {
    let region = Region::start();
    region.break_web();
    let id = region.aggregator.json("/api/v1/windows?status=open")["windows"][0]["id"].as_str().unwrap().to_owned();
    let web = "service=\"web/r1\",indicator=\"I\",scope=\"r1\"";
    let value = |series: &str| region.aggregator.metric(&format!("vigie_{series}"));
    wait_for("the open window's id", || (value(&format!("window_open_info{{{web},id=\"{id}\"")) == 1.0).then_some(()));
    assert_eq!(value(&format!("service_cause_info{{{web},cause=\"seen\"")), 1.0);
    assert_eq!(value(&format!("service_info{{{web},contractual=\"true\"")), 1.0);
    assert_eq!(value("scope_services{group=\"main\",scope=\"r1\",state=\"down\""), 1.0);
    assert_eq!(value("scope_services{group=\"main\",scope=\"r1\",state=\"up\""), 2.0);
    assert_eq!(value("vantage_silent{group=\"main\",vantage=\"v\""), 0.0);
    assert_eq!(value("latency_over_recent_ratio{target=\"a\""), 0.0);
    let burn = |of: &str| value(&format!("{of}{{{web},window=\"5m\""));
    assert!(burn("burn_rate_ratio") > 0.0 && burn("burn_rate_observed_ratio") > 0.0);

    // Evidence that comes late moves the onset: the window that was published is no more.
    let onset_us = region.aggregator.json("/api/v1/windows?status=open")["windows"][0]["onset_us"].as_i64().unwrap();
    let late = json!({"v": 1, "type": "sample", "target": "web", "vantage": "v", "run": "late", "seq": 0, "t0": onset_us - 500_000, "t1": onset_us,
        "outcome": "fail", "period_us": 2_000_000, "timeout_us": 400_000, "clock_error_us": 0});
    let answer =
        request(region.aggregator.address, "POST", "/api/v1/evidence", &[("authorization", &format!("Bearer {TOKEN}"))], &late.to_string());
    assert_eq!(answer.unwrap().0, 200);
    wait_for("a retraction", || {
        let windows = region.aggregator.json("/api/v1/windows?status=open");
        let new = windows["windows"][0]["id"].as_str()?;
        let labels = format!("group=\"main\",service=\"web/r1\",id=\"{id}\",cause=\"sample\",superseded_by=\"{new}\"");
        (value(&format!("window_retracted_timestamp_seconds{{{labels}")) > 0.0).then_some(())
    });
    assert!(value("vantage_run_changes_total{group=\"main\",vantage=\"v\"") >= 1.0, "the late sample came from another process");

    let Region { dir: _dir, webs: _webs, aggregator, probe } = region;
    probe.kill();
    let value = |series: &str| aggregator.metric(&format!("vigie_{series}"));
    wait_for("a silent vantage", || (value("vantage_silent{group=\"main\",vantage=\"v\"") == 1.0).then_some(()));
    wait_for("a window that nobody sees", || (value(&format!("service_cause_info{{{web},cause=\"not_seen_again\"")) == 1.0).then_some(()));
    assert_eq!(value("service_cause_info{service=\"a/r1\",indicator=\"I\",scope=\"r1\",cause=\"silent\""), 1.0);
    assert!(value("service_state_since_timestamp_seconds{service=\"a/r1\"") > 0.0);
    // What nobody sees counts on, and is not observed.
    wait_for("inferred time", || {
        let exposition = aggregator.get("/metrics").1;
        let of = |name: &str| sum_of(&exposition, &format!("vigie_{name}{{{web},window=\"5m\""));
        (of("burn_rate_ratio") > 1.2 * of("burn_rate_observed_ratio")).then_some(())
    });
}

#[test]
fn the_rules_and_their_unit_tests_pass() {
    must("promtool", "prometheus", &["check", "config", "prometheus.yml"]);
    let tests = files("prometheus/tests", ".yml");
    let tests: Vec<_> = tests.iter().map(|path| path.to_str().unwrap()).collect();
    assert!(tests.len() >= 6, "{tests:?}");
    must("promtool", "prometheus", &[&["test", "rules"], &tests[..]].concat());
}

#[test]
fn every_alert_has_its_words_its_priority_its_runbook_and_its_test() {
    let data: toml::Table = read("prometheus/priorities.toml").parse().unwrap();
    let tests: String = files("prometheus/tests", ".yml").iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let rules = rules();
    let alerts: Vec<_> = rules.iter().filter(|rule| rule["type"] == "alerting").collect();
    let mut names = BTreeSet::new();
    for alert in &alerts {
        let (name, labels, annotations) = (text(alert, "name"), &alert["labels"], &alert["annotations"]);
        let (impact, criticality) = (text(labels, "impact"), text(labels, "criticality"));
        let priority = data["priority"][impact][criticality].as_str();
        assert_eq!(priority, Some(text(labels, "priority")), "{name} is {impact} and {criticality}");
        assert!(["page", "ticket", "info", "none"].contains(&text(labels, "severity")), "{name}");
        assert!(!text(labels, "class").is_empty() && !text(labels, "incident").is_empty(), "{name}");
        for annotation in ANNOTATIONS {
            assert!(!text(annotations, annotation).is_empty(), "{name}: {annotation}");
        }
        assert_ne!(text(annotations, "summary_en"), text(annotations, "summary_fr"), "{name}");
        assert!(text(annotations, "runbook_url").ends_with(&format!("/{name}.md")), "{name}");
        assert!(
            tests.contains(&format!("alertname=\"{name}\", severity=\"")) || tests.contains(&format!("alertname=\"{name}\", alertstate")),
            "no unit test sees {name} firing"
        );
        names.insert(name);
    }
    let books: BTreeSet<_> = files("runbooks", ".md").iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(books.iter().map(String::as_str).collect::<BTreeSet<_>>(), names, "a runbook for each alert, and no other");
    for name in &names {
        let book = read(&format!("runbooks/{name}.md"));
        let headings: Vec<_> = book.lines().filter(|line| line.starts_with('#')).collect();
        let title = format!("# {name}");
        let wanted = [title.as_str(), "## What it means", "## What to look at", "## What to do", "## What not to do"];
        assert_eq!(headings, wanted, "{name}");
        for link in book.split("](").skip(1).filter_map(|rest| rest.split(".md)").next()) {
            assert!(names.contains(link), "{name} links to {link}");
        }
    }
}

#[test]
fn criticality_is_by_the_objectives_that_the_data_say() {
    let data: toml::Table = read("prometheus/priorities.toml").parse().unwrap();
    for rule in rules().iter().filter(|rule| rule["name"] == "service:vigie_criticality:info") {
        let level = text(&rule["labels"], "criticality");
        let from = data["criticality"][level].as_float().unwrap();
        assert!(from == 0.0 || text(rule, "query").contains(&from.to_string()), "{level} is from {from} on");
    }
}

#[test]
fn rules_and_runbooks_name_only_metrics_that_exist() {
    let (reference, rules) = (reference(), rules());
    let records: BTreeSet<_> = rules.iter().filter(|rule| rule["type"] == "recording").map(|rule| text(rule, "name")).collect();
    for rule in &rules {
        let annotations = rule["annotations"].as_object().into_iter().flatten().map(|(_, value)| value.as_str().unwrap());
        for text in annotations.chain([text(rule, "query")]) {
            for name in metrics_in(text) {
                assert!(reference.contains_key(name), "{}: there is no {name}", rule["name"]);
            }
            for name in words(text).filter(|word| word.starts_with("service:")) {
                assert!(records.contains(name), "{}: nothing records {name}", rule["name"]);
            }
        }
    }
    for path in files("runbooks", ".md") {
        let book = std::fs::read_to_string(&path).unwrap();
        for name in metrics_in(&book) {
            assert!(reference.contains_key(name), "{}: there is no {name}", path.display());
        }
    }
}

#[test]
fn alertmanager_tells_whom_the_table_says() {
    must("amtool", "alertmanager", &["check-config", "alertmanager.yml"]);
    let table = read("alertmanager/routes.txt");
    let lines: Vec<Vec<&str>> = table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().collect()).collect();
    let test = ["config", "routes", "test", "--config.file=alertmanager.yml"];
    for line in &lines {
        let receivers = format!("--verify.receivers={}", line[0]);
        must("amtool", "alertmanager", &[&test[..], &[receivers.as_str()], &line[1..]].concat());
    }
    // The check can fail.
    let wrong = [&test[..], &["--verify.receivers=journal", "severity=page", "priority=P1"]].concat();
    assert!(!run("amtool", "alertmanager", &wrong).0);
    let data: toml::Table = read("prometheus/priorities.toml").parse().unwrap();
    let on_call: Vec<_> = data["page"]["on_call"].as_array().unwrap().iter().map(|priority| priority.as_str().unwrap()).collect();
    let woken = lines.iter().filter(|line| line[0].contains("on-call") && !line.contains(&"alertname=TestPage"));
    let woken: BTreeSet<_> = woken.flat_map(|line| line.iter().filter_map(|label| label.strip_prefix("priority="))).collect();
    assert_eq!(woken.into_iter().collect::<Vec<_>>(), on_call);
}

/// Of what comes again while its incident's group still stands, whoever is paged is told at the next flush: the window must be open until then.
#[test]
fn no_page_waits_for_its_group_until_the_outage_is_over() {
    let config = read("alertmanager/alertmanager.yml");
    let (_, pages) = config.split_once("matchers: [severity=\"page\"]").unwrap();
    let (pages, _) = pages.split_once("matchers: [severity=\"ticket\"]").unwrap();
    let intervals: Vec<&str> = pages.lines().filter_map(|line| line.trim().strip_prefix("group_interval: ")).collect();
    let [interval] = intervals[..] else { panic!("one for all pages: {intervals:?}") };
    let catalogue = vigie_tests::fold::catalogue(&read("catalogues/openiaas-fr1.toml"));
    let shortest = catalogue.services.iter().map(|service| service.stable_up).min().unwrap();
    let interval = Span::parse(interval).unwrap();
    assert!(interval + interval <= shortest, "a group is flushed every {interval}, and a window is open for {shortest} at least");
}

#[test]
fn mails_have_both_languages_onset_duration_budget_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let said = [
        "summary_fr",
        "summary_en",
        "description_fr",
        "description_en",
        "onset",
        "lasting",
        "budget_left",
        "page_url",
        "explanation_url",
        "runbook_url",
    ];
    let annotations: BTreeMap<_, _> = said.iter().map(|name| (*name, format!("the {name}"))).collect();
    let labels = json!({ "alertname": "OutageOpen", "priority": "P1", "region": "fr1", "service": "s3/fr1" });
    let alert = |status: &str, end: &str| json!({ "status": status, "labels": labels, "annotations": annotations, "startsAt": "2026-11-29T06:00:00Z", "endsAt": end });
    let alerts = [alert("firing", "0001-01-01T00:00:00Z"), alert("resolved", "2026-11-29T06:01:40Z")];
    let data = dir.path().join("data.json");
    std::fs::write(&data, json!({ "status": "firing", "alerts": alerts }).to_string()).unwrap();
    let data = format!("--template.data={}", data.display());
    let render = |template: &str| {
        let template = format!("--template.text={{{{ template \"{template}\" . }}}}");
        must("amtool", "alertmanager", &["template", "render", "--template.glob=*.tmpl", &template, &data])
    };
    let (subject, mail) = (render("vigie.subject"), render("vigie.text"));
    assert!(subject.contains("P1 fr1 : the summary_fr / the summary_en (+1)"), "{subject}");
    for name in said {
        assert_eq!(mail.matches(&format!("the {name}")).count(), 2, "{name}: {mail}");
    }
    for words in ["FIRING : 1", "RESOLVED : 1", "2026-11-29 06:01:40 UTC", "OutageOpen · s3/fr1"] {
        assert!(mail.contains(words), "{words}: {mail}");
    }
}

#[test]
fn one_cause_is_one_alert_and_nothing_hides_an_outage_but_its_own_zone() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("alertmanager.yml");
    // Nobody is to be told by a test.
    let text_of = read("alertmanager/alertmanager.yml").replace(":25\"", ":1\"").replace(":9099/", ":1/");
    std::fs::write(&config, text_of).unwrap();
    std::fs::copy(deploy("alertmanager/vigie.tmpl"), dir.path().join("vigie.tmpl")).unwrap();
    let flags = ["--cluster.listen-address=".to_owned(), format!("--storage.path={}", dir.path().join("data").display())];
    let args = [&flags[..], &[format!("--config.file={}", config.display())]].concat();

    let expect = |alerts: &[&[(&str, &str)]], hushed: &[&str]| {
        let alertmanager = Watcher::start("prometheus-alertmanager", dir.path(), &args);
        let labels: Vec<Value> = alerts
            .iter()
            .map(|labels| json!({ "labels": labels.iter().copied().chain([("region", "fr1")]).collect::<BTreeMap<_, _>>() }))
            .collect();
        alertmanager.post("/api/v2/alerts", "application/json", &json!(labels).to_string()).unwrap();
        let name =
            |alert: &Value| format!("{} {}", text(&alert["labels"], "alertname"), alert["labels"]["of"].as_str().unwrap_or_default());
        let is_hushed = |alert: &&Value| !alert["status"]["inhibitedBy"].as_array().unwrap().is_empty();
        let found = wait_for(&format!("all alerts, and at least {hushed:?} hushed"), || {
            let seen = alertmanager.json("/api/v2/alerts");
            let seen = seen.as_array()?;
            let found: BTreeSet<_> = seen.iter().filter(is_hushed).map(|alert| name(alert).trim().to_owned()).collect();
            (seen.len() == alerts.len() && hushed.iter().all(|name| found.contains(*name))).then_some(found)
        });
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), hushed);
    };
    // A zone, and its neighbour.
    expect(
        &[
            &[("alertname", "ZoneDark"), ("scope", "az05")],
            &[("alertname", "OutageOpen"), ("scope", "az05"), ("service", "compute/az05"), ("of", "az05")],
            &[("alertname", "OutageOpen"), ("scope", "az06"), ("service", "compute/az06"), ("of", "az06")],
            &[("alertname", "BudgetUsed"), ("scope", "az06"), ("service", "compute/az06"), ("of", "az06")],
            &[("alertname", "BudgetUsed"), ("scope", "az07"), ("service", "compute/az07"), ("of", "az07")],
            &[("alertname", "ObjectiveBreached"), ("scope", "az06"), ("service", "compute/az06")],
        ],
        &["BudgetUsed az06", "OutageOpen az05"],
    );
    // One probe of one group, and another group.
    expect(
        &[
            &[("alertname", "VantageSilent"), ("group", "main"), ("vantage", "az05")],
            &[("alertname", "ProbeUnscraped"), ("vantage", "az05"), ("of", "az05")],
            &[("alertname", "ProbeUnscraped"), ("vantage", "az06"), ("of", "az06")],
            &[("alertname", "QuorumMarginGone"), ("group", "main"), ("of", "main")],
            &[("alertname", "QuorumMarginGone"), ("group", "webs"), ("of", "webs")],
        ],
        &["ProbeUnscraped az05", "QuorumMarginGone main"],
    );
    // A zone's probe that is cut off, and silent because of that.
    expect(
        &[
            &[("alertname", "VantageGated"), ("group", "main"), ("vantage", "az05")],
            &[("alertname", "VantageSilent"), ("group", "main"), ("vantage", "az05"), ("of", "az05")],
            &[("alertname", "VantageSilent"), ("group", "main"), ("vantage", "az06"), ("of", "az06")],
        ],
        &["VantageSilent az05"],
    );
    // All of them.
    expect(
        &[
            &[("alertname", "AllVantagesSilent"), ("group", "main")],
            &[("alertname", "VantageSilent"), ("group", "main"), ("vantage", "az05")],
            &[("alertname", "ServiceBlind"), ("group", "main"), ("service", "s3/fr1"), ("of", "main")],
            &[("alertname", "ServiceBlind"), ("group", "webs"), ("service", "web/fr1"), ("of", "webs")],
            &[("alertname", "OutageOpen"), ("scope", "fr1"), ("service", "dns/fr1")],
        ],
        &["ServiceBlind main", "VantageSilent"],
    );
    // Nobody left to ask; an outage that was open stays told.
    expect(
        &[
            &[("alertname", "SupervisionAbsent")],
            &[("alertname", "AggregatorUnscraped"), ("instance", "a")],
            &[("alertname", "OutageOpen"), ("scope", "fr1"), ("service", "s3/fr1")],
            &[("alertname", "SamplesDropped"), ("probe", "az05")],
        ],
        &["AggregatorUnscraped"],
    );
    // A token that ran out, at the probe that is refused and at another.
    expect(
        &[
            &[("alertname", "CredentialRefused"), ("instance", "api"), ("probe", "az05")],
            &[("alertname", "ApiTokenRunsOut"), ("probe", "az05"), ("of", "az05")],
            &[("alertname", "ApiTokenRunsOut"), ("probe", "az06"), ("of", "az06")],
        ],
        &["ApiTokenRunsOut az05"],
    );
}

#[test]
fn who_hushes_has_the_labels_that_must_be_equal() {
    // Where a label is missing on both sides it counts as equal: a source that lacks one would hush everything that lacks it, too.
    let rules = rules();
    let records: BTreeMap<_, _> =
        rules.iter().filter(|rule| rule["type"] == "recording").map(|rule| (text(rule, "name"), text(rule, "query"))).collect();
    let config = read("alertmanager/alertmanager.yml");
    let inhibitions: Vec<_> = config.split("\n  - source_matchers: ").skip(1).collect();
    assert!(inhibitions.len() >= 8, "{}", inhibitions.len());
    for inhibition in inhibitions {
        let sources = inhibition.lines().next().unwrap();
        let equal = inhibition.split("equal: [").nth(1).unwrap().split(']').next().unwrap();
        for label in equal.split(", ").filter(|label| *label != "region") {
            for alert in rules.iter().filter(|rule| rule["type"] == "alerting" && words(sources).any(|word| rule["name"] == word)) {
                let query = text(alert, "query");
                let recorded = words(query).filter_map(|word| records.get(word));
                let keeps =
                    |query: &str| query.split("by (").skip(1).any(|rest| words(rest.split(')').next().unwrap()).any(|kept| kept == label));
                assert!(keeps(query) || recorded.into_iter().any(|query| keeps(query)), "{} lacks {label}: {query}", alert["name"]);
            }
        }
    }
}
