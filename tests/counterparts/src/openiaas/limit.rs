//! The documented limits on rate. Of how the real ones count only this is published: so many a second, and that refused requests do not
//! count.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Of any product, from one address.
const MOST_A_SECOND: usize = 25;
/// Of logins, from one address.
const MOST_LOGINS_A_SECOND: usize = 5;

/// What was answered within the last second.
pub(super) struct Limits {
    /// Shorter where all is quicker than in life.
    pub(super) second_us: i64,
    recent: HashMap<(IpAddr, bool), VecDeque<i64>>,
    /// By what makes requests identical, whoever sends them.
    doubles: HashMap<String, i64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { second_us: 1_000_000, recent: HashMap::new(), doubles: HashMap::new() }
    }
}

impl Limits {
    /// Whether the request may pass at `now_us`; it then counts.
    pub(super) fn admit(&mut self, source: IpAddr, is_login: bool, identity: String, now_us: i64) -> bool {
        self.doubles.retain(|_, at| now_us - *at < self.second_us);
        self.recent.retain(|_, times| {
            times.retain(|at| now_us - *at < self.second_us);
            !times.is_empty()
        });
        let most = if is_login { MOST_LOGINS_A_SECOND } else { MOST_A_SECOND };
        let recent = self.recent.entry((source, is_login)).or_default();
        if recent.len() >= most || self.doubles.contains_key(&identity) {
            return false;
        }
        recent.push_back(now_us);
        self.doubles.insert(identity, now_us);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_from_an_address_and_no_doubles_from_anywhere() {
        let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let mut limits = Limits::default();
        for n in 0..25 {
            assert!(limits.admit(one, false, format!("a{n}"), 0));
        }
        assert!(!limits.admit(one, false, "b".to_owned(), 999_999));
        assert!(limits.admit(other, false, "b".to_owned(), 0));
        assert!(!limits.admit(other, false, "a7".to_owned(), 999_999), "identical");
        assert!(limits.admit(one, true, "login".to_owned(), 0));
        assert!(limits.admit(one, false, "a7".to_owned(), 1_000_000));
    }

    #[test]
    fn logins_have_a_limit_of_their_own() {
        let source = "192.0.2.1".parse().unwrap();
        let mut limits = Limits::default();
        let admitted = (0..9).filter(|n| limits.admit(source, true, format!("a{n}"), 0)).count();
        assert_eq!(admitted, 5);
    }
}
