//! The embedded window store: the tables of `schema/sqlite.sql`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql, TransactionBehavior, params};
use serde::Serialize;
use serde_json::{Map, Value};
use vigie_contract::{Span, Time};

use super::{DataDir, OpenError};
use crate::core::digest::sha256_hex;
use crate::core::snapshot::Manifest;
use crate::live::Snapshots;
use crate::port::{Batch, SampleRow, StoreError, WindowStore, log_epoch};
use crate::publish::Ledger;

/// Where the manifest lies among the chunks.
const MANIFEST: &str = "";

/// The window store in a data directory.
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
}

/// A snapshot as it was read back.
pub struct Restored {
    /// What it consists of.
    pub manifest: Manifest,
    /// Its chunks.
    pub chunks: BTreeMap<String, Vec<u8>>,
    /// What was published when it was taken.
    pub ledger: Ledger,
}

impl SqliteStore {
    /// The store of `dir`.
    pub fn open(dir: &DataDir) -> Result<Self, OpenError> {
        Ok(Self { connection: Arc::new(Mutex::new(dir.connect()?)) })
    }

    /// The newest snapshot of `group`, if there is one that can be read.
    pub async fn snapshot(&self, group: &str) -> Result<Option<Restored>, StoreError> {
        let group = group.to_owned();
        self.work(move |connection| {
            let mut select = connection.prepare("SELECT key, bytes FROM snapshot WHERE log_group = ?1")?;
            let rows = select.query_map([&group], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
            let mut chunks: BTreeMap<String, Vec<u8>> = rows.collect::<Result<_, _>>()?;
            let head = chunks.remove(MANIFEST).and_then(|bytes| postcard::from_bytes::<(Manifest, Ledger)>(&bytes).ok());
            Ok(head.map(|(manifest, ledger)| Restored { manifest, chunks, ledger }))
        })
        .await
    }

    /// Forgets samples that were appended before `before`, but for those within an hour of a window that holds.
    pub async fn forget_samples(&self, before: Time) -> Result<(), StoreError> {
        self.work(move |connection| {
            connection.execute(
                "DELETE FROM samples WHERE appended_us < ?1 AND NOT EXISTS
                 (SELECT 1 FROM windows_current AS w WHERE t1_us >= w.onset_us - ?2 AND t0_us <= coalesce(w.end_us, w.as_of_us) + ?2)",
                [before.us(), Span::HOUR.us()],
            )
        })
        .await
        .map(|_| ())
    }

    /// The rows of a `SELECT`, as JSON objects: lists are arrays and booleans are booleans again.
    pub async fn rows(&self, sql: &str, arguments: Vec<Value>) -> Result<Vec<Map<String, Value>>, StoreError> {
        let sql = sql.to_owned();
        self.work(move |connection| {
            let mut select = connection.prepare_cached(&sql)?;
            let names: Vec<String> = select.column_names().map(str::to_owned).collect();
            let arguments: Vec<Bound> = arguments.into_iter().map(Bound).collect();
            let rows = select.query_map(rusqlite::params_from_iter(arguments), |row| {
                names.iter().enumerate().map(|(place, name)| Ok((name.clone(), json(name, row.get_ref(place)?)))).collect()
            })?;
            rows.collect()
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))).await;
        done.map_err(|error| StoreError::Unavailable(error.into()))?.map_err(|cause| unfit_or_unavailable("?", cause))
    }
}

fn unfit_or_unavailable(table: &'static str, cause: rusqlite::Error) -> StoreError {
    match cause.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => StoreError::Unfit { table, cause: cause.into() },
        _ => StoreError::Unavailable(cause.into()),
    }
}

/// A value of SQLite as JSON.
fn json(name: &str, value: rusqlite::types::ValueRef<'_>) -> Value {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(is) if matches!(name, "final" | "retracted") => Value::Bool(is != 0),
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            let is_structured = matches!(name, "claims" | "services" | "phases_us");
            is_structured.then(|| serde_json::from_str(&text).ok()).flatten().unwrap_or_else(|| text.into_owned().into())
        }
        ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
    }
}

/// A JSON value as SQLite stores it.
struct Bound(Value);

impl ToSql for Bound {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match &self.0 {
            Value::Null => rusqlite::types::Null.into(),
            Value::Bool(is) => i64::from(*is).into(),
            Value::Number(number) => number.as_i64().unwrap_or(i64::MAX).into(),
            Value::String(text) => text.as_str().into(),
            structured => structured.to_string().into(),
        })
    }
}

