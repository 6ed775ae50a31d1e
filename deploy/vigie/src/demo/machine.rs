//! What the demo supervises beside its region: this machine's own services, and its answers to echoes.

use std::fmt::Write;

use vigie_contract::Time;

use super::catalogue::{Pace, USUAL};
use super::place::ZONES;

/// Beside what the contract has: this machine's own services, and its echoes if they may be sent.
pub(super) struct Machine {
    pub(super) services: Vec<OwnService>,
    pub(super) may_ping: bool,
}

/// A well-known service that the machine itself runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnService {
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

impl Machine {
    /// Of this machine.
    pub(super) fn here() -> Self {
        let services = own_services(&std::fs::read_to_string("/proc/net/tcp").unwrap_or_default());
        Self { services, may_ping: may_ping() }
    }

    #[cfg(test)]
    pub(super) fn with_everything() -> Self {
        Self { services: vec![OwnService { name: "ssh", port: 22 }], may_ping: true }
    }

    /// As targets and services of a catalogue.
    pub(super) fn text(&self, since: Time) -> String {
        let mut text = String::new();
        for OwnService { name, port } in &self.services {
            target(&mut text, &format!("machine-{name}"), &format!("kind = \"tcp\", address = \"127.0.0.1:{port}\""));
            service(&mut text, &format!("machine/{name}"), "IC-INFRA_SNC-01", &format!("machine-{name}"), since);
        }
        if self.may_ping {
            target(&mut text, "ping", "kind = \"icmp\", address = \"127.0.5.1\"");
            service(&mut text, "ping/az05", "IC-INFRA_SNC-04", "ping", since);
        }
        text
    }
}

fn target(text: &mut String, id: &str, check: &str) {
    let Pace { period, timeout, .. } = USUAL;
    let vantages = ZONES.map(|zone| format!("\"{zone}\"")).join(", ");
    let _ = write!(
        text,
        "\n[[target]]\nid = \"{id}\"\nvantages = [{vantages}]\nperiod = \"{period}\"\ntimeout = \"{timeout}\"\ncheck = {{ {check} }}\n"
    );
}

fn service(text: &mut String, id: &str, indicator: &str, needs: &str, since: Time) {
    let _ = write!(
        text,
        "\n[[service]]\nid = \"{id}\"\nindicator = \"{indicator}\"\nneeds = \"{needs}\"\nsince = {since}\ncontractual = false\n"
    );
}

/// The well-known services that listen on this machine for everybody or on loopback, from the text of `/proc/net/tcp`.
fn own_services(proc_net_tcp: &str) -> Vec<OwnService> {
    let listening = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.split_once(':')?;
        let is_local = address == "00000000" || address == "0100007F";
        // 0A is LISTEN.
        (is_local && words.get(3) == Some(&"0A")).then(|| u16::from_str_radix(port, 16).ok())?
    };
    let ports: Vec<u16> = proc_net_tcp.lines().filter_map(listening).collect();
    let known = WELL_KNOWN.iter().filter(|(port, _)| ports.contains(port));
    known.map(|(port, name)| OwnService { name, port: *port }).collect()
}

/// Whether this user may send echoes, by either kind of socket.
fn may_ping() -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let may = |kind| socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp).is_ok();
    may(SockType::Datagram) || may(SockType::Raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_listens_and_is_well_known_is_supervised() {
        let text = "  sl  local_address rem_address   st\n   0: 00000000:0016 00000000:0000 0A 0\n   1: 0100007F:1538 00000000:0000 0A 0\n\
                    2: 0100007F:0050 0100007F:9999 01 0\n   3: 0A000001:0050 00000000:0000 0A 0\n   4: 0100007F:FFFF 00000000:0000 0A 0\n";
        let names: Vec<&str> = own_services(text).iter().map(|service| service.name).collect();
        assert_eq!(names, ["ssh", "postgresql"]);
    }
}
