//! The file on a disk that is written to and read from, past the page cache.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::libc::{dev_t, ino_t};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::sys::statfs::{FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::fdatasync;

use super::block::{BLOCK_BYTES, Block, Buffer};

/// So many blocks a file holds; they are written in turn.
const BLOCKS: u64 = 8;
const FILE_BYTES: i64 = BLOCKS as i64 * BLOCK_BYTES as i64;
/// What statfs(2) calls a ramfs.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Which file of which disk.
pub(crate) struct Place {
    /// Where the disk is mounted.
    pub(crate) mount: PathBuf,
    /// The file's name there.
    pub(crate) name: String,
}

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("{0}: {1}")]
    System(&'static str, Errno),
    #[error("other bytes came back than were written")]
    Corrupt,
    #[error("no disk is mounted there")]
    NotMounted,
    #[error("what is mounted there is no disk: a file system in memory, or an overlay")]
    NoDisk,
    #[error("there is something of that name, and it is not the probe's")]
    Foreign,
    #[error("another probe of the same vantage writes there")]
    Shared,
    #[error("the file system is read-only, and the disk can be read")]
    ReadOnly,
}

fn during(what: &'static str) -> impl Fn(Errno) -> Trouble {
    move |errno| Trouble::System(what, errno)
}

/// The file, open.
pub(crate) struct CanaryFile {
    file: OwnedFd,
    buffer: Buffer,
    /// Tells it from any other file that takes its place.
    pub(crate) identity: (dev_t, ino_t),
    length: i64,
}

impl Place {
    /// Opens the file; makes it if it is not there, or is not of its full length. Whether it was there is answered too.
    pub(crate) fn open(&self) -> Result<(CanaryFile, bool), Trouble> {
        let mut file = self.open_as(OFlag::O_RDWR | OFlag::O_CREAT)?;
        let was_there = file.length == FILE_BYTES;
        if !was_there {
            file.lay_out()?;
        }
        Ok((file, was_there))
    }

    /// Opens the file of a disk that cannot be written to.
    pub(crate) fn open_read_only(&self) -> Result<CanaryFile, Trouble> {
        self.open_as(OFlag::O_RDONLY)
    }

    fn open_as(&self, access: OFlag) -> Result<CanaryFile, Trouble> {
        let flags = access | OFlag::O_DIRECT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(self.directory()?, self.name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(during("open"))?;
        let status = fstat(&file).map_err(during("stat"))?;
        let is_file = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        if !is_file || status.st_size > FILE_BYTES {
            return Err(Trouble::Foreign);
        }
        Ok(CanaryFile { file, buffer: Buffer::new(), identity: (status.st_dev, status.st_ino), length: status.st_size })
    }

    /// The directory, if a disk is mounted there: otherwise what is measured would be the disk that the directory is on.
    fn directory(&self) -> Result<OwnedFd, Trouble> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(&self.mount, flags, Mode::empty()).map_err(during("open"))?;
        let here = fstat(&directory).map_err(during("stat"))?;
        let above = fstatat(&directory, "..", AtFlags::empty()).map_err(during("stat"))?;
        let is_root = here.st_ino == above.st_ino;
        if here.st_dev == above.st_dev && !is_root {
            return Err(Trouble::NotMounted);
        }
        // O_DIRECT is taken there, and means nothing.
        let kind = fstatfs(&directory).map_err(during("stat"))?.filesystem_type();
        if [TMPFS_MAGIC, RAMFS_MAGIC, OVERLAYFS_SUPER_MAGIC].contains(&kind) { Err(Trouble::NoDisk) } else { Ok(directory) }
    }
}

impl CanaryFile {
    /// Writes the whole file, so that later writes need no room and change nothing but their block.
    fn lay_out(&mut self) -> Result<(), Trouble> {
        self.buffer.bytes_mut().fill(0);
        (0..BLOCKS).try_for_each(|number| self.put(number))?;
        self.sync()
    }

    pub(crate) fn write(&mut self, block: Block) -> Result<(), Trouble> {
        block.write(self.buffer.bytes_mut());
        self.put(block.number)
    }

    fn put(&self, number: u64) -> Result<(), Trouble> {
        match pwrite(&self.file, self.buffer.bytes(), offset(number)).map_err(during("write"))? {
            BLOCK_BYTES => Ok(()),
            // That is how a file system says that there was room for so much.
            _ => Err(Trouble::System("write", Errno::ENOSPC)),
        }
    }

    /// Has the disk keep what was written.
    pub(crate) fn sync(&self) -> Result<(), Trouble> {
        fdatasync(&self.file).map_err(during("sync"))
    }

    /// Reads the place of `block`, which must be there.
    pub(crate) fn expect(&mut self, block: Block) -> Result<(), Trouble> {
        self.read(block.number)?;
        match Block::read(self.buffer.bytes()) {
            Some(found) if found == block => Ok(()),
            Some(found) if found.writer != block.writer => Err(Trouble::Shared),
            _ => Err(Trouble::Corrupt),
        }
    }

    /// Reads the place of a block, whatever is there.
    pub(crate) fn read(&mut self, number: u64) -> Result<(), Trouble> {
        // What is not read must not look like what was written.
        self.buffer.bytes_mut().fill(0);
        pread(&self.file, self.buffer.bytes_mut(), offset(number)).map(|_| ()).map_err(during("read"))
    }
}

fn offset(number: u64) -> i64 {
    (number % BLOCKS) as i64 * BLOCK_BYTES as i64
}
