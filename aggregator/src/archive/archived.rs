//! The log with its archive before it.

use super::{Archive, ArchiveError, Segment};
use crate::port::{AppendError, Appended, Bounds, EvidenceLog, Logged, Offset, ReadError};

/// A log whose archive answers for what retention has deleted from it.
pub struct Archived<L> {
    log: L,
    archive: Option<Archive>,
}

impl<L> Archived<L> {
    /// `log` with `archive` before it.
    pub fn new(log: L, archive: Option<Archive>) -> Self {
        Self { log, archive }
    }
}

impl<L: EvidenceLog> EvidenceLog for Archived<L> {
    async fn append(&self, records: &[Vec<u8>]) -> Result<Vec<Appended>, AppendError> {
        self.log.append(records).await
    }

    async fn read(&self, from: Offset, most: usize) -> Result<Vec<Logged>, ReadError> {
        match (self.log.read(from, most).await, &self.archive) {
            (Err(gone @ ReadError::Gone { .. }), Some(archive)) => {
                let archive = archive.clone();
                let records = ask(move || archive.read(from)).await?;
                if records.is_empty() { Err(gone) } else { Ok(records) }
            }
            (read, _) => read,
        }
    }

    fn commit(&self, next: Offset) {
        self.log.commit(next);
    }

    async fn bounds(&self) -> Result<Bounds, ReadError> {
        let bounds = self.log.bounds().await?;
        // An archive that cannot be read is not one that is empty: whoever asks comes again.
        let archived = match self.archive.clone() {
            Some(archive) => ask(move || archive.segments()).await?,
            None => Vec::new(),
        };
        // What reaches to the log without a hole; what lies before one cannot be folded.
        let reached = |oldest: Offset, segment: &Segment| (segment.next >= oldest).then(|| oldest.min(segment.first));
        let oldest = archived.iter().rev().try_fold(bounds.oldest, |oldest, segment| reached(oldest, segment).ok_or(oldest));
        let oldest = oldest.unwrap_or_else(|oldest| oldest);
        Ok(Bounds { oldest, ..bounds })
    }
}

/// Asks the archive, which takes its time.
async fn ask<T: Send + 'static>(asked: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static) -> Result<T, ReadError> {
    let answered = tokio::task::spawn_blocking(asked).await.map_err(|error| ReadError::Unavailable(error.into()))?;
    answered.map_err(|error| ReadError::Unavailable(error.into()))
}

#[cfg(test)]
mod tests {
    use vigie_contract::Time;

    use super::*;
    use crate::archive::Shelf;

    fn logged(offset: Offset, bytes: &[u8]) -> Logged {
        Logged { offset, appended_at: Time::from_us(1_000 * offset as i64), bytes: bytes.to_vec() }
    }

    /// A log that retention has cut before `oldest`.
    struct Cut {
        oldest: Offset,
        records: Vec<Logged>,
    }

    impl EvidenceLog for Cut {
        async fn append(&self, _: &[Vec<u8>]) -> Result<Vec<Appended>, AppendError> {
            Ok(Vec::new())
        }

        async fn read(&self, from: Offset, most: usize) -> Result<Vec<Logged>, ReadError> {
            if from < self.oldest {
                return Err(ReadError::Gone { from, oldest: self.oldest });
            }
            Ok(self.records[from as usize..].iter().take(most).cloned().collect())
        }

        async fn bounds(&self) -> Result<Bounds, ReadError> {
            Ok(Bounds { oldest: self.oldest, next: self.records.len() as u64 })
        }
    }

    #[test]
    fn an_archive_answers_for_what_retention_has_cut_and_never_over_a_hole() {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<Logged> = (0..12).map(|offset| logged(offset, b"{}")).collect();
        let archive = Archive::new(&Shelf::directory(dir.path()), "main", 0);
        let mut writer = archive.writer().unwrap();
        writer.append(&records[..3], 3).unwrap();
        writer.skip_to(5);
        writer.append(&records[5..7], 7).unwrap();
        writer.append(&records[7..9], 9).unwrap();
        drop(writer);
        let of = |oldest| Archived::new(Cut { oldest, records: records.clone() }, Some(archive.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let whole = of(8);
            assert_eq!(whole.bounds().await.unwrap(), Bounds { oldest: 5, next: 12 }, "what lies before the hole cannot be folded");
            assert_eq!(whole.read(5, 9).await.unwrap(), records[5..7]);
            assert_eq!(whole.read(7, 9).await.unwrap(), records[7..9]);
            assert_eq!(whole.read(9, 9).await.unwrap(), records[9..]);
            assert!(whole.read(3, 9).await.is_err(), "a hole is not skipped");
            assert_eq!(of(10).bounds().await.unwrap().oldest, 10, "an archive that does not reach to the log is of no use");
            assert_eq!(of(3).bounds().await.unwrap().oldest, 0);
        });
    }
}
