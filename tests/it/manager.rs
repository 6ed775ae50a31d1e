//! What a service manager hears from the programs that run (`sd_notify(3)`), and the units that systemd is given.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use vigie_tests::cluster::Cluster;
use vigie_tests::kafka::Kafka;
use vigie_tests::program::{Program, TOKEN, binary, wait_for};
use vigie_tests::region::{Web, write_catalogue};

/// The watchdog of these tests: a sign of life is due three times in it.
const WATCHDOG: Duration = Duration::from_millis(600);
const ALIVE: &str = "WATCHDOG=1";
const READY: &str = "READY=1";
const STOPPING: &str = "STOPPING=1";

/// A service manager that listens.
struct Manager {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn listen(dir: &Path, name: &str) -> Self {
        let (socket, heard) = (dir.join(name), Arc::new(Mutex::new(Vec::new())));
        let (listener, shared) = (UnixDatagram::bind(&socket).unwrap(), Arc::clone(&heard));
        std::thread::spawn(move || {
            let mut room = [0; 4_096];
            while let Ok(length) = listener.recv(&mut room) {
                let text = String::from_utf8_lossy(&room[..length]);
                shared.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        Self { socket, heard }
    }

    /// What a program must know of it.
    fn variables(&self) -> [(&'static str, OsString); 2] {
        [("NOTIFY_SOCKET", self.socket.clone().into()), ("WATCHDOG_USEC", WATCHDOG.as_micros().to_string().into())]
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn count(&self, begin: &str) -> usize {
        self.heard().iter().filter(|line| line.starts_with(begin)).count()
    }

    /// Waits for a line that begins so.
    fn wait_for(&self, begin: &str) {
        self.wait_for_more(begin, 0);
    }

    /// Waits until there are more of them than so many.
    fn wait_for_more(&self, begin: &str, than: usize) {
        wait_for(&format!("{begin} more often than {than} times"), || (self.count(begin) > than).then_some(()));
    }

    /// Waits for signs of life that are still to come.
    fn wait_for_life(&self) {
        self.wait_for_more(ALIVE, self.count(ALIVE) + 2);
    }

    /// Whether nothing is heard for so long.
    fn is_silent(&self, long: Duration) -> bool {
        let before = self.heard().len();
        std::thread::sleep(long);
        self.heard().len() == before
    }
}

#[test]
fn an_aggregator_tells_when_it_can_be_trusted_that_it_lives_reloads_and_ends() {
    let (dir, web) = (tempfile::tempdir().unwrap(), Web::start());
    let manager = Manager::listen(dir.path(), "notify");
    write_catalogue(&dir.path().join("c.toml"), &["v"], &[("a", web.address), ("b", web.address)]);
    let args = ["aggregate", "--catalogue", "c.toml", "--data", "data"];
    assert!(Program::start(dir.path(), &args).stop().success());
    // While somebody else writes, the store takes nothing, and the log is never read to its end.
    let lock = rusqlite::Connection::open(dir.path().join("data/vigie.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let aggregator = Program::start_with(dir.path(), &args, &manager.variables());
    manager.wait_for("STATUS=starting");
    manager.wait_for("EXTEND_TIMEOUT_USEC=120000000");
    // Who waits for a disk does not hang.
    manager.wait_for_life();
    assert_eq!(aggregator.get("/readyz").0, 503);
    assert_eq!(manager.count(READY), 0, "it cannot be trusted yet: {:?}", manager.heard());
    lock.execute_batch("ROLLBACK").unwrap();
    manager.wait_for(READY);
    assert_eq!(aggregator.get("/readyz").0, 200);
    assert_eq!(manager.count("STATUS=ready"), 1, "{:?}", manager.heard());

    aggregator.signal(Signal::SIGHUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for_more(READY, 1);

    aggregator.signal(Signal::SIGSTOP);
    wait_for("silence", || manager.is_silent(WATCHDOG).then_some(()));
    assert!(manager.is_silent(3 * WATCHDOG), "what is stopped gives no sign of life");
    aggregator.signal(Signal::SIGCONT);
    manager.wait_for_life();
    assert_eq!(manager.count(STOPPING), 0);
    assert!(aggregator.stop().success());
    manager.wait_for(STOPPING);
}

#[test]
fn a_probe_has_started_when_it_measures_though_nobody_takes_its_samples() {
    let (dir, web) = (tempfile::tempdir().unwrap(), Web::start());
    let manager = Manager::listen(dir.path(), "notify");
    write_catalogue(&dir.path().join("c.toml"), &["v"], &[("a", web.address), ("b", web.address)]);
    let args = ["probe", "--catalogue", "c.toml", "--vantage", "v", "--aggregator", "http://127.0.0.1:1"];
    let probe = Program::start_with(dir.path(), &args, &manager.variables());
    manager.wait_for(READY);
    manager.wait_for("STATUS=the log does not take the samples");
    assert!(probe.metric("vigie_probe_samples_made_total") > 0.0);
    manager.wait_for_life();
    assert!(probe.stop().success());
    manager.wait_for(STOPPING);
}

#[test]
fn a_member_has_started_when_it_folds_or_stands_by_and_lives_while_it_waits() {
    let dir = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&dir.path().join("kafka"), 1);
    let mut cluster = Cluster::prepare(dir, kafka, &["main"]);
    let member = |name| {
        let manager = Manager::listen(cluster.dir.path(), name);
        let args = ["aggregate", "--kafka", "kafka.toml", "--clickhouse", "clickhouse.toml", "--deployment", "alpha", "--member", name];
        let program = Program::start_with(cluster.dir.path(), &args, &manager.variables());
        manager.wait_for(READY);
        (manager, program)
    };
    let (one, first) = member("one");
    assert_eq!(first.get("/readyz").0, 200);
    let (two, second) = member("two");
    assert_eq!(two.count("STATUS=standby: other members of the deployment fold all groups"), 1, "{:?}", two.heard());

    cluster.clickhouse.kill();
    one.wait_for("STATUS=store_failing");
    one.wait_for_life();
    let trusted = one.count("STATUS=ready");
    cluster.clickhouse.start_again();
    one.wait_for_more("STATUS=ready", trusted);
    assert_eq!(one.count(READY), 1, "it started once");
    assert!(second.stop().success());
    assert!(first.stop().success());
    one.wait_for(STOPPING);
}

/// Where the units are.
fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd")
}

/// The units as they would be installed, with the program of this workspace, and of each template an instance: those that could run.
fn install(dir: &Path) -> Vec<PathBuf> {
    let hardening = "vigie-.service.d/hardening.conf";
    fs::create_dir(dir.join("vigie-.service.d")).unwrap();
    fs::copy(units().join(hardening), dir.join(hardening)).unwrap();
    let mut installed = Vec::new();
    for entry in fs::read_dir(units()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "service") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\nExecStart=/usr/bin/vigie "), "{}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::write(dir.join(name), text.replace("=/usr/bin/vigie ", &format!("={} ", binary().display()))).unwrap();
        let instance = name.replace("@.", "@az05.");
        if instance != name {
            std::os::unix::fs::symlink(name, dir.join(&instance)).unwrap();
        }
        installed.push(dir.join(instance));
    }
    assert_eq!(installed.len(), 5, "{installed:?}");
    installed
}

/// Runs `systemd-analyze`: what it says.
fn analyze(args: &[&str], unit: &Path) -> String {
    let output = Command::new("systemd-analyze").args(args).arg(unit).output().expect("systemd-analyze, of Debian's package systemd");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?} {}:\n{said}", unit.display());
    said
}

#[test]
fn systemd_takes_the_units_as_they_are_and_finds_little_that_they_could_do_without() {
    let dir = tempfile::tempdir().unwrap();
    for unit in install(dir.path()) {
        assert_eq!(analyze(&["verify", "--man=no"], &unit), "", "{}", unit.display());
        // In tenths: 0 can do nothing at all, 96 everything. Who measures may send echo requests and see the machine's figures.
        let measures = ["vigie-probe", "vigie-run"].iter().any(|name| unit.file_name().unwrap().to_str().unwrap().starts_with(name));
        let threshold = format!("--threshold={}", if measures { 16 } else { 12 });
        analyze(&["security", "--offline=true", "--no-pager", &threshold], &unit);
    }
}

/// The words that a unit starts vigie with, as systemd would make them: its state and its credentials are in `dir`, and the machine's
/// `/etc/vigie` is `dir/etc`.
fn words(dir: &Path, name: &str, aggregator: &str) -> Vec<String> {
    let text = fs::read_to_string(units().join(name)).unwrap().replace("\\\n", "");
    let own = dir.join(name);
    let (credentials, state) = (own.join("credentials"), own.join("state"));
    fs::create_dir_all(&credentials).unwrap();
    let here = |text: &str| {
        let text = text.replace("/etc/vigie", &dir.join("etc").display().to_string()).replace("%i", "v");
        let text = text.replace("%d", &credentials.display().to_string()).replace("%S", &state.display().to_string());
        text.replace("${AGGREGATOR}", aggregator)
    };
    let of = |key: &'static str| text.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='));
    for directory in of("StateDirectory") {
        fs::create_dir_all(state.join(here(directory))).unwrap();
    }
    for (id, path) in of("LoadCredential").map(|credential| credential.split_once(':').unwrap()) {
        fs::copy(here(path), credentials.join(id)).unwrap_or_else(|error| panic!("{name}: {path}: {error}"));
    }
    let line = here(of("ExecStart").next().unwrap());
    let line = line.strip_prefix("/usr/bin/vigie ").unwrap().strip_suffix("--listen ${LISTEN}").unwrap();
    assert!(!line.contains(['%', '$']), "{name}: {line}");
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_unit_starts_vigie_with_words_that_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let kafka = Kafka::start(&dir.path().join("kafka"), 1);
    let cluster = Cluster::prepare(dir, kafka, &["main"]);
    let dir = cluster.dir.path();
    fs::create_dir_all(dir.join("etc/v")).unwrap();
    fs::copy(dir.join("c.toml"), dir.join("etc/region.toml")).unwrap();
    for settings in ["kafka.toml", "clickhouse.toml"] {
        fs::copy(dir.join(settings), dir.join("etc/v").join(settings)).unwrap();
    }
    // A bucket that nobody answers for keeps no member from deriving; what else is here, these settings do not name.
    let bucket = "endpoint = \"http://127.0.0.1:1\"\nbucket = \"b\"\nprefix = \"v\"\nregion = \"r\"\naccess_key_file = \"s3-access-key\"\nsecret_key_file = \"s3-secret-key\"\n";
    let texts = [("v/bucket.toml", bucket), ("tokens", &format!("v {TOKEN}\n")), ("v.token", TOKEN)];
    let unnamed = ["v/kafka-ca.pem", "v/kafka.password", "v/clickhouse.password", "v/s3-access-key", "v/s3-secret-key"];
    for (name, text) in texts.into_iter().chain(unnamed.map(|name| (name, "unnamed"))) {
        fs::write(dir.join("etc").join(name), text).unwrap();
    }
    let start = |name: &str, aggregator: &str| {
        let words = words(dir, name, aggregator);
        let program = Program::start(dir, &words.iter().map(String::as_str).collect::<Vec<_>>());
        wait_for(&format!("{name} to be ready"), || (program.get("/readyz").0 == 200).then_some(()));
        program
    };
    let aggregator = start("vigie-aggregate.service", "");
    let running = [
        start("vigie-probe@.service", &format!("http://{}", aggregator.address)),
        start("vigie-run.service", ""),
        start("vigie-member@.service", ""),
        start("vigie-probe-kafka@.service", ""),
    ];
    for program in running {
        assert!(program.stop().success());
    }
}
