//! What a catalogue's targets together would do to a host, and whether that is too much (DESIGN §5): refused when it is read, not throttled
//! when it is too late.
//!
//! Added up are the requests of all targets that a service needs, now and in every later version of the catalogue: as many as each check
//! makes in a slot whose both attempts it needs. A host is what the check says, lower case and without a port: names are not resolved, two
//! names of one machine are two hosts. The probe's own machine may be asked as often as it likes: that harms nobody else, and the probe
//! notices.
//!
//! | what is added up | at most | why |
//! |---|---|---|
//! | requests over HTTP (`url`, `endpoint`; `https` of an anchor) from one vantage to one host; of `console`, all that its steps may redirect to | 20/s | the provider refuses what is above 25/s from one address, and then perhaps everything |
//! | packets and connections of any other check from one vantage to one host | 100/s | a tenth of what one probe can do; no server suffers from it |
//! | the same request to an API from all vantages: of `http` with `bearer`, `get` of `s3`, `api`, `backup`, `compute` with a witness | 0.5/s | the provider refuses identical requests above 1/s |
//!
//! The same are requests of one method to one host, path and query, whoever makes them and whatever else they say: what the provider
//! compares is not documented. Reads that take turns are each made so much more rarely. A list of a zone is the same for all who read that
//! zone's, by the name or id that the catalogue gives it, and for those who read every zone's. Not added up are logins, and the list of
//! zones for whoever does not know them yet: each is made once in a while, unless the API is out of order.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;

use serde_json::Value;
use vigie_contract::catalogue::{Plan, VantageIx};
use vigie_contract::{Catalogue, TargetId, Time};

use crate::check::{Asked, asked, packets};
use crate::limits::{MOST_HTTP_PER_HOST_UHZ, MOST_IDENTICAL_UHZ, MOST_PER_HOST_UHZ, USUAL_REDIRECTS};
use crate::plan::needed_until;

/// Where a check goes: the first of these that it has.
const DESTINATIONS: [&str; 5] = ["connect", "url", "endpoint", "address", "server"];
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
        write!(out, "{}{}", named.join(", "), if *targets > most.len() { " …" } else { "" })?;
        write!(out, "; lengthen their periods or let fewer vantages measure them")
    }
}

/// What is added up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Burden {
    Http(Rc<str>, VantageIx),
    Other(Rc<str>, VantageIx),
    /// With the zone that it names.
    Identical(Rc<str>, Option<Rc<str>>),
}

