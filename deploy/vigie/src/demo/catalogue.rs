//! The demo's catalogue: the contract's indicators over the region's servers, with short periods so that one can watch.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use vigie_contract::{Span, Time};

use super::region::{Place, ZONES, address};
use super::server::{KNOWN_NAME, Kind, VM_GREETING, ZONE_GREETING};

/// How often every target is measured from every zone.
pub(super) const PERIOD: Span = Span::from_secs(2);
/// How long an answer is waited for; 2 · timeout + 1.1 s < period.
pub(super) const TIMEOUT: Span = Span::from_us(400_000);
/// How long a service must work before it counts as restored.
pub(super) const STABLE_UP: Span = Span::from_secs(10);
/// How far the engine evaluates behind the log.
pub(super) const SETTLE: Span = Span::from_secs(2);

/// Where each server listens.
pub(super) type Addresses = BTreeMap<Place, SocketAddr>;

/// A well-known service that the machine itself runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MachineService {
    /// Its usual name.
    pub(super) name: &'static str,
    port: u16,
}

const WELL_KNOWN: [(u16, &str); 10] = [
    (22, "ssh"),
    (25, "smtp"),
    (53, "dns"),
    (80, "http"),
    (443, "https"),
    (3306, "mysql"),
    (5432, "postgresql"),
    (6379, "redis"),
    (9090, "prometheus"),
    (11211, "memcached"),
];

/// The well-known services that listen on this machine for everybody or on loopback, from the text of `/proc/net/tcp`.
pub(super) fn machine_services(proc_net_tcp: &str) -> Vec<MachineService> {
    let listening = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.split_once(':')?;
        let is_local = address == "00000000" || address == "0100007F";
        // 0A is LISTEN.
        (is_local && words.get(3) == Some(&"0A")).then(|| u16::from_str_radix(port, 16).ok())?
    };
    let ports: Vec<u16> = proc_net_tcp.lines().filter_map(listening).collect();
    let known = WELL_KNOWN.iter().filter(|(port, _)| ports.contains(port));
    known.map(|(port, name)| MachineService { name, port: *port }).collect()
}

/// Whether this user may send echoes, by either kind of socket.
pub(super) fn may_ping() -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let may = |kind| socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).is_ok();
    may(SockType::Datagram) || may(SockType::Raw)
}

/// The contract's lines that the demo measures: id, name, objective.
const INDICATORS: [(&str, &str, &str); 9] = [
    ("IC-INFRA_SNC-01", "Disponibilité de la puissance de calcul (Compute)", "99.99"),
    ("IC-INFRA_SNC-02", "Disponibilité du stockage", "99.99"),
    ("IC-INFRA_SNC-03", "Fiabilité de la sauvegarde", "99.99"),
    ("IC-INFRA_SNC-04", "Disponibilité de l'infrastructure réseau", "99.99"),
    ("IC-INFRA_SNC-05", "Accès Internet", "99.99"),
    ("IC-INFRA_SNC-06", "Accès à la console d'administration du Service", "97"),
    ("IC-INFRA_SNC-07", "Accès aux APIs de pilotage du Service", "99.9"),
    ("IC-INFRA-SNC-10.2", "Disponibilité de l'API Stockage Objet S3", "99.99"),
    ("IC-INFRA-SNC-10.3", "Latence maximale d'accès à un objet sur une région", "99.99"),
];

