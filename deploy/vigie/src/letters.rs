//! `vigie letters`: what the engine refused, and how it gets another chance (SPEC §1).

use std::io::{self, Write};
#[cfg(feature = "kafka")]
use std::path::PathBuf;
use std::process::ExitCode;

use vigie_aggregator::port::EvidenceLog;
use vigie_contract::Time;

use crate::place::Place;
use crate::shell::{self, Failure};
use crate::table::{Row, Tables};

/// List the records that the engine refused, or append them again
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// With --kafka: the settings of ClickHouse, which keeps the dead letters, TOML
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "FILE", requires = "kafka")]
    clickhouse: Option<PathBuf>,
    /// Only those refused for this reason, such as `unknown_target`
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Append them to the log again: what was wrong with them is mended, a target's name in the catalogue for instance
    #[arg(long)]
    feed: bool,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    shell::run_quietly(async {
        let sql = "SELECT DISTINCT log_group, ver, reason, detail, hex(record) AS record, record_bytes, appended_us FROM dead_letters
                   WHERE ?1 IS NULL OR reason = ?1 ORDER BY appended_us, ver";
        let letters = tables(args)?.rows(sql, vec![args.reason.clone().into()]).await?;
        let mut out = io::stdout().lock();
        for letter in &letters {
            let appended = Time::from_us(letter["appended_us"].as_i64().unwrap_or_default());
            let text = String::from_utf8_lossy(&bytes(letter)?).into_owned();
            let part = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
            writeln!(out, "{}  {appended}  {}: {}  {}", letter["ver"], part("reason"), part("detail"), text.escape_debug())?;
        }
        if letters.is_empty() {
            writeln!(out, "no dead letter")?;
        }
        drop(out);
        if args.feed { feed(args, &letters).await } else { Ok(()) }
    })
}

fn tables(args: &Args) -> Result<Tables, Failure> {
    #[cfg(feature = "kafka")]
    if let Some(clickhouse) = &args.clickhouse {
        return Tables::on_clickhouse(clickhouse);
    }
    Tables::in_directory(args.place.directory()?)
}

async fn feed(args: &Args, letters: &[Row]) -> Result<(), Failure> {
    let mut fed = 0;
    for group in args.place.logs()? {
        let mut records = Vec::new();
        for letter in letters.iter().filter(|letter| letter["log_group"] == group.group.as_str()) {
            let record = bytes(letter)?;
            // A beginning is not the record: the archive has the whole.
            if letter["record_bytes"].as_u64() == Some(record.len() as u64) {
                records.push(record);
            }
        }
        for records in records.chunks(1_000) {
            fed += group.log.append(records).await?.len();
        }
    }
    writeln!(io::stdout(), "{fed} of {} were appended again; the engine takes those that are right now", letters.len())?;
    Ok(())
}

fn bytes(letter: &Row) -> Result<Vec<u8>, Failure> {
    let hex = letter["record"].as_str().unwrap_or_default();
    let pairs = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16));
    pairs.collect::<Result<_, _>>().map_err(|_| Failure::new(format!("dead letter {} is not in hexadecimal", letter["ver"])))
}
