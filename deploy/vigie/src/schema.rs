//! `vigie schema`: ClickHouse's tables as they must be.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use vigie_aggregator::clickhouse::{Settings, apply, check};

use crate::shell::{self, Failure};

/// Check ClickHouse's tables, or make them
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The settings of ClickHouse, TOML: of a user who may make tables
    #[arg(long, value_name = "FILE")]
    clickhouse: PathBuf,
    /// Make the database, tables and columns that are missing; rows are never touched
    #[arg(long)]
    apply: bool,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run_quietly(async {
        let settings = Settings::read(&args.clickhouse)?;
        if args.apply {
            apply(&settings).await?;
        }
        let mismatches = check(&settings).await?;
        let mut out = io::stdout().lock();
        for mismatch in &mismatches {
            writeln!(out, "error: {mismatch}")?;
        }
        if !mismatches.is_empty() {
            return Err(Failure::new(format!("{} things are missing or different in database {}", mismatches.len(), settings.database)));
        }
        writeln!(out, "the tables are as they must be")?;
        Ok(())
    })
}