impl WindowStore for SqliteStore {
    async fn highest(&self, group: &str) -> Result<Option<u64>, StoreError> {
        let group = group.to_owned();
        let highest = self.work(move |connection| {
            connection.query_row("SELECT ver FROM frontiers WHERE log_group = ?1", [group], |row| row.get::<_, i64>(0)).optional()
        });
        Ok(highest.await?.map(|ver| ver as u64))
    }

    async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let (connection, batch) = (Arc::clone(&self.connection), batch.clone());
        let done = tokio::task::spawn_blocking(move || apply(&mut connection.lock().unwrap_or_else(PoisonError::into_inner), &batch)).await;
        done.map_err(|error| StoreError::Unavailable(error.into()))?
    }
}

impl Snapshots for SqliteStore {
    async fn save(&self, group: &str, manifest: &Manifest, changed: BTreeMap<String, Vec<u8>>, ledger: &Ledger) -> Result<(), StoreError> {
        let group = group.to_owned();
        let head = postcard::to_stdvec(&(manifest, ledger)).map_err(|error| StoreError::Unavailable(error.into()))?;
        let keys: Vec<String> = manifest.chunks.keys().cloned().collect();
        self.work(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let known: Vec<String> = {
                let mut select = transaction.prepare_cached("SELECT key FROM snapshot WHERE log_group = ?1")?;
                let rows = select.query_map([&group], |row| row.get(0))?;
                rows.collect::<Result<_, _>>()?
            };
            for gone in known.iter().filter(|key| keys.binary_search(key).is_err()) {
                transaction.execute("DELETE FROM snapshot WHERE log_group = ?1 AND key = ?2", params![group, gone])?;
            }
            let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO snapshot (log_group, key, bytes) VALUES (?1, ?2, ?3)")?;
            for (key, bytes) in changed.iter().map(|(key, bytes)| (key.as_str(), bytes)).chain([(MANIFEST, &head)]) {
                put.execute(params![group, key, bytes])?;
            }
            drop(put);
            transaction.commit()
        })
        .await
    }
}

fn apply(connection: &mut Connection, batch: &Batch) -> Result<(), StoreError> {
    let unavailable = |cause| unfit_or_unavailable("frontiers", cause);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
    let held: Option<i64> = transaction
        .query_row("SELECT ver FROM frontiers WHERE log_group = ?1", [&batch.group], |row| row.get(0))
        .optional()
        .map_err(unavailable)?;
    if let Some(held) = held.map(|ver| log_epoch(ver as u64)).filter(|held| *held > log_epoch(batch.through)) {
        return Err(StoreError::Replaced { held, ours: log_epoch(batch.through) });
    }
    let group = &batch.group;
    put(&transaction, "windows", group, batch.windows.iter())?;
    put(&transaction, "gaps", group, batch.gaps.iter())?;
    put(&transaction, "accounts", group, batch.accounts.iter())?;
    put(&transaction, "latency", group, batch.latency.iter())?;
    put(&transaction, "candidates", group, batch.candidates.iter())?;
    put_facts(&transaction, batch)?;
    batch
        .samples
        .iter()
        .try_for_each(|row| put_sample(&transaction, group, row))
        .map_err(|cause| unfit_or_unavailable("samples", cause))?;
    transaction
        .execute(
            "INSERT INTO frontiers (log_group, ver, now_us, as_of_us) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (log_group) DO UPDATE SET ver = excluded.ver, now_us = excluded.now_us, as_of_us = excluded.as_of_us
             WHERE excluded.ver > frontiers.ver",
            params![group, batch.through as i64, batch.now.us(), batch.frontier.us()],
        )
        .map_err(unavailable)?;
    transaction.commit().map_err(unavailable)
}

/// Inserts rows whose fields are named as the columns.
fn put<R: Serialize>(connection: &Connection, table: &'static str, group: &str, rows: impl Iterator<Item = R>) -> Result<(), StoreError> {
    for row in rows {
        let Ok(Value::Object(fields)) = serde_json::to_value(&row) else {
            return Err(StoreError::Unfit { table, cause: "a row is not an object".into() });
        };
        insert(connection, table, group, fields).map_err(|cause| unfit_or_unavailable(table, cause))?;
    }
    Ok(())
}

