//! The engine on real sockets: in network namespaces of the tests' own, where there is the privilege for that.

use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use futures::join_all;
use nix::sched::{CloneFlags, unshare};
use tokio::task::LocalSet;

use super::*;

const ALL_GROUPS: &str = "0 2147483647";
/// So long that no test waits for it.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);
/// What the test itself must do in this time, it can on a busy machine too.
const AMPLE: Duration = Duration::from_millis(600);

mod futures {
    //! The one combinator that the tests need.
    pub(super) async fn join_all<T: 'static>(futures: impl IntoIterator<Item = impl Future<Output = T> + 'static>) -> Vec<T> {
        let tasks: Vec<_> = futures.into_iter().map(tokio::task::spawn_local).collect();
        let mut outputs = Vec::with_capacity(tasks.len());
        for task in tasks {
            outputs.push(task.await.unwrap());
        }
        outputs
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

fn pinger(modes: &[Mode]) -> Pinger {
    Pinger::with(Source::default(), modes, socket::RECEIVE_BYTES).unwrap()
}

fn waiting(pinger: &Pinger) -> usize {
    let count = |family: &Family| family.shards.borrow().iter().map(|(shard, _)| shard.waiting.borrow().len()).sum::<usize>();
    [&pinger.0.v4, &pinger.0.v6].into_iter().flatten().map(count).sum()
}

/// Sends several echoes at once.
async fn echoes(pinger: &Pinger, to: &[IpAddr], patience: Duration) -> Vec<Echo> {
    let deadline = now() + patience;
    let echo = |to| {
        let pinger = pinger.clone();
        async move { pinger.echo(to, deadline).await }
    };
    join_all(to.iter().copied().map(echo)).await
}

/// Runs `ip`; says what went wrong.
pub(crate) fn configure(commands: &[&str]) -> Result<(), String> {
    for command in commands {
        let output = Command::new("ip").args(command.split(' ')).output().map_err(|error| format!("no `ip`: {error}"))?;
        if !output.status.success() {
            return Err(format!("`ip {command}`: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}

/// Gives this namespace an IPv6 address and waits until it is reached by it, which the kernel sees to a little later.
fn address(ip: &str, length: u8, device: &str) -> Result<(), String> {
    configure(&[&format!("link set {device} up"), &format!("addr add {ip}/{length} dev {device} nodad")])?;
    let end = now() + LONG;
    while now() < end {
        let table = Command::new("ip").args(["-6", "route", "show", "table", "local"]).output().map_err(|error| error.to_string())?;
        if String::from_utf8_lossy(&table.stdout).contains(&format!("local {ip} ")) {
            return Ok(());
        }
    }
    Err(format!("{ip} does not become an address of {device}"))
}

/// 192.0.2.7 is then behind a cable from which nobody takes what is sent to it.
pub(crate) fn black_hole() -> Result<(), String> {
    configure(&[
        "link add hole type veth peer name other-end",
        "addr add 192.0.2.1/24 dev hole",
        "link set hole up",
        "link set other-end up",
        "neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 nud permanent dev hole",
    ])
}

fn set(sysctl: &str, value: &str) -> Result<(), String> {
    std::fs::write(format!("/proc/sys/net/{sysctl}"), value).map_err(|error| format!("{sysctl}: {error}"))
}

/// Runs `test` in a thread with a network of its own, which has a loopback and what `setup` adds; where that cannot be had, the test is
/// skipped and says so. Nothing of it remains.
pub(crate) fn in_namespace(setup: impl FnOnce() -> Result<(), String> + Send + 'static, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let ready = unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("no network namespace: {errno}"));
        match ready.and_then(|()| configure(&["link set lo up"])).and_then(|()| setup()) {
            Ok(()) => test(),
            Err(why) => skipped(&why),
        }
    });
    thread.join().unwrap();
}

#[expect(clippy::print_stderr, reason = "whoever reads the tests' output shall see it")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

#[test]
fn loopback_answers_in_the_mode_that_this_machine_permits() {
    run(async {
        let pinger = match Pinger::start(Source::default()) {
            Ok(pinger) => pinger,
            Err(error) => return skipped(&error.to_string()),
        };
        for (mode, to) in [(pinger.v4(), "127.0.0.1"), (pinger.v6(), "::1")] {
            let echo = pinger.echo(ip(to), now() + LONG).await;
            match mode {
                Ok(_) => assert!(matches!(echo, Echo::Replied { .. }), "{to}: {echo:?}"),
                Err(_) => assert_eq!(echo, Echo::LocalFault(LocalFault::Unavailable)),
            }
        }
    });
}

#[test]
fn both_modes_ping_both_versions_and_lose_nothing() {
    for mode in [Mode::Datagram, Mode::Raw] {
        let setup = || set("ipv4/ping_group_range", ALL_GROUPS);
        in_namespace(setup, move || {
            run(async {
                let pinger = pinger(&[mode]);
                assert_eq!((pinger.v4().unwrap(), pinger.v6().unwrap()), (mode, mode));
                let to: Vec<_> = (0..2_000u16).flat_map(|n| [IpAddr::V4([127, 1, (n >> 8) as u8, n as u8].into()), ip("::1")]).collect();
                for echo in echoes(&pinger, &to, LONG).await {
                    let Echo::Replied { rtt, hop_limit } = echo else { panic!("{mode:?}: {echo:?}") };
                    assert!(rtt < LONG && hop_limit == Some(64), "{mode:?}: {rtt:?} {hop_limit:?}");
                }
                assert_eq!(pinger.counts(), Counts { replied: 4_000, ..Counts::default() });
                assert_eq!(waiting(&pinger), 0);
            });
        });
    }
}

#[test]
fn datagram_sockets_are_preferred_and_a_missing_privilege_is_named() {
    in_namespace(
        || set("ipv4/ping_group_range", "1 0"),
        || {
            run(async {
                let error = Pinger::with(Source::default(), &[Mode::Datagram], socket::RECEIVE_BYTES).unwrap_err().to_string();
                assert!(error.contains("net.ipv4.ping_group_range (now `1 0`)") && error.contains("CAP_NET_RAW"), "{error}");
                assert_eq!(Pinger::start(Source::default()).unwrap().v4().unwrap(), Mode::Raw);
                set("ipv4/ping_group_range", ALL_GROUPS).unwrap();
                assert_eq!(Pinger::start(Source::default()).unwrap().v4().unwrap(), Mode::Datagram);
            });
        },
    );
}

#[test]
fn echoes_come_from_the_source_that_was_asked_for() {
    for mode in [Mode::Datagram, Mode::Raw] {
        let setup = || {
            set("ipv4/ping_group_range", ALL_GROUPS)?;
            address("fd09::7", 128, "lo")
        };
        in_namespace(setup, move || {
            run(async {
                let with = |v4: &str| {
                    let source = Source { v4: Some(v4.parse().unwrap()), v6: Some("fd09::7".parse().unwrap()) };
                    Pinger::with(source, &[mode], socket::RECEIVE_BYTES).unwrap()
                };
                let pinger = with("127.0.0.9");
                let echoes = echoes(&pinger, &[ip("127.0.0.1"), ip("::1")], LONG).await;
                assert!(echoes.iter().all(|echo| matches!(echo, Echo::Replied { .. })), "{mode:?} {echoes:?} {:?}", pinger.counts());
                let pinger = with("192.0.2.1");
                assert!(matches!(pinger.v4(), Err(Unavailable::System(_))));
                assert_eq!(pinger.echo(ip("127.0.0.1"), now() + LONG).await, Echo::LocalFault(LocalFault::Unavailable));
            });
        });
    }
}

#[test]
fn a_host_without_a_way_there_says_so_at_once() {
    in_namespace(
        || Ok(()),
        || {
            run(async {
                let pinger = pinger(&[Mode::Raw]);
                assert_eq!(pinger.echo(ip("192.0.2.1"), now() + LONG).await, Echo::NoRoute(Errno::ENETUNREACH));
                assert_eq!(pinger.echo(ip("2001:db8::1"), now() + LONG).await, Echo::NoRoute(Errno::ENETUNREACH));
                let broadcast = pinger.echo(ip("255.255.255.255"), now() + LONG).await;
                assert!(matches!(broadcast, Echo::NoRoute(_) | Echo::LocalFault(LocalFault::Refused(_))), "{broadcast:?}");
                assert_eq!(waiting(&pinger), 0);
            });
        },
    );
}

/// Sends an echo and looks for its reply only after a while.
async fn echo_while_away(pinger: &Pinger, patience: Duration, away: Duration) -> Echo {
    let other = pinger.clone();
    let echo = tokio::task::spawn_local(async move { other.echo(ip("127.0.0.1"), now() + patience).await });
    while waiting(pinger) == 0 {
        tokio::task::yield_now().await;
    }
    std::thread::sleep(away);
    echo.await.unwrap()
}

#[test]
fn what_arrived_in_time_is_a_reply_although_the_probe_did_not_run() {
    for mode in [Mode::Datagram, Mode::Raw] {
        in_namespace(
            || set("ipv4/ping_group_range", ALL_GROUPS),
            move || {
                run(async {
                    let pinger = pinger(&[mode]);
                    // The kernel begins to stamp a little after it was asked to; until then a reply is dated by when it is taken.
                    while !matches!(echo_while_away(&pinger, LONG, SHORT).await, Echo::Replied { rtt, .. } if rtt < SHORT) {}
                    let echo = echo_while_away(&pinger, AMPLE, 2 * AMPLE).await;
                    let Echo::Replied { rtt, .. } = echo else { panic!("{mode:?} {echo:?} {:?}", pinger.counts()) };
                    assert!(rtt < AMPLE, "{rtt:?}: the time in which we did not look is not the network's");
                });
            },
        );
    }
}

#[test]
fn silence_is_a_timeout_and_leaves_nothing_behind() {
    in_namespace(black_hole, || {
        run(async {
            let pinger = pinger(&[Mode::Raw]);
            assert_eq!(pinger.echo(ip("192.0.2.7"), now() + SHORT).await, Echo::TimedOut);
            assert!(tokio::time::timeout(SHORT, pinger.echo(ip("192.0.2.7"), now() + LONG)).await.is_err());
            assert_eq!(waiting(&pinger), 0);
            assert_eq!(pinger.counts(), Counts::default());
        });
    });
}

#[test]
fn more_echoes_than_one_socket_has_numbers_for_get_another() {
    in_namespace(black_hole, || {
        run(async {
            let pinger = pinger(&[Mode::Raw]);
            for _ in 0..33_000 {
                let pinger = pinger.clone();
                tokio::task::spawn_local(async move { pinger.echo(ip("192.0.2.7"), now() + LONG).await });
            }
            while waiting(&pinger) < 33_000 {
                tokio::task::yield_now().await;
            }
            assert_eq!(pinger.0.v4.as_ref().unwrap().shards.borrow().len(), 2);
        });
    });
}

#[test]
fn replies_that_our_own_queue_dropped_are_our_own_fault() {
    for (mode, to) in [(Mode::Datagram, "127.0.0.1"), (Mode::Raw, "127.0.0.1"), (Mode::Datagram, "::1"), (Mode::Raw, "::1")] {
        in_namespace(
            || set("ipv4/ping_group_range", ALL_GROUPS),
            move || {
                run(async {
                    let pinger = Pinger::with(Source::default(), &[mode], 4_096).unwrap();
                    let echoes = echoes(&pinger, &[ip(to); 100], AMPLE).await;
                    let starved = echoes.iter().filter(|echo| **echo == Echo::LocalFault(LocalFault::Starved)).count();
                    let replied = echoes.iter().filter(|echo| matches!(echo, Echo::Replied { .. })).count();
                    assert!(starved > 0 && replied > 0 && starved + replied == 100, "{mode:?} {to}: {starved} {replied}");
                    // Some kernels count one drop twice.
                    assert!(pinger.counts().dropped >= starved as u64, "{mode:?} {to}: {:?}", pinger.counts());
                    // After it, everything is as before, but for the first reply that finds no room for what the kernel tells more.
                    assert!(matches!(pinger.echo(ip(to), now() + LONG).await, Echo::Replied { .. }));
                    for _ in 0..3 {
                        let echo = pinger.echo(ip(to), now() + LONG).await;
                        assert!(matches!(echo, Echo::Replied { hop_limit: Some(64), .. }), "{echo:?}");
                    }
                });
            },
        );
    }
}

/// A second namespace behind this one: a router that forwards nothing and says so, or not.
struct Router {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Router {
    /// What `setup` makes there lasts as long as the router.
    fn start<T>(setup: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<Self, String> {
        let (tell, told) = mpsc::channel();
        let (linked, link) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let own = unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| errno.to_string()).map(|()| nix::unistd::gettid());
            tell.send(own).unwrap();
            if link.recv().is_err() {
                return;
            }
            let made = Self::configure().and_then(|()| setup());
            tell.send(made.as_ref().map(|_| nix::unistd::gettid()).map_err(String::clone)).unwrap();
            let _ = stopped.recv();
        });
        let tid = told.recv().unwrap()?;
        configure(&[
            &format!("link add to-router type veth peer name to-us netns {tid}"),
            "addr add 10.9.0.1/24 dev to-router",
            "link set to-router up",
            "route add default via 10.9.0.2",
        ])?;
        address("fd09::1", 64, "to-router")?;
        configure(&["-6 route add default via fd09::2"])?;
        linked.send(()).unwrap();
        told.recv().unwrap()?;
        Ok(Self { stop, thread })
    }

    fn configure() -> Result<(), String> {
        configure(&["link set lo up", "addr add 10.9.0.2/24 dev to-us"])?;
        address("fd09::2", 64, "to-us")?;
        set("ipv4/ip_forward", "1")?;
        set("ipv6/conf/all/forwarding", "1")?;
        // The limit on errors would make some of them timeouts.
        set("ipv4/icmp_ratemask", "0")?;
        set("ipv6/icmp/ratelimit", "0")?;
        configure(&[
            "route add unreachable 198.51.100.0/25",
            "route add prohibit 198.51.100.128/25",
            "route add blackhole 203.0.113.0/24",
            "-6 route add unreachable 2001:db8:1::/48",
            "-6 route add prohibit 2001:db8:2::/48",
        ])
    }
}

/// As [`in_namespace`], behind a router: 10.9.0.2 and `fd09::2`.
pub(crate) fn behind_a_router(setup: impl FnOnce() -> Result<(), String> + Send + 'static, test: impl FnOnce() + Send + 'static) {
    behind_a_router_with(|| Ok(()), setup, test);
}

/// The same, with what `setup_of_router` makes there.
pub(crate) fn behind_a_router_with<T>(
    setup_of_router: impl FnOnce() -> Result<T, String> + Send + 'static,
    setup: impl FnOnce() -> Result<(), String> + Send + 'static,
    test: impl FnOnce() + Send + 'static,
) {
    in_namespace(setup, || {
        let router = match Router::start(setup_of_router) {
            Ok(router) => router,
            Err(why) => return skipped(&why),
        };
        test();
        drop(router.stop);
        router.thread.join().unwrap();
    });
}

#[test]
fn what_a_router_says_is_said_of_the_right_echo() {
    for mode in [Mode::Datagram, Mode::Raw] {
        behind_a_router(
            || set("ipv4/ping_group_range", ALL_GROUPS),
            move || {
                run(async {
                    let pinger = pinger(&[mode]);
                    let to = ["198.51.100.1", "10.9.0.2", "198.51.100.129", "2001:db8:1::1", "fd09::2", "2001:db8:2::1"].map(ip);
                    // Linux says so to one host five times in a row, then once a second (net.ipv4.route.error_burst).
                    let to: Vec<_> = to.iter().copied().cycle().take(12).collect();
                    for (to, echo) in to.iter().zip(echoes(&pinger, &to, LONG).await) {
                        let Echo::Undelivered(Undelivered { icmp_type, code, from }) = echo else {
                            assert!(
                                matches!(echo, Echo::Replied { .. }) && (*to == ip("10.9.0.2") || *to == ip("fd09::2")),
                                "{to} {echo:?}"
                            );
                            continue;
                        };
                        let said = match to.to_string().as_str() {
                            "198.51.100.1" => (3, 1, "10.9.0.2"),
                            "198.51.100.129" => (3, 13, "10.9.0.2"),
                            "2001:db8:1::1" => (1, 0, "fd09::2"),
                            "2001:db8:2::1" => (1, 1, "fd09::2"),
                            other => panic!("{other}: {echo:?}"),
                        };
                        assert_eq!((icmp_type, code, from), (said.0, said.1, Some(ip(said.2))), "{mode:?} {to}");
                    }
                    assert_eq!(pinger.echo(ip("203.0.113.1"), now() + SHORT).await, Echo::TimedOut);
                    assert_eq!(pinger.counts(), Counts { replied: 4, ..Counts::default() });
                });
            },
        );
    }
}
