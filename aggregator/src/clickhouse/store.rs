//! Rows into the tables, in batches that may come again.
//!
//! What follows from the log is few and goes as JSON, its fields named as the columns; samples are many and go as binary rows. Every
//! insert bears a token of table and stretch: one that is sent again because its answer was lost is dropped by the server. Whatever else
//! comes twice has the same key and the same bytes, and the views are right before and after the server has folded it together.

use std::time::Duration;

use clickhouse::error::Error;
use clickhouse::{Client, Row};
use serde::Serialize;
use serde_json::{Map, Value};
use vigie_contract::Span;
use vigie_contract::sample::Outcome;

use super::Settings;
use crate::port::{Batch, CatalogueRow, ClaimRow, DeadLetterRow, ExclusionRow, SampleRow, StoreError, WindowStore, log_epoch};

/// A server that hangs is given up after this; the batch is sent again.
const SEND: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// A question is not waited for longer.
const SELECT_SECONDS: &str = "20";

/// The window store on a server.
pub struct ClickHouseStore {
    client: Client,
}

impl ClickHouseStore {
    /// On the server that `settings` name; it connects when it is used.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { client: settings.client() }
    }

    /// The rows of a `SELECT`, whose `?` stand for `arguments`, as JSON objects.
    pub async fn rows(&self, sql: &str, arguments: Vec<Value>) -> Result<Vec<Map<String, Value>>, StoreError> {
        let mut query = self
            .client
            .query(sql)
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .with_setting("output_format_json_quote_decimals", "1")
            .with_setting("output_format_decimal_trailing_zeros", "1")
            .with_setting("max_execution_time", SELECT_SECONDS);
        for argument in arguments {
            query = match argument {
                Value::Null => query.bind(None::<String>),
                Value::Bool(is) => query.bind(is),
                Value::Number(number) => query.bind(number.as_i64().unwrap_or(i64::MAX)),
                Value::String(text) => query.bind(text),
                other => query.bind(other.to_string()),
            };
        }
        let mut cursor = query.fetch_bytes("JSONEachRow").map_err(store_error)?;
        let answer =
            tokio::time::timeout(ANSWER, cursor.collect()).await.map_err(|_| store_error(Error::TimedOut))?.map_err(store_error)?;
        let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(|error| StoreError::Unavailable(error.into()))).collect()
    }

    /// Takes rows of the embedded store as they are, named as the columns; of a dead letter the bytes in hexadecimal, as `record_hex`.
    pub async fn copy(&self, table: &str, rows: &[Map<String, Value>]) -> Result<(), StoreError> {
        let is_letters = table == "dead_letters";
        let mut text = Vec::new();
        for row in rows {
            let mut row = row.clone();
            if is_letters {
                row.shift_remove("record");
            }
            serde_json::to_writer(&mut text, &row).map_err(|error| StoreError::Unavailable(error.into()))?;
            text.push(b'\n');
        }
        let into = if is_letters {
            "INSERT INTO dead_letters SELECT log_group, ver, reason, detail, unhex(record_hex) AS record, record_bytes, appended_us FROM \
             input('log_group String, ver UInt64, reason String, detail String, record_hex String, record_bytes UInt64, appended_us Int64') \
             FORMAT JSONEachRow"
                .to_owned()
        } else {
            format!("INSERT INTO {table} FORMAT JSONEachRow")
        };
        let mut insert = self
            .client
            .insert_formatted_with(into)
            .with_timeouts(Some(SEND), Some(ANSWER))
            .with_setting("input_format_skip_unknown_fields", "0");
        insert.send(text.into()).await.map_err(store_error)?;
        insert.end().await.map_err(store_error)
    }

    async fn put<R: Serialize>(&self, batch: &Batch, table: &'static str, rows: impl Iterator<Item = R>) -> Result<(), StoreError> {
        let mut text = Vec::new();
        for row in rows {
            let unfit = |cause: serde_json::Error| StoreError::Unfit { table, cause: cause.into() };
            let Value::Object(mut fields) = serde_json::to_value(&row).map_err(unfit)? else {
                return Err(StoreError::Unfit { table, cause: "a row is not an object".into() });
            };
            fields.shift_remove("type");
            fields.insert("log_group".into(), batch.group.as_str().into());
            serde_json::to_writer(&mut text, &fields).map_err(unfit)?;
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        let mut insert = self
            .client
            .insert_formatted_with(format!("INSERT INTO {table} FORMAT JSONEachRow"))
            .with_timeouts(Some(SEND), Some(ANSWER))
            .with_setting("input_format_skip_unknown_fields", "0")
            .with_setting("insert_deduplication_token", token(table, batch));
        insert.send(text.into()).await.map_err(store_error)?;
        insert.end().await.map_err(store_error)
    }

    async fn put_samples(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.samples.is_empty() {
            return Ok(());
        }
        let insert = self.client.insert::<SampleLine<'_>>("samples").await.map_err(store_error)?;
        let mut insert = insert.with_timeouts(Some(SEND), Some(ANSWER)).with_setting("insert_deduplication_token", token("samples", batch));
        for row in &batch.samples {
            insert.write(&SampleLine::of(&batch.group, row)).await.map_err(store_error)?;
        }
        insert.end().await.map_err(store_error)
    }

    async fn put_letters(&self, batch: &Batch) -> Result<(), StoreError> {
        if batch.dead_letters.is_empty() {
            return Ok(());
        }
        let insert = self.client.insert::<DeadLetterLine>("dead_letters").await.map_err(store_error)?;
        let token = token("dead_letters", batch);
        let mut insert = insert.with_timeouts(Some(SEND), Some(ANSWER)).with_setting("insert_deduplication_token", token);
        for row in &batch.dead_letters {
            insert.write(&DeadLetterLine::of(&batch.group, row)).await.map_err(store_error)?;
        }
        insert.end().await.map_err(store_error)
    }
}

