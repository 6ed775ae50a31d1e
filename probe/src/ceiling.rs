//! What a catalogue's targets together would do to a host, and whether that is too much (DESIGN §5): refused when it is read, not throttled
//! when it is too late.
//!
//! Added up are the requests of all targets that a service needs, now and in every later version of the catalogue. A host is what the check
//! says, lower case and without a port: names are not resolved, two names of one machine are two hosts. The probe's own machine may be
//! asked as often as it likes: that harms nobody else, and the probe notices.
//!
//! | what is added up | at most | why |
//! |---|---|---|
//! | requests over HTTP (`url`, `endpoint`; `https` of an anchor) from one vantage to one host, second attempts too; of `console`, all that its steps may redirect to | 20/s | the provider refuses what is above 25/s from one address, and then perhaps everything |
//! | any other checks from one vantage to one host, second attempts too; of `packets`, each packet | 100/s | a tenth of what one probe can do; no server suffers from it |
//! | the same request to an API from all vantages: `http` with `bearer`, `get` of `s3`, `api`, `backup` | 0.5/s | the provider refuses identical requests above 1/s; a second attempt is varied (SPEC §1) |

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use serde_json::Value;
use vigie_contract::catalogue::{Plan, VantageIx};
use vigie_contract::{Catalogue, TargetId, Time};

use crate::limits::{MOST_HTTP_PER_HOST_UHZ, MOST_IDENTICAL_UHZ, MOST_PER_HOST_UHZ, USUAL_REDIRECTS};
use crate::plan::needed_until;

/// Where a check goes: the first of these that it has.
const DESTINATIONS: [&str; 5] = ["connect", "url", "endpoint", "address", "server"];
/// What says how an answer is judged, or how it gets here, and changes nothing of a request.
const NOT_OF_THE_REQUEST: [&str; 6] = ["body", "ca", "connect", "expect_headers", "outside", "status"];
/// So many of the targets that ask most are named.
const NAMED: usize = 3;

/// A ceiling that a catalogue would exceed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Exceeded {
    /// In words.
    what: String,
    sum_uhz: u64,
    ceiling_uhz: u64,
    /// From when on; the moment that was asked about if it is so already.
    since: Time,
    targets: usize,
    /// Those that ask most, the greatest first; never empty.
    most: Vec<(TargetId, u64)>,
}

impl Exceeded {
    /// The target that asks most.
    pub(crate) fn target(&self) -> TargetId {
        self.most[0].0.clone()
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, sum_uhz, ceiling_uhz, since, targets, most } = self;
        let per_s = |uhz: u64| uhz as f64 / 1e6;
        write!(
            out,
            "{what}: {} requests a second by {targets} targets from {since} on, and the ceiling is {}: ",
            per_s(*sum_uhz),
            per_s(*ceiling_uhz)
        )?;
        let named: Vec<String> = most.iter().map(|(target, uhz)| format!("`{target}` {}", per_s(*uhz))).collect();
        write!(out, "{}{}", named.join(", "), if *targets > most.len() { " …" } else { "" })
    }
}

/// What is added up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Burden {
    Http(Rc<str>, VantageIx),
    Other(Rc<str>, VantageIx),
    Identical(Rc<str>),
}

/// One target's part of a burden, in `[from, until)`.
struct Load<'a> {
    target: &'a TargetId,
    uhz: u64,
    from: Time,
    until: Time,
}

/// The ceilings that `catalogue` would exceed from `from` on, each host once.
#[must_use]
pub fn exceeded(catalogue: &Catalogue, from: Time) -> Vec<Exceeded> {
    let mut found: BTreeMap<Burden, Exceeded> = BTreeMap::new();
    for (burden, loads) in loads(catalogue, from) {
        let (since, sum_uhz) = peak(&loads);
        let ceiling_uhz = burden.ceiling_uhz();
        // From whichever vantage: the same mistake is told once.
        let place = burden.anywhere();
        if sum_uhz <= ceiling_uhz || found.get(&place).is_some_and(|worse| worse.sum_uhz >= sum_uhz) {
            continue;
        }
        let mut then: Vec<_> = loads.iter().filter(|load| load.from <= since && since < load.until).collect();
        then.sort_by(|a, b| b.uhz.cmp(&a.uhz).then(a.target.cmp(b.target)));
        let most = then.iter().take(NAMED).map(|load| (load.target.clone(), load.uhz)).collect();
        found.insert(place, Exceeded { what: burden.in_words(catalogue), sum_uhz, ceiling_uhz, since, targets: then.len(), most });
    }
    found.into_values().collect()
}

