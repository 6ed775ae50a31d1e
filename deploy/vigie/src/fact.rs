//! Facts that people append: shown with what they change, asked about, and then put into the log (SPEC §1).

use std::io::{self, BufRead, IsTerminal, Write};

use vigie_aggregator::clock::wall_now;
use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::core::line::{AccountLine, WindowLine};
use vigie_aggregator::port::{EvidenceLog, Offset};
use vigie_contract::record::{Record, decode, decode_appended, encode};
use vigie_contract::{Span, Time};

use crate::place::{Log, Opened, Place};
use crate::shell::Failure;

/// How many records are read at a time to catch up with the log.
const MOST_READ: usize = 4_096;

/// What every command that appends a fact takes.
#[derive(clap::Args)]
pub(crate) struct Appending {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Do not ask: for scripts
    #[arg(long)]
    pub(crate) yes: bool,
}

/// The log of a group, and the engine as it stands at the log's end.
pub(crate) struct Desk {
    pub(crate) group: String,
    pub(crate) engine: Engine,
    log: Log,
    next: Offset,
}

impl Desk {
    /// Reads the logs of all groups up to their ends.
    pub(crate) async fn open_all(place: &Place) -> Result<Vec<Self>, Failure> {
        let mut desks = Vec::new();
        for Opened { group, log, mut engine, start } in place.open().await? {
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
            desks.push(Self { group, engine, log, next });
        }
        Ok(desks)
    }

    /// The one whose group has what `is_wanted` looks for; the first if none has, which then says what is missing.
    pub(crate) async fn open(place: &Place, is_wanted: impl Fn(&Engine) -> bool) -> Result<Self, Failure> {
        let mut desks = Self::open_all(place).await?;
        let at = desks.iter().position(|desk| is_wanted(&desk.engine)).unwrap_or(0);
        if desks.is_empty() { Err(Failure::new("there is no group")) } else { Ok(desks.swap_remove(at)) }
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
        if let Some(refusal) = effects.refusals.iter().find(|refused| refused.offset == self.next) {
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
        self.refuse_what_was_decided_meanwhile(record).await?;
        let appended = self.log.append(&[text.into_bytes()]).await?;
        if let Some(appended) = appended.first() {
            writeln!(out, "appended at offset {} of group {}, {}", appended.offset, self.group, appended.appended_at)?;
        }
        Ok(true)
    }

    /// Somebody else may have decided about the same fact while this one was asked: of equal revisions the log counts the first.
    async fn refuse_what_was_decided_meanwhile(&mut self, record: &Record<'_>) -> Result<(), Failure> {
        let Some((kind, id, rev)) = revision(record) else { return Ok(()) };
        while self.next < self.log.bounds().await?.next {
            for logged in self.log.read(self.next, MOST_READ).await? {
                self.next = logged.offset + 1;
                let Ok(Ok(other)) = decode_appended(&logged.bytes, logged.appended_at).map(|decoded| decoded.record) else { continue };
                if revision(&other).is_some_and(|(its_kind, its_id, its_rev)| (its_kind, its_id) == (kind, id) && its_rev >= rev) {
                    return Err(Failure::new(format!(
                        "nothing was appended: somebody else has decided about {kind} {id} at {}, after this was shown; give the command \
                         again to see what holds now",
                        logged.appended_at
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Which fact a record is, and which revision of it; `None` of what nobody decides.
fn revision<'a>(record: &'a Record<'_>) -> Option<(&'static str, &'a str, u64)> {
    match record {
        Record::Claim(claim) => Some(("claim", claim.id.as_str(), claim.rev)),
        Record::Exclusion(exclusion) => Some(("exclusion", exclusion.id.as_str(), exclusion.rev)),
        Record::Sample(_) | Record::Tick | Record::Catalogue(_) => None,
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

#[cfg(test)]
mod tests {
    use vigie_aggregator::sqlite::{Access, DataDir, SqliteLog};
    use vigie_contract::record::CatalogueRecord;
    use vigie_contract::{Claim, ClaimState};

    use super::*;

    const CATALOGUE: &str = "[[indicator]]\nid = \"I\"\nobjective = 99\n[[target]]\nid = \"t\"\nvantages = [\"v\"]\n\
        [[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = \"t\"\nsince = 2026-01-01T00:00:00Z\n";

    fn claim(rev: u64, state: ClaimState) -> Record<'static> {
        let (id, service, opened_at) = ("T-1".into(), "s".into(), wall_now());
        Record::Claim(Claim { id, rev, service, tenant: None, opened_at, state, resolved_at: None, actor: None, reason: None })
    }

    #[test]
    fn of_two_who_decide_at_once_the_second_is_told() {
        let place = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let log = SqliteLog::open(&DataDir::open(place.path(), Access::Serve).unwrap()).unwrap();
            let catalogue =
                CatalogueRecord { rev: 1, sha256: None, text: CATALOGUE.to_owned(), override_by: None, actor: None, reason: None };
            let open = claim(1, ClaimState::Received);
            let records = [Record::Catalogue(catalogue), open].map(|record| encode(&record, None, None).into_bytes());
            log.append(&records).await.unwrap();
            let region = Place::at(place.path());
            let open = async || Desk::open(&region, |_| true).await.unwrap();
            let (first, second, third) = (open().await, open().await, open().await);
            assert!(first.append(&claim(2, ClaimState::Accepted), &[], true).await.unwrap());
            let told = second.append(&claim(2, ClaimState::Rejected), &[], true).await.unwrap_err().to_string();
            assert!(told.contains("somebody else has decided about claim T-1"), "{told}");
            assert!(third.append(&claim(3, ClaimState::Rejected), &[], true).await.unwrap(), "a later revision is another decision");
        });
    }
}
