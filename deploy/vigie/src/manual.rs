//! `vigie completions` and `vigie man`: made from the definition of the command line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;

/// Print completions for a shell
#[derive(clap::Args)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn completions(args: &Completions, mut cli: clap::Command) -> io::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "vigie", &mut text);
    io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The manual page of the whole program: every command with its options.
pub(crate) fn man(cli: clap::Command) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut cli = cli;
    cli.build();
    clap_mangen::Man::new(cli.clone()).render(&mut out)?;
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        clap_mangen::Man::new(command.clone()).title(format!("vigie-{}", command.get_name())).render(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}
