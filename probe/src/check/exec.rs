//! `kind = "exec"`: a program that speaks the Nagios plugin convention says that its target is well.
//!
//! `command` is the program, by its absolute path, and its arguments; no shell reads them. Its environment is `PATH`, `LANG=C` and what
//! `env` names, whose values come from files or the probe's environment: secrets go there, since everybody on the machine can read
//! arguments. It runs in `/`, in a process group of its own, without input. The group is killed when the program has ended, and when its
//! time is over; a process that leaves the group is not followed. Of the output a few lines are kept, for people: the first one is logged
//! at level debug, unless the program was given a secret, which it might print. Error output is dropped.
//!
//! | what is seen | outcome | reason | phase |
//! |---|---|---|---|
//! | exit code 0; 1, which is a warning: the metric of the exit code tells them apart | ok | | |
//! | exit code 2, critical | fail | unhealthy | processing |
//! | it runs and has not ended shortly before the timeout | fail | timeout | processing |
//! | it has not begun to run by then | void | overload | setup |
//! | exit code 3, unknown, or any other; killed by a signal | void | internal | processing |
//! | more than 1 MiB of output: that is no plugin | void | internal | processing |
//! | the program is not there, or not ours to run (`ENOENT`, `EACCES` …) | void | internal | setup |
//! | no descriptors | void | descriptors | setup |
//! | no more processes or threads (`EAGAIN`), or too many plugins run: 128 in all, two of one target | void | overload | setup |
//!
//! A plugin that hangs is a failure, though it may hang for a reason of its own: most of them wait for their target without a limit, so
//! that a target that has gone silent looks like this and nothing else. Give those that have a limit of their own (`-t`) one below the
//! target's `timeout`: they know better what they waited for. So that no more than 128 run at a time when all targets are silent,
//! targets × 2 × timeout / period must be less.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use nix::errno::Errno;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout_at;
use vigie_contract::Reason;

use super::{Answer, Attempt, Check, CheckError, Finding, Kind, Phase, Trace};
use crate::clock::now;
use crate::limits::{MOST_PLUGINS, MOST_PLUGINS_OF_TARGET};
use crate::net::own_fault;
use crate::plugin::Plugin;
use crate::secret::{Secret, SecretSource};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Plugins that may still be started in this process.
static PLUGINS: Semaphore = Semaphore::const_new(MOST_PLUGINS);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    /// The program, by its absolute path, and its arguments.
    command: Vec<String>,
    /// What its environment holds beside `PATH` and `LANG`.
    #[serde(default)]
    env: BTreeMap<String, SecretSource>,
    #[serde(default, rename = "outside")]
    _outside: bool,
}

struct Exec {
    program: String,
    arguments: Vec<String>,
    environment: Vec<(String, Secret)>,
    /// Plugins of this target that may still be started: one that not even a kill ends keeps its place.
    own: Arc<Semaphore>,
    all: &'static Semaphore,
    /// How the last one ended, so that the log says it once.
    last: Cell<Option<End>>,
}

/// How a plugin ended, or why it did not begin.
type End = Result<ExitStatus, io::ErrorKind>;

/// What a plugin holds as long as it runs.
type Permit = (SemaphorePermit<'static>, OwnedSemaphorePermit);

fn shape(why: impl Into<String>) -> CheckError {
    CheckError::Shape(why.into())
}

impl Block {
    pub(super) fn validate(&self) -> Result<(), CheckError> {
        let program = self.command.first().ok_or_else(|| shape("`command` is empty: write the program and its arguments"))?;
        if !program.starts_with('/') {
            return Err(shape(format!("`{program}` is no absolute path: a plugin is not looked for")));
        }
        if self.command.iter().any(|word| word.contains('\0')) {
            return Err(shape("a word of `command` holds the character 0"));
        }
        let is_name = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.starts_with(|first: char| first.is_ascii_digit())
        };
        match self.env.keys().find(|name| name.is_empty() || !is_name(name)) {
            Some(wrong) => Err(shape(format!("`{wrong}` is no name of an environment variable"))),
            None => Ok(()),
        }
    }

    pub(super) fn secrets(&self) -> Vec<&SecretSource> {
        self.env.values().collect()
    }

    pub(super) fn build(self) -> Result<impl Check + use<>, CheckError> {
        self.build_within(&PLUGINS)
    }

    fn build_within(self, all: &'static Semaphore) -> Result<Exec, CheckError> {
        let mut command = self.command.into_iter();
        let environment = self.env.into_iter().map(|(name, source)| Ok((name, source.read()?)));
        Ok(Exec {
            program: command.next().unwrap_or_default(),
            arguments: command.collect(),
            environment: environment.collect::<Result<_, CheckError>>()?,
            own: Arc::new(Semaphore::new(MOST_PLUGINS_OF_TARGET)),
            all,
            last: Cell::new(None),
        })
    }
}

