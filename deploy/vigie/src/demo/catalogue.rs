//! The demo's catalogue: that of region fr1 as it is shipped, filled in with the addresses of the demo's servers, and with shorter periods
//! so that one can watch.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};
use vigie_contract::{Span, Time};

use super::machine::Machine;
use super::place::{ANCHORS, Place, ZONES};
use super::region::SECRETS;
use crate::shell::Failure;

/// In the console's certificate.
pub(super) const CONSOLE_NAME: &str = "console.demo.test";
/// In the anchors'.
pub(super) const ANCHOR_NAME: &str = "anchor.demo.test";

const SHIPPED: &str = include_str!("../../../catalogues/openiaas-fr1.toml");

/// How often a target is measured, and how long an answer is waited for; 2 · timeout + 1.1 s < period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) period: Span,
    pub(super) timeout: Span,
    /// How long a service must work before it counts as restored.
    pub(super) stable_up: Span,
}

/// Nearly everything.
pub(super) const USUAL: Pace = Pace { period: Span::from_secs(2), timeout: Span::from_us(400_000), stable_up: Span::from_secs(10) };
/// What asks the provider's API, which refuses those who ask too often.
pub(super) const LEISURELY: Pace = Pace { period: Span::from_secs(4), timeout: Span::from_us(1_200_000), stable_up: Span::from_secs(12) };
/// How far the engine evaluates behind the log.
pub(super) const SETTLE: Span = Span::from_secs(2);

/// The pace of a check of this kind.
fn pace(kind: &str) -> Pace {
    if matches!(kind, "api" | "backup") { LEISURELY } else { USUAL }
}

/// The pace of a service.
pub(super) fn pace_of(service: &str) -> Pace {
    pace(service.split('/').next().unwrap_or_default())
}

/// What is filled in.
pub(super) struct Filling {
    /// What stands in the shipped file, and what is there instead.
    pub(super) places: BTreeMap<String, String>,
    /// Where the console is.
    pub(super) console: SocketAddr,
    /// Where the orchestration API is.
    pub(super) api: SocketAddr,
    /// Where each zone's disk is mounted; empty if none can be: then there is nothing of line 02.
    pub(super) disks: BTreeMap<&'static str, PathBuf>,
    /// Who signed the console's and the anchors' certificates.
    pub(super) authority: PathBuf,
    /// Measurement starts then.
    pub(super) since: Time,
}

/// What the shipped file has a place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spot {
    /// A zone's agent, on the VLAN.
    Agent(&'static str),
    /// Its neighbour's public address.
    Neighbour(&'static str),
    /// A server.
    Server(Place),
}

/// What stands in the shipped file, and what is there instead.
pub(super) fn places(at: impl Fn(Spot) -> SocketAddr, secrets: &Path) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    let mut fill = |shipped: String, filled: String| drop(places.insert(shipped, filled));
    for zone in ZONES {
        // az05 has the addresses from .51 on.
        let number = zone.trim_start_matches("az0");
        fill(format!("192.0.2.{number}1:862"), at(Spot::Agent(zone)).to_string());
        fill(format!("192.0.2.{number}3:862"), at(Spot::Server(Place::Responder(zone))).to_string());
        fill(format!("203.0.113.{number}2:862"), at(Spot::Neighbour(zone)).to_string());
        fill(format!("http://203.0.113.{number}3/"), format!("http://{}/login", at(Spot::Server(Place::Web(zone)))));
        fill(format!("00000000-0000-0000-0000-0000000000{number}0"), format!("canary-{zone}"));
    }
    for anchor in ANCHORS {
        fill(format!("198.51.100.{anchor}:443"), at(Spot::Server(Place::Anchor(anchor))).to_string());
    }
    fill("192.0.2.2:53".to_owned(), at(Spot::Server(Place::Dns)).to_string());
    fill("console.example".to_owned(), CONSOLE_NAME.to_owned());
    fill("https://namespace.s3.example".to_owned(), format!("http://{}", at(Spot::Server(Place::S3))));
    for (secret, _) in SECRETS {
        fill(format!("/etc/vigie/{secret}"), secrets.join(secret).display().to_string());
    }
    places
}

/// The whole text.
pub(super) fn text(filling: &Filling, machine: &Machine) -> Result<String, Failure> {
    let mut catalogue: Table = SHIPPED.parse()?;
    catalogue.insert("tenant".to_owned(), "demo".into());
    catalogue.insert("settle".to_owned(), SETTLE.to_string().into());
    catalogue.insert("stable_up".to_owned(), USUAL.stable_up.to_string().into());
    let since: Value = Value::Datetime(filling.since.to_string().parse()?);
    let targets = list(&mut catalogue, "target")?;
    if filling.disks.is_empty() {
        targets.retain(|target| kind(target) != "storage");
    }
    for target in targets {
        shorten(target);
        fill(target, filling);
    }
    let services = list(&mut catalogue, "service")?;
    if filling.disks.is_empty() {
        services.retain(|service| !id(service).starts_with("storage/"));
    }
    for service in services {
        let Pace { stable_up, .. } = pace_of(id(service));
        set(service, "stable_up", stable_up.to_string());
        set(service, "since", since.clone());
    }
    Ok(format!("{}\n{}", toml::to_string(&catalogue)?, machine.text(filling.since)))
}

