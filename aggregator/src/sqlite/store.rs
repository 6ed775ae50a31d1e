//! The embedded window store: the tables of `schema/sqlite.sql`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql, TransactionBehavior, params};
use serde::Serialize;
use serde_json::{Map, Value};
use vigie_contract::{Span, Time};

use super::{DataDir, OpenError};
use crate::core::snapshot::Manifest;
use crate::live::{Restored, Snapshots};
use crate::port::{Batch, SampleRow, StoreError, WindowStore, log_epoch};
use crate::publish::Ledger;

/// Where the manifest lies among the chunks.
const MANIFEST: &str = "";
/// So many samples, about, are forgotten in one transaction, and then others have their turn.
const FORGOTTEN_TOGETHER: i64 = 1_000;
/// A pause between two of them.
const FORGET_PAUSE: Duration = Duration::from_millis(50);

/// The window store in a data directory.
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
}

impl SqliteStore {
    /// The store of `dir`.
    pub fn open(dir: &DataDir) -> Result<Self, OpenError> {
        Ok(Self { connection: Arc::new(Mutex::new(dir.connect()?)) })
    }

    /// Forgets samples that were appended before `before`, but for those within an hour of a window that holds. A thousand at a time, so
    /// that nobody who writes waits long.
    pub async fn forget_samples(&self, before: Time) -> Result<(), StoreError> {
        self.work(remember_windows).await?;
        let mut from = i64::MIN;
        while let Some(next) = self.work(move |connection| forget_some(connection, from, before.us())).await? {
            from = next;
            tokio::time::sleep(FORGET_PAUSE).await;
        }
        Ok(())
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

/// Puts the hours around windows, overlapping ones joined, into a table of this connection's own: samples are looked up in it.
fn remember_windows(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS kept (from_us INTEGER NOT NULL, to_us INTEGER PRIMARY KEY); DELETE FROM temp.kept;",
    )?;
    let spans: Vec<(i64, i64)> = {
        let mut select = transaction.prepare(
            "SELECT onset_us - ?1, coalesce(end_us, (SELECT max(as_of_us) FROM frontiers), as_of_us) + ?1 FROM windows_current ORDER BY 1",
        )?;
        select.query_map([Span::HOUR.us()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    let mut insert = transaction.prepare("INSERT INTO temp.kept VALUES (?1, ?2)")?;
    joined.into_iter().try_for_each(|(from, to)| insert.execute([from, to]).map(|_| ()))?;
    drop(insert);
    transaction.commit()
}

/// Forgets some of the samples that were appended in `[from, before)`; where to go on, if there are more.
fn forget_some(connection: &mut Connection, from: i64, before: i64) -> rusqlite::Result<Option<i64>> {
    // Those of one append have one time and go together, however many they are.
    let next: Option<i64> = connection
        .prepare_cached(
            "SELECT appended_us FROM samples WHERE appended_us >= ?1 AND appended_us < ?2 ORDER BY appended_us LIMIT 1 OFFSET ?3",
        )?
        .query_row(params![from, before, FORGOTTEN_TOGETHER], |row| row.get(0))
        .optional()?;
    let next = next.map(|next| next + 1);
    connection
        .prepare_cached(
            "DELETE FROM samples WHERE appended_us >= ?1 AND appended_us < ?2
             AND coalesce((SELECT from_us FROM temp.kept WHERE to_us >= t0_us ORDER BY to_us LIMIT 1) > t1_us, TRUE)",
        )?
        .execute([from, next.unwrap_or(before)])?;
    Ok(next)
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
    async fn load(&self, group: &str, _log_epoch: u64) -> Result<Option<Restored>, StoreError> {
        let group = group.to_owned();
        self.work(move |connection| {
            let mut select = connection.prepare("SELECT key, bytes FROM snapshot WHERE log_group = ?1")?;
            let rows = select.query_map([&group], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
            let mut chunks: BTreeMap<String, Vec<u8>> = rows.collect::<Result<_, _>>()?;
            let head = chunks.remove(MANIFEST).and_then(|bytes| postcard::from_bytes::<(Manifest, Ledger)>(&bytes).ok());
            Ok(head.map(|(manifest, ledger)| Restored { manifest, chunks, ledger, is_borrowed: false }))
        })
        .await
    }

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

/// Takes the snapshots of a log over to its next epoch: what they hold does not depend on it.
pub(super) fn carry_snapshots(connection: &Connection, log_epoch: u64) -> rusqlite::Result<()> {
    let heads: Vec<(String, Vec<u8>)> = {
        let mut select = connection.prepare("SELECT log_group, bytes FROM snapshot WHERE key = ?1")?;
        select.query_map([MANIFEST], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    for (group, bytes) in heads {
        // One that cannot be read is not used either: the log is folded again.
        let Ok((mut manifest, ledger)) = postcard::from_bytes::<(Manifest, Ledger)>(&bytes) else { continue };
        manifest.log_epoch = log_epoch;
        let Ok(bytes) = postcard::to_stdvec(&(manifest, ledger)) else { continue };
        connection.execute("UPDATE snapshot SET bytes = ?1 WHERE log_group = ?2 AND key = ?3", params![bytes, group, MANIFEST])?;
    }
    Ok(())
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
    batch.claims.iter().try_for_each(|row| put("claims", row.columns()))?;
    batch.exclusions.iter().try_for_each(|row| put("exclusions", row.columns()))?;
    batch.catalogues.iter().try_for_each(|row| put("catalogues", row.columns()))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::Access;

    #[test]
    fn old_samples_are_forgotten_but_for_the_hour_around_windows() {
        const HOUR: i64 = Span::HOUR.us();
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::open(place.path(), Access::Serve).unwrap();
        let store = SqliteStore::open(&dir).unwrap();
        // A sample each minute of a hundred hours, and windows in the hours 10 and 11, and 50.
        let connection = dir.connect().unwrap();
        connection
            .execute(
                "WITH RECURSIVE n (at) AS (SELECT 0 UNION ALL SELECT at + 60000000 FROM n WHERE at < 100 * ?1)
                 INSERT INTO samples SELECT 'main', 't', 'v', 'r', at / 60000000, at / 60000000, NULL, at, at, 'ok', 'ok', NULL, NULL, '{}',
                 NULL, NULL, 1, 1, 0, at FROM n",
                [HOUR],
            )
            .unwrap();
        for (id, onset, end) in [("a", 10, 11), ("b", 11, 12), ("c", 50, 51)] {
            connection
                .execute(
                    "INSERT INTO windows VALUES ('main', ?1, 1, 's', 'i', 'outage', 'closed', ?2, ?3, NULL, NULL, NULL, 0, 0, 0, 0, 0, '[]',
                     NULL, 0, 0, NULL)",
                    params![id, onset * HOUR, end * HOUR],
                )
                .unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(store.forget_samples(Time::from_us(90 * HOUR))).unwrap();
        let kept = |from: i64, to: i64| -> i64 {
            let count = "SELECT count(*) FROM samples WHERE t0_us BETWEEN ?1 AND ?2";
            connection.query_row(count, [from * HOUR, to * HOUR], |row| row.get(0)).unwrap()
        };
        assert_eq!((kept(9, 13), kept(49, 52), kept(90, 100)), (4 * 60 + 1, 3 * 60 + 1, 10 * 60 + 1));
        assert_eq!(kept(0, 100), kept(9, 13) + kept(49, 52) + kept(90, 100));
    }
}
