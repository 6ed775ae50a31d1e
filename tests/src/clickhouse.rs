//! A real ClickHouse, with the HTTP server that people run; `services/chdb_http.py` starts it, and says in what it differs.
//!
//! It keeps its address and its data over [`ClickHouse::kill`] and [`ClickHouse::start_again`]. Ready in 0.2 s.
//!
//! Faults, as this server was seen to answer them:
//!
//! | fault | how | the error, with its HTTP status |
//! |---|---|---|
//! | disk full | `ALTER TABLE t MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000` until `RESET SETTING` | 243 `NOT_ENOUGH_SPACE`, 500 |
//! | disk full, really | the data on a small tmpfs | 243 `NOT_ENOUGH_SPACE`, 500 |
//! | table is read-only | `… MODIFY SETTING table_readonly = 1` until `RESET SETTING` | 774 `TABLE_IS_PERMANENTLY_READ_ONLY`, 500 |
//! | user is read-only | a user with `<profile>readonly</profile>` | 164 `READONLY`, 500 |
//! | too many parts | `… MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1` until `RESET SETTING` | 252 `TOO_MANY_PARTS`, 500 |
//! | too slow | the setting `max_execution_time` of a query | 159 `TIMEOUT_EXCEEDED`, 408 |
//! | memory | [`Options::memory`] | 241 `MEMORY_LIMIT_EXCEEDED`, 500 |

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::service::{Patience, Server, exchange, file, free_port, installed};

/// How a server is started.
#[derive(Default)]
pub struct Options {
    /// Users besides `default`, who has no password and may do everything: what stands in `<users>` of ClickHouse's `users.xml`.
    pub users: String,
    /// What the server may use of the machine's memory, in bytes; 0: most of it.
    pub memory: u64,
}

/// A server that runs; it is killed when this is dropped.
pub struct ClickHouse {
    dir: PathBuf,
    port: u16,
    server: Option<Server>,
    /// How it is started the next time.
    pub options: Options,
}

impl ClickHouse {
    /// Starts it with its data and its log in `dir`, and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, Options::default())
    }

    /// The same with options.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn start_with(dir: &Path, options: Options) -> Self {
        std::fs::create_dir_all(dir).expect("a directory for the server");
        let mut clickhouse = Self { dir: dir.to_owned(), port: free_port(), server: None, options };
        clickhouse.start_again();
        clickhouse
    }

    /// Starts it again after [`Self::kill`], at its address and with its data, and waits until it answers.
    ///
    /// # Panics
    /// If it runs, or does not answer.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let mut command = Command::new(installed("python").join("bin/python"));
        command.arg(file("chdb_http.py")).arg("--path").arg(self.dir.join("data"));
        command.args(["--http-port", &self.port.to_string(), "--memory", &self.options.memory.to_string()]);
        command.args(["--extra-users", &self.options.users]);
        let server = self.server.insert(Server::spawn(&mut command, &self.dir.join("log")));
        let patience = Patience::new();
        while let Err(why) = ask(self.port, "", "SELECT 1") {
            server.assert_running();
            patience.pause(|| format!("{why}\n{}", server.log()));
        }
    }

    /// Where it answers: `http://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.server().assert_running();
        self.server = None;
    }

    /// It does nothing any more, and its connections stay (SIGSTOP).
    ///
    /// # Panics
    /// If it does not run.
    pub fn freeze(&mut self) {
        self.server().signal("STOP");
    }

    /// It goes on (SIGCONT).
    ///
    /// # Panics
    /// If it does not run.
    pub fn thaw(&mut self) {
        self.server().signal("CONT");
    }

    /// What it answers to a statement of the user `default`; to a SELECT, in tab-separated values.
    ///
    /// # Panics
    /// If that is an error, or nothing.
    pub fn query(&self, sql: &str) -> String {
        ask(self.port, "", sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// What it answers to a statement of a user in a database, or its error.
    ///
    /// # Errors
    /// If the answer is one.
    pub fn query_as(&self, user: &str, password: &str, database: &str, sql: &str) -> Result<String, String> {
        ask(self.port, &format!("&user={user}&password={password}&database={database}"), sql)
    }

    fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("it was killed")
    }
}

/// What it answers to a statement, all at once, so that an error is a status.
fn ask(port: u16, parameters: &str, sql: &str) -> Result<String, String> {
    exchange(port, "POST", &format!("/?wait_end_of_query=1{parameters}"), "text/plain", sql)
}
