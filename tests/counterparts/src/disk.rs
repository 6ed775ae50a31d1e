//! A disk with a switch for every fault: a file system of one directory in memory, mounted by FUSE.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption,
    OpenAccMode, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file is opened, or made.
    Open,
    /// Bytes are written.
    Write,
    /// What was written is to be kept.
    Sync,
    /// Bytes are read.
    Read,
}

/// What a disk does wrong. Several may be wrong at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is answered, from this operation on, before the disk is mended.
    Hang(Operation),
    /// This operation ends with this error of the system.
    Fail(Operation, i32),
    /// This operation takes so long, and is right.
    Slow(Operation, Duration),
    /// In what is read a bit is another.
    Flip,
    /// What is written is acknowledged, and lost.
    Lose,
    /// Nothing can be opened for writing, as after an error that made the system mount it read-only.
    ReadOnly,
}

/// A disk that is mounted; it goes when this is dropped, which must be before the directory that it is mounted in is looked into.
///
/// A process that is killed while a thread of its own hangs here does not end: `umount --force` lets it go.
pub struct Disk {
    mount: PathBuf,
    shared: Arc<Shared>,
    _session: BackgroundSession,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    mended: Condvar,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    /// What waits for the disk to be mended.
    hanging: Option<Operation>,
    /// Name and content of each file, by its number; a number is never used again.
    files: BTreeMap<u64, (OsString, Vec<u8>)>,
    last_number: u64,
}

impl Disk {
    /// Mounts one at `path`. `None` only if `VIGIE_WITHOUT_MOUNT=1` says that it is to be left out: what cannot be tested fails, so that
    /// nobody takes it for tested.
    ///
    /// # Panics
    /// If this user may not mount it.
    #[must_use]
    #[expect(clippy::panic, reason = "a test that cannot be made fails")]
    pub fn mount(path: &Path) -> Option<Self> {
        if std::env::var_os("VIGIE_WITHOUT_MOUNT").is_some_and(|value| value == "1") {
            return None;
        }
        match Self::try_mount(path) {
            Ok(disk) => Some(disk),
            Err(error) => panic!(
                "a faulty disk cannot be tested, since this user may not mount one ({error}): be root, or run the tests under \
                 `unshare -rm`, or leave them out with VIGIE_WITHOUT_MOUNT=1"
            ),
        }
    }

    /// Mounts one at `path`.
    ///
    /// # Errors
    /// If this user may not, or there is no FUSE here.
    pub fn try_mount(path: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("vigie-counterpart".to_owned())];
        std::fs::create_dir_all(path)?;
        let session = fuser::spawn_mount(Served(Arc::clone(&shared)), path, &config)?;
        Ok(Self { mount: path.to_owned(), shared, _session: session })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on this is wrong, too.
    pub fn break_down(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// Nothing is wrong any more; what hangs is answered.
    pub fn mend(&self) {
        self.shared.lock().faults.clear();
        self.shared.mended.notify_all();
    }

    /// What hangs now.
    #[must_use]
    pub fn hanging(&self) -> Option<Operation> {
        self.shared.lock().hanging
    }

    /// The names of its files.
    #[must_use]
    pub fn names(&self) -> Vec<OsString> {
        self.shared.lock().files.values().map(|(name, _)| name.clone()).collect()
    }

    /// Puts a file there that no process of this machine has had open.
    pub fn put(&self, name: &str, content: &[u8]) {
        let mut state = self.shared.lock();
        let number = state.next_number();
        state.files.insert(number, (name.into(), content.to_vec()));
    }

    /// The content of its files, which anybody may change while nobody looks.
    pub fn tamper(&self, mut change: impl FnMut(&mut Vec<u8>)) {
        self.shared.lock().files.values_mut().for_each(|(_, content)| change(content));
    }

    /// Takes all files away.
    pub fn empty(&self) {
        self.shared.lock().files.clear();
    }
}

impl Drop for Disk {
    /// What hangs is let go first.
    fn drop(&mut self) {
        self.mend();
        unmount(&self.mount);
    }
}

/// Takes away what is mounted at `path`, the disk of a process that was killed too, if anything is.
pub fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(path).stderr(Stdio::null()).status();
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to an operation before it is done.
    fn pass(&self, operation: Operation) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.lock();
        let hangs = |state: &State| state.faults.contains(&Fault::Hang(operation));
        if hangs(&state) {
            state.hanging = Some(operation);
            state = self.mended.wait_while(state, |state| hangs(state)).unwrap_or_else(PoisonError::into_inner);
            state.hanging = None;
        }
        for fault in &state.faults {
            match *fault {
                Fault::Fail(what, errno) if what == operation => return Err(Errno::from_i32(errno)),
                Fault::Slow(what, time) if what == operation => std::thread::sleep(time),
                _ => {}
            }
        }
        Ok(state)
    }
}

