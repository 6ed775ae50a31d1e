//! Where an archive's files stand: a directory, or a bucket of an object store. Calls block.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[cfg(feature = "s3")]
use super::bucket::{Bucket, BucketError};

/// A place for files that never change: a directory, or what is below a prefix in a bucket.
#[derive(Clone, Debug)]
pub struct Shelf(Place);

#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    #[cfg(feature = "s3")]
    Bucket {
        bucket: std::sync::Arc<Bucket>,
        prefix: String,
    },
}

/// Why a shelf cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The disk says no.
    #[error("{}: {cause}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The object store, or the file that describes it, says no.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A bucket is asked for, and this program was built without.
    #[error("{}: this vigie knows no buckets: build it with `--features s3`, or name a directory", .0.display())]
    NoBuckets(PathBuf),
    /// Somebody else writes there.
    #[error("{} is written by another process", .0.display())]
    Taken(PathBuf),
}

/// Nobody else has the same one while it lives.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "it is the open file that holds the lock")] Option<File>);

fn failed(path: &Path) -> impl Fn(io::Error) -> ShelfError + '_ {
    move |cause| ShelfError::Disk { path: path.to_owned(), cause }
}

impl Shelf {
    /// The directory `path`; or, where `path` or what it lies below is a file of a bucket's settings, that bucket: `bucket.toml`,
    /// `bucket.toml/main/00000`. In a tokio runtime with threads of its own.
    pub fn open(path: &Path) -> Result<Self, ShelfError> {
        match path.ancestors().find(|above| above.is_file()) {
            None => Ok(Self::directory(path)),
            #[cfg(feature = "s3")]
            Some(settings) => {
                let bucket = std::sync::Arc::new(Bucket::open(settings)?);
                let below = path.strip_prefix(settings).unwrap_or(Path::new(""));
                let prefix = bucket.prefix().to_owned();
                let whole = Self(Place::Bucket { bucket, prefix });
                Ok(below.iter().fold(whole, |shelf, part| shelf.below(&part.to_string_lossy())))
            }
            #[cfg(not(feature = "s3"))]
            Some(settings) => Err(ShelfError::NoBuckets(settings.to_owned())),
        }
    }

    /// The directory `path`, which need not be there yet.
    #[must_use]
    pub fn directory(path: &Path) -> Self {
        Self(Place::Directory(path.to_owned()))
    }

    /// The shelf `part` of this one.
    #[must_use]
    pub fn below(&self, part: &str) -> Self {
        Self(match &self.0 {
            Place::Directory(path) => Place::Directory(path.join(part)),
            #[cfg(feature = "s3")]
            Place::Bucket { bucket, prefix } => {
                let prefix = if prefix.is_empty() { part.to_owned() } else { format!("{prefix}/{part}") };
                Place::Bucket { bucket: std::sync::Arc::clone(bucket), prefix }
            }
        })
    }

    /// Its own name among its neighbours; nothing for a bucket's root.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match &self.0 {
            Place::Directory(path) => Some(path.canonicalize().ok()?.file_name()?.to_str()?.to_owned()),
            #[cfg(feature = "s3")]
            Place::Bucket { prefix, .. } => prefix.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned),
        }
    }

    /// How people name the file `name` on it.
    #[must_use]
    pub fn place(&self, name: &str) -> PathBuf {
        match &self.0 {
            Place::Directory(path) => path.join(name),
            #[cfg(feature = "s3")]
            Place::Bucket { bucket, prefix } => bucket.place(prefix, name),
        }
    }

    /// The names of what is on it, files and shelves; none if it is not there.
    pub fn names(&self) -> Result<Vec<String>, ShelfError> {
        match &self.0 {
            Place::Directory(path) => {
                let entries = match fs::read_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                    entries => entries.map_err(failed(path))?,
                };
                let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
                entries.map(name).collect::<io::Result<_>>().map_err(failed(path))
            }
            #[cfg(feature = "s3")]
            Place::Bucket { bucket, prefix } => Ok(bucket.names(prefix)?),
        }
    }

    /// What the file `name` holds.
    pub fn get(&self, name: &str) -> Result<Vec<u8>, ShelfError> {
        match &self.0 {
            Place::Directory(path) => {
                let path = path.join(name);
                fs::read(&path).map_err(failed(&path))
            }
            #[cfg(feature = "s3")]
            Place::Bucket { bucket, prefix } => Ok(bucket.get(prefix, name)?),
        }
    }

    /// Puts a file there, whole or not at all; it is durable when this returns.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), ShelfError> {
        match &self.0 {
            Place::Directory(dir) => {
                let (part, path) = (dir.join(format!("{name}.part")), dir.join(name));
                let write = || -> io::Result<()> {
                    fs::create_dir_all(dir)?;
                    let mut file = File::create(&part)?;
                    file.write_all(bytes)?;
                    file.sync_all()?;
                    fs::rename(&part, &path)?;
                    File::open(dir)?.sync_all()
                };
                write().map_err(failed(&path))
            }
            #[cfg(feature = "s3")]
            Place::Bucket { bucket, prefix } => Ok(bucket.put(prefix, name, bytes)?),
        }
    }

    /// Takes a file away; one that is not there is as good as taken away.
    pub fn remove(&self, name: &str) -> Result<(), ShelfError> {
        match &self.0 {
            Place::Directory(path) => {
                let path = path.join(name);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    done => done.map_err(failed(&path)),
                }
            }
            #[cfg(feature = "s3")]
            Place::Bucket { bucket, prefix } => Ok(bucket.remove(prefix, name)?),
        }
    }

    /// Keeps other processes from taking the same hold. A bucket has none: each deployment has a prefix of its own there, and what two
    /// members of one write is the same.
    pub fn hold(&self, name: &str) -> Result<Hold, ShelfError> {
        match &self.0 {
            Place::Directory(dir) => {
                fs::create_dir_all(dir).map_err(failed(dir))?;
                let path = dir.join(name);
                let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed(&path))?;
                match lock.try_lock() {
                    Ok(()) => Ok(Hold(Some(lock))),
                    Err(fs::TryLockError::WouldBlock) => Err(ShelfError::Taken(dir.clone())),
                    Err(fs::TryLockError::Error(cause)) => Err(ShelfError::Disk { path, cause }),
                }
            }
            #[cfg(feature = "s3")]
            Place::Bucket { .. } => Ok(Hold(None)),
        }
    }
}
