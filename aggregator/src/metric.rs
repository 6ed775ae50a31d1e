//! Every metric of the aggregator, by name (DESIGN §6): dashboards, alert rules and the exporter know no other.
//!
//! Base units: seconds, and ratios from 0 to 1 (a burn rate may exceed 1). What evidence that comes late can revise is a gauge,
//! monthly sums included: they go down too, and `rate()` has no business with them. A metric whose value nobody knows is absent,
//! never 0. Monthly figures are exported of the current month and the one before it; the API and the store have them all. The probe's own metrics bear the names of the blackbox exporter and stand with the probe.

pub use vigie_contract::metric::{Kind, Metric};

/// Labels of what is known of a service now; its scope is what its name says after the last slash, a zone or a region.
const SERVICE: &[&str] = &["service", "indicator", "scope"];
/// Labels of the figures of a calendar month, `YYYY-MM` in the catalogue's time zone.
const MONTH: &[&str] = &["service", "indicator", "month", "scope"];
/// Labels of the latency counts of a month.
const LATENCY: &[&str] = &["target", "month"];
/// Labels of what concerns one evidence log.
const GROUP: &[&str] = &["group"];

/// The spans over which burn rates are exported: the values of the label `window` of [`BURN_RATE`].
pub const BURN_RATE_WINDOWS: [&str; 7] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"];
/// The spans over which latencies are compared with their objective: the values of the label `window` of [`LATENCY_RECENT`].
pub const LATENCY_WINDOWS: [&str; 2] = ["5m", "1h"];

macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", stringify!($kind), "; its help says how to read it.")]
            pub const $ident: Metric = Metric { name: $name, help: $help, kind: Kind::$kind, labels: $labels };
        )*
        /// All of them, in the order in which they are exported.
        pub const ALL: &[Metric] = &[$($ident),*];
    };
}

