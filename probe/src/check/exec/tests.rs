use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vigie_counterparts::disk::{Disk, Fault, Operation};

use super::*;
use crate::check::bench::{Bench, phases};
use crate::check::truth::{self, Truth, fail, void};
use crate::check::validate;

fn shell(script: &str) -> Value {
    json!({"kind": "exec", "command": ["/bin/sh", "-c", script]})
}

fn plugin(script: &str) -> Bench {
    Bench::new("plugin", &shell(script))
}

fn exec(mut block: Value, most: usize) -> Exec {
    block.as_object_mut().unwrap().remove("kind");
    let block = Block::deserialize(block).unwrap();
    block.build_within(Box::leak(Box::new(Semaphore::new(most)))).unwrap()
}

/// Where a script tells the numbers of its processes, one in a line.
struct Note(TempDir);

impl Note {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> String {
        self.0.path().join("pids").display().to_string()
    }

    fn processes(&self) -> Vec<i32> {
        std::fs::read_to_string(self.path()).unwrap_or_default().lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Waits for so many of them.
    async fn has(&self, count: usize) {
        while self.processes().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn lives(process: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn await_death(processes: &[i32]) {
    while processes.iter().any(|process| lives(*process)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a shell does that is a plugin, how the attempt ends, in which phase, and with which exit code.
const PLUGINS_TABLE: [(&str, Finding, Phase, Option<i32>); 13] = [
    ("exit 0", Finding::Ok, Phase::Processing, Some(0)),
    ("echo 'OK - fine'", Finding::Ok, Phase::Processing, Some(0)),
    ("exit 1", Finding::Ok, Phase::Processing, Some(1)),
    ("exit 2", fail(Reason::Unhealthy), Phase::Processing, Some(2)),
    ("exit 3", void(Reason::Internal), Phase::Processing, Some(3)),
    ("exit 4", void(Reason::Internal), Phase::Processing, Some(4)),
    ("/no/such/plugin", void(Reason::Internal), Phase::Processing, Some(127)),
    ("exit 255", void(Reason::Internal), Phase::Processing, Some(255)),
    ("kill -KILL $$", void(Reason::Internal), Phase::Processing, None),
    ("kill -TERM $$", void(Reason::Internal), Phase::Processing, None),
    // More than a pipe holds, and then more than anybody listens to.
    ("head -c 300000 /dev/zero", Finding::Ok, Phase::Processing, Some(0)),
    ("exec cat /dev/zero", void(Reason::Internal), Phase::Processing, None),
    // What it reads, and where it says errors, is nothing.
    ("cat; echo unheard >&2", Finding::Ok, Phase::Processing, Some(0)),
];

/// What else befalls a plugin, how the attempt ends, and in which phase.
type Row = (&'static str, Finding, Phase);

const HANGS: Row = ("it hangs, and so do its children", fail(Reason::Timeout), Phase::Processing);
const DOES_NOT_BEGIN: Row = ("its file hangs", void(Reason::Overload), Phase::Setup);

/// Beside it, how many plugins may run in all, and how many of its target do.
const CROWDS_TABLE: [(Row, usize, usize); 2] = [
    (("as many run as may in all", void(Reason::Overload), Phase::Setup), 1, 1),
    (("two of its target run", void(Reason::Overload), Phase::Setup), 100, MOST_PLUGINS_OF_TARGET),
];

/// Beside it, the program.
const PROGRAMS_TABLE: [(Row, &str); 3] = [
    (("its program is not there", void(Reason::Internal), Phase::Setup), "/no/such/plugin"),
    (("its program is a directory", void(Reason::Internal), Phase::Setup), "/"),
    (("its program is not ours to run", void(Reason::Internal), Phase::Setup), "/proc/version"),
];

/// What the system says instead of starting it.
const ERRORS_TABLE: [(Errno, Finding); 6] = [
    (Errno::EAGAIN, void(Reason::Overload)),
    (Errno::EMFILE, void(Reason::Descriptors)),
    (Errno::ENFILE, void(Reason::Descriptors)),
    (Errno::ENOENT, void(Reason::Internal)),
    (Errno::EACCES, void(Reason::Internal)),
    (Errno::ENOEXEC, void(Reason::Internal)),
];

#[tokio::test]
async fn plugins_end_where_the_table_says() {
    for (script, found, phase, code) in PLUGINS_TABLE {
        let (met, trace) = plugin(script).attempt(false).await;
        assert_eq!((met, trace.last, trace.facts.plugin_exit_code), (found, Some(phase), code), "{script}");
        assert_eq!(phases(&trace), "setup processing", "{script}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_run_is_ours() {
    for ((what, found, phase), program) in PROGRAMS_TABLE {
        let (met, trace) = Bench::new("plugin", &json!({"kind": "exec", "command": [program]})).attempt(false).await;
        assert_eq!((met, trace.last, phases(&trace).as_str()), (found, Some(phase), "setup"), "{what}");
    }
    for (errno, found) in ERRORS_TABLE {
        assert_eq!(refused(&io::Error::from_raw_os_error(errno as i32)), found, "{errno:?}");
    }
}

#[tokio::test]
async fn a_plugin_that_hangs_times_out_and_is_killed_with_its_children() {
    let note = Note::new();
    // What it says first is more than a pipe holds: once it is past that, somebody listens. The second child cannot be asked to end.
    let script = format!(
        "head -c 300000 /dev/zero; sleep 1000 & echo $! >> {0}; (trap '' TERM; sleep 1001) & echo $! >> {0}; echo $$ >> {0}; wait",
        note.path()
    );
    let (_, found, phase) = HANGS;
    let (met, trace) = plugin(&script).attempt_until(note.has(3)).await;
    assert_eq!((met, trace.last, phases(&trace).as_str()), (found, Some(phase), "setup processing"));
    await_death(&note.processes()).await;
}

#[tokio::test]
async fn an_attempt_that_is_given_up_from_outside_leaves_nothing_running() {
    let note = Note::new();
    let bench = plugin(&format!("sleep 1000 & echo $! >> {0}; echo $$ >> {0}; wait", note.path()));
    tokio::select! {
        found = bench.first() => panic!("{found:?}"),
        () = note.has(2) => {}
    }
    await_death(&note.processes()).await;
}

#[tokio::test]
async fn an_attempt_ends_with_the_plugin_whoever_else_lives_on() {
    let note = Note::new();
    let child = format!("sleep 1000 & echo $! >> {}; exit 0", note.path());
    assert_eq!(plugin(&child).first().await, Finding::Ok);
    await_death(&note.processes()).await;
    // This one leaves the group and keeps the plugin's output open.
    let note = Note::new();
    let script = format!("setsid sh -c 'echo $$ >> {0}; exec sleep 1000' & until [ -s {0} ]; do sleep 0.01; done; exit 1", note.path());
    assert_eq!(plugin(&script).first().await, Finding::Ok);
    let process = note.processes()[0];
    assert!(lives(process), "it was not there to keep anything open");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_program_that_does_not_begin_is_no_failure_and_never_runs() {
    let (dir, note) = (tempfile::tempdir().unwrap(), Note::new());
    let Some(disk) = Disk::mount(&dir.path().join("disk")) else { return };
    let program = disk.path().join("plugin");
    // A process that another test starts may hold for a moment what is open for writing here, and then nobody can run it (ETXTBSY).
    disk.put("plugin", format!("#!/bin/sh\necho $$ >> {}\n", note.path()).as_bytes());
    let bench = Bench::new("plugin", &json!({"kind": "exec", "command": [program]}));
    assert_eq!((bench.first().await, note.processes().len()), (Finding::Ok, 1));
    disk.break_down(Fault::Hang(Operation::Open));
    let hangs = async {
        while disk.hanging().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (_, found, phase) = DOES_NOT_BEGIN;
    let (met, trace) = bench.attempt_until(hangs).await;
    assert_eq!((met, trace.last, phases(&trace).as_str()), (found, Some(phase), "setup"));
    disk.mend();
    assert_eq!((bench.first().await, note.processes().len()), (Finding::Ok, 2));
}

#[tokio::test]
async fn too_many_plugins_are_not_started() {
    for ((what, found, phase), most, running) in CROWDS_TABLE {
        let note = Note::new();
        let bench = Bench::of("plugin", Box::new(exec(shell(&format!("echo $$ >> {}; exec sleep 1000", note.path())), most)));
        let all =
            async { tokio::join!(bench.first(), async { if running > 1 { bench.first().await } else { std::future::pending().await } }) };
        let one_more = async {
            note.has(running).await;
            bench.attempt(false).await
        };
        tokio::select! {
            ended = all => panic!("{what}: {ended:?}"),
            (met, trace) = one_more => assert_eq!((met, trace.last), (found, Some(phase)), "{what}"),
        }
        await_death(&note.processes()).await;
        // Those that are gone have given their places back.
        let again = async {
            while note.processes().len() == running {
                tokio::select! { _ = bench.first() => {}, () = note.has(running + 1) => {} }
            }
        };
        again.await;
    }
}

#[tokio::test]
async fn a_plugin_is_given_its_environment_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "s3 cr3t\n").unwrap();
    let mut block = shell(&format!("test \"$(tr '\\0' '|' < /proc/$$/environ)\" = 'LANG=C|PATH={PATH}|TOKEN=s3 cr3t|' || exit 2"));
    block["env"] = json!({"TOKEN": {"file": secret}});
    assert_eq!(Bench::new("plugin", &block).first().await, Finding::Ok);
    // No shell takes arguments apart, and the process is its group's leader.
    let words = json!({"kind": "exec", "command": ["/bin/sh", "-c", "test \"$1\" = 'a b; $(exit)' || exit 2", "sh", "a b; $(exit)"]});
    assert_eq!(Bench::new("plugin", &words).first().await, Finding::Ok);
    assert_eq!(plugin("test \"$(cut -d' ' -f5 /proc/$$/stat)\" = $$ || exit 2").first().await, Finding::Ok);
    assert_eq!(plugin("test \"$(pwd)\" = / || exit 2").first().await, Finding::Ok);
}

#[tokio::test]
async fn what_a_plugin_says_is_bounded_and_not_told_of_one_with_a_secret() {
    let said = async |block: Value| {
        let exec = exec(block, 1);
        let mut plugin = Plugin::start(exec.command(), ()).unwrap();
        plugin.begin().await.unwrap();
        plugin.end().await.unwrap();
        exec.said(&plugin)
    };
    assert_eq!(said(shell("echo 'DISK OK - 3 % | used=3'; echo more")).await.unwrap(), "DISK OK - 3 % | used=3");
    assert_eq!(said(shell("head -c 200000 /dev/zero | tr '\\0' x")).await.unwrap().len(), 1_024);
    let mut block = shell("echo \"$TOKEN\"");
    block["env"] = json!({"TOKEN": {"env": "PATH"}});
    assert_eq!(said(block).await, None);
}

#[test]
fn a_block_that_cannot_be_used_says_why_and_reads_no_secret() {
    let error = |more: Value| {
        let mut block = shell("exit 0");
        block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        validate(&block).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error(json!({"env": {"TOKEN": {"env": "NO_SUCH_TOKEN"}}, "outside": true})), "");
    assert!(error(json!({"command": []})).contains("empty"));
    assert!(error(json!({"command": ["check_http"]})).contains("absolute"));
    assert!(error(json!({"command": ["/bin/true", "\0"]})).contains("character 0"));
    assert!(error(json!({"env": {"A B": {"env": "A"}}})).contains("A B"));
    assert!(error(json!({"env": {"": {"env": "A"}}})).contains("name"));
    assert!(error(json!({"env": {"TOKEN": {"value": "s3cr3t"}}})).contains("never written here"));
    assert!(error(json!({"shell": true})).contains("shell"));
}

/// For `probe/README.md`.
pub(in crate::check) fn truth() -> Vec<Truth> {
    let plugin = |(script, finding, phase, code): &(&str, Finding, Phase, Option<i32>)| {
        let code = code.map_or("none".to_owned(), |code| code.to_string());
        vec![format!("`{script}`"), code, truth::outcome(*finding), truth::phase(*phase)]
    };
    let other = |(what, finding, phase): Row| truth::row(what, finding, phase);
    let others = [HANGS, DOES_NOT_BEGIN].into_iter();
    let others = others.chain(CROWDS_TABLE.map(|(row, ..)| row)).chain(PROGRAMS_TABLE.map(|(row, _)| row));
    let error = |(errno, finding): &(Errno, Finding)| vec![truth::fault(errno), truth::outcome(*finding)];
    vec![
        Truth {
            title: "exec: a shell does so",
            columns: &["plugin", "exit code", "outcome", "phase"],
            rows: PLUGINS_TABLE.iter().map(plugin).collect(),
        },
        Truth { title: "exec: what else befalls a plugin", columns: &["what", "outcome", "phase"], rows: others.map(other).collect() },
        Truth {
            title: "exec: the system says, instead of starting it",
            columns: &["error", "outcome"],
            rows: ERRORS_TABLE.iter().map(error).collect(),
        },
    ]
}