impl Check for Exec {
    fn attempt<'a>(&'a self, attempt: &'a Attempt<'a>, trace: &'a mut Trace) -> Answer<'a> {
        Box::pin(async move { self.run(attempt, trace).await.err().unwrap_or(Finding::Ok) })
    }

    fn kind(&self) -> Kind {
        Kind::Exec
    }
}

impl Exec {
    async fn run(&self, attempt: &Attempt<'_>, trace: &mut Trace) -> Result<(), Finding> {
        let last_moment = attempt.last_moment(trace.began).into();
        trace.begin(Phase::Setup);
        let mut plugin = Plugin::start(self.command(), self.permit()?).map_err(|error| self.refuse(attempt, &error))?;
        let begun = timeout_at(last_moment, plugin.begin()).await.map_err(|_| Finding::Void(Reason::Overload))?;
        begun.map_err(|error| self.refuse(attempt, &error))?;
        trace.begin(Phase::Processing);
        let ended = timeout_at(last_moment, plugin.end()).await.map_err(|_| Finding::Fail(Reason::Timeout))?;
        trace.close(now());
        let status = ended.map_err(|error| self.refuse(attempt, &error))?;
        trace.facts.plugin_exit_code = status.code();
        self.note(attempt, status, &plugin);
        judge(status)
    }

    fn permit(&self) -> Result<Permit, Finding> {
        let own = Arc::clone(&self.own).try_acquire_owned().map_err(|_| Finding::Void(Reason::Overload))?;
        let one_of_all = self.all.try_acquire().map_err(|_| Finding::Void(Reason::Overload))?;
        Ok((one_of_all, own))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().env("PATH", PATH).env("LANG", "C");
        command.envs(self.environment.iter().map(|(name, secret)| (name, secret.reveal())));
        command
    }

    fn note(&self, attempt: &Attempt<'_>, status: ExitStatus, plugin: &Plugin) {
        tracing::debug!(%status, said = self.said(plugin), "plugin of target {}", attempt.target);
        if self.is_news(Ok(status)) && !status.success() {
            tracing::warn!(%status, program = self.program, "plugin of target {}", attempt.target);
        }
    }

    /// What people may read of what a plugin said: nothing if it was given secrets.
    fn said(&self, plugin: &Plugin) -> Option<String> {
        self.environment.is_empty().then(|| plugin.first_line())
    }

    /// What an error of the system says; people learn it from the log.
    fn refuse(&self, attempt: &Attempt<'_>, error: &io::Error) -> Finding {
        if self.is_news(Err(error.kind())) {
            tracing::warn!(%error, program = self.program, "cannot run the plugin of target {}", attempt.target);
        }
        refused(error)
    }

    fn is_news(&self, end: End) -> bool {
        self.last.replace(Some(end)) != Some(end)
    }
}

fn refused(error: &io::Error) -> Finding {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => Finding::Void(Reason::Overload),
        _ => own_fault(error),
    }
}

/// The rows of the table that speak of exit codes.
fn judge(status: ExitStatus) -> Result<(), Finding> {
    match status.code() {
        Some(0 | 1) => Ok(()),
        Some(2) => Err(Finding::Fail(Reason::Unhealthy)),
        _ => Err(Finding::Void(Reason::Internal)),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::truth;
