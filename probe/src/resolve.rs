//! The probe's own resolver: /etc/hosts, then the servers of /etc/resolv.conf, with a cache.
//!
//! A resolver that does not answer is the probe's fault, and a name that it knew a while ago still stands: the check goes on. Only a
//! server that says that there is no such name speaks about the service.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};
use vigie_contract::Reason;

use crate::check::Finding;
use crate::clock::now;
use crate::dns::{Question, ask};
use crate::net::Source;

/// How long one server is waited for before the next is asked.
const PATIENCE: Duration = Duration::from_millis(300);
/// An answer is believed at least and at most this long, whatever its time to live.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);
/// So many names are remembered; then all are forgotten.
const MOST_NAMES: usize = 100_000;

/// Knows addresses by name.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    servers: Vec<SocketAddr>,
    hosts: HashMap<String, IpAddr>,
    cache: RefCell<HashMap<String, (IpAddr, Instant)>>,
}

impl Resolver {
    /// As the system is set up.
    pub(crate) fn of_system() -> Self {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        Self::new(&read("/etc/resolv.conf"), &read("/etc/hosts"))
    }

    fn new(resolv_conf: &str, hosts: &str) -> Self {
        let words = |line: &str| line.split('#').next().unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let servers = resolv_conf.lines().map(words).filter(|words| words.first().is_some_and(|word| word == "nameserver"));
        let servers = servers.filter_map(|words| words.get(1)?.parse().ok().map(|ip| SocketAddr::new(ip, 53)));
        let mut known = HashMap::new();
        for line in hosts.lines().map(words) {
            let Some((Ok(ip), names)) = line.split_first().map(|(ip, names)| (ip.parse::<IpAddr>(), names)) else { continue };
            for name in names {
                // Of a name with addresses of both kinds the older protocol's, as the cache does.
                let entry = known.entry(name.to_ascii_lowercase()).or_insert(ip);
                if ip.is_ipv4() && entry.is_ipv6() {
                    *entry = ip;
                }
            }
        }
        Self { servers: servers.collect(), hosts: known, cache: RefCell::default() }
    }

    /// The address of `name`: IPv4 if it has one.
    pub(crate) async fn lookup(&self, name: &str, source: Source) -> Result<IpAddr, Finding> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(ip) = self.hosts.get(&name) {
            return Ok(*ip);
        }
        let remembered = self.cache.borrow().get(&name).copied();
        if let Some((ip, until)) = remembered
            && now() < until
        {
            return Ok(ip);
        }
        match (self.query(&name, source).await, remembered) {
            (Ok((ip, keep)), _) => {
                let mut cache = self.cache.borrow_mut();
                if cache.len() >= MOST_NAMES {
                    cache.clear();
                }
                cache.insert(name, (ip, now() + keep));
                Ok(ip)
            }
            (Err(Finding::Void(_)), Some((ip, _))) => Ok(ip),
            (Err(finding), _) => Err(finding),
        }
    }

    /// Asks the servers one after the other, for addresses of either kind.
    async fn query(&self, name: &str, source: Source) -> Result<(IpAddr, Duration), Finding> {
        let Ok(mut fqdn) = Name::from_str(name) else { return Err(Finding::Fail(Reason::Dns)) };
        fqdn.set_fqdn(true);
        let mut verdict = Finding::Void(Reason::Resolver);
        for server in &self.servers {
            for record_type in [RecordType::A, RecordType::AAAA] {
                let question = Question { name: fqdn.clone(), record_type };
                let asked = tokio::time::timeout(PATIENCE, ask(source, *server, &question, PATIENCE)).await;
                let Ok(Ok(answer)) = asked else { break };
                match answer.metadata.response_code {
                    ResponseCode::NoError => {}
                    ResponseCode::NXDomain => return Err(Finding::Fail(Reason::Dns)),
                    _ => break,
                }
                let address = answer.answers.iter().find_map(|record| match &record.data {
                    RData::A(a) => Some((IpAddr::V4(a.0), record.ttl)),
                    RData::AAAA(aaaa) => Some((IpAddr::V6(aaaa.0), record.ttl)),
                    _ => None,
                });
                if let Some((ip, ttl)) = address {
                    return Ok((ip, Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST)));
                }
                // It has no address of this kind; none of either is the service's own doing.
                verdict = Finding::Fail(Reason::Dns);
            }
        }
        Err(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hosts_come_first() {
        let resolver =
            Resolver::new("nameserver 192.0.2.1 # no\noptions x\n", "127.0.0.1 localhost\n::1 localhost ip6\n10.0.0.9 S3.Test\n");
        assert_eq!(resolver.servers, ["192.0.2.1:53".parse().unwrap()]);
        for (name, ip) in [("localhost", "127.0.0.1"), ("ip6", "::1"), ("s3.test.", "10.0.0.9")] {
            assert_eq!(resolver.lookup(name, Source::default()).await, Ok(ip.parse().unwrap()));
        }
    }

    #[tokio::test]
    async fn without_servers_it_is_our_own_fault_and_what_was_known_still_stands() {
        let resolver = Resolver::new("", "");
        assert_eq!(resolver.lookup("s3.test", Source::default()).await, Err(Finding::Void(Reason::Resolver)));
        resolver.cache.borrow_mut().insert("s3.test".into(), ("10.0.0.9".parse().unwrap(), now()));
        assert_eq!(resolver.lookup("s3.test", Source::default()).await, Ok("10.0.0.9".parse().unwrap()));
    }
}
