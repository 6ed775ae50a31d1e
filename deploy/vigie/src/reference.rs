//! `vigie metrics`: the reference of all metrics, made from their definitions (`deploy/metrics.md`).

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use vigie_aggregator::metric::{self, BURN_RATE_WINDOWS, LATENCY_WINDOWS};
use vigie_aggregator::view::Cause;
use vigie_contract::RefusalReason;
use vigie_contract::metric::{Kind, Metric};

#[cfg(feature = "kafka")]
use crate::shown::METRICS as OF_KAFKA;

#[cfg(not(feature = "kafka"))]
const OF_KAFKA: &[Metric] = &[];

const INTRODUCTION: &str = "# Metrics

Printed by `vigie metrics`; a test compares. Times are Unix times in seconds, ratios go from 0 to 1 unless it says otherwise, and a value
that nobody knows is absent, never 0. What evidence that comes late can revise is a gauge.

The last column says how many series a metric has at most in a region of 1 000 services over 1 000 targets and three vantages, in one group, on
one aggregator and three probes. No label holds what a measured thing answered, an address, or a person.

";

/// Prints it.
pub(crate) fn print() -> io::Result<ExitCode> {
    io::stdout().lock().write_all(text().as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn text() -> String {
    let mut text = INTRODUCTION.to_owned();
    let note = "The last two only with `--kafka`, the first of them on probes too.";
    section(&mut text, "aggregator", note, &[metric::ALL, OF_KAFKA].concat());
    let honour = "`instance` is the target and `probe` the vantage: scrape them with `honor_labels: true`.";
    section(&mut text, "probe", honour, vigie_probe::METRICS);
    text
}

fn section(text: &mut String, program: &str, note: &str, metrics: &[Metric]) {
    let total: u64 = metrics.iter().map(series).sum();
    let _ = writeln!(text, "## Of the {program}\n\n{note} {total} series at most.\n");
    let _ = writeln!(text, "| metric | type | labels | unit | how to read it | series |\n|---|---|---|---|---|---|");
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (metric.name, metric.kind.as_str(), labels.join(" "));
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {} | {} | {} |", unit(metric), metric.help, series(metric));
    }
    text.push('\n');
}

/// The unit that a name says.
fn unit(metric: &Metric) -> &'static str {
    let name = metric.name.trim_end_matches("_total");
    let says = |unit| name.ends_with(unit);
    match () {
        () if says("_timestamp_seconds") || says("_cert_expiry") => "Unix time",
        () if says("_seconds") => "s",
        () if says("_ratio") => "ratio",
        () if says("_bytes") || says("_content_length") => "bytes",
        () if says("_info") => "always 1",
        () => "count",
    }
}

/// So many series a metric has at most in the region of the introduction.
fn series(metric: &Metric) -> u64 {
    let values: u64 = metric.labels.iter().map(|label| values(metric, label)).product();
    // A histogram's buckets, its sum and its count: twelve bounds at most, and one without.
    values * if metric.kind == Kind::Histogram { 15 } else { 1 }
}

/// How many values a label has beside each value of those before it.
fn values(metric: &Metric, label: &str) -> u64 {
    let of = |values: &[&str]| values.len() as u64;
    match label {
        // What evidence shows of one that was taken back is kept for the last 32.
        "service" if metric.name == metric::WINDOW_RETRACTED.name => 32,
        // As many services as targets: most rest upon one.
        "target" if *metric == metric::SERVICE_TARGET => 1,
        "service" | "target" | "instance" => 1_000,
        "scope" if metric.name == metric::SCOPE_SERVICES.name => 1_000,
        "month" if metric.name.starts_with("vigie_budget_") && metric.name.ends_with("_ratio") => 1,
        "month" if [metric::DOWN_OBSERVED, metric::DOWN_INFERRED].contains(metric) => 1,
        "window" if *metric == metric::LATENCY_RECENT => of(&LATENCY_WINDOWS),
        "window" => of(&BURN_RATE_WINDOWS),
        "cause" if *metric == metric::STALE => Cause::ALL.len() as u64,
        "cause" if *metric == metric::VOIDED => 2,
        "reason" if *metric == metric::REFUSED => RefusalReason::ALL.len() as u64,
        "type" => 6,
        // Of reasons and phases: a target is of one kind, and fails in few ways.
        "reason" | "phase" | "why" | "trouble" => 5,
        "status" => 4,
        "vantage" | "probe" | "verdict" | "state" | "result" | "client" => 3,
        "month" | "kind" | "way" | "share" => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_a_line() {
        let text = text();
        for metric in metric::ALL.iter().chain(vigie_probe::METRICS) {
            let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("| `{}` |", metric.name))).collect();
            assert_eq!(lines.len(), 1, "{}", metric.name);
            assert_eq!(lines[0].matches('|').count(), 7, "its help would break the table: {}", lines[0]);
        }
        assert!(text.contains("| `vigie_frontier_timestamp_seconds` | gauge | `group` | Unix time |"));
    }
}
