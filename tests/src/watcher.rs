//! Those who watch what vigie exports: Prometheus, Alertmanager.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::program::wait_for;

/// It runs until it is dropped.
pub struct Watcher {
    child: Child,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watcher {
    /// Starts `program`, whose flag `listen` says where, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(program: &str, listen: &str, args: &[String]) -> Self {
        // Its own port 0 would be told only in its log.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(program);
        command.args(args).arg(format!("--{listen}={address}")).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
        let watcher = Self { child, address };
        wait_for(&format!("{program} to be ready"), || watcher.ask("GET", "/-/ready", "").ok());
        watcher
    }

    /// The body of an answer with status 200. HTTP 1.0, so that it comes in one piece.
    ///
    /// # Errors
    /// If there is none.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(std::io::Error::other(answer)),
        }
    }

    /// The same as JSON.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.ask("GET", path, "").unwrap()).unwrap()
    }
}
