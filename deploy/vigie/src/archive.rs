//! `vigie archive`: a log's evidence into files that outlive it (DESIGN §4).

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use vigie_aggregator::archive::Archive;
use vigie_aggregator::archivist::Archivist;

use crate::place::Place;
use crate::shell;

/// Copy the evidence that is not archived yet into an archive, up to now
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The archive's directory; `vigie replay --evidence DIR/GROUP/EPOCH` evaluates what is in it
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run_quietly(async {
        for opened in args.place.logs()? {
            let archivist = Archivist::new(Archive::new(&args.to, &opened.group, opened.log_epoch));
            archivist.catch_up(&opened.log).await?;
            let figures = archivist.figures();
            writeln!(io::stdout(), "group {}, log epoch {}: archived up to offset {}", opened.group, opened.log_epoch, figures.next)?;
        }
        Ok(())
    })
}
