//! The script: what goes wrong in the demo's region, when, and what it really was.
//!
//! One function tells one incident from beginning to end, and returns the truth of it. They overlap, on different services.

use std::time::Duration;

use tokio::time::sleep;
use vigie_contract::{Span, Time};

use super::client;
use super::region::{Place, Region};
use super::screen::Screen;
use super::server::{Kind, Order};
use super::verdict::{Incident, Truth};
use crate::shell::Failure;

const CONSOLE: Place = Place(Kind::Console, "az05");
const BACKUP: Place = Place(Kind::Backup, "az07");
const STORAGE: Place = Place(Kind::Storage, "az05");
const API: Place = Place(Kind::Api, "az05");
const S3: Place = Place(Kind::S3, "az05");
const WEB: Place = Place(Kind::Web, "az07");

/// Targets that nothing happens to in the whole script, and that az05 must never see fail.
const INNOCENT: [&str; 5] = ["zone-az05", "zone-az07", "vm-az05", "vm-az07", "dns"];

/// From the first incident to the end of the last one.
pub(super) const LENGTH: Duration = Duration::from_secs(52);
/// How long evidence of a harmless incident is looked for.
const PATIENCE: Duration = Duration::from_secs(25);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Plays one round.
pub(super) async fn play(region: &Region, screen: &Screen, round: u32) -> Result<Vec<Incident>, Failure> {
    let stage = Stage { region, screen, round };
    let (clean, ticket, slow, flap, cut, throttled, hung, starved) = tokio::try_join!(
        stage.clean_outage(s(2)),
        stage.ticket_before_supervision(s(3)),
        stage.slow_objects(s(5)),
        stage.flap(s(17)),
        stage.zone_cut_off(s(23)),
        stage.throttling(s(28)),
        stage.hanging_storage(s(39)),
        stage.starved_probe(s(36)),
    )?;
    Ok(vec![clean, ticket, slow, flap, cut, throttled, hung, starved])
}

struct Stage<'a> {
    region: &'a Region,
    screen: &'a Screen,
    round: u32,
}

