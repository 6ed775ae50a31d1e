//! `vigie archive prune`: deletes from an archive what is older than 400 days and far from every window (DESIGN §4).
//!
//! A command and not the aggregator's, so that whoever archives needs no right to delete. The windows come from the store, which has all
//! versions of all of them, while an engine remembers thirteen months.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;
use vigie_aggregator::archive::{ArchiveError, Done, Shelf, ShelfError, Survey, epochs, prune, survey};
use vigie_aggregator::clock::wall_now;
use vigie_aggregator::core::keep::{Hours, Said};
use vigie_aggregator::core::version::version_number;
use vigie_aggregator::port::{Offset, log_epoch};
use vigie_contract::{Span, Time};

use crate::shell::{self, Failure};
use crate::table::{Row, Source, Tables};

/// A claim can open a window thirteen months back, and its evidence begins an hour before: 397 days and an hour.
const FEWEST_DAYS: i64 = 398;

/// Delete what is old and farther than an hour from every window; what was deleted stays written down
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The archive: a directory, or the settings of a bucket, TOML, whose key may delete
    #[arg(long, value_name = "PLACE")]
    archive: PathBuf,
    #[command(flatten)]
    source: Source,
    /// So many days everything is kept; at least 398, because a claim can still open a window thirteen months back
    #[arg(long, value_name = "DAYS", default_value_t = 400, value_parser = clap::value_parser!(i64).range(FEWEST_DAYS..=36_500))]
    keep_days: i64,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

/// How far the store has come with a group's log.
struct Frontier {
    group: String,
    ver: u64,
    now: Time,
}

pub(super) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run_quietly(async {
        let store = args.source.open()?;
        let root = Shelf::open(&args.archive)?;
        for frontier in frontiers(&store).await? {
            let shelf = root.below(&frontier.group);
            // Behind the frontier, so that every window that follows from what may go is among them.
            let hours = Hours::around(windows(&store, &frontier.group).await?);
            let known = catalogues(&store, &frontier.group).await?;
            // A clock that runs ahead, here or at the log, makes nothing old.
            let cut = frontier.now.min(wall_now()) - Span::from_secs(args.keep_days * 86_400);
            let dry_run = args.dry_run;
            tokio::task::spawn_blocking(move || prune_group(&shelf, &frontier, &hours, cut, &known, dry_run)).await??;
        }
        Ok(())
    })
}

