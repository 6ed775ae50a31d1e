//! `vigie demo-server`: one server of the demo's region, as a process of its own, so that it can really die.
//!
//! It is test equipment that behaves as the provider's does (`vigie-counterparts`), behind a door. It is told what to do in lines on
//! standard input, and answers each with the instant before the change took effect, in microseconds: the truth that the demo's verdict
//! compares with. It ends when standard input does.

use std::fs;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use vigie_aggregator::clock::wall_now;
use vigie_contract::Time;
use vigie_counterparts::agent::{Agent, Guest};
use vigie_counterparts::console::Console;
use vigie_counterparts::dns::Dns;
use vigie_counterparts::identity::Identity;
use vigie_counterparts::object_store::ObjectStore;
use vigie_counterparts::openiaas::{Fault, OpenIaas, Route, Scope};

use super::door::{self, Behaviour, Shared};
use crate::shell::{self, Failure};

/// Certificate and key of all who speak TLS, and the object store's directory, in the demo's.
pub(super) const CERTIFICATE: &str = "demo.pem";
pub(super) const KEY: &str = "demo.key";
pub(super) const OBJECTS: &str = "objects";

/// The API counts in shorter seconds: what the shipped catalogue asks in 15 or 70 s is asked in 4 s here.
const LIMIT_SECOND_US: i64 = 20_000;

/// A server of the demo's region
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What it serves
    kind: Kind,
    /// Where; port 0 for any free one
    #[arg(long)]
    listen: SocketAddr,
    /// Where its files lie: certificate and key, objects
    #[arg(long)]
    dir: PathBuf,
}

/// What a server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(super) enum Kind {
    /// A page.
    Web,
    /// A page over TLS, somewhere in the Internet.
    Anchor,
    /// The console, over TLS.
    Console,
    /// The orchestration API.
    Api,
    /// The object store.
    S3,
    /// The region's resolver.
    Dns,
    /// A STAMP reflector.
    Responder,
}

/// What a server can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The API's list of backup policies does not come any more.
    HangPolicies,
    /// The API answers 429.
    Throttle,
    /// Answer so many milliseconds late.
    Slow(u64),
    /// Nothing from this address arrives any more.
    Cut(IpAddr),
    /// Packets from this address arrive again.
    Mend(IpAddr),
    /// Answer as at the start.
    Heal,
}

impl Order {
    /// As a line of standard input.
    pub(super) fn line(self) -> String {
        match self {
            Self::HangPolicies => "hang-policies".to_owned(),
            Self::Throttle => "throttle".to_owned(),
            Self::Slow(ms) => format!("slow {ms}"),
            Self::Cut(ip) => format!("cut {ip}"),
            Self::Mend(ip) => format!("mend {ip}"),
            Self::Heal => "heal".to_owned(),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "hang-policies" => Some(Self::HangPolicies),
            "throttle" => Some(Self::Throttle),
            "slow" => rest.parse().ok().map(Self::Slow),
            "cut" => rest.parse().ok().map(Self::Cut),
            "mend" => rest.parse().ok().map(Self::Mend),
            "heal" => Some(Self::Heal),
            _ => None,
        }
    }
}

impl Behaviour {
    fn obey(&mut self, order: Order) {
        match order {
            Order::Slow(ms) => self.delay = Duration::from_millis(ms),
            Order::Cut(ip) => drop(self.cut.insert(ip)),
            Order::Mend(ip) => drop(self.cut.remove(&ip)),
            Order::Heal => self.delay = Duration::ZERO,
            Order::HangPolicies | Order::Throttle => {}
        }
    }
}

/// What stands behind the door, or answers datagrams by itself.
enum Equipment {
    Console(Console),
    Api(OpenIaas),
    Objects(ObjectStore),
    Resolver(Dns),
    Responder(Agent),
}

