//! `vigie check`: the rules of the live programs, and what an edit changes (SPEC §2).

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use vigie_aggregator::clock::wall_now;
use vigie_contract::Catalogue;
use vigie_contract::catalogue::{ChangeKind, Strictness};

use crate::catalogue_file;

/// Check a catalogue by the rules of the live programs; all mistakes at once
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The catalogue
    #[arg(value_name = "FILE")]
    catalogue: PathBuf,
    /// Say what differs from this one, and from when
    #[arg(long, value_name = "OLD")]
    against: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    let mut errors = io::stderr().lock();
    let new = catalogue_file::read(&args.catalogue, Strictness::Live, &mut errors)?;
    let old = match &args.against {
        // What is in force may be older than a rule: it need only be readable.
        Some(path) => catalogue_file::read(path, Strictness::Replay, &mut errors)?.map(Some),
        None => Some(None),
    };
    let is_measurable = new.as_ref().map_or(Ok(true), |new| draw_check_problems(new, &mut errors))?;
    let (Some(new), Some(old), true) = (new, old, is_measurable) else { return Ok(ExitCode::from(2)) };
    let mut out = io::stdout().lock();
    let Some(old) = old else {
        let (targets, services) = (new.targets.len(), new.services.len());
        writeln!(out, "{}: valid; {targets} targets, {services} services", args.catalogue.display())?;
        return Ok(ExitCode::SUCCESS);
    };
    let changes = new.changes_from(&old);
    if changes.is_empty() {
        writeln!(out, "nothing changes")?;
    }
    for change in &changes {
        writeln!(out, "{change}")?;
    }
    let changed = changes.iter().filter(|change| matches!(change.kind, ChangeKind::Changed | ChangeKind::Removed));
    match changed.map(|change| change.from).min() {
        Some(None) => writeln!(out, "This changes the past: the engine takes it only with `override_by`.")?,
        Some(Some(from)) => writeln!(out, "The engine takes it without `override_by` if it is appended by {from}.")?,
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes what a probe could not make of the checks, or must not do, to `errors`; whether there is nothing of the kind.
pub(crate) fn draw_check_problems(catalogue: &Catalogue, errors: &mut impl Write) -> io::Result<bool> {
    let mut is_sound = true;
    for target in &catalogue.targets {
        for check in target.plan.all().filter_map(|plan| plan.check.as_ref()) {
            if let Err(problem) = vigie_probe::validate(check) {
                is_sound = false;
                writeln!(errors, "error: the check of target `{}` cannot be made: {problem}", target.id)?;
            }
        }
    }
    for exceeded in vigie_probe::exceeded(catalogue, wall_now()) {
        is_sound = false;
        writeln!(errors, "error: {exceeded}")?;
    }
    Ok(is_sound)
}
