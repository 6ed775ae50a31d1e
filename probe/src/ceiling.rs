//! How often the provider's API may be asked, counted over the whole catalogue: neither one target nor one probe can tell (DESIGN §5).
//! Second attempts count, as if everything failed. Logins do not: while they fail there is at most one a second from a vantage, with a
//! token of its own, and otherwise one in four minutes.

use std::collections::BTreeMap;

use vigie_contract::catalogue::{Catalogue, VantageIx};
use vigie_contract::{TargetId, Time};

use crate::check::{self, CheckError};
use crate::clock::wall_now;
use crate::plan;
use crate::station::Unmeasurable;

/// Rates are counted in requests in 10⁹ seconds.
const ONE_A_SECOND: i64 = 1_000_000_000;
/// Of requests that are identical, over all vantages.
const MOST_IDENTICAL: i64 = ONE_A_SECOND / 2;
/// Of all requests to an endpoint, from one vantage; the provider allows an address 25.
const MOST_OF_A_VANTAGE: i64 = 2 * ONE_A_SECOND;
/// How often a request is made, where it is made once a slot.
pub(crate) const PER_SLOT: i64 = 1_000;

/// A request that a check makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    endpoint: String,
    /// What makes it identical to another.
    request: String,
    in_1000_slots: i64,
}

/// What has a ceiling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Identical { endpoint: String, request: String },
    From { endpoint: String, vantage: VantageIx },
}

/// How often, and which target is the last to ask.
struct Rate {
    in_a_billion_s: i64,
    last: TargetId,
}

impl Demand {
    pub(crate) fn new(endpoint: &str, request: String, in_1000_slots: i64) -> Self {
        Self { endpoint: endpoint.to_ascii_lowercase(), request, in_1000_slots }
    }
}

/// What asks too much of the provider's API by the versions in force, or by a later one: of each request, and each vantage, that exceeds
/// its ceiling the last target that adds to it.
#[must_use]
pub fn excesses(catalogue: &Catalogue) -> Vec<Unmeasurable> {
    excesses_from(catalogue, wall_now())
}

pub(crate) fn excesses_from(catalogue: &Catalogue, from: Time) -> Vec<Unmeasurable> {
    let asking = catalogue.targets.iter().filter(|target| target.plan.all().any(|plan| plan.check.as_ref().is_some_and(check::is_limited)));
    let mut instants: Vec<Time> = asking.flat_map(|target| target.plan.boundaries()).filter(|at| *at > from).collect();
    instants.push(from);
    instants.sort_unstable();
    instants.dedup();
    instants.into_iter().map(|at| excesses_at(catalogue, at)).find(|excesses| !excesses.is_empty()).unwrap_or_default()
}

fn excesses_at(catalogue: &Catalogue, at: Time) -> Vec<Unmeasurable> {
    let rates = rates(catalogue, at);
    let exceeding = rates.into_iter().filter_map(|(asked, rate)| {
        let most = asked.most();
        (rate.in_a_billion_s > most).then(|| {
            let said = asked.in_words(catalogue);
            let why = format!(
                "{said} up to {} times in 100 s, second attempts included, and {} are allowed: lengthen the periods, or let fewer ask",
                in_100_s(rate.in_a_billion_s),
                in_100_s(most)
            );
            Unmeasurable { target: rate.last, cause: CheckError::Shape(why) }
        })
    });
    exceeding.collect()
}

/// How often what is asked by the versions in force at `at`.
fn rates(catalogue: &Catalogue, at: Time) -> BTreeMap<Asked, Rate> {
    let mut rates: BTreeMap<Asked, Rate> = BTreeMap::new();
    let needed = plan::needed(catalogue, at);
    for (target, _) in catalogue.targets.iter().zip(needed).filter(|(_, needed)| *needed) {
        let plan = target.plan.at(at);
        let (Some(period), Some(check)) = (plan.period, &plan.check) else { continue };
        let mut add = |asked, in_a_billion_s: i64| {
            let rate = rates.entry(asked).or_insert_with(|| Rate { in_a_billion_s: 0, last: target.id.clone() });
            rate.in_a_billion_s = rate.in_a_billion_s.saturating_add(in_a_billion_s);
            rate.last = target.id.clone();
        };
        for Demand { endpoint, request, in_1000_slots } in check::demands(check) {
            let from_one = in_1000_slots.saturating_mul(ONE_A_SECOND / PER_SLOT * 1_000_000) / period.us().max(1);
            for vantage in &plan.vantages {
                add(Asked::From { endpoint: endpoint.clone(), vantage: *vantage }, from_one);
            }
            add(Asked::Identical { endpoint, request }, from_one.saturating_mul(plan.vantages.len() as i64));
        }
    }
    rates
}

impl Asked {
    fn most(&self) -> i64 {
        match self {
            Self::Identical { .. } => MOST_IDENTICAL,
            Self::From { .. } => MOST_OF_A_VANTAGE,
        }
    }