impl Equipment {
    async fn start(kind: Kind, listen: SocketAddr, dir: &Path) -> Result<Self, Failure> {
        let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(match kind {
            Kind::Web => Self::Console(Console::start(inside, None).await?),
            Kind::Anchor | Kind::Console => Self::Console(Console::start(inside, Some(identity(dir)?)).await?),
            Kind::Api => {
                let api = OpenIaas::start(inside, Arc::new(|| wall_now().us())).await?;
                api.set_limit_second_us(LIMIT_SECOND_US);
                Self::Api(api)
            }
            Kind::S3 => Self::Objects(ObjectStore::start(&dir.join(OBJECTS), 0, None)?),
            Kind::Dns => Self::Resolver(Dns::start_at(listen)?),
            Kind::Responder => Self::Responder(Agent::start_at(listen, Guest::default())?),
        })
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Console(console) => console.address(),
            Self::Api(api) => api.address(),
            Self::Objects(objects) => objects.address,
            Self::Resolver(resolver) => resolver.address(),
            Self::Responder(responder) => responder.address(),
        }
    }

    fn has_a_door(&self) -> bool {
        !matches!(self, Self::Resolver(_) | Self::Responder(_))
    }

    fn obey(&self, order: Order) {
        let Self::Api(api) = self else { return };
        match order {
            Order::HangPolicies => api.switch_on(Scope::Only(Route::Policies), Fault::Hang),
            Order::Throttle => api.switch_on(Scope::Everything, Fault::Throttled { retry_after_s: None }),
            Order::Heal => api.heal(),
            Order::Slow(_) | Order::Cut(_) | Order::Mend(_) => {}
        }
    }
}

fn identity(dir: &Path) -> Result<Identity, Failure> {
    Ok(Identity::read(&fs::read_to_string(dir.join(CERTIFICATE))?, &fs::read_to_string(dir.join(KEY))?)?)
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::die_with_parent();
    shell::run(async {
        // Before anything answers: whoever asks does so later.
        let mut began = wall_now();
        let equipment = Arc::new(Equipment::start(args.kind, args.listen, &args.dir).await?);
        let behaviour = Shared::default();
        let (mut address, mut listener) = (equipment.address(), None);
        let inside = address;
        if equipment.has_a_door() {
            began = wall_now();
            let door = TcpListener::bind(args.listen).await;
            let door = door.map_err(|error| Failure::new(format!("cannot listen on {}: {error}", args.listen)))?;
            address = door.local_addr()?;
            listener = Some(door);
        }
        let led = Arc::clone(&behaviour);
        let door = async {
            match listener {
                Some(listener) => door::lead(listener, inside, led).await,
                None => std::future::pending().await,
            }
        };
        say(&format!("{} {address}", began.us()))?;
        let (end, ended) = tokio::sync::oneshot::channel();
        // A read of standard input cannot be cancelled: it has a thread of its own, which ends with the process.
        std::thread::spawn(move || {
            let _ = take_orders(&behaviour, &equipment);
            let _ = end.send(());
        });
        tokio::select! {
            served = door => served.map_err(Failure::from),
            _ = ended => Ok(()),
        }
    })
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn take_orders(behaviour: &Shared, equipment: &Equipment) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let Some(order) = Order::read(line?.trim()) else { continue };
        let at: Time = {
            let mut behaviour = door::lock(behaviour);
            let at = wall_now();
            behaviour.obey(order);
            equipment.obey(order);
            at
        };
        say(&at.us().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_written() {
        let stranger = "127.0.103.1".parse().unwrap();
        let all = [Order::HangPolicies, Order::Throttle, Order::Slow(250), Order::Cut(stranger), Order::Mend(stranger), Order::Heal];
        assert!(all.iter().all(|order| Order::read(&order.line()) == Some(*order)));
        assert_eq!(Order::read("dance"), None);
    }

    #[test]
    fn healing_is_one_thing_and_mending_a_cut_another() {
        let mut behaviour = Behaviour::default();
        let peer = "127.0.103.1".parse().unwrap();
        behaviour.obey(Order::Cut(peer));
        behaviour.obey(Order::Slow(250));
        behaviour.obey(Order::Heal);
        assert!(behaviour.cut.contains(&peer) && behaviour.delay.is_zero());
        behaviour.obey(Order::Mend(peer));
        assert!(!behaviour.cut.contains(&peer));
    }
}
