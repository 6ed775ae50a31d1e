//! `vigie demo`: a region on this machine, incidents that really happen in it, and truth beside what was derived.

mod catalogue;
mod client;
mod door;
mod machine;
mod place;
mod region;
mod screen;
mod script;
pub(crate) mod server;
mod uplink;
mod verdict;
mod wire;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use vigie_contract::Span;
use vigie_counterparts::disk::unmount;

use self::catalogue::{Pace, SETTLE, USUAL};
use self::place::ZONES;
use self::region::{DISK, Region};
use self::screen::Screen;
use self::verdict::{Incident, Window};
use crate::shell::{self, Failure};

/// Where the page is, unless somebody else is there.
const USUAL_PORT: u16 = 8420;
/// How long services may take to be seen for the first time.
const FIRST_SIGHT: Duration = Duration::from_secs(30);
/// How often the API is asked for what is new.
const LOOK: Duration = Duration::from_millis(500);
/// How long the region runs in peace between two rounds.
const PEACE: Duration = Duration::from_secs(20);

/// Run a region on this machine: real probes, real servers, incidents, and the outage windows that follow
#[derive(clap::Args)]
pub(crate) struct Args {
    /// End after this time with truth beside what was derived, and status 1 if any of it is wrong; without it, on Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = length)]
    length: Option<Duration>,
    /// Address of the page, the API and the metrics; without it 127.0.0.1:8420, or a free port if that one is taken
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// What a round takes: the script, and the time until its last window is closed.
fn round_length() -> Duration {
    script::LENGTH + Duration::from_micros((closing() + SETTLE).us().unsigned_abs())
}

/// From the moment at which something is well again to that at which its window is closed, at most.
fn closing() -> Span {
    let Pace { period, timeout, stable_up } = USUAL;
    stable_up + period + period + timeout
}

fn length(text: &str) -> Result<Duration, String> {
    let span = Span::parse(text).map_err(|error| format!("{error}; write 120s or 5m"))?;
    let least = round_length() + FIRST_SIGHT;
    let length = Duration::from_micros(span.us().unsigned_abs());
    // A whole second that is enough.
    let least_s = least.as_millis().div_ceil(1_000);
    if length < least { Err(format!("one round of incidents takes {least_s} s: give it at least that")) } else { Ok(length) }
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    let mut is_right = true;
    let ran = shell::run_quietly(async {
        let stop = shell::stop_signal(false)?;
        is_right = demo(args, stop).await?;
        Ok(())
    })?;
    Ok(if is_right { ran } else { ExitCode::from(1) })
}

/// Whether all that was derived is right.
async fn demo(args: &Args, stop: watch::Receiver<bool>) -> Result<bool, Failure> {
    let screen = Screen::new();
    let dir = Workplace::make()?;
    let listen = choose_port(args.listen).await?;
    screen.say("starting sixteen servers, nine probes and an aggregator: region fr1 in short");
    let notice = notice();
    let mut region = tokio::select! {
        region = Region::start(&dir.0, listen, &notice) => region?,
        () = shell::stopped(stop.clone()) => return Ok(true),
    };
    if let Some(error) = &region.no_disks {
        screen.say(&format!("no disk can be mounted here ({error}): nothing is measured of storage, line 02"));
    }
    for service in &region.machine.services {
        screen.say(&format!("this machine's own {} is supervised, too", service.name));
    }
    screen.say(&format!("the page: http://{listen}/   (Ctrl-C ends the demo)"));
    let mut incidents = Vec::new();
    let ended = tokio::select! {
        ended = rounds(&region, &screen, args.length, &mut incidents) => ended,
        () = shell::stopped(stop) => Ok(()),
    };
    let windows = windows(listen).await;
    let casualties = region.casualties();
    casualties.iter().for_each(|casualty| screen.say(casualty));
    region.stop().await;
    ended?;
    let rows = verdict::judge(&incidents, &settled(windows?, &incidents, args.length.is_some()));
    if !rows.is_empty() {
        write!(io::stdout().lock(), "\n{}", verdict::table(&rows))?;
    }
    Ok(casualties.is_empty() && rows.iter().all(|row| row.is_right))
}

fn notice() -> String {
    let Pace { period, timeout, stable_up } = USUAL;
    format!("Demo / démonstration : period {period}, timeout {timeout}, stable_up {stable_up}, settle {SETTLE}")
}

/// Rounds of incidents, until time is up or for ever.
async fn rounds(region: &Region, screen: &Screen, length: Option<Duration>, incidents: &mut Vec<Incident>) -> Result<(), Failure> {
    let end = length.map(|length| Instant::now() + length);
    wait_until_all_is_seen(region, screen).await?;
    for round in 1.. {
        // The first is played however long everything took to start: without one there is nothing to judge.
        if round > 1 && end.is_some_and(|end| Instant::now() + round_length() > end) {
            break;
        }
        tokio::select! {
            played = play(region, screen, round) => incidents.extend(played?),
            failure = show_windows(region, screen) => return Err(failure),
        }
        tokio::select! {
            () = sleep(PEACE), if end.is_none() => {}
            () = sleep(Duration::ZERO), if end.is_some() => {}
            failure = show_windows(region, screen) => return Err(failure),
        }
    }
    if let Some(end) = end {
        screen.say("the script has ended; the region runs on in peace");
        tokio::select! {
            () = tokio::time::sleep_until(end) => {}
            failure = show_windows(region, screen) => return Err(failure),
        }
    }
    Ok(())
}

/// One round, until the last of its windows is closed.
async fn play(region: &Region, screen: &Screen, round: u32) -> Result<Vec<Incident>, Failure> {
    let incidents = script::play(region, screen, round).await?;
    let Some(last) = script::last_instant(&incidents) else { return Ok(incidents) };
    let closed = last + closing();
    while vigie_aggregator::clock::wall_now() < closed + SETTLE + Span::from_secs(1) {
        sleep(LOOK).await;
    }
    Ok(incidents)
}

async fn wait_until_all_is_seen(region: &Region, screen: &Screen) -> Result<(), Failure> {
    let until = Instant::now() + FIRST_SIGHT;
    loop {
        let status = client::get_json(region.listen, "/api/v1/services").await?;
        let services = status["services"].as_array().cloned().unwrap_or_default();
        let unseen: Vec<_> =
            services.iter().filter(|service| service["state"] != "up").filter_map(|service| service["id"].as_str()).collect();
        if !services.is_empty() && unseen.is_empty() {
            screen.say(&format!("all {} services are up: the script begins", services.len()));
            return Ok(());
        }
        if Instant::now() > until {
            return Err(Failure::new(format!("not up after {} s: {}", FIRST_SIGHT.as_secs(), unseen.join(", "))));
        }
        sleep(LOOK).await;
    }
}

/// Tells of every new window; ends only if the API does not answer any more.
async fn show_windows(region: &Region, screen: &Screen) -> Failure {
    loop {
        match windows(region.listen).await {
            Ok(windows) => screen.show(&windows),
            Err(failure) => return failure,
        }
        sleep(LOOK).await;
    }
}

async fn windows(listen: SocketAddr) -> Result<Vec<Window>, Failure> {
    let answer = client::get_json(listen, "/api/v1/windows").await?;
    Ok(serde_json::from_value(answer["windows"].clone())?)
}

/// The windows to judge: whoever ended the demo in the middle of a round has seen its beginning only, and no verdict is made of that.
fn settled(windows: Vec<Window>, incidents: &[Incident], is_whole: bool) -> Vec<Window> {
    let end = script::last_instant(incidents);
    let belongs = |window: &Window| is_whole || end.is_some_and(|end| window.onset_us <= end.us());
    windows.into_iter().filter(belongs).collect()
}

/// The address of the page: the one that was asked for, or the usual one, or any.
async fn choose_port(asked: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
    if let Some(asked) = asked {
        return shell::listen_on(asked).await?.local_addr().map_err(Failure::from);
    }
    for port in [USUAL_PORT, 0] {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return Ok(listener.local_addr()?);
        }
    }
    Err(Failure::new("no port is free on 127.0.0.1"))
}