fn insert(connection: &Connection, table: &str, group: &str, fields: Map<String, Value>) -> rusqlite::Result<()> {
    let names: Vec<String> = fields.keys().filter(|name| *name != "type").map(|name| format!("\"{name}\"")).collect();
    let marks: Vec<String> = (0..names.len()).map(|place| format!("?{}", place + 2)).collect();
    let sql = format!("INSERT OR IGNORE INTO {table} (log_group, {}) VALUES (?1, {})", names.join(", "), marks.join(", "));
    let values = fields.into_iter().filter(|(name, _)| name != "type").map(|(_, value)| Bound(value));
    let values: Vec<Bound> = std::iter::once(Bound(group.into())).chain(values).collect();
    connection.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(values)).map(|_| ())
}

fn put_facts(connection: &Connection, batch: &Batch) -> Result<(), StoreError> {
    let put = |table: &'static str, fields: Value| match fields {
        Value::Object(fields) => insert(connection, table, &batch.group, fields).map_err(|cause| unfit_or_unavailable(table, cause)),
        _ => Ok(()),
    };
    for row in &batch.claims {
        let claim = &row.claim;
        put(
            "claims",
            serde_json::json!({ "id": claim.id, "rev": claim.rev, "ver": row.ver, "service": claim.service, "tenant": claim.tenant,
                "opened_us": claim.opened_at.us(), "state": claim.state, "resolved_us": claim.resolved_at.map(Time::us),
                "actor": claim.actor, "reason": claim.reason, "appended_us": row.appended_at.us() }),
        )?;
    }
    for row in &batch.exclusions {
        let exclusion = &row.exclusion;
        put(
            "exclusions",
            serde_json::json!({ "id": exclusion.id, "rev": exclusion.rev, "ver": row.ver, "kind": exclusion.kind,
                "services": exclusion.services, "start_us": exclusion.start.us(), "end_us": exclusion.end.us(),
                "announced_us": row.announced_at.map(Time::us), "state": exclusion.state, "approved_by": exclusion.approved_by,
                "override_by": exclusion.override_by, "reason": exclusion.reason, "appended_us": row.appended_at.us() }),
        )?;
    }
    for row in &batch.catalogues {
        let catalogue = &row.catalogue;
        let sha256 = catalogue.sha256.clone().unwrap_or_else(|| sha256_hex(catalogue.text.as_bytes()));
        put(
            "catalogues",
            serde_json::json!({ "rev": catalogue.rev, "ver": row.ver, "sha256": sha256, "text": catalogue.text, "actor": catalogue.actor,
                "reason": catalogue.reason, "override_by": catalogue.override_by, "appended_us": row.appended_at.us() }),
        )?;
    }
    for row in &batch.dead_letters {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO dead_letters (log_group, ver, reason, detail, record, record_bytes, appended_us)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    batch.group,
                    row.ver as i64,
                    row.refusal.reason.as_str(),
                    row.refusal.detail,
                    row.record,
                    row.record_bytes as i64,
                    row.appended_at.us()
                ])
            })
            .map_err(|cause| unfit_or_unavailable("dead_letters", cause))?;
    }
    Ok(())
}

fn word(value: impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

fn put_sample(connection: &Connection, group: &str, row: &SampleRow) -> rusqlite::Result<()> {
    let sample = &row.sample;
    let phases: Map<String, Value> = row.phases.iter().map(|(name, length)| (name.clone(), length.us().into())).collect();
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO samples (log_group, target, vantage, run, seq, ver, scheduled_us, t0_us, t1_us, outcome, effective,
             reason, latency_us, phases_us, attempts, epoch, period_us, timeout_us, clock_error_us, appended_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        )?
        .execute(params![
            group,
            sample.target,
            sample.vantage,
            sample.run,
            i64::try_from(sample.seq).unwrap_or(i64::MAX),
            row.ver as i64,
            row.details.scheduled,
            sample.t0.us(),
            sample.t1.us(),
            word(sample.outcome),
            word(row.effective),
            word(row.details.reason),
            sample.latency.map(Span::us),
            Value::Object(phases).to_string(),
            row.details.attempts,
            row.details.epoch.and_then(|epoch| i64::try_from(epoch).ok()),
            sample.period.us(),
            sample.timeout.us(),
            sample.clock_error.us(),
            row.appended_at.us(),
        ])
        .map(|_| ())
}
