//! From the engine's effects to the store's rows (DESIGN §2): what is written, and caused by which record.
//!
//! Rows are a function of the log alone, so that replicas write the same bytes: windows with the record that changed them; gaps,
//! accounts and candidates with the first record after each whole minute of the frontier, and with a record that changed one of their
//! service's windows; latencies with the first record after each whole hour.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vigie_contract::catalogue::ServiceIx;
use vigie_contract::record::{CatalogueRecord, decode_details};
use vigie_contract::{Decoded, Outcome, Record, Span, Time};

use crate::core::digest::sha256_hex;
use crate::core::engine::{Effects, Engine};
use crate::core::line::{AccountLine, CandidateLine};
use crate::core::version::version_number;
use crate::port::{
    AccountRow, Batch, CandidateRow, CatalogueRow, ClaimRow, DeadLetterRow, ExclusionRow, GapRow, LatencyRow, Logged, SampleRow,
};

const MINUTE: Span = Span::from_secs(60);

/// What was published last, so that only differences are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// By service: start and end of each gap; the end is missing while it reaches the frontier.
    gaps: BTreeMap<String, BTreeMap<i64, Option<i64>>>,
    /// By service and month: the figures that are not a mere passage of time.
    accounts: BTreeMap<(String, String), Figures>,
    /// By service and claim: the claims that count nothing.
    candidates: BTreeMap<String, BTreeMap<String, CandidateLine>>,
    /// By target and month: successes.
    latencies: BTreeMap<(String, String), u64>,
    /// By offset: the samples that wait for a catalogue and may be refused yet, at most as many as the engine lets wait.
    waiting: BTreeMap<u64, Kept>,
    /// The next whole minute of the frontier, and the next whole hour.
    next_minute: Time,
    next_hour: Time,
}

/// Gross down, down, unknown, base, and whether the month is final.
type Figures = (i64, i64, i64, i64, bool);

/// What a dead letter tells of its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    record: Vec<u8>,
    record_bytes: u64,
    appended_at: Time,
}

/// Turns effects into rows.
#[derive(Debug)]
pub struct Publisher {
    group: String,
    log_epoch: u64,
    /// What was published, to be kept with a snapshot of the engine.
    pub ledger: Ledger,
}

impl Publisher {
    /// For the log of `group`; `ledger` is what was published before.
    #[must_use]
    pub fn new(group: impl Into<String>, log_epoch: u64, ledger: Ledger) -> Self {
        Self { group: group.into(), log_epoch, ledger }
    }

    /// An empty batch for the records from `first` on up to `last`.
    #[must_use]
    pub fn batch(&self, engine: &Engine, first: u64, last: u64) -> Batch {
        let ver = |offset| version_number(self.log_epoch, offset);
        Batch::new(self.group.clone(), ver(first), ver(last), engine.now(), engine.frontier())
    }

    /// Adds what follows from one record, which `engine` has just taken with these `effects`.
    pub fn record(&mut self, engine: &Engine, logged: &Logged, decoded: &Decoded<'_>, effects: &Effects, batch: &mut Batch) {
        let ver = version_number(self.log_epoch, logged.offset);
        batch.through = ver;
        batch.now = engine.now();
        batch.frontier = engine.frontier();
        let is_taken = effects.refusals.iter().all(|refused| refused.offset != logged.offset);
        if is_taken && let Ok(record) = &decoded.record {
            take_fact(ver, logged, record, batch);
        }
        self.publish_refusals(engine, logged, effects, batch);
        batch.windows.extend(effects.versions.iter().cloned());
        let Some(catalogue) = engine.catalogue() else { return };
        let is_new_minute = engine.frontier() >= self.ledger.next_minute;
        let is_new_hour = engine.frontier() >= self.ledger.next_hour;
        let changed = |service: ServiceIx| effects.versions.iter().any(|version| version.window.service == catalogue.services[service].id);
        for service in 0..catalogue.services.len() {
            if is_new_minute || changed(service) {
                self.publish_service(engine, service, is_new_hour, ver, batch);
            }
        }
        if is_new_hour {
            self.publish_latencies(engine, ver, batch);
            self.ledger.next_hour = next_multiple(engine.frontier(), Span::HOUR);
        }
        if is_new_minute {
            self.ledger.next_minute = next_multiple(engine.frontier(), MINUTE);
        }
    }

    /// Each under its own offset, with its own bytes, whenever it is found out.
    fn publish_refusals(&mut self, engine: &Engine, logged: &Logged, effects: &Effects, batch: &mut Batch) {
        if engine.waiting_offsets().next_back() == Some(logged.offset) {
            let record = logged.bytes[..logged.bytes.len().min(DeadLetterRow::MOST_BYTES)].to_vec();
            let kept = Kept { record, record_bytes: logged.bytes.len() as u64, appended_at: logged.appended_at };
            self.ledger.waiting.insert(logged.offset, kept);
        }
        for refused in &effects.refusals {
            let (ver, refusal) = (version_number(self.log_epoch, refused.offset), refused.refusal.clone());
            batch.dead_letters.push(match self.ledger.waiting.remove(&refused.offset) {
                Some(Kept { record, record_bytes, appended_at }) => DeadLetterRow { ver, refusal, record, record_bytes, appended_at },
                None => DeadLetterRow::new(ver, refusal, &logged.bytes, logged.appended_at),
            });
        }
        if self.ledger.waiting.len() > engine.waiting() {
            let waiting: BTreeSet<_> = engine.waiting_offsets().collect();
            self.ledger.waiting.retain(|offset, _| waiting.contains(offset));
        }
    }

