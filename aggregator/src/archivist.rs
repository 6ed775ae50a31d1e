//! Takes the log to its archive before retention deletes it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use vigie_contract::Time;

use crate::archive::{Archive, ArchiveError, Tally, Writer};
use crate::live::source_chain;
use crate::port::{EvidenceLog, Logged, Offset, ReadError};

/// So many records make a segment, or so many bytes.
const SEGMENT_RECORDS: usize = 50_000;
const SEGMENT_BYTES: usize = 32 << 20;
const MOST_READ: usize = 4_096;
/// A segment is written at least so often.
const EVERY: Duration = Duration::from_secs(600);
/// How often the log's length is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// How far the archive has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// The first offset that is not archived.
    pub next: Offset,
    /// The oldest record in the log: what lies before it is in the archive or lost.
    pub oldest: Offset,
    /// Records in the log that are not archived.
    pub behind: u64,
    /// The append time of the newest archived record.
    pub newest: Option<Time>,
    /// Records that retention deleted before they were archived.
    pub lost: u64,
    /// Records that were pruned from the archive.
    pub pruned: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// Why the log could not be archived.
#[derive(Debug, thiserror::Error)]
pub enum ArchivistError {
    /// The archive cannot be written.
    #[error("the archive cannot be written")]
    Archive(#[from] ArchiveError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
}

/// Archives one log.
pub struct Archivist {
    archive: Archive,
    figures: Mutex<Figures>,
    tally: Mutex<Tally>,
}

impl Archivist {
    /// For `archive`.
    #[must_use]
    pub fn new(archive: Archive) -> Self {
        Self { archive, figures: Mutex::default(), tally: Mutex::default() }
    }

    /// How far it has come.
    #[must_use]
    pub fn figures(&self) -> Figures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: impl FnOnce(&mut Figures)) {
        note(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Archives `log` for ever; what fails is told and tried again.
    pub async fn follow(&self, log: &impl EvidenceLog) {
        let mut since = EVERY;
        loop {
            let behind = self.look(log).await;
            if since >= EVERY || behind >= SEGMENT_RECORDS as u64 {
                match self.catch_up(log).await {
                    Ok(()) => since = Duration::ZERO,
                    Err(error) => {
                        self.note(|figures| figures.failures += 1);
                        tracing::error!(error = %source_chain(&error), "the log is not archived: trying again");
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
            since += LOOK;
        }
    }

    /// How many records wait.
    async fn look(&self, log: &impl EvidenceLog) -> u64 {
        let Ok(bounds) = log.bounds().await else { return 0 };
        self.note(|figures| {
            figures.oldest = bounds.oldest;
            figures.behind = bounds.next.saturating_sub(figures.next.max(bounds.oldest));
        });
        self.figures().behind
    }

    /// Archives everything that `log` holds now.
    pub async fn catch_up(&self, log: &impl EvidenceLog) -> Result<(), ArchivistError> {
        let bounds = log.bounds().await?;
        let archive = self.archive.clone();
        // Opened anew each time: another process may have written meanwhile. The last segment is read to its end: not on this thread.
        let mut writer = blocking(move || archive.writer()).await?;
        if writer.next() < bounds.oldest {
            let lost = bounds.oldest - writer.next();
            if writer.next() > 0 {
                tracing::error!(from = writer.next(), to = bounds.oldest, "retention has deleted records that were not archived");
                self.note(|figures| figures.lost += lost);
            }
            writer.skip_to(bounds.oldest);
        }
        self.note(|figures| figures.next = writer.next());
        self.count_pruned().await;
        while writer.next() < bounds.next {
            let (records, next) = gather(log, writer.next(), bounds.next).await?;
            let newest = records.last().map(|last| last.appended_at);
            writer = blocking(move || {
                writer.append(&records, next)?;
                Ok::<Writer, ArchiveError>(writer)
            })
            .await?;
            self.note(|figures| {
                figures.next = next;
                // More may have come while it was read.
                figures.behind = bounds.next.saturating_sub(next);
                figures.newest = newest.or(figures.newest);
            });
        }
        Ok(())
    }

    /// Somebody else prunes: how much, the archive says itself. What cannot be counted keeps nobody from archiving.
    async fn count_pruned(&self) {
        let shelf = self.archive.shelf().clone();
        let mut tally = std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner));
        match blocking(move || Ok((tally.count(&shelf)?, tally))).await {
            Ok((pruned, tally)) => {
                *self.tally.lock().unwrap_or_else(PoisonError::into_inner) = tally;
                self.note(|figures| figures.pruned = pruned);
            }
            Err(error) => tracing::warn!(error = %source_chain(&error), "what was pruned from the archive cannot be counted"),
        }
    }
}

/// The records of the next segment, from `from` on and before `end`, and the offset after them.
async fn gather(log: &impl EvidenceLog, from: Offset, end: Offset) -> Result<(Vec<Logged>, Offset), ReadError> {
    let (mut records, mut next, mut bytes) = (Vec::new(), from, 0);
    while next < end && records.len() < SEGMENT_RECORDS && bytes < SEGMENT_BYTES {
        let read = log.read(next, MOST_READ).await?;
        let Some(last) = read.last() else { break };
        next = last.offset + 1;
        bytes += read.iter().map(|logged| logged.bytes.len()).sum::<usize>();
        records.extend(read);
    }
    Ok((records, next))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static) -> Result<T, ArchiveError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
