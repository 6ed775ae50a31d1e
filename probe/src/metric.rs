//! Every metric of the probe, by name (DESIGN §6), and their values for a scrape.
//!
//! The blackbox exporter's names where they exist, so that stock dashboards work: `instance` is the target, `probe` the vantage (scrape
//! with `honor_labels: true`). A state that nobody knows is absent, never 0.

use std::time::Instant;

use vigie_contract::metric::{Exposition, Kind as Type, Metric};
use vigie_contract::{Outcome, Span};

use crate::check::{Kind, Phase};
use crate::stamp::Exchange;
use crate::stamp::reflector::Ignored;
use crate::stats::{Figures, LAG_BOUNDS_US, LATENCY_BOUNDS_US, TargetStats};
use crate::vitals::Vitals;

const TARGET: &[&str] = &["instance", "probe"];
const PHASE: &[&str] = &["instance", "probe", "phase"];
const STEP: &[&str] = &["instance", "probe", "step"];
const ANCHOR: &[&str] = &["instance", "probe", "anchor"];
const WAY: &[&str] = &["instance", "probe", "way"];
const PROBE: &[&str] = &["probe"];

macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(const $ident: Metric = Metric { name: $name, help: $help, kind: Type::$kind, labels: $labels };)*
        /// All of them.
        pub const ALL: &[Metric] = &[$($ident),*];
    };
}

