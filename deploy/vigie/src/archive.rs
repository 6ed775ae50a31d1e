//! `vigie archive`: a log's evidence into files that outlive it, and out of them what need not be kept for ever (DESIGN §4).

mod prune;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use vigie_aggregator::archive::{Archive, Shelf};
use vigie_aggregator::archivist::Archivist;

use crate::place::Place;
use crate::shell;

/// Copy the evidence that is not archived yet into an archive, up to now
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    place: Place,
    /// The archive: a directory, or the settings of a bucket, TOML; `vigie replay --evidence PLACE/GROUP/EPOCH` evaluates what is in it
    #[arg(long, value_name = "PLACE", required = true)]
    to: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    Prune(prune::Args),
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    if let Some(Command::Prune(args)) = &args.command {
        return prune::run(args);
    }
    shell::run_quietly(async {
        let shelf = Shelf::open(args.to.as_deref().unwrap_or_else(|| std::path::Path::new("")))?;
        for opened in args.place.logs()? {
            let archivist = Archivist::new(Archive::new(&shelf, &opened.group, opened.log_epoch));
            archivist.catch_up(&opened.log).await?;
            let figures = archivist.figures();
            writeln!(io::stdout(), "group {}, log epoch {}: archived up to offset {}", opened.group, opened.log_epoch, figures.next)?;
        }
        Ok(())
    })
}