metrics! {
    // Services now
    SERVICE_STATE = Gauge "vigie_service_state" SERVICE,
        "State at the frontier: 0 up, 1 unknown, 2 down; 1 for all services while vigie_stale is 1.";
    SERVICE_STATE_SINCE = Gauge "vigie_service_state_since_timestamp_seconds" SERVICE,
        "Since when the service has its state, in Unix time; absent while it is not measured or vigie_stale is 1.";
    SERVICE_CAUSE = Gauge "vigie_service_cause_info" &["service", "indicator", "scope", "cause"],
        "Always 1; the label says why the service is not up: seen or not_seen_again (down), gated, silent or not_measured (unknown), stale; absent while it is up.";
    SERVICE_EXCLUDED = Gauge "vigie_service_excluded_info" &["service", "indicator", "scope", "kind"],
        "Always 1; the label is a kind of exclusion that counts at the frontier, maintenance for instance; absent while none does or vigie_stale is 1.";
    SERVICE_INFO = Gauge "vigie_service_info" &["service", "indicator", "scope", "contractual", "group"],
        "Always 1; the labels say whether the contract speaks of this service's figure, true or false, and in whose log its evidence is.";
    SERVICE_TARGET = Gauge "vigie_service_target_info" &["service", "target"],
        "Always 1; the service rests upon the target, through other services too.";
    SCOPE_SERVICES = Gauge "vigie_scope_services" &["group", "scope", "state"],
        "Services of a scope (a zone or a region) by state at the frontier: all of them down is a dark zone; absent while vigie_stale is 1.";
    WINDOW_OPEN_SINCE = Gauge "vigie_window_open_since_timestamp_seconds" SERVICE,
        "Onset of the outage window that is open, in Unix time; absent while none is or vigie_stale is 1: time() minus this is its length so far.";
    WINDOW_OPEN = Gauge "vigie_window_open_info" &["service", "indicator", "scope", "id"],
        "Always 1; the label is the id of the window that is open, as the page, the API and the store know it; absent while none is or vigie_stale is 1.";
    WINDOW_RESTORING = Gauge "vigie_window_restoring" SERVICE,
        "1 while the open window is no longer down but not yet stably up, 0 while it is down; absent while none is open or vigie_stale is 1.";
    CANDIDATES = Gauge "vigie_claim_candidates" SERVICE,
        "Customers' claims that count nothing so far and wait for support's decision.";
    COVERAGE = Gauge "vigie_coverage_ratio" SERVICE,
        "Share of the assigned pairs of target and vantage that are up or down, not unknown, at the frontier: 1 is full sight; absent while vigie_stale is 1.";
    QUORUM_MARGIN = Gauge "vigie_quorum_margin_vantages" SERVICE,
        "How many more vantages may fall silent before some target of the service can no longer be judged: 0 is the last warning; absent while vigie_stale is 1.";

    // Services by month
    OBJECTIVE = Gauge "vigie_objective_ratio" MONTH,
        "Availability that the contract promises for the month: 0.9999 for 99.99 percent.";
    DOWN = Gauge "vigie_down_seconds" MONTH,
        "Unavailable time of the month without counted exclusions: the contractual figure.";
    DOWN_GROSS = Gauge "vigie_down_gross_seconds" MONTH,
        "Unavailable time of the month before exclusions.";
    DOWN_OBSERVED = Gauge "vigie_down_observed_seconds" MONTH,
        "Part of the gross unavailable time that was down by evidence.";
    DOWN_INFERRED = Gauge "vigie_down_inferred_seconds" MONTH,
        "Part of the gross unavailable time that counts as down because nobody saw the service return.";
    UNKNOWN = Gauge "vigie_unknown_seconds" MONTH,
        "Time of the month outside windows in which nobody can say, without counted exclusions.";
    BUDGET = Gauge "vigie_budget_seconds" MONTH,
        "Unavailable time that the objective allows in the month.";
    BUDGET_REMAINING = Gauge "vigie_budget_remaining_seconds" MONTH,
        "What is left of the month's budget; below 0 the objective is breached.";
    BUDGET_USED = Gauge "vigie_budget_used_ratio" MONTH,
        "Share of the budget that the unavailable time without counted exclusions has used: above 1 the objective is breached; of the current month only.";
    BUDGET_USED_OBSERVED = Gauge "vigie_budget_used_observed_ratio" MONTH,
        "The same of what was down by evidence alone: far below vigie_budget_used_ratio, it was blindness that used the budget, or a claim; of the current month only.";
    BUDGET_UNKNOWN = Gauge "vigie_budget_unknown_ratio" MONTH,
        "Unknown time without counted exclusions as a share of the budget: what would be used if it had all been down; of the current month only.";
    AVAILABILITY = Gauge "vigie_availability_ratio" MONTH,
        "Availability of the whole month if nothing more happens; to look at, sums are made of the seconds.";
    AVAILABILITY_LOW = Gauge "vigie_availability_low_ratio" MONTH,
        "Availability of the whole month if all unknown time had been down.";
    AVAILABILITY_TO_DATE = Gauge "vigie_availability_to_date_ratio" MONTH,
        "Availability of the part of the month that has passed.";
    VERDICT = Gauge "vigie_account_verdict" &["service", "indicator", "month", "scope", "verdict"],
        "1 for the verdict on the month, 0 for the two others: compliant, breached, undecided.";
    FINAL = Gauge "vigie_account_final" MONTH,
        "1 once no sample can change the month any more, only claims and exclusions.";
    BURN_RATE = Gauge "vigie_burn_rate_ratio" &["service", "indicator", "scope", "window"],
        "Budget spent over the window up to the frontier, relative to an even spending over the month: 1 just lasts, 14.4 over 1h takes 2 percent of it; absent while vigie_stale is 1.";
    BURN_RATE_OBSERVED = Gauge "vigie_burn_rate_observed_ratio" &["service", "indicator", "scope", "window"],
        "The same of what was down by evidence alone: a blind hour after a blip does not raise it; absent while vigie_stale is 1.";

    // Targets and vantages
    TARGET_STATE = Gauge "vigie_target_state" &["target"],
        "State by quorum at the frontier: 0 up, 1 unknown, 2 down.";
    TARGET_SUSPECT = Gauge "vigie_target_suspect" &["target"],
        "1 while at least one vantage sees the target down and the quorum does not; never accounted.";
    LATENCY_OBJECTIVE = Gauge "vigie_latency_objective_seconds" &["target"],
        "Latency that the catalogue promises for the target.";
    LATENCY_MEASURED = Gauge "vigie_latency_measured_samples" LATENCY,
        "Successful samples of the month that have a latency.";
    LATENCY_OVER = Gauge "vigie_latency_over_samples" LATENCY,
        "Those of the measured samples above the objective in force at their time; their share is vigie_latency_over_ratio.";
    LATENCY_OVER_SHARE = Gauge "vigie_latency_over_ratio" LATENCY,
        "Share of the month's measured samples above the objective in force at their time.";
    LATENCY_RECENT = Gauge "vigie_latency_over_recent_ratio" &["target", "window"],
        "Share of the measured samples of the window up to the frontier that are above the objective; renewed every 15 seconds, absent without any or while vigie_stale is 1.";
    LATENCY_MAX = Gauge "vigie_latency_max_seconds" LATENCY,
        "The greatest latency of the month.";
    GATE = Gauge "vigie_gate_active" &["group", "vantage", "cause"],
        "1 while what the vantage sees failing is held for its own fault, by cause; anchors: all its anchors are down from it; absent while vigie_stale is 1.";
    SAMPLE_AGE = Gauge "vigie_vantage_sample_age_seconds" &["group", "vantage"],
        "Frontier minus the newest stamp of the vantage: grows while it is silent or its clock is behind.";
    VANTAGE_SILENT = Gauge "vigie_vantage_silent" &["group", "vantage"],
        "1 while of no target that is assigned to the vantage it has evidence that still counts: it is dead, cut off, or measures nothing; absent while vigie_stale is 1.";
    RUN_CHANGES = Counter "vigie_vantage_run_changes_total" &["group", "vantage"],
        "Times that a fresh sample of the vantage came from another process than the one before: 1 for a restart of its probe, ever more while two probes share its name.";

    // The log and the engine
    STALE = Gauge "vigie_stale" &["group", "cause"],
        "1 while nothing that is exported may be trusted and every state is exported as unknown, by cause; 0 in good health.";
    FRONTIER = Gauge "vigie_frontier_timestamp_seconds" GROUP,
        "The instant up to which everything is evaluated, in Unix time.";
    FRONTIER_LAG = Gauge "vigie_frontier_lag_seconds" GROUP,
        "Wall clock minus frontier when exported; settle plus a second or two in good health.";
    LOG_OLDEST = Gauge "vigie_log_oldest_offset" GROUP,
        "Oldest record that retention has left in the log; absent without an archive.";
    ARCHIVE_NEXT = Gauge "vigie_archive_next_offset" GROUP,
        "First record of the log that is not archived; retention must not come near it. Absent without an archive.";
    ARCHIVE_BEHIND = Gauge "vigie_archive_behind_records" GROUP,
        "Records in the log that are not archived.";
    ARCHIVE_NEWEST = Gauge "vigie_archive_newest_timestamp_seconds" GROUP,
        "Append time of the newest archived record, in Unix time: time() minus this must stay far below the log's retention.";
    ARCHIVE_LOST = Counter "vigie_archive_lost_records_total" GROUP,
        "Records that retention deleted before they were archived: any is an incident.";
    ARCHIVE_PRUNED = Gauge "vigie_archive_pruned_records" GROUP,
        "Records that vigie archive prune has deleted from the archive, by the archive's own record of it; what lies around windows stays.";
    ARCHIVE_FAILURES = Counter "vigie_archive_failures_total" GROUP,
        "Attempts to archive the log that failed; each is tried again.";
    LOG_CLOCK_DIFFERENCE = Gauge "vigie_log_clock_difference_seconds" GROUP,
        "Append time of the newest record minus our own clock when it was read: beyond 0.3 either way a clock is wrong.";
    RECORDS = Counter "vigie_records_total" &["group", "type"],
        "Records read from the evidence log, refused ones included, by record type; other if it has none.";
    REFUSED = Counter "vigie_records_refused_total" &["group", "reason"],
        "Records that the engine did not take, by reason; each is a dead letter.";
    WAITING = Gauge "vigie_records_waiting" GROUP,
        "Samples of targets or vantages that the catalogue does not know yet; beyond 10000 the oldest is refused.";
    VOIDED = Counter "vigie_samples_voided_total" &["group", "vantage", "cause"],
        "Samples taken as no evidence although they were sent as ok or fail, by cause; future from two vantages means that the log's clock is wrong.";
    CONFLICTS = Counter "vigie_conflicting_duplicates_total" &["group", "vantage"],
        "Samples that came twice and differ: a probe that restarted with an old identity, or a forgery.";
    WINDOW_VERSIONS = Counter "vigie_window_versions_total" &["group", "status"],
        "Versions of windows made, by their status; retracted ones mean that evidence came late.";
    WINDOW_RETRACTED = Gauge "vigie_window_retracted_timestamp_seconds" &["group", "service", "id", "cause", "superseded_by"],
        "When a window was retracted, in Unix time; the labels say which, by what type of record, and which window took its place. Those of the last day, at most 32.";
    SNAPSHOT = Gauge "vigie_snapshot_kept_timestamp_seconds" GROUP,
        "When this process last kept a snapshot of its engine, in Unix time: time() minus this is about what a restart reads anew; absent before the first.";
    SNAPSHOT_FAILURES = Counter "vigie_snapshot_failures_total" GROUP,
        "Snapshots that could not be kept: nothing is lost, the next start takes longer.";
    APPEND_FAILURES = Counter "vigie_log_append_failures_total" GROUP,
        "Records, ticks included, that could not be appended to the evidence log.";
    STORE_FAILURES = Counter "vigie_store_apply_failures_total" GROUP,
        "Batches that the window store did not acknowledge; they are tried again, nothing is lost.";
    STORE_WAITING = Gauge "vigie_store_waiting_rows" GROUP,
        "Rows that the window store has not acknowledged yet.";
    CATALOGUE_REFUSED = Counter "vigie_catalogue_refused_total" GROUP,
        "Changes of the catalogue's file that were not taken, for mistakes or for what they would change; what was in force still is.";
    BUILD = Gauge "vigie_build_info" &["version", "semantics_revision"],
        "Always 1; the labels say which program and which revision of the law derived what is exported.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What promtool takes for a unit that is not a base unit, or for an abbreviation of one.
    const NO_UNITS: [&str; 16] = [
        "s",
        "ms",
        "us",
        "ns",
        "sec",
        "milliseconds",
        "microseconds",
        "minutes",
        "hours",
        "days",
        "percent",
        "percents",
        "kilobytes",
        "mb",
        "kb",
        "b",
    ];

    fn is_snake_case(name: &str) -> bool {
        let words = || name.split('_');
        words().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
            && name.starts_with(|c: char| c.is_ascii_lowercase())
    }

    #[test]
    fn names_are_unique_snake_case_and_ours() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} comes twice", metric.name);
            assert!(is_snake_case(metric.name), "{}", metric.name);
            assert!(metric.name.starts_with("vigie_"), "{}", metric.name);
        }
        assert!(!is_snake_case("a__b") && !is_snake_case("aB") && !is_snake_case("_a") && !is_snake_case("1a"));
    }

    #[test]
    fn units_are_base_units_and_come_last() {
        for metric in ALL {
            let words: Vec<_> = metric.name.split('_').collect();
            let unit_at = if metric.kind == Kind::Counter { words.len() - 2 } else { words.len() - 1 };
            for (at, word) in words.iter().enumerate() {
                assert!(!NO_UNITS.contains(word), "{}: {word} is no base unit", metric.name);
                assert!(!matches!(*word, "seconds" | "ratio") || at == unit_at, "{}: the unit does not come last", metric.name);
                assert!(!matches!(*word, "counter" | "gauge" | "histogram" | "summary"), "{}: the type is not part of a name", metric.name);
            }
            assert_eq!(
                metric.kind == Kind::Counter,
                words.ends_with(&["total"]),
                "{}: counters, and only they, end in _total",
                metric.name
            );
            assert!(!["_bucket", "_count", "_sum"].iter().any(|suffix| metric.name.ends_with(suffix)), "{}", metric.name);
        }
    }

    #[test]
    fn labels_are_unique_snake_case_and_not_reserved() {
        for metric in ALL {
            let labels: BTreeSet<_> = metric.labels.iter().collect();
            assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
            for label in metric.labels {
                assert!(is_snake_case(label) && !matches!(*label, "le" | "quantile" | "job" | "instance"), "{}: {label}", metric.name);
            }
        }
    }

    #[test]
    fn help_is_one_sentence_on_one_line() {
        for metric in ALL {
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']), "{}", metric.name);
        }
    }
}
