//! Calls to disks, those to one disk in a thread of its own: a disk that hangs makes whoever calls it wait, and nobody else.
//!
//! A thread that waits for a disk cannot be ended. So there is one for each disk in the whole process, whoever calls; while it waits,
//! the newest call of each caller waits with it, and no thread is added. Nor can the process end, if the system does not let go of such a
//! thread: whoever stops a probe then waits for the disk, too.

pub(crate) mod block;
pub(crate) mod file;
pub(crate) mod visit;

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After so long without a call the thread of a disk ends.
const IDLE: Duration = Duration::from_secs(600);

/// The disks of this process.
pub(crate) static DISKS: Disks = Disks::new();

pub(crate) type Call = Box<dyn FnOnce() + Send>;

/// The disks that have a thread, by where they are mounted. Locked for moments, never while a disk is called.
pub(crate) struct Disks(Mutex<BTreeMap<PathBuf, Disk>>);

struct Disk {
    /// What is to be called, by caller.
    calls: BTreeMap<String, Call>,
    has_calls: Arc<Condvar>,
}

impl Disks {
    const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Disk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `call` in the thread of the disk at `mount`. It takes the place of what this caller has called for before, if that still
    /// waits: the caller has given it up.
    pub(crate) fn call(&'static self, mount: &Path, caller: &str, call: Call) -> io::Result<()> {
        let mut disks = self.lock();
        if !disks.contains_key(mount) {
            let place = mount.to_owned();
            std::thread::Builder::new().name("vigie-disk".into()).spawn(move || self.serve(&place))?;
        }
        let disk = disks.entry(mount.to_owned()).or_insert_with(|| Disk { calls: BTreeMap::new(), has_calls: Arc::default() });
        disk.calls.insert(caller.to_owned(), call);
        disk.has_calls.notify_one();
        Ok(())
    }

    fn serve(&self, mount: &Path) {
        while let Some(call) = self.next(mount) {
            // A thread that ended here would look like a disk that hangs.
            let _ = catch_unwind(AssertUnwindSafe(call));
        }
    }

    /// Waits for a call. None if there was none for long: the disk has no thread any more.
    fn next(&self, mount: &Path) -> Option<Call> {
        let mut disks = self.lock();
        let has_calls = Arc::clone(&disks.get(mount)?.has_calls);
        let is_idle = |disks: &mut BTreeMap<PathBuf, Disk>| disks.get(mount).is_some_and(|disk| disk.calls.is_empty());
        disks = has_calls.wait_timeout_while(disks, IDLE, is_idle).unwrap_or_else(PoisonError::into_inner).0;
        let call = disks.get_mut(mount)?.calls.pop_first();
        if call.is_none() {
            disks.remove(mount);
        }
        call.map(|(_, call)| call)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn while_a_disk_hangs_no_thread_is_added_and_the_newest_call_of_each_caller_waits() {
        static DISKS: Disks = Disks::new();
        let mount = Path::new("/mnt/hangs");
        let (said, heard) = channel();
        let call = |caller: &str, word: String| {
            let said = said.clone();
            DISKS.call(mount, caller, Box::new(move || said.send((word, thread::current().id())).unwrap())).unwrap();
        };
        let (mend, mended) = channel::<()>();
        let (hang, hangs) = channel();
        let stuck = move || {
            hang.send(thread::current().id()).unwrap();
            mended.recv().unwrap();
        };
        DISKS.call(mount, "a", Box::new(stuck)).unwrap();
        let thread = hangs.recv().unwrap();
        for number in 0..1_000 {
            call("a", format!("a{number}"));
            call("b", format!("b{number}"));
        }
        assert_eq!(DISKS.lock()[mount].calls.len(), 2);
        // Another disk is not held up.
        let (other, others) = channel();
        DISKS.call(Path::new("/mnt/other"), "a", Box::new(move || other.send(()).unwrap())).unwrap();
        others.recv().unwrap();
        assert!(heard.try_recv().is_err());
        mend.send(()).unwrap();
        assert_eq!([heard.recv().unwrap(), heard.recv().unwrap()], [("a999".to_owned(), thread), ("b999".to_owned(), thread)]);
        drop(said);
        assert!(heard.recv().is_err(), "what was given up is not called");
    }

    #[test]
    fn a_fault_of_ours_does_not_end_the_thread() {
        static DISKS: Disks = Disks::new();
        let mount = Path::new("/mnt/fault");
        DISKS.call(mount, "a", Box::new(|| std::panic::resume_unwind(Box::new("ours")))).unwrap();
        let (said, heard) = channel();
        DISKS.call(mount, "b", Box::new(move || said.send(()).unwrap())).unwrap();
        heard.recv().unwrap();
    }
}
