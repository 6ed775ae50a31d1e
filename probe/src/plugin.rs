//! Programs of somebody else's: each runs in a process group of its own, which does not outlive its use.
//!
//! A thread starts the program, so that one whose file hangs holds nobody up, and waits for its end. The group is killed while its leader
//! has not been reaped: until then no other group can have its number.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use crate::limits::MOST_BODY_BYTES;

/// So much of what a program says is kept.
const MOST_KEPT_BYTES: usize = 1_024;

/// A program that starts, runs or has ended. Dropped, it is killed with all of its group.
pub(crate) struct Plugin {
    group: Arc<Group>,
    runs: oneshot::Receiver<io::Result<ChildStdout>>,
    ended: oneshot::Receiver<ExitStatus>,
    /// None once it is closed.
    output: Option<Receiver>,
    said: Vec<u8>,
    said_bytes: usize,
}

/// The process group of a program.
struct Group(Mutex<State>);

#[derive(Clone, Copy)]
enum State {
    Starts,
    Runs(Pid),
    /// Nobody waits for it any more, and it has not begun.
    Unwanted,
    /// Reaped: its number may be another's.
    Gone,
}

impl Plugin {
    /// Starts what `command` says. `permit` is held until it is gone.
    pub(crate) fn start(mut command: Command, permit: impl Send + 'static) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/").process_group(0);
        let group = Arc::new(Group(Mutex::new(State::Starts)));
        let (runs_told, runs) = oneshot::channel();
        let (end_told, ended) = oneshot::channel();
        let attended = Arc::clone(&group);
        let attend = move || {
            let Some(started) = attended.start(&mut command) else { return };
            match started {
                Err(error) => drop(runs_told.send(Err(error))),
                Ok(mut child) => {
                    if let Some(output) = child.stdout.take() {
                        let _ = runs_told.send(Ok(output));
                    }
                    if let Ok(status) = attended.await_end(&mut child) {
                        let _ = end_told.send(status);
                    }
                }
            }
            drop(permit);
        };
        std::thread::Builder::new().name("vigie-plugin".into()).spawn(attend)?;
        Ok(Self { group, runs, ended, output: None, said: Vec::new(), said_bytes: 0 })
    }

    /// Waits until it runs.
    pub(crate) async fn begin(&mut self) -> io::Result<()> {
        let output = (&mut self.runs).await.map_err(io::Error::other)??;
        self.output = Some(Receiver::from_owned_fd(output.into())?);
        Ok(())
    }

    /// Waits until it ends, whoever else still holds its output; takes what it says meanwhile.
    pub(crate) async fn end(&mut self) -> io::Result<ExitStatus> {
        let status = loop {
            tokio::select! {
                biased;
                ended = &mut self.ended => break ended.map_err(io::Error::other)?,
                () = readable(self.output.as_ref()) => self.hear(Receiver::try_read),
            }
        };
        // The runtime may not know yet that there is more.
        self.hear(|output, buffer| Ok(nix::unistd::read(output, buffer)?));
        Ok(status)
    }

    /// Takes what it has said so far. Who says too much is not listened to any more, and stumbles over it.
    fn hear(&mut self, read: impl Fn(&Receiver, &mut [u8]) -> io::Result<usize>) {
        let mut buffer = [0; 4_096];
        while let Some(output) = &self.output {
            match read(output, &mut buffer) {
                Ok(length) if length > 0 && self.said_bytes < MOST_BODY_BYTES => {
                    self.said_bytes += length;
                    let room = MOST_KEPT_BYTES - self.said.len();
                    self.said.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                _ => self.output = None,
            }
        }
    }

    /// The first line of what it said, or the start of it, without what a terminal would obey.
    pub(crate) fn first_line(&self) -> String {
        let line = self.said.split(|byte| *byte == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(line).replace(char::is_control, " ")
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let mut state = self.group.lock();
        match *state {
            State::Starts => *state = State::Unwanted,
            State::Runs(leader) => kill(leader),
            State::Unwanted | State::Gone => {}
        }
    }
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program's process; none if nobody wants it any more.
    fn start(&self, command: &mut Command) -> Option<io::Result<Child>> {
        // A file that hangs, hangs here. In the child, where nobody reaches it yet, the program would run the moment that its disk is back,
        // and do something before it was killed. What else is wrong with the file, the start itself says.
        drop(File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(command.get_program()));
        if matches!(*self.lock(), State::Unwanted) {
            return None;
        }
        let started = command.spawn();
        if let Ok(child) = &started {
            let leader = Pid::from_raw(child.id() as i32);
            let mut state = self.lock();
            if matches!(*state, State::Unwanted) {
                kill(leader);
            }
            *state = State::Runs(leader);
        }
        Some(started)
    }

    /// Waits for the end of the program, ends what is left of its group, and only then gives its number away.
    fn await_end(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let leader = Pid::from_raw(child.id() as i32);
        while waitid(Id::Pid(leader), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
        let mut state = self.lock();
        kill(leader);
        *state = State::Gone;
        child.wait()
    }
}

/// Kills a process group whose leader is not reaped.
fn kill(leader: Pid) {
    let _ = killpg(leader, Signal::SIGKILL);
}

/// Waits until there is something to read; for ever if there never will be.
async fn readable(output: Option<&Receiver>) {
    match output {
        Some(output) => drop(output.readable().await),
        None => std::future::pending().await,
    }
}
