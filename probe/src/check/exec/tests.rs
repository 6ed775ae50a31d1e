use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use vigie_counterparts::disk::{Disk, Fault, Operation};

use super::*;
use crate::check::bench::{Bench, phases};
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

#[tokio::test]
async fn how_a_plugin_ends_is_what_the_table_says() {
    let (unhealthy, internal) = (Finding::Fail(Reason::Unhealthy), Finding::Void(Reason::Internal));
    let table = [
        ("exit 0", Finding::Ok, Some(0)),
        ("echo 'OK - fine'", Finding::Ok, Some(0)),
        ("exit 1", Finding::Ok, Some(1)),
        ("exit 2", unhealthy, Some(2)),
        ("exit 3", internal, Some(3)),
        ("exit 4", internal, Some(4)),
        ("/no/such/plugin", internal, Some(127)),
        ("exit 255", internal, Some(255)),
        ("kill -KILL $$", internal, None),
        ("kill -TERM $$", internal, None),
        // More than a pipe holds, and then more than anybody listens to.
        ("head -c 300000 /dev/zero", Finding::Ok, Some(0)),
        ("exec cat /dev/zero", internal, None),
        // What it reads, and where it says errors, is nothing.
        ("cat; echo unheard >&2", Finding::Ok, Some(0)),
    ];
    for (script, expected, code) in table {
        let (found, trace) = plugin(script).attempt(false).await;
        let told = (found, trace.facts.plugin_exit_code, phases(&trace));
        assert_eq!(told, (expected, code, "setup processing".to_owned()), "{script}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_run_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let not_ours_to_run = dir.path().join("file");
    std::fs::write(&not_ours_to_run, "").unwrap();
    for program in [Path::new("/no/such/plugin"), dir.path(), &not_ours_to_run] {
        let (found, trace) = Bench::new("plugin", &json!({"kind": "exec", "command": [program]})).attempt(false).await;
        assert_eq!((found, phases(&trace).as_str()), (Finding::Void(Reason::Internal), "setup"), "{}", program.display());
    }
    let of = |errno: Errno| refused(&io::Error::from_raw_os_error(errno as i32));
    assert_eq!(of(Errno::EAGAIN), Finding::Void(Reason::Overload));
    assert_eq!([of(Errno::EMFILE), of(Errno::ENFILE)], [Finding::Void(Reason::Descriptors); 2]);
    assert_eq!([of(Errno::ENOENT), of(Errno::EACCES), of(Errno::ENOEXEC)], [Finding::Void(Reason::Internal); 3]);
}

#[tokio::test]
async fn a_plugin_that_hangs_times_out_and_is_killed_with_its_children() {
    let note = Note::new();
    // The second child cannot be asked to end.
    let script = format!("sleep 1000 & echo $! >> {0}; (trap '' TERM; sleep 1001) & echo $! >> {0}; echo $$ >> {0}; wait", note.path());
    let (found, trace) = plugin(&script).attempt_until(note.has(3)).await;
    assert_eq!((found, phases(&trace).as_str()), (Finding::Fail(Reason::Timeout), "setup processing"));
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
    let (found, trace) = bench.attempt_until(hangs).await;
    assert_eq!((found, phases(&trace).as_str()), (Finding::Void(Reason::Overload), "setup"));
    disk.mend();
    assert_eq!((bench.first().await, note.processes().len()), (Finding::Ok, 2));
}

#[tokio::test]
async fn too_many_plugins_are_not_started() {
    let overload = Finding::Void(Reason::Overload);
    for (most, running) in [(1, 1), (100, MOST_PLUGINS_OF_TARGET)] {
        let note = Note::new();
        let bench = Bench::of("plugin", Box::new(exec(shell(&format!("echo $$ >> {}; exec sleep 1000", note.path())), most)));
        let all =
            async { tokio::join!(bench.first(), async { if running > 1 { bench.first().await } else { std::future::pending().await } }) };
        let one_more = async {
            note.has(running).await;
            bench.first().await
        };
        tokio::select! {
            found = all => panic!("{found:?}"),
            found = one_more => assert_eq!(found, overload),
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
