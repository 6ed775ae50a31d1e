//! What the demo tells in the terminal: one line per event, with the time since it began.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use vigie_contract::Time;

use super::verdict::{Window, clock};

/// The terminal.
pub(super) struct Screen {
    began: Instant,
    /// The windows that were told, and whether they had ended.
    told: Mutex<BTreeMap<String, bool>>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), told: Mutex::default() }
    }

    /// A line; a terminal that is gone is no reason to stop.
    pub(super) fn say(&self, line: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{:>6.1} s  {line}", self.began.elapsed().as_secs_f64());
    }

    /// Tells what is new about windows.
    pub(super) fn show(&self, windows: &[Window]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for window in windows {
            let has_ended = window.end_us.is_some();
            if told.insert(window.id.clone(), has_ended) == Some(has_ended) {
                continue;
            }
            let onset = clock(Time::from_us(window.onset_us));
            match window.end_us {
                None => self.say(&format!("      ▸ {}: outage window since {onset}", window.service)),
                Some(end) => self.say(&format!("      ▪ {}: outage window {onset} … {}", window.service, clock(Time::from_us(end)))),
            }
        }
    }
}