/// The same for the same rows: what a stretch of the log causes is a function of the log.
fn token(table: &str, batch: &Batch) -> String {
    format!("{table}/{}/{}/{}", batch.group, batch.from, batch.through)
}

/// A server whose tables are not ours, or that does not let us, is for people to mend: it is tried again until they have.
fn store_error(error: Error) -> StoreError {
    match error {
        // After rows that were sent already comes the exception; before it, perhaps, what was compressed.
        Error::BadResponse(text) => {
            let exception = text.rfind("Code: ").map_or(text.as_str(), |at| &text[at..]);
            StoreError::Unavailable(exception.trim().to_owned().into())
        }
        error => StoreError::Unavailable(error.into()),
    }
}

/// A string of the server's that need not be UTF-8.
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[derive(Row, Serialize)]
struct DeadLetterLine {
    log_group: String,
    ver: u64,
    reason: String,
    detail: String,
    record: Bytes,
    record_bytes: u64,
    appended_us: i64,
}

impl DeadLetterLine {
    fn of(group: &str, row: &DeadLetterRow) -> Self {
        Self {
            log_group: group.to_owned(),
            ver: row.ver,
            reason: row.refusal.reason.as_str().to_owned(),
            detail: row.refusal.detail.clone(),
            record: Bytes(row.record.clone()),
            record_bytes: row.record_bytes,
            appended_us: row.appended_at.us(),
        }
    }
}

#[derive(Row, Serialize)]
struct SampleLine<'a> {
    log_group: &'a str,
    target: &'a str,
    vantage: &'a str,
    run: &'a str,
    seq: u64,
    ver: u64,
    scheduled_us: Option<i64>,
    t0_us: i64,
    t1_us: i64,
    outcome: i8,
    effective: i8,
    reason: Option<String>,
    latency_us: Option<i64>,
    phases_us: Vec<(&'a str, i64)>,
    attempts: Option<u32>,
    epoch: Option<u64>,
    period_us: i64,
    timeout_us: i64,
    clock_error_us: i64,
    appended_us: i64,
}

/// As `schema/008_samples.sql` numbers them.
fn outcome(outcome: Outcome) -> i8 {
    match outcome {
        Outcome::Ok => 1,
        Outcome::Void => 2,
        Outcome::Fail => 3,
    }
}

impl<'a> SampleLine<'a> {
    fn of(group: &'a str, row: &'a SampleRow) -> Self {
        let sample = &row.sample;
        let reason = row.details.reason.as_ref().and_then(|reason| serde_json::to_value(reason).ok()?.as_str().map(str::to_owned));
        Self {
            log_group: group,
            target: &sample.target,
            vantage: &sample.vantage,
            run: &sample.run,
            seq: sample.seq,
            ver: row.ver,
            scheduled_us: row.details.scheduled,
            t0_us: sample.t0.us(),
            t1_us: sample.t1.us(),
            outcome: outcome(sample.outcome),
            effective: outcome(row.effective),
            reason,
            latency_us: sample.latency.map(Span::us),
            phases_us: row.phases.iter().map(|(name, length)| (name.as_str(), length.us())).collect(),
            attempts: row.details.attempts,
            epoch: row.details.epoch,
            period_us: sample.period.us(),
            timeout_us: sample.timeout.us(),
            clock_error_us: sample.clock_error.us(),
            appended_us: row.appended_at.us(),
        }
    }
}

impl WindowStore for ClickHouseStore {
    async fn highest(&self, group: &str) -> Result<Option<u64>, StoreError> {
        let rows = self.rows("SELECT max(ver) AS ver FROM frontiers WHERE log_group = ? HAVING count() > 0", vec![group.into()]).await?;
        Ok(rows.first().and_then(|row| row["ver"].as_u64()))
    }

    async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        // Of a writer whose log was replaced no row shall be left here.
        let (held, ours) = (self.highest(&batch.group).await?.map(log_epoch), log_epoch(batch.through));
        if let Some(held) = held.filter(|held| *held > ours) {
            return Err(StoreError::Replaced { held, ours });
        }
        self.put(batch, "windows", batch.windows.iter()).await?;
        self.put(batch, "gaps", batch.gaps.iter()).await?;
        self.put(batch, "accounts", batch.accounts.iter()).await?;
        self.put(batch, "latency", batch.latency.iter()).await?;
        self.put(batch, "candidates", batch.candidates.iter()).await?;
        self.put(batch, "claims", batch.claims.iter().map(ClaimRow::columns)).await?;
        self.put(batch, "exclusions", batch.exclusions.iter().map(ExclusionRow::columns)).await?;
        self.put(batch, "catalogues", batch.catalogues.iter().map(CatalogueRow::columns)).await?;
        self.put_letters(batch).await?;
        self.put_samples(batch).await?;
        let frontier = serde_json::json!({ "ver": batch.through, "now_us": batch.now.us(), "as_of_us": batch.frontier.us() });
        self.put(batch, "frontiers", std::iter::once(frontier)).await
    }
}
