//! `vigie publish`: a catalogue into the log of every group, where all replicas read the same one at the same place.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use vigie_aggregator::core::digest::sha256_hex;
use vigie_contract::catalogue::Strictness;
use vigie_contract::record::{CatalogueRecord, Record};

use crate::catalogue_file;
use crate::fact::{Appending, Desk};
use crate::shell::{self, Failure};

/// Put a catalogue in force: into the log of every group
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is measured, from where, and what was promised
    #[arg(long, value_name = "FILE")]
    catalogue: PathBuf,
    /// Who takes the responsibility for a catalogue that changes the past
    #[arg(long, value_name = "NAME")]
    override_by: Option<String>,
    /// Who publishes it
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    appending: Appending,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run(async {
        let read = catalogue_file::understand(&args.catalogue, std::fs::read(&args.catalogue), Strictness::Live, &mut io::stderr().lock())?;
        let (text, catalogue) = read.ok_or_else(|| Failure::new(format!("{} cannot be used", args.catalogue.display())))?;
        let desks = Desk::open_all(&args.appending.place).await?;
        // A data directory holds all groups in one log.
        let holds_all = args.appending.place.directory().is_ok();
        let has = |group: &str| holds_all || desks.iter().any(|desk| desk.group == group);
        let groups = catalogue.services.iter().map(|service| &service.group).chain(catalogue.targets.iter().map(|target| &target.group));
        if let Some(group) = groups.into_iter().find(|group| !has(group)) {
            return Err(Failure::new(format!(
                "nobody would fold group `{group}`: name it at the end of `groups` in the settings of Kafka"
            )));
        }
        for desk in desks {
            let group = desk.group.clone();
            if desk.engine.catalogue_text() == Some(&*text) {
                writeln!(io::stdout(), "group {group}: this catalogue is in force already")?;
                continue;
            }
            let record = CatalogueRecord {
                rev: desk.engine.catalogue_rev().map_or(1, |rev| rev + 1),
                sha256: Some(sha256_hex(text.as_bytes())),
                text: text.clone(),
                override_by: args.override_by.clone(),
                actor: args.actor.clone(),
                reason: args.reason.clone(),
            };
            let notes = [format!("revision {} of group {group}", record.rev)];
            if !desk.append(&Record::Catalogue(record), &notes, args.appending.yes).await? {
                break;
            }
        }
        Ok(())
    })
}
