//! What a service manager is told: `sd_notify(3)`, by which systemd knows that a program has started, how it does, that it reloads, ends,
//! or hangs. Without a manager, nothing.
//!
//! A watchdog is no timer that ticks in a thread of its own while all else hangs: before each sign of life every task that the program is
//! for has answered, from where it works. A task that waits for Kafka, a disk or a network answers, for a restart would not help it.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How often we look whether there is something new to tell.
const LOOK: Duration = Duration::from_secs(1);
/// A program that has not started yet is given so much time from each sign of life: to read a long log takes as long as it takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// That the program's end has begun.
pub(crate) const STOPPING: &str = "STOPPING=1";
/// That it reads its catalogue again; until [`READY`].
pub(crate) const RELOADING: &str = "RELOADING=1";
/// That it does what it is for.
pub(crate) const READY: &str = "READY=1";

/// What a program says of itself.
pub(crate) struct Standing {
    /// Whether whoever waits for its start need not wait any more.
    pub(crate) has_started: bool,
    /// What its `/readyz` says.
    pub(crate) words: String,
}

impl Standing {
    /// Of a program that has started when it is ready for the first time.
    pub(crate) fn of(unready: Option<&str>) -> Self {
        Self { has_started: unready.is_none(), words: unready.unwrap_or("ready").to_owned() }
    }
}

/// Keeps the service manager informed. `is_well` ends once all that must not hang has answered, and is false if any of it is gone.
pub(crate) async fn inform(is_well: impl AsyncFn() -> bool, standing: impl Fn() -> Standing) -> Infallible {
    if address().is_none() {
        return std::future::pending().await;
    }
    tokio::select! {
        never = tell_standing(&is_well, standing) => never,
        never = show_life(&is_well) => never,
    }
}

async fn tell_standing(is_well: impl AsyncFn() -> bool, standing: impl Fn() -> Standing) -> Infallible {
    let mut has_started = false;
    let mut told = String::new();
    loop {
        let now = standing();
        let mut news = Vec::new();
        // A line break would begin another message, and some of the words are not ours.
        let status = now.words.lines().collect::<Vec<_>>().join("; ");
        if status != told {
            news.push(format!("STATUS={status}"));
        }
        if now.has_started && !has_started {
            news.push(READY.to_owned());
        }
        if !now.has_started && !has_started && is_well().await {
            news.push(format!("EXTEND_TIMEOUT_USEC={}", PATIENCE.as_micros()));
        }
        // What was not heard is told again.
        if !news.is_empty() && tell(&news.join("\n")) {
            (told, has_started) = (status, has_started || now.has_started);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Three signs of life in the time that the service manager allows between two; none if it allows any.
async fn show_life(is_well: impl AsyncFn() -> bool) -> Infallible {
    let Some(allowed) = watchdog() else { return std::future::pending().await };
    loop {
        if is_well().await {
            tell("WATCHDOG=1");
        }
        tokio::time::sleep(allowed / 3).await;
    }
}

/// How long the service manager lets this process be silent.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|_| is_ours).map(Duration::from_micros)
}

/// Tells the service manager this, if there is one; whether it took it. Nobody waits for one that hangs.
pub(crate) fn tell(news: &str) -> bool {
    let Some(address) = address() else { return false };
    let told = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(news.as_bytes(), &address)
    });
    told.inspect_err(|error| tracing::warn!(%error, "the service manager at NOTIFY_SOCKET does not listen")).is_ok()
}

/// Where the service manager listens, if there is one: a path, or with an `@` before it a name that lies in no directory.
fn address() -> Option<io::Result<SocketAddr>> {
    std::env::var_os("NOTIFY_SOCKET").map(|name| address_of(&name))
}

fn address_of(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// Asks a task whether it hangs: [`Beat`] is what answers.
#[derive(Clone)]
pub(crate) struct Pulse(mpsc::Sender<oneshot::Sender<()>>);

/// Answers for the task that it runs in.
pub(crate) struct Beat(mpsc::Receiver<oneshot::Sender<()>>);

/// A pulse and its beat.
pub(crate) fn pulse() -> (Pulse, Beat) {
    let (ask, asked) = mpsc::channel(1);
    (Pulse(ask), Beat(asked))
}

impl Pulse {
    /// Ends once the task has answered, or has ended: then others know why.
    pub(crate) async fn felt(&self) {
        let (answer, answered) = oneshot::channel();
        if self.0.send(answer).await.is_ok() {
            let _ = answered.await;
        }
    }
}

impl Beat {
    /// Does `work` and answers meanwhile, in one task: what keeps the one from going on keeps the other from answering, and who waits
    /// does not hang.
    pub(crate) async fn beside<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(answer) = self.0.recv() => {
                    // Whoever asked may be gone.
                    let _ = answer.send(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long for a task that answers; one that hangs never does.
    const WHILE: Duration = Duration::from_millis(100);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_waits_has_a_pulse_and_one_that_hangs_has_none() {
        let (pulse, beat) = pulse();
        let (hang, hangs) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel::<()>();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let task = tokio::spawn(beat.beside(async move {
            let _ = hangs.await;
            // From here on it does not come back to where it could answer.
            let _ = begin.send(());
            let _ = released.recv();
            std::future::pending::<()>().await;
        }));
        pulse.felt().await;
        hang.send(()).unwrap();
        begun.await.unwrap();
        assert!(tokio::time::timeout(WHILE, pulse.felt()).await.is_err(), "it hangs");
        release.send(()).unwrap();
        pulse.felt().await;
        task.abort();
        let _ = task.await;
        pulse.felt().await;
    }

    #[test]
    fn a_service_manager_may_listen_without_a_file() {
        let name = format!("vigie-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let address = address_of(OsStr::new(&format!("@{name}"))).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(READY.as_bytes(), &address).unwrap();
        let mut heard = [0; 64];
        let length = socket.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], READY.as_bytes());
    }
}