/// One target's part of a burden, in `[from, until)`.
#[derive(Clone)]
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
            Self::Identical(..) => MOST_IDENTICAL_UHZ,
        }
    }

    fn anywhere(&self) -> Self {
        match self {
            Self::Http(host, _) => Self::Http(Rc::clone(host), 0),
            Self::Other(host, _) => Self::Other(Rc::clone(host), 0),
            Self::Identical(..) => self.clone(),
        }
    }

    fn in_words(&self, catalogue: &Catalogue) -> String {
        let vantage = |at: VantageIx| &catalogue.vantages[at].id;
        match self {
            Self::Http(host, at) => {
                format!("too much for host `{host}` over HTTP from vantage `{}`, second attempts included", vantage(*at))
            }
            Self::Other(host, at) => format!("too much for host `{host}` from vantage `{}`, second attempts included", vantage(*at)),
            Self::Identical(request, zone) => {
                let of_zone = zone.as_ref().map(|zone| format!(" for zone `{zone}`")).unwrap_or_default();
                format!("too often the same request to an API, from all vantages, second attempts included, `{request}`{of_zone}")
            }
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
    read_each_zone(&mut loads);
    loads
}

/// Whoever reads the lists of every zone reads that of each zone, too.
fn read_each_zone(loads: &mut HashMap<Burden, Vec<Load<'_>>>) {
    let of_zones: Vec<Burden> = loads.keys().filter(|burden| matches!(burden, Burden::Identical(_, Some(_)))).cloned().collect();
    for burden in of_zones {
        let Burden::Identical(request, _) = &burden else { continue };
        let of_all = loads.get(&Burden::Identical(Rc::clone(request), None)).cloned().unwrap_or_default();
        loads.entry(burden).or_default().extend(of_all);
    }
}

/// What a target burdens whom with, and how often.
fn burdens(plan: &Plan) -> Vec<(Burden, u64)> {
    let (Some(check), Some(period)) = (&plan.check, plan.period) else { return Vec::new() };
    let demands = demands(check);
    if demands.is_empty() {
        return Vec::new();
    }
    let slots_uhz = 1_000_000_000_000 / period.us().max(1).unsigned_abs();
    let often = |per_slot_milli: u64, vantages: usize| {
        u64::try_from(u128::from(slots_uhz) * u128::from(per_slot_milli) * vantages as u128 / 1_000).unwrap_or(u64::MAX)
    };
    let of_host = |demand: &Demand, at: VantageIx| {
        let burden = if demand.is_http { Burden::Http } else { Burden::Other };
        (burden(Rc::clone(&demand.host), at), often(demand.per_slot_milli, 1))
    };
    let all = plan.vantages.iter().flat_map(|at| demands.iter().map(move |demand| of_host(demand, *at)));
    let api = api(check).map(host).unwrap_or_default();
    let identical = asked(check).into_iter().map(|Asked { what, zone, per_slot_milli }| {
        // `GET /path` at a host.
        let request = what.replacen(' ', &format!(" {api}"), 1);
        (Burden::Identical(request.into(), zone.map(Rc::from)), often(per_slot_milli, plan.vantages.len()))
    });
    all.chain(identical).collect()
}

/// What a slot asks of a host.
struct Demand {
    host: Rc<str>,
    is_http: bool,
    /// Thousandths of a request, a packet or a connection.
    per_slot_milli: u64,
}

/// What a slot whose both attempts are needed asks of whom, this machine left out.
fn demands(check: &Value) -> Vec<Demand> {
    let number = |key: &str| check.get(key).and_then(Value::as_u64);
    let list = |key: &str| check.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let demand = |place: &str, is_http, per_slot_milli| Demand { host: host(place).into(), is_http, per_slot_milli };
    let destination = DESTINATIONS.iter().find_map(|key| text(check, key));
    let mut demands: Vec<Demand> = match check.get("kind").and_then(Value::as_str) {
        // Each step may lead to any of the hosts.
        Some("console") => {
            let a_step = number("redirects").unwrap_or(USUAL_REDIRECTS as u64).saturating_add(1);
            let others = list("hosts").iter().filter_map(Value::as_str);
            let per_slot_milli = 2_000_u64.saturating_mul(a_step).saturating_mul(list("steps").len() as u64);
            others.chain(destination).map(|place| demand(place, true, per_slot_milli)).collect()
        }
        Some("internet") => {
            let anchors = list("anchors").iter();
            let place = |anchor: &Value| Some(demand(anchor.get("address")?.as_str()?, anchor.get("https").is_some(), 2_000));
            anchors.filter_map(place).collect()
        }
        _ => {
            let asked: u64 = asked(check).iter().map(|asked| asked.per_slot_milli).sum();
            let per_slot_milli = if asked > 0 { asked } else { packets(check).saturating_mul(2_000) };
            destination.map(|place| demand(place, api(check).is_some(), per_slot_milli)).into_iter().collect()
        }
    };
    demands.retain(|demand| !is_this_machine(&demand.host));
    demands
}

/// Kinds that share the way to an API have it in a table of its own.
fn text<'a>(check: &'a Value, key: &str) -> Option<&'a str> {
    check.get(key).or_else(|| check.get("api")?.get(key)).and_then(Value::as_str)
}