/// All epochs of a group: looked at first, all of them, and deleted then.
fn prune_group(
    shelf: &Shelf,
    frontier: &Frontier,
    hours: &Hours,
    cut: Time,
    known: &HashMap<u64, Time>,
    dry_run: bool,
) -> Result<(), Failure> {
    let mut surveys = Vec::new();
    for (epoch, shelf) in epochs(shelf)? {
        // What the store has not taken yet may still become a window.
        let through = match log_epoch(frontier.ver) {
            held if held > epoch => Offset::MAX,
            held if held == epoch => frontier.ver - version_number(epoch, 0) + 1,
            _ => 0,
        };
        let survey = survey(&shelf, hours, cut, through)?;
        surveys.push((epoch, shelf, survey));
    }
    if surveys.iter().all(|(_, _, survey)| survey.segments() == 0) {
        return Ok(writeln!(io::stdout(), "group {}: nothing to prune", frontier.group)?);
    }
    refuse_strangers(&frontier.group, &surveys, known)?;
    for (epoch, shelf, survey) in surveys {
        let name = format!("group {}, log epoch {epoch}", frontier.group);
        if dry_run {
            writeln!(io::stdout(), "{name}: {} segments would go; {} old ones stay", survey.segments(), survey.kept)?;
            continue;
        }
        match prune(&shelf, &survey) {
            Ok(done) => tell(&name, &survey, done)?,
            Err(ArchiveError::Shelf(ShelfError::Taken(place))) => {
                tracing::warn!("{name}: another process prunes {}: nothing is done", place.display());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The windows of another region's store would let this archive's evidence go: the two know each other by a catalogue, which is archived
/// for ever.
fn refuse_strangers(group: &str, surveys: &[(u64, Shelf, Survey)], known: &HashMap<u64, Time>) -> Result<(), Failure> {
    let archived = surveys.iter().flat_map(|(epoch, _, survey)| {
        survey.catalogues.iter().map(move |(offset, appended_at)| (version_number(*epoch, *offset), *appended_at))
    });
    let mut acquainted = false;
    for (ver, appended_at) in archived {
        match known.get(&ver) {
            Some(then) if *then == appended_at => acquainted = true,
            Some(_) => {
                return Err(Failure::new(format!(
                    "group {group}: the store has the catalogue of version {ver} from another instant than the archive: is it this region's?"
                )));
            }
            // It was refused.
            None => {}
        }
    }
    if acquainted {
        return Ok(());
    }
    Err(Failure::new(format!(
        "group {group}: the store knows no catalogue that the old part of the archive has: is it this region's? Nothing is pruned"
    )))
}

fn tell(name: &str, survey: &Survey, done: Done) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match done.extent {
        Some((from, to, first, last)) => writeln!(
            out,
            "{name}: pruned {} segments with {} records, between offsets {from} and {}, appended from {first} to {last}; {} old segments stay",
            done.segments,
            done.records,
            to - 1,
            survey.kept
        )?,
        None => writeln!(out, "{name}: nothing was pruned; {} old segments stay", survey.kept)?,
    }
    if let Some((segments, why)) = done.refused {
        tracing::warn!(error = %vigie_aggregator::live::source_chain(&why), "{name}: {segments} segments could not be deleted, and stay");
    }
    Ok(())
}

async fn frontiers(store: &Tables) -> Result<Vec<Frontier>, Failure> {
    let sql = "SELECT log_group, max(ver) AS through, max(now_us) AS now FROM frontiers GROUP BY log_group ORDER BY log_group";
    let rows = store.rows(sql, Vec::new()).await?;
    let frontier =
        |row: &Row| Ok(Frontier { group: text(row, "log_group")?, ver: number(row, "through")?, now: Time::from_us(instant(row, "now")?) });
    rows.iter().map(frontier).collect()
}

/// Every version of every window of a group.
async fn windows(store: &Tables, group: &str) -> Result<Vec<Said>, Failure> {
    let sql = "SELECT id, ver, onset_us, end_us, as_of_us, status FROM windows WHERE log_group = ?1";
    let rows = store.rows(sql, vec![group.into()]).await?;
    let said = |row: &Row| {
        let end = match row.get("end_us") {
            Some(Value::Null) => None,
            _ => Some(Time::from_us(instant(row, "end_us")?)),
        };
        Ok(Said {
            id: text(row, "id")?,
            ver: number(row, "ver")?,
            onset: Time::from_us(instant(row, "onset_us")?),
            end,
            as_of: Time::from_us(instant(row, "as_of_us")?),
            retracted: text(row, "status")? == "retracted",
        })
    };
    rows.iter().map(said).collect()
}

/// The catalogues of a group by version, with their append times.
async fn catalogues(store: &Tables, group: &str) -> Result<HashMap<u64, Time>, Failure> {
    let rows = store.rows("SELECT ver, appended_us FROM catalogues WHERE log_group = ?1", vec![group.into()]).await?;
    rows.iter().map(|row| Ok((number(row, "ver")?, Time::from_us(instant(row, "appended_us")?)))).collect()
}

/// Nothing is taken for granted where evidence may go.
fn field<'a>(row: &'a Row, name: &str) -> Result<&'a Value, Failure> {
    row.get(name).ok_or_else(|| Failure::new(format!("a row of the store lacks `{name}`")))
}

fn text(row: &Row, name: &str) -> Result<String, Failure> {
    field(row, name)?.as_str().map(str::to_owned).ok_or_else(|| unreadable(name))
}

fn number(row: &Row, name: &str) -> Result<u64, Failure> {
    field(row, name)?.as_u64().ok_or_else(|| unreadable(name))
}

fn instant(row: &Row, name: &str) -> Result<i64, Failure> {
    field(row, name)?.as_i64().ok_or_else(|| unreadable(name))
}

fn unreadable(name: &str) -> Failure {
    Failure::new(format!("a row of the store has a `{name}` that cannot be read"))
}