metrics! {
    SUCCESS = Gauge "probe_success" TARGET, "1 if the last slot was ok, 0 if it failed; absent while nobody knows.";
    DURATION = Gauge "probe_duration_seconds" TARGET, "How long the last attempt took, failures included.";
    HTTP_DURATION = Gauge "probe_http_duration_seconds" PHASE, "Length of each phase of the last HTTP, S3, API or console attempt, as far as it came.";
    HTTP_STATUS = Gauge "probe_http_status_code" TARGET, "Status of the last HTTP answer.";
    HTTP_LENGTH = Gauge "probe_http_content_length" TARGET, "Bytes of the last HTTP body that were read.";
    STEP_DURATION = Gauge "vigie_probe_step_duration_seconds" STEP, "Length of each step of the last console journey, as far as it came.";
    ANCHOR_REACHED = Gauge "vigie_probe_internet_anchor_reached" ANCHOR, "1 for an anchor that the last attempt reached, 0 for one that it did not.";
    BACKUP_AGE = Gauge "vigie_probe_backup_age_seconds" TARGET, "How old the newest backup was in the last slot.";
    CERTIFICATE = Gauge "probe_ssl_earliest_cert_expiry" TARGET, "When the first certificate of the chain expires, in Unix time.";
    CREDENTIAL = Gauge "vigie_probe_credential_expiry_timestamp_seconds" TARGET,
        "When the first of the check's secrets expires, in Unix time: by the catalogue, or by itself if it is a web token; absent if neither says it.";
    ICMP_DURATION = Gauge "probe_icmp_duration_seconds" PHASE, "Length of each phase of the last echo.";
    HOP_LIMIT = Gauge "probe_icmp_reply_hop_limit" TARGET, "Hop limit of the last echo reply.";
    DNS_DURATION = Gauge "probe_dns_duration_seconds" PHASE, "Length of each phase of the last DNS question.";
    DNS_ANSWERS = Gauge "probe_dns_answer_rrs" TARGET, "Records in the last DNS answer.";
    LOOKUP = Gauge "probe_dns_lookup_time_seconds" TARGET, "How long the probe's own resolver took for the last attempt.";
    IP_PROTOCOL = Gauge "probe_ip_protocol" TARGET, "4 or 6: how the last attempt went.";
    TCP_DURATION = Gauge "vigie_probe_phase_duration_seconds" PHASE, "Length of each phase of the last attempt of kind TCP, TLS, internet, exec, storage or compute.";
    PLUGIN_EXIT = Gauge "vigie_probe_plugin_exit_code" TARGET, "Exit code of the last plugin that could tell: 0 OK, 1 warning, 2 critical.";

    NETWORK_DURATION = Gauge "vigie_probe_network_duration_seconds" PHASE,
        "Length of each phase of the last network attempt: rtt is the median round trip without the reflector's time.";
    NETWORK_LOST = Gauge "vigie_probe_network_lost_ratio" TARGET, "Share of the last attempt's packets that was not answered.";
    NETWORK_REORDERED = Gauge "vigie_probe_network_reordered" TARGET, "Answers of the last attempt that came after a later packet's.";
    NETWORK_IGNORED = Gauge "vigie_probe_network_ignored" TARGET,
        "Datagrams of the last attempt that were no answer: duplicate, late, forged or no STAMP.";
    NETWORK_JITTER = Gauge "vigie_probe_network_jitter_seconds" TARGET, "Mean difference of round trips that follow each other.";
    NETWORK_ONE_WAY = Gauge "vigie_probe_network_one_way_delay_seconds" WAY,
        "Median delay forward and back, by two clocks; absent unless both ends know how far theirs may be off.";
    NETWORK_ONE_WAY_ERROR = Gauge "vigie_probe_network_one_way_error_seconds" TARGET, "How far the one-way delays may be off.";

    COMPUTE_UPTIME = Gauge "vigie_probe_compute_uptime_seconds" TARGET, "How long ago the canary VM booted.";
    COMPUTE_LIVED = Counter "vigie_probe_compute_lived_seconds_total" TARGET,
        "How long its agent has run: what it rises by less than 1 a second, the VM was paused, suspended or starved.";
    COMPUTE_SUSPENDED = Counter "vigie_probe_compute_suspended_seconds_total" TARGET, "How long it has been suspended since it booted.";
    COMPUTE_PROCESSORS = Counter "vigie_probe_compute_processor_seconds_total" TARGET, "Time of all its processors, idle ones too.";
    COMPUTE_STOLEN = Counter "vigie_probe_compute_stolen_seconds_total" TARGET,
        "Time of its processors that the hypervisor gave to others although there was work.";
    COMPUTE_WAITED = Counter "vigie_probe_compute_waited_seconds_total" TARGET,
        "Time that its threads waited for a processor, all together; absent if its kernel does not count it.";
    COMPUTE_CLOCK_ERROR = Gauge "vigie_probe_compute_clock_error_seconds" TARGET, "How far its clock may be off the log's, if it knows.";

    SAMPLES = Counter "vigie_probe_samples_total" &["instance", "probe", "result"], "Samples made, by what was found: ok, fail, void.";
    REASONS = Counter "vigie_probe_reasons_total" &["instance", "probe", "reason"], "Samples that are not ok, by reason.";
    LATENCY = Histogram "vigie_probe_latency_seconds" &["instance", "probe", "result"],
        "How long attempts took, failures included: a timeout counts with the time that it took.";

    SLOTS_DUE = Counter "vigie_probe_slots_due_total" PROBE, "Slots that came due; each becomes one sample.";
    SLOTS_SKIPPED = Counter "vigie_probe_slots_skipped_total" PROBE,
        "Slots of a pause of the machine, or a leap of its clock, so long that they are only counted, beyond 1000 per target.";
    MADE = Counter "vigie_probe_samples_made_total" PROBE, "Samples made by this process: delivered, spooled or dropped.";
    DELIVERED = Counter "vigie_probe_samples_delivered_total" PROBE,
        "Samples that the log has acknowledged, those of earlier processes included.";
    RECOVERED = Counter "vigie_probe_samples_recovered_total" PROBE,
        "Samples that earlier processes left in the spool: made + recovered = delivered + spooled + dropped.";
    SPOOLED = Gauge "vigie_probe_samples_spooled" PROBE, "Samples that wait for the log.";
    DROPPED = Counter "vigie_probe_samples_dropped_total" PROBE, "Samples lost because spool and memory were full.";
    SPOOL_BYTES = Gauge "vigie_probe_spool_bytes" PROBE, "Size of the spool on disk.";
    SPOOL_LIMIT = Gauge "vigie_probe_spool_limit_bytes" PROBE, "What the spool may take on disk: beyond it the oldest samples are dropped.";
    SPOOL_FAILURES = Counter "vigie_probe_spool_failures_total" PROBE, "Writes to the spool that failed; their samples are delivered from memory.";
    DELIVERY_FAILURES = Counter "vigie_probe_delivery_failures_total" PROBE, "Batches that the log did not acknowledge; they are tried again.";
    IN_FLIGHT = Gauge "vigie_probe_in_flight" PROBE, "Slots that are being measured.";
    LAG = Histogram "vigie_probe_schedule_lag_seconds" PROBE, "How long after it came due a slot began.";
    STALLS = Counter "vigie_probe_stalls_total" PROBE, "Times that the probe did not run for more than 50 ms although it had to.";
    STALLED = Counter "vigie_probe_stalled_seconds_total" PROBE, "How long it did not run in all of them.";
    SHARE = Gauge "vigie_probe_admitted_ratio" PROBE, "Share of the slots that is measured: below 1 the probe is overloaded.";
    CLOCK_STEPS = Counter "vigie_probe_clock_steps_total" PROBE, "Times that the wall clock was set.";
    CLOCK_ERROR = Gauge "vigie_probe_clock_error_seconds" PROBE, "How far the wall clock may be off the log's, as far as is known.";
    SUSPENSIONS = Counter "vigie_probe_suspensions_total" PROBE, "Times that the machine slept.";
    NOISE = Gauge "vigie_probe_noise_floor_seconds" &["probe", "share"],
        "What a request to a server of the probe's own takes: the noise in every latency, by share of the last 128 below it.";
    ASSIGNED = Gauge "vigie_probe_targets" PROBE, "Targets that this vantage measures.";
    RELOADS_REFUSED = Counter "vigie_probe_reloads_refused_total" PROBE, "Catalogues that could not be used; the last good one is.";
    ICMP_MODE = Gauge "vigie_probe_icmp_info" &["probe", "mode"], "1; the label says how echoes are sent: raw, datagram, or unavailable.";
    ICMP_IGNORED = Counter "vigie_probe_icmp_ignored_total" &["probe", "why"],
        "Echo replies and ICMP errors that were no answer: duplicate, late, foreign or forged, corrupt.";
    ICMP_DROPPED = Counter "vigie_probe_icmp_dropped_total" PROBE,
        "Echo replies that the kernel dropped because the probe did not take them in time; silence is no failure then.";
    API_LOGINS = Counter "vigie_probe_api_logins_total" PROBE, "Logins at the provider's API, whatever came of them.";
    FRESH_REFUSED = Counter "vigie_probe_fresh_token_refused_total" PROBE,
        "Answers 401 of the provider's API to a token that it gave less than a minute before.";
    API_TOKEN_LEFT = Gauge "vigie_probe_api_token_left_seconds" PROBE,
        "How long the web token of the provider's API still held when a check last needed one: it is renewed at 60, or at half its life, so that \
         less means that logins are refused; 0 without any, the least of several, absent while the API does not answer.";
    SUSTAINED_THROTTLING = Counter "vigie_probe_sustained_throttling_total" PROBE,
        "Answers 429 of the provider's API from the third in a row on, although it is asked less than it allows.";
    REFLECTED = Counter "vigie_probe_reflector_answered_total" PROBE, "Test packets of peers that the reflector answered, and connections that it echoed.";
    REFLECTOR_IGNORED = Counter "vigie_probe_reflector_ignored_total" &["probe", "why"],
        "Datagrams and connections that the reflector did not answer: of a wrong length, from undeclared peers, no requests, too many; \
         answers unsent.";
    BUILD = Gauge "vigie_probe_build_info" &["probe", "version"], "1; the labels say which program this is.";
}