/// The whole text. Measurement starts at `since`; the kernel's own answers to echoes are measured if `pings`.
pub(super) fn text(addresses: &Addresses, machine: &[MachineService], certificate: &Path, since: Time, pings: bool) -> String {
    let mut text = format!("tenant = \"demo\"\ntimezone = \"Europe/Paris\"\nsettle = \"{SETTLE}\"\nstable_up = \"{STABLE_UP}\"\n");
    for (id, name, objective) in INDICATORS {
        let _ = write!(text, "\n[[indicator]]\nid = \"{id}\"\nname = \"{name}\"\nobjective = \"{objective}\"\n");
        text += "exclusions = [\"maintenance\", \"throttling\"]\n";
    }
    for zone in ZONES {
        let anchors: Vec<String> = ZONES.iter().filter(|other| **other != zone).map(|other| format!("\"zone-{other}\"")).collect();
        let _ = write!(text, "\n[[vantage]]\nid = \"{zone}\"\nanchors = [{}]\n", anchors.join(", "));
    }
    let at = |kind, zone| addresses.get(&Place(kind, zone)).map(SocketAddr::to_string).unwrap_or_default();
    let http =
        |kind, zone, path: &str, body: &str| format!("kind = \"http\", url = \"http://{}{path}\", body = \"{body}\"", at(kind, zone));
    let tcp = |kind, zone, expect: &str| format!("kind = \"tcp\", address = \"{}\", expect = \"{expect}\"", at(kind, zone));
    for zone in ZONES {
        target(&mut text, &format!("zone-{zone}"), "", &tcp(Kind::Zone, zone, ZONE_GREETING));
    }
    target(&mut text, "vm-az05", "", &tcp(Kind::Vm, "az05", VM_GREETING));
    target(&mut text, "vm-az07", "", &tcp(Kind::Vm, "az07", VM_GREETING));
    target(&mut text, "storage", "", &http(Kind::Storage, "az05", "/", "verified"));
    target(&mut text, "backup", "", &http(Kind::Backup, "az07", "/jobs/nightly", "success"));
    let console = format!(
        "kind = \"http\", url = \"https://console.demo.test/login\", connect = \"{}\", ca = \"{}\", body = \"Connexion\"",
        at(Kind::Console, "az05"),
        certificate.display()
    );
    target(&mut text, "console", "", &console);
    target(&mut text, "api", "", &http(Kind::Api, "az05", "/v1/state", "available"));
    target(&mut text, "s3", "", &http(Kind::S3, "az05", "/canary/object", "o"));
    target(&mut text, "s3-latency", "latency_objective = \"150ms\"\n", &http(Kind::S3, "az05", "/canary/object", "o"));
    target(&mut text, "web", "", &http(Kind::Web, "az07", "/", "It works"));
    let dns = format!("kind = \"dns\", server = \"{}\", name = \"{KNOWN_NAME}\", expect = [\"127.0.0.1\"]", at(Kind::Dns, "az05"));
    target(&mut text, "dns", "", &dns);

    if pings {
        for zone in ZONES {
            target(&mut text, &format!("ping-{zone}"), "", &format!("kind = \"icmp\", address = \"{}\"", address(zone)));
        }
    }

    let since = since.to_string();
    let mut service = |id: &str, indicator: &str, needs: &str, contractual: bool| {
        let _ = write!(text, "\n[[service]]\nid = \"{id}\"\nindicator = \"{indicator}\"\nneeds = {needs}\nsince = {since}\n");
        if !contractual {
            text += "contractual = false\n";
        }
    };
    service("compute/fr1", "IC-INFRA_SNC-01", "{ any = [\"vm-az05\", \"vm-az07\"] }", true);
    service("storage/fr1", "IC-INFRA_SNC-02", "\"storage\"", true);
    service("backup/fr1", "IC-INFRA_SNC-03", "\"backup\"", true);
    service("network/fr1", "IC-INFRA_SNC-04", "{ at_least = 2, of = [\"zone-az05\", \"zone-az06\", \"zone-az07\"] }", true);
    service("internet/fr1", "IC-INFRA_SNC-05", "\"web\"", true);
    service("dns/fr1", "IC-INFRA_SNC-05", "\"dns\"", false);
    service("console/fr1", "IC-INFRA_SNC-06", "\"console\"", true);
    service("api/fr1", "IC-INFRA_SNC-07", "\"api\"", true);
    service("s3/fr1", "IC-INFRA-SNC-10.2", "\"s3\"", true);
    service("s3-latency/fr1", "IC-INFRA-SNC-10.3", "\"s3-latency\"", false);
    if pings {
        let needs = "{ all = [\"ping-az05\", \"ping-az06\", \"ping-az07\"] }";
        service("ping/fr1", "IC-INFRA_SNC-04", needs, false);
    }
    for MachineService { name, .. } in machine {
        service(&format!("machine/{name}"), "IC-INFRA_SNC-01", &format!("\"machine-{name}\""), false);
    }
    for MachineService { name, port } in machine {
        target(&mut text, &format!("machine-{name}"), "", &format!("kind = \"tcp\", address = \"127.0.0.1:{port}\""));
    }
    text
}

fn target(text: &mut String, id: &str, more: &str, check: &str) {
    let zones: Vec<String> = ZONES.iter().map(|zone| format!("\"{zone}\"")).collect();
    let _ = write!(text, "\n[[target]]\nid = \"{id}\"\nvantages = [{}]\n{more}", zones.join(", "));
    let _ = write!(text, "period = \"{PERIOD}\"\ntimeout = \"{TIMEOUT}\"\ncheck = {{ {check} }}\n");
}

#[cfg(test)]
mod tests {
    use vigie_contract::Catalogue;
    use vigie_contract::catalogue::Strictness;

    use super::*;

    #[test]
    fn the_catalogue_is_one_that_live_programs_take() {
        let machine = vec![MachineService { name: "ssh", port: 22 }];
        let kinds = [Kind::Zone, Kind::Vm, Kind::Storage, Kind::Backup, Kind::Console, Kind::Api, Kind::S3, Kind::Web, Kind::Dns];
        let places = kinds.into_iter().flat_map(|kind| ZONES.map(|zone| Place(kind, zone)));
        let addresses = places.map(|place| (place, "127.0.5.1:4000".parse().unwrap())).collect();
        let text = text(&addresses, &machine, Path::new("/tmp/console.pem"), Time::from_us(1_774_567_890_000_000), true);
        let (catalogue, _) = Catalogue::read(&text, Strictness::Live).unwrap();
        let checks = catalogue.targets.iter().filter_map(|target| target.plan.at(Time::from_us(0)).check.clone());
        checks.for_each(|check| vigie_probe::validate(&check).unwrap());
        assert_eq!(catalogue.targets.len(), 17);
    }

    #[test]
    fn only_what_listens_and_is_well_known_is_supervised() {
        let text = "  sl  local_address rem_address   st\n   0: 00000000:0016 00000000:0000 0A 0\n   1: 0100007F:1538 00000000:0000 0A 0\n\
                    2: 0100007F:0050 0100007F:9999 01 0\n   3: 0A000001:0050 00000000:0000 0A 0\n   4: 0100007F:FFFF 00000000:0000 0A 0\n";
        let names: Vec<&str> = machine_services(text).iter().map(|service| service.name).collect();
        assert_eq!(names, ["ssh", "postgresql"]);
    }
}