impl Stage<'_> {
    /// The console's process dies, and comes back fourteen seconds later.
    async fn clean_outage(&self, begin: Duration) -> Result<Incident, Failure> {
        sleep(begin).await;
        let from = self.region.kill(CONSOLE).await?;
        self.screen.say("the console's process is killed");
        sleep(s(14)).await;
        let to = self.region.revive(CONSOLE).await?;
        self.screen.say("the console is back");
        Ok(Incident { name: "clean outage", truth: Truth::Outage { service: "console/fr1", from, to } })
    }

    /// A customer opens a ticket; some seconds later supervision sees the backup service hang, too.
    async fn ticket_before_supervision(&self, begin: Duration) -> Result<Incident, Failure> {
        sleep(begin).await;
        let opened = vigie_aggregator::clock::wall_now();
        let (id, opened_at) = (format!("T-{}", self.round), opened.us().to_string());
        #[rustfmt::skip]
        let claim = [
            "claim", "open", "--id", &id, "--service", "backup/fr1", "--opened-at", &opened_at, "--actor", "demo",
            "--reason", "the customer's backups do not end", "--yes",
        ];
        self.region.vigie(&claim).await?;
        self.screen.say(&format!("a customer opens ticket {id}: backups do not end"));
        sleep(s(7)).await;
        let from = self.region.order(BACKUP, Order::Hang).await?;
        self.screen.say("the backup service hangs");
        sleep(s(12)).await;
        let to = self.region.order(BACKUP, Order::Heal).await?;
        self.screen.say("the backup service answers again");
        Ok(Incident { name: "ticket first", truth: Truth::Claimed { service: "backup/fr1", opened, from, to } })
    }

    /// Objects take a quarter of a second: over the objective of 150 ms, and no outage.
    async fn slow_objects(&self, begin: Duration) -> Result<Incident, Failure> {
        sleep(begin).await;
        let before = self.slow_answers().await?;
        self.region.order(S3, Order::Slow(250)).await?;
        self.screen.say("S3 takes 250 ms an object");
        sleep(s(14)).await;
        self.region.order(S3, Order::Heal).await?;
        self.screen.say("S3 is fast again");
        let recognized = self.recognize(async || {
            let over = self.slow_answers().await? - before;
            // One may be slow by itself, now and then.
            Ok((over > 1).then(|| format!("{over} objects over 150 ms")))
        });
        Ok(Incident { name: "slow S3", truth: Truth::Harmless { recognized: recognized.await? } })
    }

    /// The web server dies twice in a short time: one outage, since it was never stable in between.
    async fn flap(&self, begin: Duration) -> Result<Incident, Failure> {
        sleep(begin).await;
        let from = self.region.kill(WEB).await?;
        self.screen.say("the web server's process is killed");
        sleep(s(5)).await;
        self.region.revive(WEB).await?;
        self.screen.say("the web server is back …");
        sleep(s(4)).await;
        self.region.kill(WEB).await?;
        self.screen.say("… and is killed again");
        sleep(s(5)).await;
        let to = self.region.revive(WEB).await?;
        self.screen.say("the web server is back");
        Ok(Incident { name: "flap", truth: Truth::Outage { service: "internet/fr1", from, to } })
    }

    /// Zone az06 loses every way out, its uplink too: what it reads as down is itself.
    async fn zone_cut_off(&self, begin: Duration) -> Result<Incident, Failure> {
        sleep(begin).await;
        let from = self.region.cut_off("az06").await?;
        self.screen.say("zone az06 is cut off, its uplink too");
        sleep(s(14)).await;
        let to = self.region.reconnect("az06").await?;
        self.screen.say("zone az06 is connected again: its spool drains");
        let middle = from + Span::from_us((to - from).us() / 2);
        let recognized = self.recognize(async || {
            let path = format!("/api/v1/explanation?service=compute/fr1&at={}", middle.us());
            let moment = client::get_json(self.region.listen, &path).await?;
            let targets = moment["moment"]["targets"].as_array().cloned().unwrap_or_default();
            let seen = targets.iter().flat_map(|target| target["vantages"].as_array().into_iter().flatten());
            let is_gated = |vantage: &serde_json::Value| vantage["vantage"] == "az06" && vantage["gated_us"].is_array();
            Ok(seen.into_iter().any(is_gated).then(|| "az06 known to be cut off".to_owned()))
        });
        Ok(Incident { name: "zone cut off", truth: Truth::Harmless { recognized: recognized.await? } })
    }

    /// The API answers 429: it tells us nothing about its health.
    async fn throttling(&self, begin: Duration) -> Result<Incident, Failure> {
        sleep(begin).await;
        let from = self.region.order(API, Order::Throttle).await?;
        self.screen.say("the API answers 429");
        sleep(s(14)).await;
        let to = self.region.order(API, Order::Heal).await?;
        self.screen.say("the API answers again");
        let recognized = self.recognize(async || {
            let timeline = client::get_json(self.region.listen, "/api/v1/timeline?service=api/fr1").await?;
            let unknown: Vec<(i64, i64)> = serde_json::from_value(timeline["services"][0]["unknown"].clone())?;
            let within = |(start, end): &(i64, i64)| (*end).min(to.us()) - (*start).max(from.us());
            let longest = unknown.iter().map(within).max().unwrap_or(0);
            Ok((longest > 0).then(|| format!("unknown for {} s", longest / 1_000_000)))
        });
        Ok(Incident { name: "throttling API", truth: Truth::Harmless { recognized: recognized.await? } })
    }

    /// Storage hangs while a probe is starved: the other two still see it.
    async fn hanging_storage(&self, begin: Duration) -> Result<Incident, Failure> {
        sleep(begin).await;
        let from = self.region.order(STORAGE, Order::Hang).await?;
        self.screen.say("storage hangs");
        sleep(s(12)).await;
        let to = self.region.order(STORAGE, Order::Heal).await?;
        self.screen.say("storage answers again");
        Ok(Incident { name: "hanging storage", truth: Truth::Outage { service: "storage/fr1", from, to } })
    }

    /// The probe of az05 gets a tenth of the time that it needs: it must not blame its targets.
    async fn starved_probe(&self, begin: Duration) -> Result<Incident, Failure> {
        sleep(begin).await;
        let (starved_before, blamed_before) = self.starved_and_blamed("az05").await?;
        self.screen.say("the probe of az05 is starved of its processor");
        self.region.starve("az05", s(10), Duration::from_millis(450), Duration::from_millis(50)).await?;
        self.screen.say("the probe of az05 runs freely");
        let recognized = self.recognize(async || {
            let starved = self.starved_and_blamed("az05").await?.0 - starved_before;
            Ok((starved > 0).then(|| format!("{starved} slots not measured, and said so")))
        });
        let recognized = recognized.await?;
        // Until what it had begun while it was starved has failed twice.
        sleep(s(2)).await;
        let blamed = self.starved_and_blamed("az05").await?.1 - blamed_before;
        let recognized = if blamed == 0 { recognized } else { Err(format!("{blamed} failures of targets that were well")) };
        Ok(Incident { name: "starved probe", truth: Truth::Harmless { recognized } })
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
        Ok(lines.iter().filter(|line| line["target"] == "s3-latency").filter_map(|line| line["over"].as_i64()).sum())
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

/// The instant of a round's last truth, for those who wait until it has been derived.
pub(super) fn last_instant(incidents: &[Incident]) -> Option<Time> {
    let end = |incident: &Incident| match incident.truth {
        Truth::Outage { to, .. } | Truth::Claimed { to, .. } => Some(to),
        Truth::Harmless { .. } => None,
    };
    incidents.iter().filter_map(end).max()
}
