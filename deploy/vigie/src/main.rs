//! The one binary that people type.

mod aggregate;
mod archive;
mod catalogue_file;
mod catalogue_watch;
mod check;
mod claim;
#[cfg(feature = "kafka")]
mod cluster;
#[cfg(feature = "demo")]
mod demo;
mod draw;
mod durability;
mod evidence;
mod exclude;
mod explain;
mod fact;
mod letters;
mod manager;
mod manual;
mod place;
mod probe;
#[cfg(feature = "kafka")]
mod publish;
mod reference;
mod replay;
mod run;
#[cfg(feature = "kafka")]
mod schema;
#[cfg(feature = "kafka")]
mod seed;
mod shell;
#[cfg(feature = "kafka")]
mod shown;
mod store;
mod table;
#[cfg(feature = "kafka")]
mod topics;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// The lookout: supervises the service levels of a cloud region
#[derive(Parser)]
#[command(name = "vigie", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "demo")]
    Demo(demo::Args),
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoServer(demo::server::Args),
    Run(run::Args),
    Probe(probe::Args),
    Aggregate(aggregate::Args),
    Windows(store::Windows),
    Report(store::Report),
    #[cfg(feature = "kafka")]
    Topics(topics::Args),
    #[cfg(feature = "kafka")]
    Schema(schema::Args),
    #[cfg(feature = "kafka")]
    Publish(publish::Args),
    #[cfg(feature = "kafka")]
    Seed(seed::Args),
    Claim(claim::Args),
    Exclude(exclude::Args),
    Letters(letters::Args),
    Check(check::Args),
    Explain(explain::Args),
    Replay(replay::Source),
    Archive(archive::Args),
    Durability(durability::Args),
    Backup(store::Backup),
    Restore(store::Restore),
    Completions(manual::Completions),
    /// Print the manual page
    Man,
    /// Print the reference of all metrics, as Markdown
    Metrics,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(&args),
        #[cfg(feature = "demo")]
        Command::DemoServer(args) => demo::server::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Aggregate(args) => aggregate::run(&args),
        Command::Windows(args) => store::windows(&args),
        Command::Report(args) => store::report(&args),
        #[cfg(feature = "kafka")]
        Command::Topics(args) => topics::run(&args),
        #[cfg(feature = "kafka")]
        Command::Schema(args) => schema::run(&args),
        #[cfg(feature = "kafka")]
        Command::Publish(args) => publish::run(&args),
        #[cfg(feature = "kafka")]
        Command::Seed(args) => seed::run(&args),
        Command::Claim(args) => claim::run(&args),
        Command::Exclude(args) => exclude::run(&args),
        Command::Archive(args) => archive::run(&args),
        Command::Durability(args) => durability::run(&args),
        Command::Backup(args) => store::backup(&args),
        Command::Restore(args) => store::restore(&args),
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Man => manual::man(Cli::command()),
        Command::Metrics => reference::print(),
        Command::Letters(args) => letters::run(&args),
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
