//! The report as Markdown.

use std::fmt;

use super::Report;
use super::score::{BUCKETS, Errors, Lateness, Score};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = self.engine();
        let outages: usize = engine.by_length.iter().map(|(_, of)| of).sum();
        writeln!(
            f,
            "{outages} outages, {} of two periods or more; {} partial losses; {} samples.",
            engine.long, self.losses, self.samples
        )?;
        writeln!(f, "Not judged: {} outages while two vantages were cut off.", self.unseen)?;
        writeln!(f, "vigie showed and withdrew {} windows, {} of them without any ground.\n", self.withdrawn, self.groundless)?;
        let mut table = Table { report: self, f };
        table.head("")?;
        table.row("missed, of those of two periods or more", |score| score.missed.to_string())?;
        table.row("false windows", |score| score.false_windows.to_string())?;
        table.row("windows open to dispute", |score| score.disputed_windows.to_string())?;
        table.late("", |score| &score.steady)?;
        table.late(", a vantage in trouble", |score| &score.in_trouble)?;
        table.late(", flapping", |score| &score.flapping)?;
        table.f.write_str("\n")?;
        table.head("found, by length in periods")?;
        for (place, (_, of)) in engine.by_length.iter().enumerate() {
            table.row(&format!("{}, {of} outages", range(place)), |score| share(score.by_length[place]))?;
        }
        Ok(())
    }
}

struct Table<'a, 'f> {
    report: &'a Report,
    f: &'a mut fmt::Formatter<'f>,
}

impl Table<'_, '_> {
    fn head(&mut self, name: &str) -> fmt::Result {
        let names: Vec<_> = self.report.scores.iter().map(|(name, _)| *name).collect();
        writeln!(self.f, "| {name} | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()))
    }

    fn late(&mut self, when: &str, lateness: impl Fn(&Score) -> &Lateness) -> fmt::Result {
        self.row(&format!("onset late by, p50 / p95 / max{when}"), |score| later(&lateness(score).onset))?;
        self.row(&format!("end late by{when}"), |score| later(&lateness(score).end))
    }

    fn row(&mut self, name: &str, cell: impl Fn(&Score) -> String) -> fmt::Result {
        let cells: Vec<_> = self.report.scores.iter().map(|(_, score)| cell(score)).collect();
        writeln!(self.f, "| {name} | {} |", cells.join(" | "))
    }
}

fn later(errors: &Errors) -> String {
    let cell = |percent| errors.at(percent).map_or_else(|| "–".to_owned(), in_periods);
    [50, 95, 100].map(cell).join(" / ")
}

/// Thousandths as periods with two digits, truncated.
fn in_periods(thousandths: i64) -> String {
    let sign = if thousandths < 0 { "−" } else { "" };
    format!("{sign}{}.{:02}", thousandths.abs() / 1_000, thousandths.abs() % 1_000 / 10)
}

fn share((found, of): (usize, usize)) -> String {
    (100 * found).checked_div(of).map_or_else(|| "–".to_owned(), |percent| format!("{percent} %"))
}

/// The lengths of a place in [`Score::by_length`], in periods.
fn range(place: usize) -> String {
    let periods = |quarters: i64| match (quarters / 4, quarters % 4) {
        (whole, 0) => whole.to_string(),
        (whole, part) => format!("{whole}.{:02}", 25 * part),
    };
    let from = if place == 0 { 0 } else { BUCKETS[place - 1] };
    match BUCKETS.get(place) {
        Some(to) => format!("{} to {}", periods(from), periods(*to)),
        None => format!("{} or more", periods(from)),
    }
}