/// Where the demo's files are: a directory of its own that goes with it.
struct Workplace(PathBuf);

const PREFIX: &str = "vigie-demo-";

impl Workplace {
    fn make() -> Result<Self, Failure> {
        let temporary = std::env::temp_dir();
        tidy(&temporary);
        let path = temporary.join(format!("{PREFIX}{}", std::process::id()));
        // The tokens in it are nobody else's, whatever the umask.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::new(format!("cannot make {}: {error}; set TMPDIR to a directory with room", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what demos of this user left behind that were killed; what somebody else calls so is none of our business.
fn tidy(temporary: &Path) {
    let is_ours = |path: &Path| path.symlink_metadata().is_ok_and(|what| what.is_dir() && what.uid() == nix::unistd::geteuid().as_raw());
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) && is_ours(&entry.path()) {
            ZONES.iter().for_each(|zone| unmount(&entry.path().join(format!("{DISK}{zone}"))));
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_that_is_too_short_says_how_long_it_takes() {
        assert_eq!(length("120s"), Ok(Duration::from_secs(120)));
        let told = length("30s").unwrap_err();
        let least_s = told.split(' ').find_map(|word| word.parse::<u64>().ok()).unwrap();
        assert!(length(&format!("{least_s}s")).is_ok(), "{told}");
        assert!(length(&format!("{}s", least_s - 1)).is_err(), "{told}");
        assert!(length("soon").is_err());
    }

    #[test]
    fn what_a_killed_demo_left_is_removed_and_what_a_running_one_has_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (dead, own) = (dir.path().join(format!("{PREFIX}4294967294")), dir.path().join(format!("{PREFIX}{}", std::process::id())));
        [&dead, &own].iter().for_each(|path| fs::create_dir(path).unwrap());
        // What somebody else may have called so, to have something else removed.
        let link = dir.path().join(format!("{PREFIX}4294967293"));
        std::os::unix::fs::symlink(&own, &link).unwrap();
        tidy(dir.path());
        assert!(!dead.exists() && own.exists() && link.is_symlink());
    }
}
