//! The embedded evidence log: blocks of records in a table.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tokio::sync::{Mutex, oneshot, watch};
use vigie_contract::{Span, Time, record};

use super::{DataDir, OpenError};
use crate::clock::wall_now;
use crate::port::{AppendError, Appended, Bounds, Cause, EvidenceLog, Logged, Offset, ReadError};

/// So many appends wait for the writer; beyond it whoever appends waits.
const MOST_WAITING: usize = 256;
/// So many appends share one commit.
const MOST_TOGETHER: usize = 64;
/// How soon what another process appends is seen.
const FOREIGN: Duration = Duration::from_millis(200);
/// So many blocks are forgotten in one transaction, and then others have their turn.
const FORGOTTEN_TOGETHER: usize = 256;
/// A pause between two of them.
const FORGET_PAUSE: Duration = Duration::from_millis(50);
/// The log's clock never goes back: a machine's that is set back by no more than this waits for it. By more, a clock was wrong, and
/// whatever were appended would bear a false time.
pub const MOST_AHEAD: Span = Span::from_secs(10);

/// The evidence log in a data directory.
pub struct SqliteLog {
    appends: SyncSender<Append>,
    reader: std::sync::Arc<std::sync::Mutex<Connection>>,
    next: Mutex<watch::Receiver<Offset>>,
    log_epoch: u64,
    last_append: Time,
}

struct Append {
    records: Vec<Vec<u8>>,
    done: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
}

impl SqliteLog {
    /// The log of `dir`. Starts its writer's thread, which ends with the log.
    pub fn open(dir: &DataDir) -> Result<Self, OpenError> {
        let (writer, reader) = (dir.connect()?, dir.connect()?);
        let state = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|cause| super::explain(&dir.file(), cause));
        let (next, log_epoch) = (state("SELECT next FROM evidence_state")?, state("SELECT log_epoch FROM evidence_state")?);
        let last_append = Time::from_us(state("SELECT appended_us FROM evidence_state")?);
        let (appends, appended) = sync_channel(MOST_WAITING);
        let (seen, next) = watch::channel(next as u64);
        let thread = std::thread::Builder::new().name("vigie-log".into()).spawn(move || write(writer, &appended, &seen));
        thread.map_err(|cause| OpenError::Unusable { path: dir.file(), cause })?;
        let reader = std::sync::Arc::new(std::sync::Mutex::new(reader));
        Ok(Self { appends, reader, next: Mutex::new(next), log_epoch: log_epoch as u64, last_append })
    }

    /// When something was appended last before it was opened.
    #[must_use]
    pub fn last_append(&self) -> Time {
        self.last_append
    }

    /// Which log it is (SPEC §7).
    #[must_use]
    pub fn log_epoch(&self) -> u64 {
        self.log_epoch
    }

    /// Forgets records that were appended before `before`, in whole blocks, but none at `covered` or beyond: what no snapshot has in it
    /// is still needed. A few blocks at a time, so that nobody who appends waits long.
    pub async fn forget(&self, before: Time, covered: Offset) -> Result<(), ReadError> {
        while self.query(move |connection| forget_some(connection, before, covered)).await? {
            tokio::time::sleep(FORGET_PAUSE).await;
        }
        Ok(())
    }

    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let reader = std::sync::Arc::clone(&self.reader);
        let done = tokio::task::spawn_blocking(move || work(&mut reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner))).await;
        done.map_err(|error| ReadError::Unavailable(error.into()))?.map_err(|error| ReadError::Unavailable(error.into()))
    }
}

