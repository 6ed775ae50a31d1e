//! `vigie topics`: Kafka's topics as they must be (DESIGN §4).

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use vigie_kafka::{Settings, ensure, verify};

use crate::shell::{self, Failure};

/// Check Kafka's topics, or make them
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The settings of Kafka, TOML
    #[arg(long, value_name = "FILE")]
    kafka: PathBuf,
    /// Make what is missing; what is there is never changed
    #[arg(long)]
    create: bool,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run_quietly(async {
        let settings = Settings::read(&args.kafka)?;
        let findings = if args.create { ensure(&settings).await? } else { verify(&settings).await? };
        let mut out = io::stdout().lock();
        for finding in &findings {
            let word = if finding.is_fatal { "error" } else { "warning" };
            writeln!(out, "{word}: topic {} {}", finding.topic, finding.problem)?;
        }
        let wrong = findings.iter().filter(|finding| finding.is_fatal).count();
        if wrong > 0 {
            return Err(Failure::new(format!("{wrong} things would corrupt order, time or evidence: nothing may use these topics")));
        }
        writeln!(out, "the topics are as they must be")?;
        Ok(())
    })
}