impl Burden {
    fn ceiling_uhz(&self) -> u64 {
        match self {
            Self::Http(..) => MOST_HTTP_PER_HOST_UHZ,
            Self::Other(..) => MOST_PER_HOST_UHZ,
            Self::Identical(_) => MOST_IDENTICAL_UHZ,
        }
    }

    fn anywhere(&self) -> Self {
        match self {
            Self::Http(host, _) => Self::Http(Rc::clone(host), 0),
            Self::Other(host, _) => Self::Other(Rc::clone(host), 0),
            Self::Identical(request) => Self::Identical(Rc::clone(request)),
        }
    }

    fn in_words(&self, catalogue: &Catalogue) -> String {
        let vantage = |at: VantageIx| &catalogue.vantages[at].id;
        match self {
            Self::Http(host, at) => {
                format!("too much for host `{host}` over HTTP from vantage `{}`, second attempts included", vantage(*at))
            }
            Self::Other(host, at) => format!("too much for host `{host}` from vantage `{}`, second attempts included", vantage(*at)),
            Self::Identical(request) => format!("too often the same request to an API, from all vantages, {request}"),
        }
    }
}

/// Every target's part of every burden from `from` on.
fn loads(catalogue: &Catalogue, from: Time) -> HashMap<Burden, Vec<Load<'_>>> {
    let mut loads: HashMap<Burden, Vec<Load<'_>>> = HashMap::new();
    for (target, end) in catalogue.targets.iter().zip(needed_until(catalogue)) {
        let begins = std::iter::once(Time::BEGINNING).chain(target.plan.boundaries());
        let ends = target.plan.boundaries().chain(std::iter::once(Time::FOREVER));
        for (plan, (begin, next)) in target.plan.all().zip(begins.zip(ends)) {
            let (from, until) = (begin.max(from), next.min(end));
            if from < until {
                for (burden, uhz) in burdens(plan) {
                    loads.entry(burden).or_default().push(Load { target: &target.id, uhz, from, until });
                }
            }
        }
    }
    loads
}

/// What a target burdens whom with, and how often.
fn burdens(plan: &Plan) -> Vec<(Burden, u64)> {
    let (Some(check), Some(period)) = (&plan.check, plan.period) else { return Vec::new() };
    let demands = demands(check);
    if demands.is_empty() {
        return Vec::new();
    }
    let slots_uhz = 1_000_000_000_000 / period.us().max(1).unsigned_abs();
    let attempts = plan.vantages.iter().flat_map(|at| demands.iter().map(move |demand| (demand, *at)));
    let attempts = attempts.map(|(demand, at)| {
        let host = Rc::clone(&demand.host);
        let burden = if demand.is_http { Burden::Http(host, at) } else { Burden::Other(host, at) };
        (burden, slots_uhz.saturating_mul(2).saturating_mul(demand.requests))
    });
    let identical = api_request(check).map(|request| (Burden::Identical(request.into()), slots_uhz * plan.vantages.len() as u64));
    attempts.chain(identical).collect()
}

/// What an attempt asks of a host.
struct Demand {
    host: Rc<str>,
    is_http: bool,
    /// Or packets.
    requests: u64,
}

/// What an attempt asks of whom, this machine left out.
fn demands(check: &Value) -> Vec<Demand> {
    // Kinds that share the way to an API have it in a table of its own.
    let text = |key: &str| check.get(key).or_else(|| check.get("api")?.get(key)).and_then(Value::as_str);
    let number = |key: &str| check.get(key).and_then(Value::as_u64);
    let list = |key: &str| check.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let demand = |place: &str, is_http, requests| Demand { host: host(place).into(), is_http, requests };
    let destination = DESTINATIONS.iter().find_map(|key| text(key));
    let mut demands: Vec<Demand> = match check.get("kind").and_then(Value::as_str) {
        // Each step may lead to any of the hosts.
        Some("console") => {
            let a_step = number("redirects").unwrap_or(USUAL_REDIRECTS as u64).saturating_add(1);
            let others = list("hosts").iter().filter_map(Value::as_str);
            others.chain(destination).map(|place| demand(place, true, a_step.saturating_mul(list("steps").len() as u64))).collect()
        }
        Some("internet") => {
            let anchors = list("anchors").iter();
            let place = |anchor: &Value| Some(demand(anchor.get("address")?.as_str()?, anchor.get("https").is_some(), 1));
            anchors.filter_map(place).collect()
        }
        _ => {
            let is_http = text("url").or(text("endpoint")).is_some();
            let packets = number("packets").unwrap_or(1).max(1);
            destination.map(|place| demand(place, is_http, packets)).into_iter().collect()
        }
    };
    demands.retain(|demand| !is_this_machine(&demand.host));
    demands
}