impl EvidenceLog for SqliteLog {
    async fn append(&self, records: &[Vec<u8>]) -> Result<Vec<Appended>, AppendError> {
        if let Some((index, long)) = records.iter().enumerate().find(|(_, bytes)| bytes.len() > record::LONGEST_RECORD_BYTES) {
            return Err(AppendError::TooLong { index, bytes: long.len(), most: record::LONGEST_RECORD_BYTES });
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (done, answered) = oneshot::channel();
        // A newline parts records here; inside one, outside of its strings, it is a space.
        let one_line = |record: &Vec<u8>| record.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect();
        let (appends, append) = (self.appends.clone(), Append { records: records.iter().map(one_line).collect(), done });
        let gone = || AppendError::Unavailable(io::Error::other("the log's writer has ended").into());
        // The queue is full only while the disk is slow: whoever appends then waits, off the runtime's own threads.
        match appends.try_send(append) {
            Ok(()) => {}
            Err(std::sync::mpsc::TrySendError::Full(append)) => {
                let sent = tokio::task::spawn_blocking(move || appends.send(append)).await;
                sent.map_err(|error| AppendError::Unavailable(error.into()))?.map_err(|_| gone())?;
            }
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => return Err(gone()),
        }
        answered.await.map_err(|_| gone())?
    }

    async fn read(&self, from: Offset, most: usize) -> Result<Vec<Logged>, ReadError> {
        loop {
            let mut next = self.next.lock().await.clone();
            next.mark_unchanged();
            let (bounds, records) = self.query(move |connection| select(connection, from, most)).await?;
            if from < bounds.oldest {
                return Err(ReadError::Gone { from, oldest: bounds.oldest });
            }
            if from > bounds.next {
                return Err(ReadError::BeyondEnd { from, next: bounds.next });
            }
            if !records.is_empty() {
                return Ok(records);
            }
            // Another process's append does not wake us: look again.
            let _ = tokio::time::timeout(FOREIGN, next.changed()).await;
        }
    }

    async fn bounds(&self) -> Result<Bounds, ReadError> {
        self.query(|connection| bounds(connection)).await
    }
}

fn bounds(connection: &Connection) -> rusqlite::Result<Bounds> {
    connection
        .prepare_cached("SELECT oldest, next FROM evidence_state")?
        .query_row([], |row| Ok(Bounds { oldest: row.get::<_, i64>(0)? as u64, next: row.get::<_, i64>(1)? as u64 }))
}

fn select(connection: &mut Connection, from: Offset, most: usize) -> rusqlite::Result<(Bounds, Vec<Logged>)> {
    let transaction = connection.transaction()?;
    let bounds = bounds(&transaction)?;
    let mut records = Vec::new();
    if from < bounds.next {
        let mut blocks = transaction.prepare_cached(
            "SELECT first_offset, count, appended_us, crc, records FROM evidence
             WHERE first_offset >= coalesce((SELECT max(first_offset) FROM evidence WHERE first_offset <= ?1), ?1) ORDER BY first_offset",
        )?;
        let mut rows = blocks.query([from as i64])?;
        while let Some(row) = rows.next()?
            && records.len() < most
        {
            let (first, count) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64);
            let appended_at = Time::from_us(row.get(2)?);
            let packed = row.get_ref(4)?.as_blob()?;
            let is_sound = i64::from(crc32fast::hash(packed)) == row.get::<_, i64>(3)?;
            let text = is_sound.then(|| lz4_flex::decompress_size_prepended(packed).ok()).flatten().ok_or_else(|| damaged(first))?;
            let logged = (first..).zip(text.split(|byte| *byte == b'\n')).map(|(offset, bytes)| Logged {
                offset,
                appended_at,
                bytes: bytes.to_vec(),
            });
            records.extend(logged.take(count as usize).filter(|logged| logged.offset >= from).take(most - records.len()));
        }
    }
    transaction.commit()?;
    Ok((bounds, records))
}

/// Forgets the oldest blocks of those that may go; whether there may be more.
fn forget_some(connection: &mut Connection, before: Time, covered: Offset) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let forgotten = transaction.execute(
        "DELETE FROM evidence WHERE first_offset IN (SELECT first_offset FROM evidence ORDER BY first_offset LIMIT ?3)
         AND appended_us < ?1 AND first_offset + count <= ?2",
        params![before.us(), covered as i64, FORGOTTEN_TOGETHER as i64],
    )?;
    if forgotten > 0 {
        transaction.execute("UPDATE evidence_state SET oldest = coalesce((SELECT min(first_offset) FROM evidence), next)", [])?;
    }
    transaction.commit()?;
    Ok(forgotten == FORGOTTEN_TOGETHER)
}

fn damaged(first: Offset) -> rusqlite::Error {
    let why = format!("the block of the evidence log at offset {first} is damaged: restore a backup");
    rusqlite::Error::FromSqlConversionFailure(4, rusqlite::types::Type::Blob, why.into())
}