fn seconds(span: Span) -> f64 {
    span.us() as f64 / 1e6
}

/// The text of a scrape.
pub(crate) fn expose(figures: &Figures, vantage: &str, at: Instant) -> String {
    let mut out = Exposition::default();
    for (target, stats) in &figures.targets {
        expose_target(&mut out, target.as_str(), vantage, stats, at);
    }
    let one = [vantage];
    out.put(&SLOTS_DUE, &one, figures.slots_due as f64);
    out.put(&SLOTS_SKIPPED, &one, figures.slots_skipped as f64);
    out.put(&MADE, &one, figures.made as f64);
    out.put(&DELIVERED, &one, figures.delivered as f64);
    out.put(&RECOVERED, &one, figures.recovered as f64);
    out.put(&SPOOLED, &one, figures.spooled as f64);
    out.put(&DROPPED, &one, figures.dropped as f64);
    out.put(&SPOOL_BYTES, &one, figures.spool_bytes as f64);
    out.put(&SPOOL_LIMIT, &one, figures.spool_limit_bytes as f64);
    out.put(&SPOOL_FAILURES, &one, figures.spool_failures as f64);
    out.put(&DELIVERY_FAILURES, &one, figures.delivery_failures as f64);
    out.put(&IN_FLIGHT, &one, figures.in_flight as f64);
    let bounds = LAG_BOUNDS_US.map(|us| us as f64 / 1e6);
    out.put_histogram(&LAG, &one, &bounds, &figures.schedule_lag.counts(), figures.schedule_lag.sum_us() as f64 / 1e6);
    out.put(&STALLS, &one, figures.stalls as f64);
    out.put(&STALLED, &one, figures.stalled.as_secs_f64());
    out.put(&SHARE, &one, figures.share.into());
    out.put(&CLOCK_STEPS, &one, figures.clock_steps as f64);
    out.put(&CLOCK_ERROR, &one, seconds(figures.clock_error));
    out.put(&SUSPENSIONS, &one, figures.suspensions as f64);
    for (percent, share) in [(50, "0.5"), (99, "0.99")] {
        if let Some(noise) = figures.noise.quantile(percent) {
            out.put(&NOISE, &[vantage, share], seconds(noise));
        }
    }
    out.put(&ASSIGNED, &one, figures.assigned as f64);
    out.put(&RELOADS_REFUSED, &one, figures.reloads_refused as f64);
    let mode = match &figures.icmp_mode {
        Some(Ok(mode)) => mode,
        _ => "unavailable",
    };
    out.put(&ICMP_MODE, &[vantage, mode], 1.0);
    let icmp = &figures.icmp;
    for (why, count) in [("duplicate", icmp.duplicate), ("late", icmp.late), ("foreign", icmp.foreign), ("corrupt", icmp.corrupt)] {
        out.put(&ICMP_IGNORED, &[vantage, why], count as f64);
    }
    out.put(&ICMP_DROPPED, &one, icmp.dropped as f64);
    out.put(&API_LOGINS, &one, figures.api.logins as f64);
    out.put(&FRESH_REFUSED, &one, figures.api.fresh_token_refused as f64);
    if let Some(left) = figures.api_token_left {
        out.put(&API_TOKEN_LEFT, &one, seconds(left));
    }
    out.put(&SUSTAINED_THROTTLING, &one, figures.api.sustained_throttling as f64);
    out.put(&REFLECTED, &one, figures.reflected.answered() as f64);
    for why in Ignored::ALL {
        out.put(&REFLECTOR_IGNORED, &[vantage, why.as_str()], figures.reflected.ignored(why) as f64);
    }
    out.put(&BUILD, &[vantage, env!("CARGO_PKG_VERSION")], 1.0);
    out.into_text()
}