/// The API or page that is asked, if it is one.
fn api(check: &Value) -> Option<&str> {
    text(check, "url").or_else(|| text(check, "endpoint"))
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
                        second by 10000 targets from 2026-03-26T23:31:30Z on, and the ceiling is 20: `t-0` 2, `t-1` 2, `t-10` 2 …; \
                        lengthen their periods or let fewer vantages measure them";
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
        assert_eq!(told(&[(five, "20s", "", &one)]), [""; 0], "0.5 a second");
        let told_of_both = told(&[(five, "20s", "", &one), ("\"f\"", "20s", "", &other)]);
        assert!(told_of_both[0].contains("0.6 requests a second by 2 targets"), "{told_of_both:?}");
        assert!(told_of_both[0].contains("`t-0` 0.5, `t-1` 0.1"), "{told_of_both:?}");
        let varied = api("").replace("/v1", "/v2");
        assert_eq!(told(&[(five, "20s", "", &one), (five, "20s", "", &varied)]), [""; 0]);
        let page = "kind = \"http\", url = \"https://web.test/\"";
        assert_eq!(told(&[(five, "5s", "", page)]), [""; 0], "a page is no API");
    }

    #[test]
    fn the_providers_api_is_asked_no_oftener_than_any_other() {
        let check = "kind = \"api\", zone = \"az05\", api = { endpoint = \"https://api.test\", token_id = { env = \"I\" }, token_secret = { env = \"S\" } }";
        let three = "\"a\", \"b\", \"c\"";
        assert_eq!(told(&[(three, "10s", "", check)]), [""; 0], "four reads, each 0.15 a second");
        let refused = told(&vec![("\"a\"", "10s", "", check); 200]);
        assert!(
            refused.iter().any(|told| told.contains("`api.test`") && told.contains("40 requests a second by 200 targets")),
            "{refused:?}"
        );
        assert!(refused.iter().any(|told| told.contains("10 requests a second by 200 targets")), "the same request: {refused:?}");
    }

    /// What the provider's API is asked by a target of this kind.
    fn of_api(settings: &str) -> String {
        let access = "endpoint = \"https://API.test:443\", token_id = { env = \"I\" }, token_secret = { env = \"S\" }";
        format!("{settings}, api = {{ {access} }}")
    }

    #[test]
    fn targets_that_read_the_same_add_up_whatever_their_kind() {
        let one_zone = of_api("kind = \"api\", zone = \"az05\"");
        let all_zones = of_api("kind = \"api\"");
        let witness = of_api("kind = \"compute\", path = \"witness\", zone = \"az05\", virtual_machine = \"vm\"");
        let two = "\"a\", \"b\"";
        // Of the hosts of az05: 0.1, 0.1 and 0.3 a second.
        let most = [(two, "10s", "", one_zone.as_str()), (two, "10s", "", &all_zones), ("\"c\", \"d\", \"e\"", "20s", "", &witness)];
        assert_eq!(told(&most), [""; 0], "0.5 a second");
        let mut more = most.to_vec();
        more.push(("\"f\"", "20s", "", &witness));
        let refused = told(&more);
        assert_eq!(refused.len(), 1, "the machine is read 0.4 times a second, the zones 0.2: {refused:?}");
        assert!(refused[0].contains("`GET api.test/api/compute/v1/open_iaas/hosts` for zone `az05`: 0.6 requests a second by 4 targets"));
        let elsewhere = witness.replace("az05", "az06");
        assert_eq!(told(&[&most[..2], &[(two, "40s", "", &elsewhere), (two, "20s", "", &witness)]].concat()), [""; 0], "another zone");
    }

    #[test]
    fn backups_are_listed_as_often_as_both_attempts_do_it_and_zones_by_the_second() {
        let lists = |list: &str| of_api(&format!("kind = \"backup\", operation = \"lists\", zone = \"az05\", list = \"{list}\""));
        let (policies, backups) = (lists("policies"), lists("backups"));
        let five = "\"a\", \"b\", \"c\", \"d\", \"e\"";
        assert_eq!(told(&[(five, "20s", "", &policies), (five, "20s", "", &backups)]), [""; 0]);
        let refused = told(&[(five, "19s", "", &policies), (five, "20s", "", &backups)]);
        assert!(refused.len() == 2 && refused[0].contains("/policies` for zone `az05`: 0.52"), "{refused:?}");
        assert!(refused[1].contains("open_iaas`: 0.51"), "the zones, too: {refused:?}");
    }

    #[test]
    fn one_object_may_be_read_as_often_as_the_first_attempts_read_it() {
        let get = "kind = \"s3\", endpoint = \"https://s3.test\", bucket = \"b\", region = \"fr1\", operation = \"get\", \
                   object = \"o\", access_key = { env = \"A\" }, secret_key = { env = \"S\" }";
        let five = "\"a\", \"b\", \"c\", \"d\", \"e\"";
        assert_eq!(told(&[(five, "10s", "", get)]), [""; 0], "the second ones are no doubles of the first");
        assert!(told(&[(five, "9s", "", get)])[0].contains("`GET s3.test/b/o`: 0.55"));
        let rotate = get.replace(", operation = \"get\", object = \"o\"", "");
        assert_eq!(told(&[(five, "1s", "", &rotate)]), [""; 0], "vantages share no object");
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
        let (fast, slow) = ("kind = \"network\", address = \"a.test:1\", packets = 40", "kind = \"tcp\", address = \"a.test:1\"");
        let later = "since = 2027-01-01T00:00:00Z";
        // 80 a second each: one until 2027, the other from then on.
        assert_eq!(told(&[("\"v\"", "1s", "", fast), ("\"v\"", "1s", later, slow), ("\"v\"", "1s", "", slow)]), [""; 0]);
        assert_eq!(
            told(&[("\"v\"", "1s", "", fast), ("\"v\"", "1s", later, slow), ("\"v\"", "1s", "", slow), ("\"v\"", "1s", later, fast)]),
            [""; 0]
        );
        let both = told(&[("\"v\"", "1s", "", slow), ("\"v\"", "1s", later, fast), ("\"v\"", "1s", "", fast)]);
        assert!(both[0].contains("160 requests a second by 2 targets from 2027-01-01T00:00:00Z on"), "{both:?}");
        let past =
            catalogue(&[("\"v\"", "1s", "", "kind = \"network\", address = \"a.test:1\", packets = 400"), ("\"v\"", "1s", later, slow)]);
        assert_eq!(exceeded(&past, NOW).len(), 1);
        assert_eq!(exceeded(&past, Time::parse("2027-01-01T00:00:00Z").unwrap()), []);
    }
}
