//! What the real servers of the tests have in common: a process that must not outlive us, its log, and patience.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take for anything before a test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `tests/services/install` installed under `name`.
///
/// # Panics
/// If it is not there.
pub(crate) fn installed(name: &str) -> PathBuf {
    let services = match std::env::var_os("VIGIE_SERVICES") {
        Some(services) => PathBuf::from(services),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/services"),
    };
    let path = services.join(name);
    assert!(path.exists(), "{} is missing: tests/services/install installs it", path.display());
    path
}

/// A file of `tests/services`.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services").join(name)
}

/// A loopback port that nobody listens on, and that stays free while its server is down: below those that the kernel gives to
/// outgoing connections, where one could be in the way when the server wants its port back.
///
/// # Panics
/// If there is none.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Test processes that run side by side begin at different places.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id().wrapping_mul(37) % u32::from(COUNT)) as u16;
    (0..COUNT)
        .map(|_| FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("no free port")
}

/// A server that runs; it is killed when this is dropped, and when this process dies in whatever way.
pub(crate) struct Server {
    child: Child,
    guard: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it; what it writes goes to the end of the file `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Self {
        let written = File::options().create(true).append(true).open(log).expect("a log that can be written");
        let errors = written.try_clone().expect("a second descriptor");
        let child = command.stdin(Stdio::null()).stdout(written).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/services/install installs it"));
        // Its input ends when we do: after a panic, a kill -9, an interrupt, or with a server in a static, which nothing drops.
        let mut guard = Command::new("sh");
        guard.args(["-c", "trap '' INT TERM HUP; read -r line; kill -KILL $0", &child.id().to_string()]);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh");
        Self { child, guard, log: log.to_owned() }
    }

    /// Sends it a signal: `STOP`, `CONT`.
    ///
    /// # Panics
    /// If it has ended.
    pub(crate) fn signal(&mut self, signal: &str) {
        self.assert_running();
        let sent = Command::new("sh").args(["-c", "kill -s $0 $1", signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("sh").success(), "SIG{signal} was not sent");
    }

    /// # Panics
    /// If it has ended.
    pub(crate) fn assert_running(&mut self) {
        let ended = self.child.try_wait().expect("a child of ours");
        assert!(ended.is_none(), "it has ended, {}:\n{}", ended.unwrap_or_default(), self.log());
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        const LINES: usize = 60;
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        format!("{}:\n{}\n", self.log.display(), lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The guard first: the number of a process that has ended may be another's soon.
        for child in [&mut self.guard, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What is left of [`PATIENCE`].
pub(crate) struct Patience(Instant);

impl Patience {
    #[expect(clippy::disallowed_methods, reason = "a test that waits for another process needs a clock")]
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    /// A short while, before the next look.
    ///
    /// # Panics
    /// With what `why` says, if the patience is at its end.
    pub(crate) fn pause(&self, why: impl FnOnce() -> String) {
        assert!(self.0.elapsed() < PATIENCE, "waited in vain: {}", why());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The body of an answer 200; else what went wrong.
pub(crate) fn exchange(port: u16, method: &str, path: &str, kind: &str, body: &str) -> Result<String, String> {
    let send = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(90)))?;
        // HTTP/1.0, so that the body comes without chunks and ends with the connection.
        write!(stream, "{method} {path} HTTP/1.0\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer: String = send().map_err(|error: std::io::Error| error.to_string())?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(answer),
    }
}
