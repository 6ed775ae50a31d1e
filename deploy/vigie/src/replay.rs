//! `vigie replay`: from a file of evidence to windows, gaps, candidates, accounts and latencies (SPEC §8).

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::core::line::Line;
use vigie_aggregator::replay::{Hole, Replay};
use vigie_contract::Time;
use vigie_contract::catalogue::Strictness;

use crate::{catalogue_file, evidence};

/// Evaluate a file of evidence in one go and print windows, gaps, candidates, accounts and latencies as NDJSON
#[derive(clap::Args)]
pub(crate) struct Source {
    /// The catalogue; without it, the catalogue records in the evidence are used
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    /// The evidence, NDJSON: one record per line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,
    /// Evaluate up to this instant instead of the last append time less `settle`; all evidence still counts
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    until: Option<i64>,
}

pub(crate) fn run(args: &Source) -> io::Result<ExitCode> {
    let Some(evaluated) = evaluate(args)? else { return Ok(ExitCode::from(2)) };
    let (lines, left_out): (Vec<Line>, Vec<Line>) = evaluated.engine.lines().into_iter().partition(|line| evaluated.can_tell(line));
    if !left_out.is_empty() {
        let of = |is: fn(&Line) -> bool| left_out.iter().filter(|line| is(line)).count();
        writeln!(
            io::stderr(),
            "warning: left out, because evidence was pruned that would bear on them: {} windows, {} gaps, {} candidates, {} accounts, {} \
             latencies; what was published of that time is in the window store",
            of(|line| matches!(line, Line::Window(_))),
            of(|line| matches!(line, Line::Gap(_))),
            of(|line| matches!(line, Line::Candidate(_))),
            of(|line| matches!(line, Line::Account(_))),
            of(|line| matches!(line, Line::Latency(_))),
        )?;
    }
    let mut out = BufWriter::new(io::stdout().lock());
    for line in lines {
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The years 0000 to 9999.
const YEARS_US: std::ops::RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// The engine after all evidence, and what of the evidence was pruned.
pub(crate) struct Evaluated {
    pub(crate) engine: Engine,
    pub(crate) holes: Vec<Hole>,
}

impl Evaluated {
    /// Whether no evidence is missing that could make the line another.
    pub(crate) fn can_tell(&self, line: &Line) -> bool {
        let Some(catalogue) = self.engine.catalogue() else { return true };
        self.holes.iter().all(|hole| hole.spares(line, &catalogue.calendar))
    }
}

/// Evaluates all evidence; `None` if something is unreadable or missing, which is then said on standard error.
pub(crate) fn evaluate(args: &Source) -> io::Result<Option<Evaluated>> {
    let mut errors = io::stderr().lock();
    // An end of the calendar is as good as the next one: clamped, as in records.
    let until = match args.until {
        Some(us) if !YEARS_US.contains(&us) => {
            writeln!(errors, "error: --until {us} lies outside the years 0000 to 9999; it counts microseconds since 1970")?;
            return Ok(None);
        }
        until => until.map(Time::clamped),
    };
    // All problems at once: a catalogue with mistakes does not keep the evidence from being read.
    let catalogue = match &args.catalogue {
        None => Ok(None),
        Some(path) => catalogue_file::read(path, Strictness::Replay, &mut errors)?.map(Some).ok_or(()),
    };
    let mut replay = Replay::new(catalogue.clone().ok().flatten());
    let holes = match evidence::feed(&mut replay, &args.evidence, catalogue.is_ok(), &mut errors) {
        Ok(holes) => holes,
        Err(error) => {
            writeln!(errors, "error: cannot read {}: {error}", args.evidence.display())?;
            return Ok(None);
        }
    };
    let Some(engine) = replay.finish(until).filter(|_| catalogue.is_ok()) else { return Ok(None) };
    if engine.catalogue().is_none() {
        writeln!(errors, "warning: no catalogue is in force, so there is nothing to evaluate: give --catalogue FILE")?;
    }
    Ok(Some(Evaluated { engine, holes }))
}
