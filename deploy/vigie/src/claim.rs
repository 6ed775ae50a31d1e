//! `vigie claim`: what customers notified, and what support decided about it (SPEC §5).

use std::io;
use std::process::ExitCode;

use vigie_aggregator::clock::wall_now;
use vigie_aggregator::core::engine::Engine;
use vigie_contract::record::Record;
use vigie_contract::{Claim, ClaimId, ClaimState};

use crate::fact::{Appending, Desk, check, instant};
use crate::shell::{self, Failure};

/// Record a customer's notification, and what support decides about it
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// A customer has notified us: a ticket was opened
    Open(Open),
    /// Support accepts the claim: it counts, with or without an outage of supervision's
    Accept(Decide),
    /// Support rejects the claim: it counts no more
    Reject(Decide),
}

#[derive(clap::Args)]
struct Open {
    /// The ticket
    #[arg(long, value_name = "ID")]
    id: String,
    /// Which service
    #[arg(long, value_name = "SERVICE")]
    service: String,
    /// When the ticket was opened; now without it
    #[arg(long, value_name = "TIME")]
    opened_at: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    appending: Appending,
}

#[derive(clap::Args)]
struct Decide {
    /// The ticket
    #[arg(long, value_name = "ID")]
    id: String,
    /// When the customer confirmed that the service was restored
    #[arg(long, value_name = "TIME")]
    resolved_at: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    appending: Appending,
}

#[derive(clap::Args)]
struct Who {
    /// Who says so
    #[arg(long, value_name = "NAME")]
    actor: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run(async {
        match &args.command {
            Command::Open(open) => open_claim(open).await,
            Command::Accept(decide) => decide_claim(decide, ClaimState::Accepted).await,
            Command::Reject(decide) => decide_claim(decide, ClaimState::Rejected).await,
        }
    })
}

async fn open_claim(args: &Open) -> Result<(), Failure> {
    let has_service = |engine: &Engine| {
        engine.catalogue().is_some_and(|catalogue| catalogue.services.iter().any(|service| service.id.as_str() == args.service))
    };
    let desk = Desk::open(&args.appending.place, has_service).await?;
    let opened_at = args.opened_at.as_deref().map_or_else(|| Ok(wall_now()), |text| instant("opened-at", text))?;
    if desk.engine.claims().any(|claim| claim.id.as_str() == args.id) {
        return Err(Failure::new(format!("claim {} is already open: `vigie claim accept` or `reject` decides about it", args.id)));
    }
    let claim = Claim {
        id: ClaimId::from(args.id.as_str()),
        rev: 1,
        service: args.service.as_str().into(),
        tenant: desk.engine.catalogue().and_then(|catalogue| catalogue.tenant.clone()),
        opened_at,
        state: ClaimState::Received,
        resolved_at: None,
        actor: Some(args.who.actor.clone()),
        reason: Some(args.who.reason.clone()),
    };
    append(desk, claim, &args.appending).await
}

async fn decide_claim(args: &Decide, state: ClaimState) -> Result<(), Failure> {
    let has_claim = |engine: &Engine| engine.claims().any(|claim| claim.id.as_str() == args.id);
    let desk = Desk::open(&args.appending.place, has_claim).await?;
    let known = desk.engine.claims().find(|claim| claim.id.as_str() == args.id).cloned();
    let known = known.ok_or_else(|| Failure::new(format!("there is no claim {}: `vigie claim open` records one", args.id)))?;
    let resolved_at = args.resolved_at.as_deref().map(|text| instant("resolved-at", text)).transpose()?.or(known.resolved_at);
    let (actor, reason) = (Some(args.who.actor.clone()), Some(args.who.reason.clone()));
    let claim = Claim { rev: known.rev + 1, state, resolved_at, actor, reason, ..known };
    append(desk, claim, &args.appending).await
}

async fn append(desk: Desk, claim: Claim, appending: &Appending) -> Result<(), Failure> {
    let record = Record::Claim(claim);
    check(&record)?;
    desk.append(&record, &[], appending.yes).await.map(|_| ())
}