fn expose_target(out: &mut Exposition, target: &str, vantage: &str, stats: &TargetStats, at: Instant) {
    let labels = [target, vantage];
    for (result, count) in ["ok", "void", "fail"].iter().zip(stats.results) {
        out.put(&SAMPLES, &[target, vantage, result], count as f64);
    }
    for (reason, count) in &stats.reasons {
        let word = serde_json::to_value(reason).unwrap_or_default();
        out.put(&REASONS, &[target, vantage, word.as_str().unwrap_or_default()], *count as f64);
    }
    let bounds = LATENCY_BOUNDS_US.map(|us| us as f64 / 1e6);
    for (result, buckets) in ["ok", "fail"].iter().zip(&stats.latency) {
        out.put_histogram(&LATENCY, &[target, vantage, result], &bounds, &buckets.counts(), buckets.sum_us() as f64 / 1e6);
    }
    if let Some(expiry) = stats.credential_expiry {
        out.put(&CREDENTIAL, &labels, expiry.us() as f64 / 1e6);
    }
    let Some(last) = &stats.last else { return };
    if last.outcome == Outcome::Void || at.saturating_duration_since(last.at) > last.holds {
        return;
    }
    out.put(&SUCCESS, &labels, f64::from(u8::from(last.outcome == Outcome::Ok)));
    out.put(&DURATION, &labels, seconds(last.took));
    let family = match stats.kind {
        Kind::Http | Kind::S3 | Kind::Api => &HTTP_DURATION,
        Kind::Icmp => &ICMP_DURATION,
        Kind::Dns => &DNS_DURATION,
        Kind::Tcp | Kind::Tls | Kind::Exec | Kind::Storage | Kind::Compute => &TCP_DURATION,
        Kind::Network => &NETWORK_DURATION,
    };
    for (phase, length) in &last.phases {
        out.put(family, &[target, vantage, phase.as_str()], seconds(*length));
        if *phase == Phase::Resolve {
            out.put(&LOOKUP, &labels, seconds(*length));
        }
    }
    let facts = &last.facts;
    for (step, length) in &facts.steps {
        out.put(&STEP_DURATION, &[target, vantage, &**step], seconds(*length));
    }
    for (anchor, is_reached) in &facts.anchors {
        out.put(&ANCHOR_REACHED, &[target, vantage, &**anchor], f64::from(u8::from(*is_reached)));
    }
    let values = [
        (&HTTP_STATUS, facts.http_status.map(f64::from)),
        (&HTTP_LENGTH, facts.content_bytes.map(|bytes| bytes as f64)),
        (&BACKUP_AGE, facts.backup_age.map(seconds)),
        (&CERTIFICATE, facts.certificate_expiry_s.map(|s| s as f64)),
        (&HOP_LIMIT, facts.hop_limit.map(f64::from)),
        (&DNS_ANSWERS, facts.answer_records.map(|records| records as f64)),
        (&IP_PROTOCOL, facts.ip_protocol.map(f64::from)),
        (&PLUGIN_EXIT, facts.plugin_exit_code.map(f64::from)),
    ];
    for (metric, value) in values {
        if let Some(value) = value {
            out.put(metric, &labels, value);
        }
    }
    if let Some(exchange) = &facts.exchange {
        expose_exchange(out, target, vantage, exchange);
    }
    if let Some(vitals) = &facts.vitals {
        expose_vitals(out, &labels, vitals);
    }
}