    fn publish_service(&mut self, engine: &Engine, service: ServiceIx, is_new_hour: bool, ver: u64, batch: &mut Batch) {
        let Some(catalogue) = engine.catalogue() else { return };
        let id = &catalogue.services[service].id;
        let as_of_us = engine.frontier().us();
        let row = |start_us, end_us, retracted| GapRow { ver, service: id.clone(), start_us, end_us, as_of_us, retracted };
        let gaps: BTreeMap<i64, Option<i64>> =
            engine.gap_lines(service).iter().map(|gap| (gap.start_us, (gap.end_us < as_of_us).then_some(gap.end_us))).collect();
        let known = self.ledger.gaps.entry(id.to_string()).or_default();
        batch.gaps.extend(gaps.iter().filter(|(start, end)| known.get(start) != Some(end)).map(|(start, end)| row(*start, *end, false)));
        // What is only forgotten stands as it was published.
        let is_gone = |start: &i64| !gaps.contains_key(start) && Time::from_us(*start) >= engine.memory(service);
        batch.gaps.extend(known.iter().filter(|(start, _)| is_gone(start)).map(|(start, end)| row(*start, *end, true)));
        *known = gaps;

        let accounts = engine.account_lines(service);
        for account in accounts {
            let key = (id.to_string(), account.month.clone());
            let figures = figures(&account);
            let is_current = account.elapsed_us < account.base_us;
            if self.ledger.accounts.get(&key) != Some(&figures) || (is_new_hour && is_current) {
                self.ledger.accounts.insert(key, figures);
                batch.accounts.push(AccountRow { ver, account, as_of_us, retracted: false });
            }
        }

        let candidates: BTreeMap<_, _> = engine.candidate_lines(service).into_iter().map(|line| (line.claim.to_string(), line)).collect();
        let known = self.ledger.candidates.entry(id.to_string()).or_default();
        let row = |line: &CandidateLine, retracted| CandidateRow { ver, candidate: line.clone(), as_of_us, retracted };
        let is_forgotten = |line: &CandidateLine| engine.is_forgotten(service, Time::from_us(line.opened_us));
        let gone = known.iter().filter(|(claim, line)| !candidates.contains_key(*claim) && !is_forgotten(line));
        batch.candidates.extend(gone.map(|(_, line)| row(line, true)));
        let new = candidates.iter().filter(|(claim, line)| known.get(*claim) != Some(line));
        batch.candidates.extend(new.map(|(_, line)| row(line, false)));
        *known = candidates;
    }

    fn publish_latencies(&mut self, engine: &Engine, ver: u64, batch: &mut Batch) {
        let Some(catalogue) = engine.catalogue() else { return };
        let as_of_us = engine.frontier().us();
        for latency in (0..catalogue.targets.len()).filter(|target| engine.is_own(*target)).flat_map(|target| engine.latency_lines(target))
        {
            let key = (latency.target.to_string(), latency.month.clone());
            if self.ledger.latencies.insert(key, latency.ok) != Some(latency.ok) {
                batch.latency.push(LatencyRow { ver, latency, as_of_us });
            }
        }
    }
}

fn figures(account: &AccountLine) -> Figures {
    (account.gross_down_us, account.down_us, account.unknown_us, account.base_us, account.is_final)
}

fn next_multiple(time: Time, span: Span) -> Time {
    Time::from_us((time.us().div_euclid(span.us()) + 1) * span.us())
}

/// The row of what people and probes have said.
fn take_fact(ver: u64, logged: &Logged, record: &Record<'_>, batch: &mut Batch) {
    let appended_at = logged.appended_at;
    match record {
        Record::Tick => {}
        Record::Sample(sample) => {
            let details = decode_details(&logged.bytes);
            let length = |value: &serde_json::Value| value.as_i64().map(Span::from_us);
            let phases = details.phases_us.iter().filter_map(|(name, value)| Some((name.clone(), length(value)?))).collect();
            let effective: Outcome = sample.effective_outcome(appended_at);
            batch.samples.push(SampleRow { ver, sample: sample.clone().into_owned(), effective, details, phases, appended_at });
        }
        Record::Claim(claim) => batch.claims.push(ClaimRow { ver, claim: claim.clone(), appended_at }),
        Record::Exclusion(exclusion) => {
            let announced_at = exclusion.announced_at;
            batch.exclusions.push(ExclusionRow { ver, exclusion: exclusion.clone(), announced_at, appended_at });
        }
        Record::Catalogue(record) => {
            let catalogue = CatalogueRecord { sha256: Some(sha256_hex(record.text.as_bytes())), ..record.clone() };
            batch.catalogues.push(CatalogueRow { ver, catalogue, appended_at });
        }
    }
}