/// The writer's thread: appends that wait at the same time share a commit.
fn write(mut connection: Connection, appends: &Receiver<Append>, seen: &watch::Sender<Offset>) {
    while let Ok(first) = appends.recv() {
        let mut together = vec![first];
        together.extend(appends.try_iter().take(MOST_TOGETHER - 1));
        match commit(&mut connection, &together) {
            Ok((answers, next)) => {
                seen.send_replace(next);
                for (append, answer) in together.into_iter().zip(answers) {
                    let _ = append.done.send(Ok(answer));
                }
            }
            Err(error) => {
                let text = error.to_string();
                for append in together {
                    let _ = append.done.send(Err(AppendError::Unavailable(text.clone().into())));
                }
            }
        }
    }
}

fn commit(connection: &mut Connection, together: &[Append]) -> Result<(Vec<Vec<Appended>>, Offset), Cause> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (mut next, last): (i64, i64) = transaction
        .prepare_cached("SELECT next, appended_us FROM evidence_state")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or_default();
    let (wall, last) = (wall_now(), Time::from_us(last));
    if last - wall > MOST_AHEAD {
        let why = format!("the last append was at {last}, and this machine's clock says {wall}: one of them is wrong");
        return Err(why.into());
    }
    let appended_at = wall.max(last);
    let mut answers = Vec::with_capacity(together.len());
    for append in together {
        let packed = lz4_flex::compress_prepend_size(&append.records.join(&b'\n'));
        transaction
            .prepare_cached("INSERT INTO evidence (first_offset, count, appended_us, crc, records) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![next, append.records.len() as i64, appended_at.us(), i64::from(crc32fast::hash(&packed)), packed])?;
        let first = next as u64;
        next += append.records.len() as i64;
        answers.push((first..next as u64).map(|offset| Appended { offset, appended_at }).collect());
    }
    transaction.prepare_cached("UPDATE evidence_state SET next = ?1, appended_us = ?2")?.execute([next, appended_at.us()])?;
    transaction.commit()?;
    Ok((answers, next as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::Access;

    const TICK: &[u8] = b"{\"v\":1,\"type\":\"tick\"}";

    fn run(test: &impl AsyncFn(&DataDir, &SqliteLog)) {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::open(place.path(), Access::Serve).unwrap();
        let log = SqliteLog::open(&dir).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(test(&dir, &log));
    }

    #[test]
    fn a_clock_that_was_set_back_waits_and_one_that_was_wrong_appends_nothing() {
        run(&async |dir: &DataDir, log: &SqliteLog| {
            let append = async || log.append(&[TICK.to_vec()]).await;
            let ahead = |span: Span| {
                let last = wall_now() + span;
                dir.connect().unwrap().execute("UPDATE evidence_state SET appended_us = ?1", [last.us()]).unwrap();
                last
            };
            let last = ahead(Span::from_secs(9));
            assert_eq!(append().await.unwrap()[0].appended_at, last);
            ahead(Span::from_secs(3_600));
            let refused = append().await.unwrap_err();
            assert!(crate::live::source_chain(&refused).contains("this machine's clock says"), "{refused:?}");
            assert_eq!(log.bounds().await.unwrap(), Bounds { oldest: 0, next: 1 });
            ahead(Span::ZERO);
            assert_eq!(append().await.unwrap()[0].offset, 1);
        });
    }

    #[test]
    fn only_what_a_snapshot_covers_is_forgotten() {
        run(&async |_: &DataDir, log: &SqliteLog| {
            for _ in 0..FORGOTTEN_TOGETHER + 10 {
                log.append(&[TICK.to_vec(), TICK.to_vec()]).await.unwrap();
            }
            let next = 2 * (FORGOTTEN_TOGETHER as u64 + 10);
            let later = wall_now() + Span::DAY;
            for (before, covered, oldest) in [(Time::BEGINNING, next, 0), (later, 0, 0), (later, next - 3, next - 4), (later, next, next)] {
                log.forget(before, covered).await.unwrap();
                assert_eq!(log.bounds().await.unwrap(), Bounds { oldest, next });
            }
        });
    }
}
