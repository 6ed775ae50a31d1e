//! Where a fold begins: at the newest snapshot that can be used, or at the start of the log (DESIGN §4).

use crate::core::engine::{Engine, Settings};
use crate::live::{Restored, Snapshots, Start};
use crate::port::{Bounds, EvidenceLog, ReadError, StoreError};
use crate::publish::Ledger;

/// Why a fold cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log does not answer.
    #[error("the evidence log cannot be read")]
    Log(#[source] ReadError),
    /// Nobody says whether there is a snapshot.
    #[error("the snapshots cannot be read")]
    Snapshots(#[source] StoreError),
    /// The log is not whole, and nothing stands for what it lacks.
    #[error("the log has forgotten what lies before offset {oldest}, and there is no snapshot that can be used: {mend}")]
    Forgotten {
        /// The oldest record that is left.
        oldest: u64,
        /// What to do.
        mend: &'static str,
    },
}

/// The engine of `group` as its newest usable snapshot has it, or one as `new` makes it, which reads the log from its start; `mend` is
/// what to do where neither is to be had.
pub async fn restore(
    group: &str,
    new: impl Fn() -> Engine,
    log: &impl EvidenceLog,
    snapshots: &impl Snapshots,
    mend: &'static str,
) -> Result<(Engine, Start), StartError> {
    let bounds = log.bounds().await.map_err(StartError::Log)?;
    let Settings { log_epoch, .. } = new().settings();
    if let Some(restored) = snapshots.load(group, log_epoch).await.map_err(StartError::Snapshots)?
        && let Some(begun) = begin(new(), restored, bounds)
    {
        return Ok(begun);
    }
    if bounds.oldest > 0 {
        return Err(StartError::Forgotten { oldest: bounds.oldest, mend });
    }
    Ok((new(), Start { next: 0, ledger: Ledger::default(), manifest: None }))
}

fn begin(new: Engine, restored: Restored, bounds: Bounds) -> Option<(Engine, Start)> {
    let next = restored.manifest.offset + 1;
    match new.restored(&restored.manifest, |key| restored.chunks.get(key).cloned()) {
        Ok(engine) if bounds.oldest <= next && next <= bounds.next => {
            let manifest = (!restored.is_borrowed).then_some(restored.manifest);
            return Some((engine, Start { next, ledger: restored.ledger, manifest }));
        }
        Ok(_) => {
            tracing::warn!(next, oldest = bounds.oldest, end = bounds.next, "the snapshot does not fit the log: reading it from its start")
        }
        Err(error) => tracing::warn!(%error, "the snapshot cannot be used: reading the log from its start"),
    }
    None
}
