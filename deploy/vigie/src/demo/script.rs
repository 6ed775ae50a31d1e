//! The script: what goes wrong in the demo's region, when, and what it really was.
//!
//! One function tells one incident from beginning to end, and returns the truth of it. They overlap, on different services.

use std::time::Duration;

use tokio::time::sleep;
use vigie_contract::{Span, Time};

use super::client;
use super::place::Place;
use super::region::Region;
use super::screen::Screen;
use super::server::Order;
use super::verdict::{Incident, Truth};
use crate::shell::Failure;

/// Targets that nothing happens to in the whole script, and that az07 must never see fail.
const INNOCENT: [&str; 5] = ["mesh-az05-az07", "mesh2-az05-az07", "out-az07-1", "out-az07-2", "dns-fr1"];

/// From the round's start to the end of the last incident.
pub(super) const LENGTH: Duration = Duration::from_secs(53);
/// How long evidence of a harmless incident is looked for.
const PATIENCE: Duration = Duration::from_secs(25);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Plays one round.
pub(super) async fn play(region: &Region, screen: &Screen, round: u32) -> Result<Vec<Incident>, Failure> {
    let stage = Stage { region, screen, round };
    let (clean, ticket, cut, slow, flap, dark, throttled, hung, starved) = tokio::try_join!(
        stage.clean_outage(s(2)),
        stage.ticket_before_supervision(s(2)),
        stage.vantage_cut_off(s(4)),
        stage.slow_objects(s(5)),
        stage.flap(s(22)),
        stage.dark_zone(s(23)),
        stage.throttling(s(38)),
        stage.hanging_disk(s(38)),
        stage.starved_probe(s(40)),
    )?;
    Ok([clean, ticket, cut, slow, flap, dark, throttled, hung, starved].concat())
}

struct Stage<'a> {
    region: &'a Region,
    screen: &'a Screen,
    round: u32,
}

