//! The catalogue's file while a program runs: read at the start, and again when it changes or a SIGHUP comes (DESIGN §5).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use vigie_contract::Catalogue;
use vigie_contract::catalogue::Strictness;

use crate::shell::Failure;
use crate::{catalogue_file, check, manager};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// A catalogue and the text it was read from.
#[derive(Clone)]
pub(crate) struct Read {
    pub(crate) text: Arc<str>,
    pub(crate) catalogue: Arc<Catalogue>,
}

/// Watches a catalogue's file.
pub(crate) struct Watch {
    path: PathBuf,
    hangup: Signal,
    seen: Option<Vec<u8>>,
    /// The service manager waits until what was asked for by a SIGHUP is done.
    is_reloading: bool,
}

impl Watch {
    /// Reads the file for the first time: it must be sound.
    pub(crate) fn start(path: &Path) -> Result<(Self, Read), Failure> {
        let mut watch = Self { path: path.to_owned(), hangup: signal(SignalKind::hangup())?, seen: None, is_reloading: false };
        let read = watch.read(std::fs::read(path))?.ok_or_else(|| Failure::new(format!("{} cannot be used", path.display())))?;
        Ok((watch, read))
    }

    /// Waits for another sound catalogue. One with mistakes changes nothing: they are written to standard error, and `refused` is called.
    pub(crate) async fn changed(&mut self, refused: impl Fn()) -> Read {
        loop {
            // Whoever asks for the next has taken the last, or left it.
            if std::mem::take(&mut self.is_reloading) {
                manager::tell(manager::READY);
            }
            let hung_up = tokio::select! {
                _ = self.hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            if hung_up {
                self.is_reloading = true;
                manager::tell(manager::RELOADING);
            }
            let bytes = std::fs::read(&self.path);
            if !hung_up && bytes.as_ref().ok() == self.seen.as_ref() {
                continue;
            }
            match self.read(bytes) {
                Ok(Some(read)) => return read,
                Ok(None) => tracing::error!(catalogue = %self.path.display(), "the catalogue has mistakes: nothing changes"),
                Err(failure) => tracing::error!(%failure, "the catalogue cannot be read: nothing changes"),
            }
            refused();
        }
    }

    /// What the file said when it was read, once: somebody may write to it meanwhile.
    fn read(&mut self, bytes: io::Result<Vec<u8>>) -> Result<Option<Read>, Failure> {
        let mut errors = io::stderr().lock();
        self.seen = bytes.as_ref().ok().cloned();
        let read = catalogue_file::understand(&self.path, bytes, Strictness::Live, &mut errors)?;
        let Some((text, catalogue)) = read else { return Ok(None) };
        if !check::draw_check_problems(&catalogue, &mut errors)? {
            return Ok(None);
        }
        Ok(Some(Read { text: text.into(), catalogue: Arc::new(catalogue) }))
    }
}