/// What a check asks of an API, if it does: equal for equal requests.
fn api_request(check: &Value) -> Option<String> {
    let table = check.as_object()?;
    let is_asked = match table.get("kind")?.as_str()? {
        "http" => table.contains_key("bearer"),
        "s3" => table.get("operation").and_then(Value::as_str) == Some("get"),
        "api" | "backup" => true,
        _ => false,
    };
    let request = || table.iter().filter(|(key, _)| !NOT_OF_THE_REQUEST.contains(&key.as_str())).collect::<BTreeMap<_, _>>();
    is_asked.then(|| serde_json::to_string(&request()).unwrap_or_default())
}

/// The host in a URL or before a port, written in one way.
fn host(text: &str) -> String {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    let named = authority.rsplit_once('@').map_or(authority, |(_, named)| named);
    let bare = match named.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => named.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(named, |(host, _)| host),
    };
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => bare.trim_end_matches('.').to_ascii_lowercase(),
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The greatest sum, and since when it is that.
fn peak(loads: &[Load<'_>]) -> (Time, u64) {
    let mut steps: Vec<(Time, i128)> =
        loads.iter().flat_map(|load| [(load.from, i128::from(load.uhz)), (load.until, -i128::from(load.uhz))]).collect();
    // What ends at an instant goes before what begins at it.
    steps.sort_unstable();
    let mut sum = 0;
    let mut peak = (Time::BEGINNING, 0);
    for (at, change) in steps {
        sum += change;
        if sum > peak.1 {
            peak = (at, sum);
        }
    }
    (peak.0, u64::try_from(peak.1).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use vigie_contract::catalogue::Strictness;

    use super::*;

    const NOW: Time = Time::from_us(1_774_567_890_000_000);

    /// A catalogue of targets of one service: of each the vantages, the period, more keys and the check.
    fn catalogue(targets: &[(&str, &str, &str, &str)]) -> Catalogue {
        let mut text = "[[indicator]]\nid = \"I\"\nobjective = \"99\"\n".to_owned();
        for (number, (vantages, period, more, check)) in targets.iter().enumerate() {
            let id = if more.contains("since") { number - 1 } else { number };
            let _ = write!(text, "[[target]]\nid = \"t-{id}\"\nvantages = [{vantages}]\nperiod = \"{period}\"\ntimeout = \"100ms\"\n");
            let _ = write!(text, "{more}\ncheck = {{ {check} }}\n");
        }
        let needed: Vec<_> = (0..targets.len()).filter(|at| !targets[*at].2.contains("since")).map(|at| format!("\"t-{at}\"")).collect();
        let _ = write!(text, "[[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = {{ all = [{}] }}\n", needed.join(","));
        Catalogue::read(&text, Strictness::Replay).unwrap().0
    }

    fn told(targets: &[(&str, &str, &str, &str)]) -> Vec<String> {
        exceeded(&catalogue(targets), NOW).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_host_is_told_from_any_way_to_write_it() {
        for (text, expected) in [
            ("https://API.example.test/a?b#c", "api.example.test"),
            ("https://user@api.example.test.:8443/", "api.example.test"),
            ("api.example.test:862", "api.example.test"),
            ("192.0.2.7", "192.0.2.7"),
            ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
            ("2001:DB8:0::1", "2001:db8::1"),
            ("http://[2001:db8::1]/", "2001:db8::1"),
            ("[", ""),
        ] {
            assert_eq!(host(text), expected, "{text}");
        }
    }

    #[test]
    fn a_hostile_catalogue_is_refused_with_the_reason() {
        let checks: Vec<String> = (0..10_000).map(|at| format!("kind = \"http\", url = \"https://victim.test/{at}\"")).collect();
        let targets: Vec<_> = checks.iter().map(|check| ("\"az05\", \"az06\"", "1s", "", check.as_str())).collect();
        let catalogue = catalogue(&targets);
        let told: Vec<String> = exceeded(&catalogue, NOW).iter().map(ToString::to_string).collect();
        let expected = "too much for host `victim.test` over HTTP from vantage `az05`, second attempts included: 20000 requests a \
                        second by 10000 targets from 2026-03-26T23:31:30Z on, and the ceiling is 20: `t-0` 2, `t-1` 2, `t-10` 2 …";
        let other_vantage = expected.replace("az05", "az06");
        assert!(told == [expected] || told == [other_vantage.as_str()], "{told:?}");
    }

    #[test]
    fn each_ceiling_holds_up_to_itself() {
        let (ten, check) = ("10s", "kind = \"http\", url = \"http://web.test/\"");
        let mut targets = vec![("\"v\"", ten, "", check); 100];
        assert_eq!(told(&targets), [""; 0], "20 requests a second");
        targets.push(("\"w\"", ten, "", check));
        assert_eq!(told(&targets), [""; 0], "from another vantage");
        targets.push(("\"v\"", ten, "", "kind = \"tcp\", address = \"web.test:80\""));
        assert_eq!(told(&targets), [""; 0], "not over HTTP");
        targets.push(("\"v\"", ten, "", "kind = \"s3\", endpoint = \"https://WEB.test:9000\""));
        assert!(
            told(&targets)[0]
                .contains("`web.test` over HTTP from vantage `v`, second attempts included: 20.2 requests a second by 101 targets")
        );
        let mesh = |packets| format!("kind = \"network\", address = \"192.0.2.7:862\", packets = {packets}");
        assert_eq!(told(&[("\"v\"", "1s", "", &mesh(50))]), [""; 0], "100 packets a second");
        assert!(
            told(&[("\"v\"", "1s", "", &mesh(51))])[0]
                .contains("`192.0.2.7` from vantage `v`, second attempts included: 102 requests a second by 1 targets")
        );
    }

    #[test]
    fn the_same_request_to_an_api_is_counted_over_all_vantages_whatever_is_expected_of_the_answer() {
        let api = |more: &str| format!("kind = \"http\", url = \"https://api.test/v1\", bearer = {{ env = \"T\" }}{more}");
        let (one, other) = (api(""), api(", body = \"[\", outside = true"));
        let five = "\"a\", \"b\", \"c\", \"d\", \"e\"";
        assert_eq!(told(&[(five, "10s", "", &one)]), [""; 0], "0.5 a second");
        let told_of_both = told(&[(five, "10s", "", &one), ("\"f\"", "10s", "", &other)]);
        assert!(told_of_both[0].contains("0.6 requests a second by 2 targets"), "{told_of_both:?}");
        assert!(told_of_both[0].contains("`t-0` 0.5, `t-1` 0.1"), "{told_of_both:?}");
        let varied = api("").replace("/v1", "/v2");
        assert_eq!(told(&[(five, "10s", "", &one), (five, "10s", "", &varied)]), [""; 0]);
        let page = "kind = \"http\", url = \"https://web.test/\"";
        assert_eq!(told(&[(five, "5s", "", page)]), [""; 0], "a page is no API");
    }

    #[test]
    fn the_providers_api_is_asked_no_oftener_than_any_other() {
        let check =
            "kind = \"api\", zone = \"az05\", api = { endpoint = \"https://api.test\", id = { env = \"I\" }, secret = { env = \"S\" } }";
        let three = "\"a\", \"b\", \"c\"";
        assert_eq!(told(&[(three, "10s", "", check)]), [""; 0], "0.3 a second");
        let refused = told(&vec![("\"a\"", "10s", "", check); 200]);
        assert!(
            refused.iter().any(|told| told.contains("`api.test`") && told.contains("40 requests a second by 200 targets")),
            "{refused:?}"
        );
        assert!(refused.iter().any(|told| told.contains("20 requests a second by 200 targets")), "the same request: {refused:?}");
    }

    #[test]
    fn a_journey_counts_with_every_redirection_on_every_host_that_it_may_lead_to() {
        let steps = "steps = [{ name = \"a\", get = \"/\" }, { name = \"b\", get = \"/b\", marker = \"m\" }]";
        let check = |more: &str| format!("kind = \"console\", endpoint = \"https://console.test\", {steps}{more}");
        let (usual, direct) = (check(", hosts = [\"Sso.test\"]"), check(", redirects = 0"));
        assert_eq!(told(&[("\"v\"", "1200ms", "", &usual)]), [""; 0], "2 attempts × 2 steps × 6 in 1.2 s");
        let refused = told(&[("\"v\"", "1s", "", usual.as_str())]);
        assert!(refused.len() == 2 && refused[0].contains("`console.test` over HTTP") && refused[1].contains("`sso.test`"), "{refused:?}");
        assert!(refused[0].contains("24 requests a second by 1 targets"), "{refused:?}");
        assert_eq!(told(&[("\"v\"", "1s", "", direct.as_str()); 5]), [""; 0], "20 a second");
        assert_eq!(told(&[("\"v\"", "1s", "", direct.as_str()); 6]).len(), 1);
    }

    #[test]
    fn every_anchor_is_a_host_and_over_https_one_of_http() {
        let check =
            "kind = \"internet\", anchors = [{ address = \"192.0.2.1:53\" }, { address = \"[2001:db8::1]:443\", https = \"w.test\" }]";
        assert_eq!(told(&[("\"v\"", "1s", "", check); 10]), [""; 0], "20 a second to each");
        let refused = told(&[("\"v\"", "1s", "", check); 51]);
        assert!(refused.len() == 2 && refused[0].contains("`2001:db8::1` over HTTP"), "{refused:?}");
        assert!(
            refused[1].contains("`192.0.2.1` from vantage") && refused[1].contains("102 requests a second by 51 targets"),
            "{refused:?}"
        );
    }

    #[test]
    fn ones_own_machine_may_be_asked_at_any_rate() {
        for address in ["127.0.2.1:80", "[::1]:80", "localhost:80", "[::ffff:127.0.0.1]:80"] {
            let check = format!("kind = \"tcp\", address = \"{address}\"");
            assert_eq!(told(&vec![("\"v\"", "1s", "", check.as_str()); 200]), [""; 0], "{address}");
        }
        let led_home = "kind = \"http\", url = \"https://victim.test/\", connect = \"127.0.0.1:443\"";
        assert_eq!(told(&[("\"v\"", "1s", "", led_home); 200]), [""; 0]);
        let led_away = "kind = \"http\", url = \"https://localhost/\", connect = \"victim.test:443\"";
        assert!(told(&[("\"v\"", "1s", "", led_away); 200])[0].contains("`victim.test`"));
    }

    #[test]
    fn only_what_is_in_force_at_once_is_added_up_and_what_was_before_is_past() {
        let (fast, slow) = ("kind = \"tcp\", address = \"a.test:1\", packets = 40", "kind = \"tcp\", address = \"a.test:1\"");
        let later = "since = 2027-01-01T00:00:00Z";
        // 80 a second each: one until 2027, the other from then on.
        assert_eq!(told(&[("\"v\"", "1s", "", fast), ("\"v\"", "1s", later, slow), ("\"v\"", "1s", "", slow)]), [""; 0]);
        assert_eq!(
            told(&[("\"v\"", "1s", "", fast), ("\"v\"", "1s", later, slow), ("\"v\"", "1s", "", slow), ("\"v\"", "1s", later, fast)]),
            [""; 0]
        );
        let both = told(&[("\"v\"", "1s", "", slow), ("\"v\"", "1s", later, fast), ("\"v\"", "1s", "", fast)]);
        assert!(both[0].contains("160 requests a second by 2 targets from 2027-01-01T00:00:00Z on"), "{both:?}");
        let past = catalogue(&[("\"v\"", "1s", "", "kind = \"tcp\", address = \"a.test:1\", packets = 400"), ("\"v\"", "1s", later, slow)]);
        assert_eq!(exceeded(&past, NOW).len(), 1);
        assert_eq!(exceeded(&past, Time::parse("2027-01-01T00:00:00Z").unwrap()), []);
    }
}
