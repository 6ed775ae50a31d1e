//! `vigie` as people run it: a process with a port, a log, signals and an end.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything that must happen may take before a test fails: long, because machines are slow, not tests.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The binary of this workspace, built if it is not.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo tells a test about its package is not for another cargo: dependencies that look at it would be built anew, each time.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_of_a_package)) {
            cargo.env_remove(name);
        }
        let built = cargo
            // Together with what runs it, so that features are the same and nothing is built twice.
            .args(["build", "--quiet", "--locked", "--workspace", "--bins", "--features", "vigie/kafka-tls,vigie/s3"])
            // As the test itself was built: a benchmark's program is no debug build.
            .args(if cfg!(debug_assertions) { &["--tests"][..] } else { &["--release", "--benches"] })
            .current_dir(root)
            .status();
        assert!(built.unwrap().success(), "vigie cannot be built");
        // target/debug/deps/it-…: the binary lies two levels up.
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().join("vigie")
    })
}

fn is_of_a_package(name: &str) -> bool {
    name == "OUT_DIR" || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Runs `vigie` to its end.
///
/// # Panics
/// If it cannot be started.
pub fn vigie(dir: &Path, args: &[&str]) -> Output {
    Command::new(binary()).args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap()
}

/// A `vigie` that runs; it is killed when this is dropped.
pub struct Program {
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Program {
    /// Starts it in `dir` on a free port, and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        Self::start_with(dir, args, &[])
    }

    /// The same in an environment with these variables besides.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_with(dir: &Path, args: &[&str], variables: &[(&str, OsString)]) -> Self {
        Self::launch(dir, args, variables, "127.0.0.1:0")
    }

    /// The same on a given address.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_at(dir: &Path, args: &[&str], listen: &str) -> Self {
        Self::launch(dir, args, &[], listen)
    }

    fn launch(dir: &Path, args: &[&str], variables: &[(&str, OsString)], listen: &str) -> Self {
        let mut command = Command::new(binary());
        command.envs(variables.iter().cloned()).args(args).args(["--listen", listen]).current_dir(dir).env("VIGIE_TOKEN", TOKEN);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (stderr, shared) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                *shared.0.lock().unwrap() += &(line + "\n");
                shared.1.notify_all();
            }
            *shared.0.lock().unwrap() += "(end)\n";
            shared.1.notify_all();
        });
        let text = log.0.lock().unwrap();
        let waiting = |text: &mut String| !text.contains(" answers\n") && !text.contains("(end)\n");
        let (text, _) = log.1.wait_timeout_while(text, PATIENCE, waiting).unwrap();
        let address = text.lines().find_map(|line| line.split_once("http://")?.1.strip_suffix(" answers")?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("vigie {args:?} does not answer:\n{text}"));
        drop(text);
        Self { child, log, address }
    }

    /// What it wrote to standard error so far.
    ///
    /// # Panics
    /// Never, unless another test thread has.
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    /// Waits until all of `words` are in its log: what it has printed is read a moment after what it answers.
    ///
    /// # Panics
    /// If they do not come.
    pub fn wait_for_log(&self, words: &[&str]) {
        wait_for(&format!("{words:?} in the log"), || {
            let log = self.log();
            words.iter().all(|word| log.contains(word)).then_some(())
        });
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn kill(mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it had ended before:\n{}", self.log());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits.
    ///
    /// # Panics
    /// If it does not.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        wait_for("the end", || self.child.try_wait().unwrap())
    }

    /// The answer to a GET: its status and its body.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).unwrap_or_else(|error| panic!("{path}: {error}:\n{}", self.log()))
    }

    /// The JSON that a GET is answered with.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path} answers {status}: {error}: {body}"))
    }

    /// The sum of a metric over all its series; 0 if there is none.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn metric(&self, name: &str) -> f64 {
        sum_of(&self.get("/metrics").1, name)
    }
}

/// The token that programs of these tests send.
pub const TOKEN: &str = "a-token-of-the-tests-0123456789";

/// The sum of the series of an exposition whose name and labels begin with `series`.
#[must_use]
pub fn sum_of(exposition: &str, series: &str) -> f64 {
    let is_of = |line: &&str| line.strip_prefix(series).is_some_and(|rest| rest.starts_with([' ', '{', ',', '}']));
    exposition.lines().filter(is_of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// GET `path`: status and body.
///
/// # Errors
/// If nobody answers within a few seconds.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    request(address, "GET", path, &[], "")
}

/// Any request: status and body.
///
/// # Errors
/// If nobody answers within a few seconds.
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}")?;
    let mut answer = BufReader::new(stream);
    let mut head = String::new();
    while answer.read_line(&mut head)? > 2 {}
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = Vec::new();
    // Everything that is asked here has a length; a stream would end with the connection.
    answer.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Waits until `look` sees it.
///
/// # Panics
/// If it does not within [`PATIENCE`].
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

/// The same with another patience.
///
/// # Panics
/// If `look` does not see it in time.
#[expect(clippy::disallowed_methods, reason = "a test that waits for another process needs a clock")]
pub fn wait_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = std::time::Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < patience, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
