//! Small disks that can be full.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk of memory; it goes when this is dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of so many KiB at `path`. `None` only if `VIGIE_WITHOUT_MOUNT=1` says that it is to be left out: what cannot be tested
    /// fails, so that nobody takes it for tested.
    ///
    /// # Panics
    /// If this user may not mount it.
    pub fn mount(path: &Path, kib: u32) -> Option<Self> {
        if std::env::var_os("VIGIE_WITHOUT_MOUNT").is_some_and(|value| value == "1") {
            return None;
        }
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "a full disk cannot be tested, since this user may not mount one: be root, or run the tests under `unshare -rm`, or leave \
             them out with VIGIE_WITHOUT_MOUNT=1"
        );
        Some(Self(path.to_owned()))
    }

    /// Leaves no room at all.
    ///
    /// # Panics
    /// If nothing can be written even at first.
    pub fn fill(&self) {
        let mut filler = std::fs::File::options().create(true).append(true).open(self.0.join("filler")).unwrap();
        for size in [65_536, 4_096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Undoes [`Disk::fill`].
    ///
    /// # Panics
    /// If it was not filled.
    pub fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
