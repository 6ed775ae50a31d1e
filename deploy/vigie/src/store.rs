//! `vigie windows`, `vigie report`, `vigie backup`, `vigie restore`: what the store holds, for people and scripts.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::Value;
use vigie_aggregator::sqlite::{Access, DataDir};
use vigie_contract::catalogue::Strictness;
use vigie_contract::{Catalogue, Month, Span, Time};

use crate::shell::{self, Failure};
use crate::table::{Row, Source, Tables};

/// List the outage windows of a region
#[derive(clap::Args)]
pub(crate) struct Windows {
    #[command(flatten)]
    source: Source,
    /// Only this service's
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
    /// Only those that meet this month, such as 2026-11
    #[arg(long, value_name = "MONTH")]
    month: Option<String>,
    /// Only those that are open
    #[arg(long)]
    open: bool,
    /// As JSON, one window per line
    #[arg(long)]
    json: bool,
}

/// The figures of a month against the contract
#[derive(clap::Args)]
pub(crate) struct Report {
    #[command(flatten)]
    source: Source,
    /// Which month, such as 2026-11
    #[arg(long, value_name = "MONTH")]
    month: String,
    /// How
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// In which words
    #[arg(long, value_enum, default_value_t = Lang::En)]
    lang: Lang,
}

/// Copy everything into one file, while the region runs
#[derive(clap::Args)]
pub(crate) struct Backup {
    /// The data directory of the region
    #[arg(long, value_name = "DIR", default_value = "vigie-data")]
    data: PathBuf,
    /// The file to make
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

/// Make a data directory from a backup
#[derive(clap::Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// The data directory to make; it must be new or empty
    #[arg(long, value_name = "DIR", default_value = "vigie-data")]
    data: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Csv,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lang {
    En,
    Fr,
}

pub(crate) fn backup(args: &Backup) -> io::Result<ExitCode> {
    shell::run(async {
        DataDir::open(&args.data, Access::Join)?.backup(&args.to)?;
        Ok(writeln!(io::stdout(), "{}: whole", args.to.display())?)
    })
}

pub(crate) fn restore(args: &Restore) -> io::Result<ExitCode> {
    shell::run(async {
        DataDir::restore(&args.from, &args.data)?;
        Ok(writeln!(io::stdout(), "{}: restored", args.data.display())?)
    })
}

fn month(text: &str) -> Result<Month, Failure> {
    Month::parse(text).ok_or_else(|| Failure::new(format!("`{text}` is no month: write 2026-11")))
}

/// The newest catalogue.
async fn catalogue(store: &Tables) -> Result<Catalogue, Failure> {
    let rows = store.rows("SELECT text FROM catalogues ORDER BY rev DESC, ver LIMIT 1", Vec::new()).await?;
    let text = rows.first().and_then(|row| row["text"].as_str()).ok_or_else(|| Failure::new("the region has no catalogue yet"))?;
    match Catalogue::read(text, Strictness::Replay) {
        Ok((catalogue, _)) => Ok(catalogue),
        Err(_) => Err(Failure::new("the region's catalogue cannot be read by this version")),
    }
}

pub(crate) fn windows(args: &Windows) -> io::Result<ExitCode> {
    shell::run(async {
        let store = args.source.open()?;
        let (mut from, mut to) = (i64::MIN, i64::MAX);
        if let Some(text) = &args.month {
            // Months are cut as the newest catalogue says.
            let (month, calendar) = (month(text)?, catalogue(&store).await?.calendar);
            (from, to) = (calendar.start_of(month).us(), calendar.end_of(month).us());
        }
        let sql = "SELECT * FROM windows_current WHERE onset_us < ?1 AND coalesce(end_us, ?2) > ?3 AND (?4 IS NULL OR service = ?4)
                   AND (?5 = 0 OR end_us IS NULL) ORDER BY onset_us, service";
        let arguments = vec![to.into(), i64::MAX.into(), from.into(), args.service.clone().into(), i64::from(args.open).into()];
        let rows = store.rows(sql, arguments).await?;
        if let Some(service) = args.service.as_deref().filter(|_| rows.is_empty()) {
            known_service(&store, service).await?;
        }
        let frontier = store.rows("SELECT as_of_us FROM frontiers_current", Vec::new()).await?;
        let frontier = frontier.iter().filter_map(|row| row["as_of_us"].as_i64()).max().unwrap_or_default();
        let mut out = io::stdout().lock();
        for row in &rows {
            if args.json {
                writeln!(out, "{}", Value::Object(row.clone()))?;
                continue;
            }
            let instant = |name: &str| row[name].as_i64().map_or_else(|| "-".to_owned(), |us| Time::from_us(us).to_string());
            let end = row["end_us"].as_i64().unwrap_or(frontier);
            let length = Span::from_us(end - row["onset_us"].as_i64().unwrap_or_default());
            writeln!(
                out,
                "{}  {:8} {:7}  {} → {}  {length}  {}",
                text(row, "id"),
                text(row, "status"),
                text(row, "kind"),
                instant("onset_us"),
                instant("end_us"),
                text(row, "service"),
            )?;
        }
        if rows.is_empty() && !args.json {
            writeln!(out, "no window")?;
        }
        Ok(())
    })
}

async fn known_service(store: &Tables, service: &str) -> Result<(), Failure> {
    let known = store.rows("SELECT DISTINCT service FROM accounts ORDER BY service", Vec::new()).await?;
    let known: Vec<&str> = known.iter().map(|row| text(row, "service")).collect();
    if known.is_empty() || known.contains(&service) {
        return Ok(());
    }
    Err(Failure::new(format!("there is no service `{service}`; there are: {}", known.join(", "))))
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn report(args: &Report) -> io::Result<ExitCode> {
    shell::run(async {
        month(&args.month)?;
        let store = args.source.open()?;
        let mine = vec![Value::from(args.month.clone())];
        let mut accounts = store.rows("SELECT * FROM accounts_current WHERE month = ?1 ORDER BY indicator, service", mine.clone()).await?;
        let latencies = store.rows("SELECT * FROM latency_current WHERE month = ?1 ORDER BY target", mine).await?;
        if accounts.is_empty() {
            let months = store.rows("SELECT DISTINCT month FROM accounts_current ORDER BY month", Vec::new()).await?;
            let months: Vec<&str> = months.iter().map(|row| text(row, "month")).collect();
            let known = if months.is_empty() { "none yet".to_owned() } else { months.join(", ") };
            return Err(Failure::new(format!("month {} is not accounted; there are: {known}", args.month)));
        }
        let catalogue = catalogue(&store).await?;
        for account in &mut accounts {
            let service = catalogue.services.iter().find(|service| service.id.as_str() == text(account, "service"));
            account.insert("contractual".to_owned(), service.is_none_or(|service| service.contractual).into());
        }
        let mut out = io::stdout().lock();
        match args.format {
            Format::Json => writeln!(out, "{}", serde_json::json!({ "month": args.month, "accounts": accounts, "latencies": latencies }))?,
            Format::Csv => write_csv(&mut out, &accounts)?,
            Format::Text => write_text(&mut out, args, &accounts, &latencies)?,
        }
        Ok(())
    })
}

const COLUMNS: [&str; 18] = [
    "service",
    "indicator",
    "contractual",
    "month",
    "base_us",
    "elapsed_us",
    "gross_down_us",
    "down_us",
    "unknown_us",
    "budget_us",
    "remaining_us",
    "availability",
    "availability_low",
    "availability_to_date",
    "final",
    "verdict",
    "as_of_us",
    "ver",
];

/// RFC 4180, with a heading.
fn write_csv(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    write!(out, "{}\r\n", COLUMNS.join(","))?;
    for row in rows {
        let field = |name: &&str| match &row[*name] {
            Value::String(text) if text.contains([',', '"', '\n']) => format!("\"{}\"", text.replace('"', "\"\"")),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        write!(out, "{}\r\n", COLUMNS.iter().map(field).collect::<Vec<_>>().join(","))?;
    }
    Ok(())
}

fn write_text(out: &mut impl Write, args: &Report, accounts: &[Row], latencies: &[Row]) -> io::Result<()> {
    let french = args.lang == Lang::Fr;
    let say = |english: &'static str, in_french: &'static str| if french { in_french } else { english };
    let as_of = accounts.iter().filter_map(|row| row["as_of_us"].as_i64()).min().map(Time::from_us);
    let as_of = as_of.map(|time| time.to_string()).unwrap_or_default();
    writeln!(out, "{} {}, {} {as_of}", say("Month", "Mois"), args.month, say("as of", "à la date du"))?;
    let heading = [
        say("service", "service"),
        say("indicator", "indicateur"),
        say("down", "indisponible"),
        say("unknown", "inconnu"),
        say("left of budget", "reste du budget"),
        say("availability", "disponibilité"),
        say("at worst", "au pire"),
        say("verdict", "verdict"),
    ];
    let span = |row: &Row, name: &str| Span::from_us(row[name].as_i64().unwrap_or_default()).to_string();
    let verdict = |row: &Row| {
        let word = match (text(row, "verdict"), french) {
            ("compliant", true) => "tenu",
            ("breached", true) => "manqué",
            ("undecided", true) => "indécis",
            (word, _) => word,
        };
        let provisional = if row["final"] == Value::Bool(true) { "" } else { say(" (provisional)", " (provisoire)") };
        format!("{word}{provisional}")
    };
    let not_contractual = say(" (not contractual)", " (non contractuel)");
    let mut table: Vec<[String; 8]> = vec![heading.map(str::to_owned)];
    table.extend(accounts.iter().map(|row| {
        [
            text(row, "service").to_owned(),
            format!("{}{}", text(row, "indicator"), if row["contractual"] == Value::Bool(true) { "" } else { not_contractual }),
            span(row, "down_us"),
            span(row, "unknown_us"),
            span(row, "remaining_us"),
            format!("{} %", text(row, "availability")),
            format!("{} %", text(row, "availability_low")),
            verdict(row),
        ]
    }));
    write_table(out, &table)?;
    if !latencies.is_empty() {
        writeln!(out)?;
        let heading = [say("target", "cible"), say("samples", "mesures"), say("too slow", "trop lentes"), say("slowest", "la plus lente")];
        let mut table: Vec<[String; 4]> = vec![heading.map(str::to_owned)];
        table.extend(
            latencies
                .iter()
                .map(|row| [text(row, "target").to_owned(), row["ok"].to_string(), row["over"].to_string(), span(row, "max_us")]),
        );
        write_table(out, &table)?;
    }
    Ok(())
}

fn write_table<const WIDTH: usize>(out: &mut impl Write, table: &[[String; WIDTH]]) -> io::Result<()> {
    let widths: Vec<usize> = (0..WIDTH).map(|at| table.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    for row in table {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