fn expose_exchange(out: &mut Exposition, target: &str, vantage: &str, exchange: &Exchange) {
    let labels = [target, vantage];
    if exchange.sent > 0 {
        out.put(&NETWORK_LOST, &labels, f64::from(exchange.sent - exchange.replied) / f64::from(exchange.sent));
    }
    out.put(&NETWORK_REORDERED, &labels, exchange.reordered.into());
    out.put(&NETWORK_IGNORED, &labels, exchange.ignored.into());
    if let Some(jitter) = exchange.jitter {
        out.put(&NETWORK_JITTER, &labels, seconds(jitter));
    }
    if let Some(one_way) = exchange.one_way {
        out.put(&NETWORK_ONE_WAY, &[target, vantage, "forward"], seconds(one_way.forward));
        out.put(&NETWORK_ONE_WAY, &[target, vantage, "back"], seconds(one_way.back));
        out.put(&NETWORK_ONE_WAY_ERROR, &labels, seconds(one_way.error));
    }
}

fn expose_vitals(out: &mut Exposition, labels: &[&str; 2], vitals: &Vitals) {
    let values = [
        (&COMPUTE_UPTIME, Some(seconds(vitals.up))),
        (&COMPUTE_LIVED, vitals.lived.map(seconds)),
        (&COMPUTE_SUSPENDED, Some(seconds(vitals.asleep))),
        (&COMPUTE_PROCESSORS, Some(vitals.ticks as f64 / 100.0)),
        (&COMPUTE_STOLEN, Some(vitals.stolen_ticks as f64 / 100.0)),
        (&COMPUTE_WAITED, vitals.waited.map(seconds)),
        (&COMPUTE_CLOCK_ERROR, vitals.clock_error.map(seconds)),
    ];
    for (metric, value) in values {
        if let Some(value) = value {
            out.put(metric, labels, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use vigie_contract::{Reason, TargetId, Time};

    use super::*;
    use crate::check::Facts;
    use crate::clock::now;
    use crate::stamp::OneWay;
    use crate::stats::Last;

    #[test]
    fn names_are_unique_and_counters_are_totals() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert_eq!(metric.kind == Type::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn what_packets_measured_is_told_and_what_is_not_known_is_absent() {
        let text = |one_way| {
            let jitter = Some(Span::from_us(300));
            let exchange = Exchange { sent: 5, replied: 4, reordered: 1, ignored: 2, jitter, one_way, ..Exchange::default() };
            let facts = Facts { exchange: Some(exchange), ..Facts::default() };
            let (at, holds) = (now(), Duration::from_secs(27));
            let mut stats = TargetStats::new(Kind::Network);
            let phases = vec![(Phase::Rtt, Span::from_us(900))];
            stats.note(None, Last { outcome: Outcome::Ok, at, holds, took: Span::from_us(900), phases, facts });
            let mut figures = Figures::default();
            figures.targets.insert(TargetId::from("mesh"), stats);
            expose(&figures, "az05", at)
        };
        let one_way = OneWay { forward: Span::from_us(-40), back: Span::from_us(940), error: Span::from_us(1_000) };
        let known = text(Some(one_way));
        for line in [
            "vigie_probe_network_lost_ratio{instance=\"mesh\",probe=\"az05\"} 0.2",
            "vigie_probe_network_reordered{instance=\"mesh\",probe=\"az05\"} 1",
            "vigie_probe_network_ignored{instance=\"mesh\",probe=\"az05\"} 2",
            "vigie_probe_network_one_way_delay_seconds{instance=\"mesh\",probe=\"az05\",way=\"forward\"} -0.00004",
            "vigie_probe_network_duration_seconds{instance=\"mesh\",probe=\"az05\",phase=\"rtt\"} 0.0009",
        ] {
            assert!(known.contains(line), "{line} in {known}");
        }
        assert!(!text(None).contains("one_way"));
    }

    #[test]
    fn a_starved_vm_says_so() {
        let (at, holds, s) = (now(), Duration::from_secs(13), Span::from_secs);
        let vitals = Vitals {
            boot: 1,
            up: s(900),
            asleep: s(20),
            lived: Some(s(800)),
            ticks: 180_000,
            stolen_ticks: 50_050,
            waited: None,
            clock_error: Some(Span::from_us(2_500)),
        };
        let facts = Facts { vitals: Some(vitals), ..Facts::default() };
        let mut stats = TargetStats::new(Kind::Compute);
        stats.note(None, Last { outcome: Outcome::Ok, at, holds, took: s(0), phases: Vec::new(), facts });
        let mut figures = Figures::default();
        figures.targets.insert(TargetId::from("vm"), stats);
        let text = expose(&figures, "az06", at);
        for (name, value) in [
            ("uptime_seconds", "900"),
            ("lived_seconds_total", "800"),
            ("suspended_seconds_total", "20"),
            ("processor_seconds_total", "1800"),
            ("stolen_seconds_total", "500.5"),
            ("clock_error_seconds", "0.0025"),
        ] {
            let line = format!("vigie_probe_compute_{name}{{instance=\"vm\",probe=\"az06\"}} {value}\n");
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(!text.contains("waited"));
    }

    #[test]
    fn steps_and_anchors_are_told_by_name() {
        let at = now();
        let facts = Facts {
            steps: vec![("page".into(), Span::from_us(1_500)), ("login".into(), Span::from_us(2_000_000))],
            anchors: vec![("192.0.2.1:443".into(), true), ("[2001:db8::1]:443".into(), false)],
            ..Facts::default()
        };
        let mut stats = TargetStats::new(Kind::Http);
        let (holds, took, phases) = (Duration::from_secs(27), Span::from_us(2_001_500), Vec::new());
        stats.note(None, Last { outcome: Outcome::Ok, at, holds, took, phases, facts });
        let mut figures = Figures::default();
        figures.targets.insert(TargetId::from("web"), stats);
        let text = expose(&figures, "az05", at);
        for line in [
            "vigie_probe_step_duration_seconds{instance=\"web\",probe=\"az05\",step=\"page\"} 0.0015",
            "vigie_probe_step_duration_seconds{instance=\"web\",probe=\"az05\",step=\"login\"} 2",
            "vigie_probe_internet_anchor_reached{instance=\"web\",probe=\"az05\",anchor=\"192.0.2.1:443\"} 1",
            "vigie_probe_internet_anchor_reached{instance=\"web\",probe=\"az05\",anchor=\"[2001:db8::1]:443\"} 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn when_credentials_end_is_told_whatever_the_last_slot_gave() {
        let mut figures = Figures::default();
        let mut stats = TargetStats::new(Kind::Api);
        stats.credential_expiry = Some(Time::from_us(1_800_000_000_000_000));
        figures.targets.insert(TargetId::from("api"), stats);
        figures.targets.insert(TargetId::from("web"), TargetStats::new(Kind::Http));
        let text = expose(&figures, "az05", now());
        assert!(text.contains("vigie_probe_credential_expiry_timestamp_seconds{instance=\"api\",probe=\"az05\"} 1800000000\n"), "{text}");
        assert!(!text.contains("{instance=\"web\",probe=\"az05\"} 18") && !text.contains("token_left"), "{text}");
        figures.api_token_left = Some(Span::from_us(59_500_000));
        assert!(expose(&figures, "az05", now()).contains("vigie_probe_api_token_left_seconds{probe=\"az05\"} 59.5\n"));
    }

    #[test]
    fn success_is_absent_while_nobody_knows() {
        let at = now();
        let text = |outcome, reason, age: u64| {
            let mut figures = Figures::default();
            let mut stats = TargetStats::new(Kind::Http);
            let phases = vec![(Phase::Connect, Span::from_us(900))];
            let last = Last { outcome, at, holds: Duration::from_secs(27), took: Span::from_us(1500), phases, facts: Facts::default() };
            stats.note(reason, last);
            figures.targets.insert(TargetId::from("web"), stats);
            expose(&figures, "az05", at + Duration::from_secs(age))
        };
        assert!(text(Outcome::Ok, None, 1).contains("probe_success{instance=\"web\",probe=\"az05\"} 1"));
        assert!(text(Outcome::Fail, Some(Reason::Refused), 1).contains("probe_success{instance=\"web\",probe=\"az05\"} 0"));
        assert!(text(Outcome::Fail, Some(Reason::Refused), 1).contains("phase=\"connect\"} 0.0009"));
        assert!(!text(Outcome::Void, Some(Reason::Throttled), 1).contains("probe_success{"));
        assert!(!text(Outcome::Ok, None, 28).contains("probe_success{"));
    }
}