impl Stage<'_> {
    /// The console's process dies, and comes back fourteen seconds later.
    async fn clean_outage(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        sleep(begin).await;
        let from = self.region.kill(Place::Console).await?;
        self.screen.say("the console's process is killed");
        sleep(s(14)).await;
        let to = self.region.revive(Place::Console).await?;
        self.screen.say("the console is back");
        Ok(outages("clean outage", &["console/fr1"], from, (to, to)))
    }

    /// A customer opens a ticket; some seconds later supervision sees the backups' lists hang, too.
    async fn ticket_before_supervision(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        sleep(begin).await;
        let opened = vigie_aggregator::clock::wall_now();
        let (id, opened_at) = (format!("T-{}", self.round), opened.us().to_string());
        #[rustfmt::skip]
        let claim = [
            "claim", "open", "--id", &id, "--service", "backup/fr1", "--opened-at", &opened_at, "--actor", "demo",
            "--reason", "the customer's backups cannot be seen", "--yes",
        ];
        self.region.vigie(&claim).await?;
        self.screen.say(&format!("a customer opens ticket {id}: backups cannot be seen"));
        sleep(s(4)).await;
        let from = self.region.order(Place::Api, Order::HangPolicies).await?;
        self.screen.say("the API's lists of backup policies hang");
        sleep(s(12)).await;
        let to = self.region.order(Place::Api, Order::Heal).await?;
        self.screen.say("the lists come again");
        let mut incidents = outages("ticket first", &["backup/az05", "backup/az06", "backup/az07"], from, (to, to));
        incidents.push(Incident { name: "ticket first", truth: Truth::Claimed { service: "backup/fr1", opened, from, to } });
        Ok(incidents)
    }

    /// A machine outside loses its way to everything, its uplink too: what it reads as down is itself.
    async fn vantage_cut_off(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        sleep(begin).await;
        let from = vigie_aggregator::clock::wall_now();
        self.region.cut_off("isp-c").await?;
        self.screen.say("the vantage isp-c is cut off, its uplink too");
        sleep(s(14)).await;
        let to = vigie_aggregator::clock::wall_now();
        self.region.reconnect("isp-c").await?;
        self.screen.say("isp-c is connected again: its spool drains");
        let middle = from + Span::from_us((to - from).us() / 2);
        let recognized = self.recognize(async || {
            let path = format!("/api/v1/explanation?service=console/fr1&at={}", middle.us());
            let moment = client::get_json(self.region.listen, &path).await?;
            let targets = moment["moment"]["targets"].as_array().cloned().unwrap_or_default();
            let seen = targets.iter().flat_map(|target| target["vantages"].as_array().into_iter().flatten());
            let is_gated = |vantage: &serde_json::Value| vantage["vantage"] == "isp-c" && vantage["gated_us"].is_array();
            Ok(seen.into_iter().any(is_gated).then(|| "isp-c known to be cut off".to_owned()))
        });
        Ok(harmless("vantage cut off", recognized.await?))
    }

    /// Objects take a quarter of a second: over the objective of 150 ms, and no outage.
    async fn slow_objects(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        sleep(begin).await;
        let before = self.slow_answers().await?;
        self.region.order(Place::S3, Order::Slow(250)).await?;
        self.screen.say("S3 takes 250 ms an object");
        sleep(s(11)).await;
        self.region.order(Place::S3, Order::Heal).await?;
        self.screen.say("S3 is fast again");
        let recognized = self.recognize(async || {
            let over = self.slow_answers().await? - before;
            // One may be slow by itself, now and then.
            Ok((over > 1).then(|| format!("{over} objects over 150 ms")))
        });
        Ok(harmless("slow S3", recognized.await?))
    }

    /// The object store dies twice in a short time: one outage, since it was never stable in between.
    async fn flap(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        sleep(begin).await;
        let from = self.region.kill(Place::S3).await?;
        self.screen.say("the object store's process is killed");
        sleep(s(5)).await;
        self.region.revive(Place::S3).await?;
        self.screen.say("the object store is back …");
        sleep(s(4)).await;
        self.region.kill(Place::S3).await?;
        self.screen.say("… and is killed again");
        sleep(s(5)).await;
        let to = self.region.revive(Place::S3).await?;
        self.screen.say("the object store is back");
        Ok(outages("flap", &["s3/fr1", "latency/fr1"], from, (to, to)))
    }

    /// All machines of zone az06 lose their power: the zone is down with all that it has, and the region is not.
    async fn dark_zone(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        sleep(begin).await;
        let from = self.region.power_off("az06").await?;
        self.screen.say("zone az06 has no power: its machines' processes are killed, two probes with them");
        sleep(s(14)).await;
        let back = self.region.power_on("az06").await?;
        self.screen.say("zone az06 has power again");
        let mut incidents = outages("dark zone", &["compute/az06", "network/az06", "internet/az06"], from, back);
        if self.region.has_disks() {
            incidents.extend(outages("dark zone", &["storage/az06"], from, back));
        }
        Ok(incidents)
    }

    /// The API answers 429: it tells us nothing about its health.
    async fn throttling(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        sleep(begin).await;
        let from = self.region.order(Place::Api, Order::Throttle).await?;
        self.screen.say("the API answers 429");
        sleep(s(14)).await;
        let to = self.region.order(Place::Api, Order::Heal).await?;
        self.screen.say("the API answers again");
        let recognized = self.recognize(async || {
            let timeline = client::get_json(self.region.listen, "/api/v1/timeline?service=api/fr1").await?;
            let unknown: Vec<(i64, i64)> = serde_json::from_value(timeline["services"][0]["unknown"].clone())?;
            let within = |(start, end): &(i64, i64)| (*end).min(to.us()) - (*start).max(from.us());
            let longest = unknown.iter().map(within).max().unwrap_or(0);
            Ok((longest > 0).then(|| format!("unknown for {} s", longest / 1_000_000)))
        });
        Ok(harmless("throttling API", recognized.await?))
    }

    /// The disk of az05's agent takes what is written and never says that it has it.
    async fn hanging_disk(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        if !self.region.has_disks() {
            return Ok(Vec::new());
        }
        sleep(begin).await;
        let from = self.region.hang_disk("az05");
        self.screen.say("the disk of az05 hangs");
        sleep(s(12)).await;
        let to = self.region.mend_disk("az05");
        self.screen.say("the disk of az05 answers again");
        Ok(outages("hanging disk", &["storage/az05"], from, (to, to)))
    }

    /// The agent of az07 gets a tenth of the time that it needs: it must not blame its targets, nor be what the zone is blamed for.
    async fn starved_probe(&self, begin: Duration) -> Result<Vec<Incident>, Failure> {
        sleep(begin).await;
        let (starved_before, blamed_before) = self.starved_and_blamed("az07").await?;
        self.screen.say("the probe of az07 is starved of its processor");
        self.region.starve("az07", s(10), Duration::from_millis(450), Duration::from_millis(50)).await?;
        self.screen.say("the probe of az07 runs freely");
        let recognized = self.recognize(async || {
            let starved = self.starved_and_blamed("az07").await?.0 - starved_before;
            Ok((starved > 0).then(|| format!("{starved} slots not measured, and said so")))
        });
        let recognized = recognized.await?;
        // Until what it had begun while it was starved has failed twice.
        sleep(s(2)).await;
        let blamed = self.starved_and_blamed("az07").await?.1 - blamed_before;
        let recognized = if blamed == 0 { recognized } else { Err(format!("{blamed} failures of targets that were well")) };
        Ok(harmless("starved probe", recognized))
    }

    /// Looks for evidence until there is some, or for a while.
    async fn recognize(&self, look: impl AsyncFn() -> Result<Option<String>, Failure>) -> Result<Result<String, String>, Failure> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let seen = look().await?;
            if seen.is_some() || tokio::time::Instant::now() > until {
                return Ok(seen.ok_or_else(|| "nothing of it was seen".to_owned()));
            }
            sleep(s(1)).await;
        }
    }

    async fn slow_answers(&self) -> Result<i64, Failure> {
        let answer = client::get_json(self.region.listen, "/api/v1/latencies").await?;
        let lines = answer["latencies"].as_array().cloned().unwrap_or_default();
        Ok(lines.iter().filter(|line| line["target"] == "latency-fr1").filter_map(|line| line["over"].as_i64()).sum())
    }

    /// Slots that a zone's probe did not measure because it was starved, and those of innocent targets that it saw fail.
    async fn starved_and_blamed(&self, zone: &str) -> Result<(u64, u64), Failure> {
        let text = self.region.probe_metrics(zone).await?;
        let sum = |is_counted: &dyn Fn(&str) -> bool| {
            let values = text.lines().filter(|line| is_counted(line)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.sum::<f64>() as u64
        };
        let starved = sum(&|line| line.starts_with("vigie_probe_reasons_total{") && line.contains("reason=\"starved\""));
        let innocent = INNOCENT.map(|target| format!("vigie_probe_samples_total{{instance=\"{target}\","));
        let is_innocent = |line: &str| innocent.iter().any(|series| line.starts_with(series));
        let blamed = sum(&|line| is_innocent(line) && line.contains("result=\"fail\""));
        Ok((starved, blamed))
    }
}

/// The same outage of several services; they came back between these instants.
fn outages(name: &'static str, services: &[&'static str], from: Time, (to, back): (Time, Time)) -> Vec<Incident> {
    services.iter().map(|service| Incident { name, truth: Truth::Outage { service, from, to, back } }).collect()
}

fn harmless(name: &'static str, recognized: Result<String, String>) -> Vec<Incident> {
    vec![Incident { name, truth: Truth::Harmless { recognized } }]
}

/// The instant of a round's last truth, for those who wait until it has been derived.
pub(super) fn last_instant(incidents: &[Incident]) -> Option<Time> {
    let end = |incident: &Incident| match incident.truth {
        Truth::Outage { back, .. } => Some(back),
        Truth::Claimed { to, .. } => Some(to),
        Truth::Harmless { .. } => None,
    };
    incidents.iter().filter_map(end).max()
}
