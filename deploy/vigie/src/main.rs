//! The one binary that people type.

mod aggregate;
mod catalogue_file;
mod catalogue_watch;
mod check;
mod draw;
mod evidence;
mod explain;
mod probe;
mod replay;
mod run;
mod shell;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The lookout: supervises the service levels of a cloud region
#[derive(Parser)]
#[command(name = "vigie", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Probe(probe::Args),
    Aggregate(aggregate::Args),
    Check(check::Args),
    Explain(explain::Args),
    Replay(replay::Source),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Aggregate(args) => aggregate::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Replay(args) => replay::run(&args),
    };
    match done {
        Ok(status) => status,
        // Whoever reads us closed the pipe: there is nobody left to tell.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
