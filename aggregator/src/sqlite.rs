//! The embedded side of both ports: evidence log and window store in one SQLite file (DESIGN §2).
//!
//! One file, so that one backup is whole. Write-ahead logging, and every commit is synced: what was acknowledged survives a `kill -9`
//! and a power cut. Other processes may append to the log while one serves it.

mod log;
mod store;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::port::Cause;

pub use log::{MOST_AHEAD, SqliteLog};
pub use store::SqliteStore;

/// Marks a file as ours: "vigi".
const APPLICATION_ID: i32 = 0x7669_6769;
/// The version of the schema.
const VERSION: i32 = 1;
/// How long a write waits for another process's.
const BUSY: Duration = Duration::from_secs(10);

/// A directory that holds `vigie.db`.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Held by the one process that serves it.
    _served: Option<File>,
}

/// What a process wants with a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To fold its log: one process at a time. Makes the directory if it is missing.
    Serve,
    /// To append facts to its log and to read, beside the one that serves it.
    Join,
}

/// Why a data directory cannot be used: where, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made, read or written.
    #[error("cannot use the data directory {}: {cause}; give --data a directory that this user may write to", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// There are files in it, and no store of ours.
    #[error("{} is not empty and holds no vigie.db: give --data an empty or new directory, or one that vigie made", .0.display())]
    Foreign(PathBuf),
    /// There is nothing in it.
    #[error("there is no vigie.db in {}: start `vigie run --data` there first, or name its directory", .0.display())]
    Missing(PathBuf),
    /// The file is not ours.
    #[error("{} is not a store of vigie's: name another", .0.display())]
    NotOurs(PathBuf),
    /// A later version wrote it.
    #[error("{} was written by a later version of vigie (schema {found}, this one knows {VERSION}): use that version", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its schema's version.
        found: i32,
    },
    /// Somebody serves it.
    #[error("{} is served by a process that runs: stop it, or give --data another directory", .0.display())]
    Served(PathBuf),
    /// The disk is full.
    #[error("there is no room on the disk for {}: make some, or name a place on another", .0.display())]
    Full(PathBuf),
    /// A backup cannot be read or written.
    #[error("cannot use the file {}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: Cause,
    },
    /// A database whose newest changes lie in another file.
    #[error("{} is in use or was not closed, and lacks what is in {}-wal: make a copy with `vigie backup`, and restore that", .0.display(), .0.display())]
    NotWhole(PathBuf),
    /// There is something where a new directory is to be made.
    #[error("{} is not empty: give --data a new or empty directory", .0.display())]
    NotEmpty(PathBuf),
    /// SQLite says no.
    #[error("cannot open {}: {cause}; restore it from a backup if it is damaged", path.display())]
    Sqlite {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: rusqlite::Error,
    },
}

