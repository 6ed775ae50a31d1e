//! `kind = "storage"`: a disk keeps a block of 4 KiB, gives it back, and still has the one of the last visit.
//!
//! Each attempt opens the file, reads the block of the last visit, writes a new one that holds what no other block does, has the disk keep
//! it (fdatasync), and reads it back; all of it past the page cache (`O_DIRECT`), though what is read may come from the disk's own memory.
//! Steps have the phases open, write, sync and read. Slow but right is a latency, not a failure.
//!
//! `mount` is where the disk is mounted, in the guest that the probe runs in, and nothing else: a directory of another disk is refused at
//! each attempt. (So is one more mount, by `mount --bind`, of the disk that the directory is on.) The file there is
//! `vigie@<vantage>@<target>`, 32 KiB in eight blocks, laid out once: visits take no room and change no metadata but times. They write
//! 4 KiB each: 13 GB a year at a period of 10 s, beside what the file system's journal adds.
//!
//! A disk is called in a thread of its own (`disk.rs`), so that one that hangs holds up nothing but itself and is reported while it hangs.
//!
//! | what is seen | outcome | reason | phase |
//! |---|---|---|---|
//! | the block is kept and comes back, however late within the timeout | ok | | |
//! | no answer yet, shortly before the timeout | fail | hung | open, write, sync, read |
//! | other bytes than were written, now or in the last visit; `EILSEQ` | fail | corrupt | read |
//! | `EIO`, `ENODEV`, `ENXIO`, `EREMOTEIO`, `ENOLINK`, `ENODATA`, `ESTALE`: a device, or the way to it | fail | unhealthy | open, write, sync, read |
//! | `ETIMEDOUT`, `ETIME`: the system gave the device up | fail | timeout | open, write, sync, read |
//! | `EROFS`, and of the last block the disk gives other bytes, an error or nothing | as above | corrupt, unhealthy, hung … | open, read |
//! | `EROFS`, and the disk can be read: the guest's file system | void | internal | read |
//! | `ENOSPC`, `EDQUOT`: how large the disk and its quota are is the tenant's, who keeps the canary | void | internal | open, write |
//! | `ENOENT`, `EACCES`, `EINVAL` (no `O_DIRECT`) …, nothing mounted, no disk (tmpfs, overlay) | void | internal | open |
//! | something else of the file's name, or another probe of the same vantage and target at work there | void | internal | open, read |
//! | no descriptors | void | descriptors | open |
//! | no thread | void | overload | |
//!
//! A file that is gone, or another in its place, is the doing of somebody in the guest: it is laid out anew, and nothing is asked of it.
//! Nor is anything asked of what an earlier process wrote, which may have ended amid a write. What is `void internal` here is the
//! canary's own and needs somebody to look; the log says what it is.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use serde::Deserialize;
use tokio::sync::mpsc;
use vigie_contract::Reason;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Trace};
use crate::disk::DISKS;
use crate::disk::file::{Place, Trouble};
use crate::disk::visit::{MOST_STEPS, Memory, Step, visit};
use crate::sigv4::encode;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// Where the disk is mounted: an absolute path.
    mount: PathBuf,
}

struct Storage {
    mount: PathBuf,
    memory: Arc<Mutex<Memory>>,
    /// What the last attempt met, so that the log says it once.
    trouble: Cell<Option<Trouble>>,
}

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        if self.mount.is_absolute() {
            return Ok(());
        }
        Err(CheckError::Shape(format!("`{}` is no absolute path to where a disk is mounted", self.mount.display())))
    }

    pub(super) fn build(self) -> impl Check + use<> {
        Storage { mount: self.mount, memory: Arc::new(Mutex::new(Memory::new())), trouble: Cell::new(None) }
    }
}

impl Check for Storage {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.exercise(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Storage
    }
}

impl Storage {
    async fn exercise(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let last_moment = attempt.last_moment(trace.began);
        let mut steps = self.visit(attempt)?;
        loop {
            match tokio::time::timeout_at(last_moment.into(), steps.recv()).await {
                Ok(Some(Step::Begins(phase, at))) => trace.begin_at(phase, at),
                Ok(Some(Step::Ends(result, at))) => {
                    trace.close(at);
                    self.note(attempt, result.err());
                    return result.map_err(judge);
                }
                // Its thread met a fault of ours.
                Ok(None) => return Err(Finding::Void(Reason::Internal)),
                Err(_) => return Err(Finding::Fail(Reason::Hung)),
            }
        }
    }

    /// Has the disk's thread visit the file, and hears of its steps.
    fn visit(&self, attempt: &Attempt<'_>) -> Result<mpsc::Receiver<Step>, Finding> {
        let (told, steps) = mpsc::channel(MOST_STEPS);
        let name = format!("vigie@{}@{}", encode(attempt.vantage, false), encode(attempt.target, false));
        let place = Place { mount: self.mount.clone(), name: name.clone() };
        let (memory, is_retry) = (Arc::clone(&self.memory), attempt.is_retry);
        let call = move || {
            // Whoever does not wait any more has no use for a visit.
            if !told.is_closed() {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                visit(&place, &mut memory, is_retry, |step| drop(told.try_send(step)));
            }
        };
        DISKS.call(&self.mount, &name, Box::new(call)).map_err(|_| Finding::Void(Reason::Overload))?;
        Ok(steps)
    }

    fn note(&self, attempt: &Attempt<'_>, trouble: Option<Trouble>) {
        if self.trouble.replace(trouble) == trouble {
            return;
        }
        if let Some(trouble) = trouble {
            tracing::warn!(mount = %self.mount.display(), %trouble, "target {}", attempt.target);
        }
    }
}

/// The rows of the table that speak of errors.
fn judge(trouble: Trouble) -> Finding {
    let errno = match trouble {
        Trouble::Corrupt => return Finding::Fail(Reason::Corrupt),
        Trouble::System(_, errno) => errno,
        _ => return Finding::Void(Reason::Internal),
    };
    match errno {
        Errno::EIO | Errno::ENODEV | Errno::ENXIO | Errno::EREMOTEIO | Errno::ENOLINK | Errno::ENODATA | Errno::ESTALE => {
            Finding::Fail(Reason::Unhealthy)
        }
        Errno::ETIMEDOUT | Errno::ETIME => Finding::Fail(Reason::Timeout),
        Errno::EILSEQ => Finding::Fail(Reason::Corrupt),
        Errno::EMFILE | Errno::ENFILE => Finding::Void(Reason::Descriptors),
        _ => Finding::Void(Reason::Internal),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