impl State {
    fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        if INodeNo(number) == INodeNo::ROOT {
            return Ok(attributes(number, FileType::Directory, 0));
        }
        let (_, content) = self.files.get(&number).ok_or(Errno::ENOENT)?;
        Ok(attributes(number, FileType::RegularFile, content.len() as u64))
    }

    fn find(&self, name: &OsStr) -> Result<FileAttr, Errno> {
        let (number, _) = self.files.iter().find(|(_, (known, _))| known == name).ok_or(Errno::ENOENT)?;
        self.attributes(*number)
    }

    fn refuse_writing(&self) -> Result<(), Errno> {
        if self.has(Fault::ReadOnly) { Err(Errno::EROFS) } else { Ok(()) }
    }

    fn create(&mut self, name: &OsStr) -> Result<FileAttr, Errno> {
        self.refuse_writing()?;
        let number = self.next_number();
        self.files.insert(number, (name.to_owned(), Vec::new()));
        self.attributes(number)
    }

    fn next_number(&mut self) -> u64 {
        self.last_number = self.last_number.max(INodeNo::ROOT.0) + 1;
        self.last_number
    }

    fn write(&mut self, number: u64, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.refuse_writing()?;
        let is_lost = self.has(Fault::Lose);
        let (_, content) = self.files.get_mut(&number).ok_or(Errno::EIO)?;
        let (start, end) = (offset as usize, offset as usize + data.len());
        content.resize(content.len().max(end), 0);
        if !is_lost {
            content[start..end].copy_from_slice(data);
        }
        Ok(())
    }

    fn read(&self, number: u64, offset: u64, length: u32) -> Result<Vec<u8>, Errno> {
        let (_, content) = self.files.get(&number).ok_or(Errno::EIO)?;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let mut bytes = rest[..rest.len().min(length as usize)].to_vec();
        if self.has(Fault::Flip)
            && let Some(byte) = bytes.last_mut()
        {
            *byte ^= 1;
        }
        Ok(bytes)
    }
}

fn attributes(number: u64, kind: FileType, size: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4_096,
        flags: 0,
    }
}

/// The kernel keeps nothing of what it was told: each question is asked.
const KEEPS: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
const HANDLE: FileHandle = FileHandle(0);
const DIRECT: FopenFlags = FopenFlags::FOPEN_DIRECT_IO;

/// What the kernel asks.
struct Served(Arc<Shared>);

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.lock().find(name) {
            Ok(attributes) => reply.entry(&KEEPS, &attributes, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.lock().attributes(number.0) {
            Ok(attributes) => reply.attr(&KEEPS, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.0.pass(Operation::Open).and_then(|mut state| state.create(name)) {
            Ok(attributes) => reply.created(&KEEPS, &attributes, GENERATION, HANDLE, DIRECT),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let is_reader = matches!(flags.acc_mode(), OpenAccMode::O_RDONLY);
        let passed = self.0.pass(Operation::Open);
        match passed.and_then(|state| if is_reader { Ok(()) } else { state.refuse_writing() }) {
            Ok(()) => reply.opened(HANDLE, DIRECT),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.0.pass(Operation::Write).and_then(|mut state| state.write(number.0, offset, data)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.pass(Operation::Read).and_then(|state| state.read(number.0, offset, length)) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.0.pass(Operation::Sync) {
            Ok(_) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