impl DataDir {
    /// Opens the directory for `access`.
    pub fn open(path: &Path, access: Access) -> Result<Self, OpenError> {
        let unusable = |cause: io::Error| match cause.kind() {
            io::ErrorKind::StorageFull => OpenError::Full(path.to_owned()),
            _ => OpenError::Unusable { path: path.to_owned(), cause },
        };
        let db = path.join("vigie.db");
        if access == Access::Join && !db.exists() {
            return Err(OpenError::Missing(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(unusable)?;
        if !db.exists() && !is_empty(path).map_err(unusable)? {
            return Err(OpenError::Foreign(path.to_owned()));
        }
        let served = match access {
            Access::Serve => Some(lock(path).map_err(|error| match error {
                TryLockError::WouldBlock => OpenError::Served(path.to_owned()),
                TryLockError::Error(cause) => unusable(cause),
            })?),
            Access::Join => None,
        };
        let dir = Self { path: path.to_owned(), _served: served };
        let connection = dir.connect()?;
        dir.prepare(&connection)?;
        Ok(dir)
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path.join("vigie.db")
    }

    /// A connection as every part of the program uses it.
    fn connect(&self) -> Result<Connection, OpenError> {
        let file = self.file();
        let open = || {
            let connection = Connection::open(&file)?;
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(64);
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok(connection)
        };
        open().map_err(|cause| explain(&file, cause))
    }

    /// Makes the tables of a new file, and refuses one that is not ours.
    fn prepare(&self, connection: &Connection) -> Result<(), OpenError> {
        let file = self.file();
        let wrong = |cause| explain(&file, cause);
        let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(wrong);
        let (id, version) = (pragma("application_id")?, pragma("user_version")?);
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(wrong)?;
        match (id, version, tables) {
            (APPLICATION_ID, VERSION, _) => Ok(()),
            (APPLICATION_ID, found, _) if found > VERSION => Err(OpenError::Newer { path: file, found }),
            (0, 0, 0) => {
                let schema = include_str!("../schema/sqlite.sql");
                let script = format!(
                    "BEGIN IMMEDIATE;\n{schema}\nPRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {VERSION};\nCOMMIT;"
                );
                connection.execute_batch(&script).map_err(wrong)
            }
            _ => Err(OpenError::NotOurs(file)),
        }
    }

    /// Copies everything into `to`, one self-contained file, while the directory may be served. `to` is there when it is whole.
    pub fn backup(&self, to: &Path) -> Result<(), OpenError> {
        let wrong = |cause: io::Error| file_error(to, cause.into());
        if to.exists() {
            return Err(wrong(io::Error::new(io::ErrorKind::AlreadyExists, "it exists")));
        }
        let name = to.file_name().ok_or_else(|| wrong(io::ErrorKind::InvalidFilename.into()))?;
        let part = to.with_file_name(format!(".{}.part", name.to_string_lossy()));
        let connection = self.connect()?;
        let copied = remove_if_there(&part).map_err(wrong).and_then(|()| {
            connection.execute("VACUUM INTO ?1", [&*part.to_string_lossy()]).map_err(|cause| sqlite_file_error(to, cause))?;
            File::open(&part).and_then(|file| file.sync_all()).map_err(wrong)?;
            fs::rename(&part, to).map_err(wrong)
        });
        if copied.is_err() {
            let _ = fs::remove_file(&part);
        }
        copied
    }

    /// Makes a data directory at `path` from a backup. The log goes on where the backup ends, under the next epoch: what was published
    /// since the backup and what will be have different version numbers, the later the higher (SPEC §7).
    pub fn restore(from: &Path, path: &Path) -> Result<(), OpenError> {
        refuse_what_is_no_backup(from)?;
        let unusable = |cause| OpenError::Unusable { path: path.to_owned(), cause };
        fs::create_dir_all(path).map_err(unusable)?;
        if !is_empty(path).map_err(unusable)? {
            return Err(OpenError::NotEmpty(path.to_owned()));
        }
        let (part, whole) = (path.join(".vigie.db.part"), path.join("vigie.db"));
        fs::copy(from, &part).map_err(unusable)?;
        raise_epoch(&part).map_err(|cause| explain(&part, cause))?;
        File::open(&part).and_then(|file| file.sync_all()).map_err(unusable)?;
        fs::rename(&part, &whole).map_err(unusable)?;
        File::open(path).and_then(|dir| dir.sync_all()).map_err(unusable)
    }
}

/// Whether nobody's files are in the directory: a lock, hidden files and what file systems make do not count.
fn is_empty(path: &Path) -> io::Result<bool> {
    let counts = |name: &str| name != "lock" && name != "lost+found" && !name.starts_with('.');
    Ok(!fs::read_dir(path)?.filter_map(Result::ok).any(|entry| counts(&entry.file_name().to_string_lossy())))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn refuse_what_is_no_backup(from: &Path) -> Result<(), OpenError> {
    let wal = PathBuf::from(format!("{}-wal", from.display()));
    if fs::metadata(wal).is_ok_and(|wal| wal.len() > 0) {
        return Err(OpenError::NotWhole(from.to_owned()));
    }
    let check = || {
        let connection = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let (id, version) = (pragma("application_id")?, pragma("user_version")?);
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok((id, version, sound == "ok"))
    };
    match check().map_err(|cause| sqlite_file_error(from, cause))? {
        (APPLICATION_ID, VERSION, true) => Ok(()),
        (APPLICATION_ID, VERSION, false) => Err(file_error(from, "it is damaged".into())),
        (APPLICATION_ID, found, _) if found > VERSION => Err(OpenError::Newer { path: from.to_owned(), found }),
        _ => Err(OpenError::NotOurs(from.to_owned())),
    }
}

fn raise_epoch(file: &Path) -> rusqlite::Result<()> {
    let mut connection = Connection::open(file)?;
    // No files beside it: it is renamed.
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    let transaction = connection.transaction()?;
    let raised = "UPDATE evidence_state SET log_epoch = log_epoch + 1 RETURNING log_epoch";
    let log_epoch: i64 = transaction.query_row(raised, [], |row| row.get(0))?;
    store::carry_snapshots(&transaction, log_epoch as u64)?;
    transaction.commit()
}

fn file_error(path: &Path, cause: Cause) -> OpenError {
    OpenError::File { path: path.to_owned(), cause }
}

/// What SQLite says of a file that is no data directory's.
fn sqlite_file_error(path: &Path, cause: rusqlite::Error) -> OpenError {
    match explain(path, cause) {
        OpenError::Sqlite { path, cause } => file_error(&path, cause.into()),
        told => told,
    }
}

/// The lock vanishes with the process, however it ends.
fn lock(path: &Path) -> Result<File, TryLockError> {
    let file = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

fn is_disk_full(path: &Path) -> bool {
    const LEAST_BYTES: u64 = 1 << 20;
    let room = nix::sys::statvfs::statvfs(path.parent().unwrap_or(path));
    room.is_ok_and(|room| room.blocks_available().saturating_mul(room.fragment_size()) < LEAST_BYTES)
}

fn explain(path: &Path, cause: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => OpenError::Full(path),
        // The shared memory of the log is made before the first write, and has another word for it.
        Some(ErrorCode::SystemIoFailure) if is_disk_full(&path) => OpenError::Full(path),
        Some(ErrorCode::NotADatabase) => OpenError::NotOurs(path),
        _ => OpenError::Sqlite { path, cause },
    }
}