    fn in_words(&self, catalogue: &Catalogue) -> String {
        match self {
            Self::Identical { endpoint, request } => format!("all vantages together ask {endpoint} for {request}"),
            Self::From { endpoint, vantage } => format!("the vantage `{}` asks {endpoint}", catalogue.vantages[*vantage].id),
        }
    }
}

fn in_100_s(in_a_billion_s: i64) -> i64 {
    in_a_billion_s.saturating_add(ONE_A_SECOND / 100 - 1) / (ONE_A_SECOND / 100)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use vigie_contract::catalogue::Strictness;

    use super::*;

    const API: &str = r#"{ kind = "api", zone = "az05", api = { endpoint = "https://api.test", token_id = { env = "A" }, token_secret = { env = "B" } } }"#;
    const WEB: &str = r#"{ kind = "tcp", address = "192.0.2.1:443" }"#;

    /// What is said of a catalogue with targets of these (id, period, check, vantages), and more text.
    fn said(targets: &[(String, &str, &str, usize)], more: &str) -> Vec<String> {
        let mut text = "[[indicator]]\nid = \"I\"\nobjective = \"99.9\"\n".to_owned();
        for (id, period, check, vantages) in targets {
            let vantages: Vec<_> = (0..*vantages).map(|n| format!("\"v{n}\"")).collect();
            let vantages = vantages.join(", ");
            let _ = writeln!(
                text,
                "[[target]]\nid = \"{id}\"\nvantages = [{vantages}]\nperiod = \"{period}\"\ntimeout = \"1s\"\ncheck = {check}"
            );
            let _ = writeln!(text, "[[service]]\nid = \"s/{id}\"\nindicator = \"I\"\nneeds = \"{id}\"\n");
        }
        let catalogue = Catalogue::read(&format!("{text}{more}"), Strictness::Replay).unwrap().0;
        let at = Time::parse("2026-06-01T00:00:00Z").unwrap();
        excesses_from(&catalogue, at).iter().map(ToString::to_string).collect()
    }

    fn one(period: &str, vantages: usize) -> Vec<String> {
        said(&[("a".to_owned(), period, API, vantages)], "")
    }

    #[test]
    fn each_read_of_a_rotation_comes_every_second_slot_at_worst() {
        assert_eq!(one("15s", 4), [] as [&str; 0]);
        assert_eq!(one("4s", 4), [] as [&str; 0], "4 · 2 / 4 / 4 s is half a request a second");
        let said = one("3s", 4);
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(said[0].starts_with("target `a`: all vantages together ask https://api.test for /api/compute/v1/open_iaas up to 67 times"));
    }

    #[test]
    fn targets_add_up_by_what_they_ask_and_where() {
        let two = ["a", "b"].map(|id| (id.to_owned(), "4s", API, 4));
        let said_of_two = said(&two, "");
        assert!(said_of_two[0].starts_with("target `b`:"), "{said_of_two:?}");
        let elsewhere = API.replace("api.test", "other.test");
        assert_eq!(said(&[two[0].clone(), ("b".to_owned(), "4s", &elsewhere, 4)], ""), [] as [&str; 0]);
    }

    #[test]
    fn ten_thousand_targets_at_one_host_are_refused_at_once() {
        let many: Vec<_> = (0..10_000).map(|n| (format!("t{n}"), "1s", API, 1)).collect();
        let said = said(&many, "");
        assert!(said.iter().any(|said| said.contains("the vantage `v0` asks https://api.test up to 2000000 times in 100 s")), "{said:?}");
        assert_eq!(said.len(), 5, "four reads and a vantage");
    }

    #[test]
    fn what_asks_no_api_has_no_part_in_it() {
        let many: Vec<_> = (0..100).map(|n| (format!("t{n}"), "1s", WEB, 3)).collect();
        assert_eq!(said(&many, ""), [] as [&str; 0]);
    }

    #[test]
    fn later_versions_count_and_earlier_ones_and_what_nobody_needs_do_not() {
        let version = |since: &str, period: &str| {
            format!(
                "[[target]]\nid = \"a\"\nsince = {since}\nvantages = [\"v0\", \"v1\"]\nperiod = \"{period}\"\ntimeout = \"200ms\"\ncheck = {API}\n"
            )
        };
        let quiet = [("a".to_owned(), "60s", API, 1)];
        assert_eq!(said(&quiet, &version("2027-01-01T00:00:00Z", "1s")).len(), 4);
        let loud = [("a".to_owned(), "1s", API, 2)];
        assert_eq!(said(&loud, &version("2026-05-01T00:00:00Z", "60s")), [] as [&str; 0]);
        let unneeded =
            format!("[[target]]\nid = \"b\"\nvantages = [\"v0\", \"v1\"]\nperiod = \"1s\"\ntimeout = \"200ms\"\ncheck = {API}\n");
        assert_eq!(said(&quiet, &unneeded), [] as [&str; 0]);
    }
}
