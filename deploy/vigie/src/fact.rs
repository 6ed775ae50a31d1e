//! Facts that people append: shown with what they change, asked about, and then put into the log (SPEC §1).

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vigie_aggregator::clock::wall_now;
use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::core::line::{AccountLine, WindowLine};
use vigie_aggregator::port::{EvidenceLog, Offset};
use vigie_aggregator::sqlite::{Access, DataDir, SqliteLog, SqliteStore};
use vigie_contract::record::{Record, decode, decode_appended, encode};
use vigie_contract::{Span, Time};

use crate::aggregate::restore;
use crate::shell::Failure;

/// How many records are read at a time to catch up with the log.
const MOST_READ: usize = 4_096;

/// What every command that appends a fact takes.
#[derive(clap::Args)]
pub(crate) struct Appending {
    /// The data directory of the region
    #[arg(long, value_name = "DIR", default_value = "vigie-data")]
    pub(crate) data: PathBuf,
    /// Do not ask: for scripts
    #[arg(long)]
    pub(crate) yes: bool,
}

/// A region's log, and the engine as it stands at the log's end.
pub(crate) struct Desk {
    pub(crate) engine: Engine,
    log: Arc<SqliteLog>,
    next: Offset,
    _dir: DataDir,
}

impl Desk {
    /// Reads the region in `data` up to the end of its log.
    pub(crate) async fn open(data: &Path) -> Result<Self, Failure> {
        let dir = DataDir::open(data, Access::Join)?;
        let (log, store) = (Arc::new(SqliteLog::open(&dir)?), SqliteStore::open(&dir)?);
        let (mut engine, start) = restore(&log, &store).await?;
        let end = log.bounds().await?.next;
        let mut next = start.next;
        while next < end {
            for logged in log.read(next, MOST_READ).await? {
                next = logged.offset + 1;
                if let Ok(decoded) = decode_appended(&logged.bytes, logged.appended_at) {
                    engine.step(logged.offset, logged.appended_at, decoded.record);
                }
            }
        }
        // Time has passed since the last record: what the fact changes is shown as of now.
        engine.step(next, wall_now(), Ok(Record::Tick));
        Ok(Self { engine, log, next, _dir: dir })
    }

    /// Shows what `record` changes, asks, and appends it. False if the answer was no.
    pub(crate) async fn append(mut self, record: &Record<'_>, notes: &[String], yes: bool) -> Result<bool, Failure> {
        if !yes && !io::stdin().is_terminal() {
            return Err(Failure::new("nobody can be asked here: give --yes to append it"));
        }
        let text = encode(record, None, None);
        let now = wall_now();
        // As the log will have it: what cannot be read back must not get there.
        let decoded = decode_appended(text.as_bytes(), now)?;
        let before = picture(&self.engine);
        let effects = self.engine.step(self.next, now, decoded.record);
        if let Some(refusal) = effects.refusals.first() {
            return Err(Failure::new(format!("the engine would refuse this: {refusal}")));
        }
        let mut out = io::stdout().lock();
        for line in difference(&before, &picture(&self.engine)) {
            writeln!(out, "{line}")?;
        }
        for note in notes {
            writeln!(out, "note: {note}")?;
        }
        if !yes && !confirmed(&mut out)? {
            writeln!(out, "nothing was appended")?;
            return Ok(false);
        }
        let appended = self.log.append(&[text.into_bytes()]).await?;
        if let Some(appended) = appended.first() {
            writeln!(out, "appended at offset {}, {}", appended.offset, appended.appended_at)?;
        }
        Ok(true)
    }
}

fn confirmed(out: &mut impl Write) -> Result<bool, Failure> {
    write!(out, "Append this? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "o" | "O" | "oui"))
}

/// What a fact can change.
struct Picture {
    windows: Vec<WindowLine>,
    accounts: Vec<AccountLine>,
}

fn picture(engine: &Engine) -> Picture {
    let services = 0..engine.catalogue().map_or(0, |catalogue| catalogue.services.len());
    Picture {
        windows: services.clone().flat_map(|service| engine.window_lines(service)).collect(),
        accounts: services.flat_map(|service| engine.account_lines(service)).collect(),
    }
}

/// The difference in words, one line each; lengths that only time has changed are none.
fn difference(before: &Picture, after: &Picture) -> Vec<String> {
    let mut lines = Vec::new();
    let shape =
        |window: &WindowLine| (window.kind, window.end_us, window.claims.clone(), window.ended_by, window.status, window.contested_us);
    for window in &after.windows {
        match before.windows.iter().find(|old| old.id == window.id) {
            None => lines.push(format!("+ window {}", in_words(window))),
            Some(old) if shape(old) != shape(window) => {
                lines.push(format!("- window {}", in_words(old)));
                lines.push(format!("+ window {}", in_words(window)));
            }
            Some(_) => {}
        }
    }
    for old in before.windows.iter().filter(|old| !after.windows.iter().any(|window| window.id == old.id)) {
        lines.push(format!("- window {}", in_words(old)));
    }
    for account in &after.accounts {
        let same = |old: &&AccountLine| old.service == account.service && old.month == account.month;
        let old = before.accounts.iter().find(same);
        let down = old.map_or(0, |old| old.down_us);
        let moved = account.down_us - down;
        let passed = old.map_or(0, |old| account.elapsed_us - old.elapsed_us);
        // An open window grows while we look.
        if moved != 0 && moved != passed {
            lines.push(format!(
                "  {} {}: down {} instead of {}, {} of {} left, {:?}",
                account.service,
                account.month,
                Span::from_us(account.down_us),
                Span::from_us(down),
                Span::from_us(account.remaining_us),
                Span::from_us(account.budget_us),
                account.verdict,
            ));
        }
    }
    if lines.is_empty() {
        lines.push("No window and no account changes.".to_owned());
    }
    lines
}

fn in_words(window: &WindowLine) -> String {
    let end = window.end_us.map_or_else(|| window.status.as_str().to_owned(), |end| Time::from_us(end).to_string());
    let kind = serde_json::to_value(window.kind).unwrap_or_default();
    let claims: Vec<&str> = window.claims.iter().map(vigie_contract::ClaimId::as_str).collect();
    let claims = if claims.is_empty() { String::new() } else { format!(" ({})", claims.join(", ")) };
    format!("{}: {} from {} to {end}{claims}", window.service, kind.as_str().unwrap_or_default(), Time::from_us(window.onset_us))
}

/// An instant as people write it.
pub(crate) fn instant(name: &str, text: &str) -> Result<Time, Failure> {
    Time::parse(text).ok_or_else(|| {
        Failure::new(format!("--{name} {text} is no instant: write 2026-11-03T10:00:00+01:00, with an offset, or microseconds"))
    })
}

/// Whether the record can be read back: an error in words if not.
pub(crate) fn check(record: &Record<'_>) -> Result<(), Failure> {
    let text = encode(record, None, Some(wall_now()));
    decode(text.as_bytes())?.record?;
    Ok(())
}
