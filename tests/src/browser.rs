//! A real browser, told what to do over WebDriver (W3C), as a person's eyes and clicks.
//!
//! Written by hand: the clients that exist depend on a crate under the MPL, which our licence policy does not take.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::program::{request, wait_for};

/// How an element is named in answers (WebDriver, "Elements").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one page.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts Chromium, `width` × `height`, which asks for `languages`.
    ///
    /// # Panics
    /// If it does not start; `tests/run` installs it.
    #[must_use]
    pub fn start(width: u32, height: u32, languages: &str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut driver = Command::new("chromedriver");
        let driver = driver.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let driver = driver.unwrap_or_else(|error| panic!("chromedriver: {error}; tests/run installs it"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_for("chromedriver", || request(address, "GET", "/status", &[], "").ok().filter(|(status, _)| *status == 200));
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, address, session: String::new(), profile };
        let size = format!("--window-size={width},{height}");
        let profile = format!("--user-data-dir={}", browser.profile.path().display());
        #[rustfmt::skip]
        let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", &size, &profile];
        let options = json!({ "args": args, "prefs": { "intl.accept_languages": languages } });
        let asked = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let answer = browser.call("POST", "/session", &asked);
        answer["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}")).clone_into(&mut browser.session);
        // A phone is narrower than the narrowest window.
        browser.command(
            "goog/cdp/execute",
            &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params":
            { "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false } }),
        );
        browser
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = request(self.address, method, path, &[("content-type", "application/json")], &text).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        answer["value"].clone()
    }

    fn command(&self, command: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}/{command}", self.session), body)
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// The value of a JavaScript expression.
    #[must_use]
    pub fn eval(&self, expression: &str) -> Value {
        self.command("execute/sync", &json!({ "script": format!("return {expression}"), "args": [] }))
    }

    /// Waits until a JavaScript expression is true.
    pub fn wait(&self, expression: &str) {
        wait_for(expression, || (self.eval(expression) == true).then_some(()));
    }

    /// Clicks the first element that a CSS selector matches, where a person would.
    ///
    /// # Panics
    /// If there is none.
    pub fn click(&self, selector: &str) {
        let found = self.command("element", &json!({ "using": "css selector", "value": selector }));
        let element = found[ELEMENT].as_str().unwrap();
        self.command(&format!("element/{element}/click"), &json!({}));
    }

    /// Takes a picture of what is seen.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn screenshot(&self, path: &Path) {
        use base64::Engine as _;
        let answer = self.call("GET", &format!("/session/{}/screenshot", self.session), &Value::Null);
        let png = base64::engine::general_purpose::STANDARD.decode(answer.as_str().unwrap()).unwrap();
        std::fs::write(path, png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = request(self.address, "DELETE", &format!("/session/{}", self.session), &[], "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
