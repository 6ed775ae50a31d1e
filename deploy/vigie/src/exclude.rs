//! `vigie exclude`: approved periods that do not count (SPEC §6).

use std::io;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use vigie_aggregator::clock::wall_now;
use vigie_contract::record::Record;
use vigie_contract::{Exclusion, ExclusionId, ExclusionKind, ServiceId};

use crate::fact::{Appending, Desk, check, instant};
use crate::shell::{self, Failure};

/// Record a period that does not count, or take it back
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Approve an exclusion, or a new revision of it
    Approve(Approve),
    /// Withdraw an exclusion: it counts no more
    Withdraw(Withdraw),
}

#[derive(clap::Args)]
struct Approve {
    /// Its name: the change, ticket or notice
    #[arg(long, value_name = "ID")]
    id: String,
    /// Why it does not count; the indicator must allow it
    #[arg(long, value_parser = PossibleValuesParser::new(ExclusionKind::ALL.map(ExclusionKind::as_str)))]
    kind: String,
    /// For which services; those above them are not meant unless named
    #[arg(long = "service", value_name = "SERVICE", required = true)]
    services: Vec<String>,
    /// From when
    #[arg(long, value_name = "TIME")]
    start: String,
    /// Until when
    #[arg(long, value_name = "TIME")]
    end: String,
    /// Who approves it
    #[arg(long, value_name = "NAME")]
    approved_by: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When customers were told, to be shown
    #[arg(long, value_name = "TIME")]
    announced_at: Option<String>,
    /// Who decides that a maintenance counts although it is recorded after its start
    #[arg(long, value_name = "NAME")]
    override_by: Option<String>,
    #[command(flatten)]
    appending: Appending,
}

#[derive(clap::Args)]
struct Withdraw {
    /// Its name
    #[arg(long, value_name = "ID")]
    id: String,
    /// Who withdraws it
    #[arg(long, value_name = "NAME")]
    approved_by: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    appending: Appending,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run(async {
        match &args.command {
            Command::Approve(args) => approve(args).await,
            Command::Withdraw(args) => withdraw(args).await,
        }
    })
}

fn known(desk: &Desk, id: &str) -> Option<Exclusion> {
    let mut highest = desk.engine.exclusions().filter_map(|revisions| revisions.values().next_back());
    highest.find(|revision| revision.exclusion.id.as_str() == id).map(|revision| revision.exclusion.clone())
}

async fn approve(args: &Approve) -> Result<(), Failure> {
    let kind = ExclusionKind::ALL.into_iter().find(|kind| kind.as_str() == args.kind);
    let mut exclusion = Exclusion {
        id: ExclusionId::from(args.id.as_str()),
        rev: 1,
        kind: kind.ok_or_else(|| Failure::new(format!("there is no kind `{}`", args.kind)))?,
        services: args.services.iter().map(|service| ServiceId::from(service.as_str())).collect(),
        start: instant("start", &args.start)?,
        end: instant("end", &args.end)?,
        announced_at: args.announced_at.as_deref().map(|text| instant("announced-at", text)).transpose()?,
        state: "approved".to_owned(),
        override_by: args.override_by.clone(),
        approved_by: Some(args.approved_by.clone()),
        reason: Some(args.reason.clone()),
    };
    let desks = Desk::open_all(&args.appending.place).await?;
    let mut parts = Vec::new();
    let is_one = desks.len() == 1;
    for desk in desks {
        exclusion.rev = known(&desk, &args.id).map_or(1, |known| known.rev + 1);
        // Each group is told of its own services; one that nobody has is told to the only group, which says so.
        let services = if is_one { exclusion.services.clone() } else { services_of(&desk, &exclusion.services) };
        if !services.is_empty() {
            parts.push((desk, Exclusion { services, ..exclusion.clone() }));
        }
    }
    let has = |service: &ServiceId| parts.iter().any(|(_, part)| part.services.contains(service));
    if let Some(unknown) = exclusion.services.iter().find(|service| !has(service)) {
        return Err(Failure::new(format!("no group has a service `{unknown}`")));
    }
    for (desk, exclusion) in parts {
        let mut notes = services_above(&desk, &exclusion.services);
        notes.extend(not_allowed(&desk, &exclusion));
        notes.extend(too_late(&exclusion));
        let record = Record::Exclusion(exclusion);
        check(&record)?;
        desk.append(&record, &notes, args.appending.yes).await?;
    }
    Ok(())
}

fn services_of(desk: &Desk, named: &[ServiceId]) -> Vec<ServiceId> {
    let Some(catalogue) = desk.engine.catalogue() else { return Vec::new() };
    named.iter().filter(|id| catalogue.services.iter().any(|service| service.id == **id)).cloned().collect()
}

async fn withdraw(args: &Withdraw) -> Result<(), Failure> {
    let mut is_known = false;
    for desk in Desk::open_all(&args.appending.place).await? {
        let Some(known) = known(&desk, &args.id) else { continue };
        is_known = true;
        let (approved_by, reason) = (Some(args.approved_by.clone()), Some(args.reason.clone()));
        let record = Record::Exclusion(Exclusion { rev: known.rev + 1, state: "withdrawn".to_owned(), approved_by, reason, ..known });
        desk.append(&record, &[], args.appending.yes).await?;
    }
    if is_known { Ok(()) } else { Err(Failure::new(format!("there is no exclusion {}", args.id))) }
}

/// The services that need an excluded one and were not named: their time still counts.
fn services_above(desk: &Desk, named: &[ServiceId]) -> Vec<String> {
    let Some(catalogue) = desk.engine.catalogue() else { return Vec::new() };
    let is_named = |service: usize| named.contains(&catalogue.services[service].id);
    let above = (0..catalogue.services.len()).filter(|&service| !is_named(service));
    let above = above.filter(|&service| catalogue.reach(service).into_iter().any(is_named));
    above.map(|service| format!("{} needs it and was not named: its time still counts", catalogue.services[service].id)).collect()
}

/// The services whose indicator does not allow this kind.
fn not_allowed(desk: &Desk, exclusion: &Exclusion) -> Vec<String> {
    let Some(catalogue) = desk.engine.catalogue() else { return Vec::new() };
    let named = catalogue.services.iter().enumerate().filter(|(_, service)| exclusion.services.contains(&service.id));
    let refused = named.filter(|(ix, _)| !desk.engine.allowed_exclusions(*ix, exclusion.start).contains(&exclusion.kind));
    refused
        .map(|(_, service)| format!("the indicator of {} does not allow {}: nothing is taken off", service.id, exclusion.kind.as_str()))
        .collect()
}

/// A maintenance counts from when it was known beforehand (SPEC §6).
fn too_late(exclusion: &Exclusion) -> Option<String> {
    let is_late = exclusion.kind == ExclusionKind::Maintenance && exclusion.override_by.is_none() && exclusion.start <= wall_now();
    is_late.then(|| {
        "this will not count: a maintenance must be recorded before its start, which is past; --override-by NAME says who decides that \
         it counts all the same"
            .to_owned()
    })
}