fn list<'a>(catalogue: &'a mut Table, name: &str) -> Result<&'a mut Vec<Value>, Failure> {
    let list = catalogue.get_mut(name).and_then(Value::as_array_mut);
    list.ok_or_else(|| Failure::new(format!("the shipped catalogue has no [[{name}]]")))
}

fn id(table: &Value) -> &str {
    table.get("id").and_then(Value::as_str).unwrap_or_default()
}

fn kind(target: &Value) -> &str {
    target.get("check").and_then(|check| check.get("kind")).and_then(Value::as_str).unwrap_or_default()
}

fn set(table: &mut Value, key: &str, value: impl Into<Value>) {
    if let Value::Table(table) = table {
        table.insert(key.to_owned(), value.into());
    }
}

fn shorten(target: &mut Value) {
    let Pace { period, timeout, .. } = pace(kind(target));
    set(target, "period", period.to_string());
    set(target, "timeout", timeout.to_string());
}

fn fill(target: &mut Value, filling: &Filling) {
    let vantage = target.get("vantages").and_then(|all| all.get(0)?.as_str()).unwrap_or_default();
    let disk = filling.disks.get(vantage).map(|disk| disk.display().to_string());
    let authority = filling.authority.display().to_string();
    let kind = kind(target).to_owned();
    let Some(check) = target.get_mut("check") else { return };
    match kind.as_str() {
        "console" => {
            set(check, "endpoint", format!("https://{CONSOLE_NAME}"));
            set(check, "connect", filling.console.to_string());
            set(check, "ca", authority);
        }
        "internet" => {
            set(check, "ca", authority);
            let anchors = check.get_mut("anchors").and_then(Value::as_array_mut);
            // A connection is accepted by the system of an anchor, whatever its server does.
            anchors.into_iter().flatten().for_each(|anchor| set(anchor, "https", ANCHOR_NAME));
        }
        "api" | "backup" => {
            check.get_mut("api").into_iter().for_each(|api| set(api, "endpoint", format!("http://{}", filling.api)));
        }
        "storage" => set(check, "mount", disk.unwrap_or_default()),
        _ => {}
    }
    replace(check, &filling.places);
}

fn replace(value: &mut Value, places: &BTreeMap<String, String>) {
    match value {
        Value::String(text) => {
            if let Some(filled) = places.get(text.as_str()) {
                text.clone_from(filled);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, places)),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| replace(value, places)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use vigie_contract::Catalogue;
    use vigie_contract::catalogue::Strictness;

    use super::*;

    /// What stands where something is to be filled in (`tests/it/catalogues.rs`).
    const UNFILLED: [&str; 6] = ["192.0.2.", "198.51.100.", "203.0.113.", ".example", "00000000-", "/etc/vigie/"];

    fn at(spot: Spot) -> SocketAddr {
        match spot {
            Spot::Server(place) => (place.ip(), 4_000).into(),
            Spot::Agent(_) | Spot::Neighbour(_) => ([127, 0, 5, 1], 4_000).into(),
        }
    }

    fn filled(disks: &[&'static str]) -> (String, Catalogue) {
        let filling = Filling {
            places: places(at, Path::new("/tmp/demo")),
            console: "127.0.1.1:4000".parse().unwrap(),
            api: "127.0.1.2:4000".parse().unwrap(),
            disks: disks.iter().map(|zone| (*zone, PathBuf::from(format!("/tmp/demo/disk-{zone}")))).collect(),
            authority: PathBuf::from("/tmp/demo/demo.pem"),
            since: Time::from_us(1_774_567_890_000_000),
        };
        let machine = Machine::with_everything();
        let text = text(&filling, &machine).unwrap();
        let (catalogue, _) = Catalogue::read(&text, Strictness::Live).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
        (text, catalogue)
    }

    #[test]
    fn the_shipped_catalogue_is_filled_in_whole_and_one_that_live_programs_take() {
        let (text, catalogue) = filled(&ZONES);
        assert!(UNFILLED.iter().all(|place| !text.contains(place)), "{text}");
        for target in &catalogue.targets {
            let plan = target.plan.at(Time::BEGINNING);
            vigie_probe::validate(plan.check.as_ref().unwrap()).unwrap_or_else(|error| panic!("{}: {error}", target.id));
            assert!(plan.period.unwrap() <= LEISURELY.period, "{}", target.id);
        }
        assert!(catalogue.services.iter().any(|service| service.id.as_str() == "storage/fr1"));
    }

    #[test]
    fn where_no_disk_can_be_mounted_there_is_nothing_of_storage() {
        let (text, catalogue) = filled(&[]);
        assert!(
            !text.contains("kind = \"storage\"") && catalogue.services.iter().all(|service| !service.id.as_str().starts_with("storage"))
        );
    }
}
