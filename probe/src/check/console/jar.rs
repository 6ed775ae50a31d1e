//! The cookies of one journey (RFC 6265, without what only browsers need: no public suffixes, no third parties).

use std::time::{Duration, UNIX_EPOCH};

use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE};
use url::{Host, Url};
use vigie_contract::Time;

use crate::clock::duration;

/// More, or larger ones, no console needs; browsers keep no fewer.
const MOST_COOKIES: usize = 50;
const MOST_COOKIE_BYTES: usize = 4_096;

/// It has no `Debug`: a session's cookie is as good as the password.
#[derive(Default)]
pub(super) struct Jar(Vec<Cookie>);

struct Cookie {
    name: String,
    value: String,
    /// The host that set it, or the domain that it set it for.
    domain: String,
    is_for_subdomains: bool,
    path: String,
    is_secure: bool,
}

impl Jar {
    /// Keeps what the answer of `url` sets, and forgets what it ends at `wall`.
    pub(super) fn keep(&mut self, url: &Url, headers: &HeaderMap, wall: Time) {
        let lines = headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
        for line in lines.filter(|line| line.len() <= MOST_COOKIE_BYTES) {
            let Some((cookie, is_over)) = read(line, url, wall) else { continue };
            self.0.retain(|old| (&old.name, &old.domain, &old.path) != (&cookie.name, &cookie.domain, &cookie.path));
            if !is_over && self.0.len() < MOST_COOKIES {
                self.0.push(cookie);
            }
        }
    }

    /// The header `cookie` of a request for `url`, if there is one.
    pub(super) fn header(&self, url: &Url) -> Option<HeaderValue> {
        let mut cookies: Vec<_> = self.0.iter().filter(|cookie| cookie.is_for(url)).collect();
        cookies.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<_> = cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        let mut header = HeaderValue::from_str(&pairs.join("; ")).ok().filter(|header| !header.is_empty())?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// A cookie as `url` sets it, and whether that only ends it; none if it may not set it.
fn read(line: &str, url: &Url, wall: Time) -> Option<(Cookie, bool)> {
    let mut parts = line.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let directory = url.path().rsplit_once('/').map(|(directory, _)| directory).filter(|directory| !directory.is_empty());
    let mut cookie = Cookie {
        name: name.trim().to_owned(),
        value: value.trim().to_owned(),
        domain: url.host_str()?.to_owned(),
        is_for_subdomains: false,
        path: directory.unwrap_or("/").to_owned(),
        is_secure: false,
    };
    let (mut expired, mut aged) = (false, None);
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "domain" => {
                let domain = value.trim_start_matches('.').to_ascii_lowercase();
                if !is_within(url, &domain) {
                    return None;
                }
                (cookie.domain, cookie.is_for_subdomains) = (domain, true);
            }
            "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
            "secure" => cookie.is_secure = true,
            "max-age" => aged = value.parse::<i64>().ok().map(|seconds| seconds <= 0).or(aged),
            "expires" => expired = httpdate::parse_http_date(value).is_ok_and(|end| end <= UNIX_EPOCH + since_epoch(wall)),
            _ => {}
        }
    }
    // The age counts more than the date.
    (!cookie.name.is_empty()).then_some((cookie, aged.unwrap_or(expired)))
}

fn since_epoch(wall: Time) -> Duration {
    duration(wall - Time::from_us(0))
}

/// Whether the URL's host is `domain`, or below it.
fn is_within(url: &Url, domain: &str) -> bool {
    match url.host() {
        Some(Host::Domain(host)) => host.strip_suffix(domain).is_some_and(|below| below.is_empty() || below.ends_with('.')),
        _ => url.host_str() == Some(domain),
    }
}

impl Cookie {
    fn is_for(&self, url: &Url) -> bool {
        let is_its_host = if self.is_for_subdomains { is_within(url, &self.domain) } else { url.host_str() == Some(&self.domain) };
        let below = url.path().strip_prefix(&self.path);
        let is_its_path = below.is_some_and(|below| below.is_empty() || below.starts_with('/') || self.path.ends_with('/'));
        is_its_host && is_its_path && (!self.is_secure || url.scheme() == "https")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(set: &[(&str, &str)]) -> Jar {
        let mut jar = Jar::default();
        for (url, line) in set {
            let headers = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_str(line).unwrap())]);
            jar.keep(&url.parse().unwrap(), &headers, Time::from_us(1_800_000_000_000_000));
        }
        jar
    }

    fn sent(set: &[(&str, &str)], url: &str) -> String {
        jar(set).header(&url.parse().unwrap()).map(|header| header.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_cookie_goes_back_to_whom_it_is_for() {
        let from = "https://console.test/app/login";
        for (line, to, expected) in [
            ("a=1", "https://console.test/app/x", "a=1"),
            ("a=1", "https://console.test:8443/app", "a=1"),
            ("a=1", "https://console.test/application", ""),
            ("a=1; Path=/", "https://console.test/", "a=1"),
            ("a=1; path=/", "https://sub.console.test/", ""),
            ("a=1; Path=/; Domain=.Test", "https://other.test/", "a=1"),
            ("a=1; Path=/; Domain=sole.test", "https://console.test/", ""),
            ("a=1; Path=/; Domain=other.test", "https://other.test/", ""),
            ("a=1; Path=/; Secure; HttpOnly", "http://console.test/", ""),
            ("a=1; Path=/; Secure", "https://console.test/", "a=1"),
            ("nonsense", "https://console.test/app/", ""),
            ("=1", "https://console.test/app/", ""),
        ] {
            assert_eq!(sent(&[(from, line)], to), expected, "{line} to {to}");
        }
    }

    #[test]
    fn a_later_one_takes_the_place_of_an_earlier_and_may_end_it() {
        let url = "https://console.test/";
        assert_eq!(sent(&[(url, "a=1"), (url, "b=2"), (url, "a=3")], url), "b=2; a=3");
        for end in ["a=; Max-Age=0", "a=x; max-age=-1", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"] {
            assert_eq!(sent(&[(url, "a=1"), (url, end)], url), "", "{end}");
        }
        for holds in
            ["a=2; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "a=2; Expires=Thu, 01 Jan 2099 00:00:00 GMT", "a=2; Max-Age=x"]
        {
            assert_eq!(sent(&[(url, "a=1"), (url, holds)], url), "a=2", "{holds}");
        }
        assert_eq!(sent(&[(url, "a=1"), ("https://console.test/app/", "a=2")], "https://console.test/app/"), "a=2; a=1");
    }

    #[test]
    fn a_jar_is_not_filled_without_end() {
        let lines: Vec<_> = (0..1_000).map(|n| format!("c{n}=1")).collect();
        let set: Vec<_> = lines.iter().map(|line| ("https://console.test/", line.as_str())).collect();
        assert_eq!(jar(&set).0.len(), MOST_COOKIES);
        let long = format!("a={}", "x".repeat(MOST_COOKIE_BYTES));
        assert_eq!(jar(&[("https://console.test/", &long)]).0.len(), 0);
    }
}
