//! Samples from remote probes over HTTP: each token is bound to one vantage and can append only its samples (DESIGN §5).

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest, Sha256};
use vigie_contract::record::{Record, decode};
use vigie_contract::{Time, VantageId};

use crate::port::{AppendError, EvidenceLog};

/// A request carries at most so many bytes.
pub const MOST_BYTES: usize = 8 << 20;
/// A request carries at most so many records.
pub const MOST_RECORDS: usize = 10_000;

/// Which token speaks for which vantage. Holds digests only: a dump of memory or a comparison's time tells nothing.
#[derive(Clone, Default)]
pub struct Tokens(HashMap<[u8; 32], VantageId>);

/// Why a file of tokens cannot be used; names the line, never the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TokensError {
    /// Which line.
    pub line: usize,
    /// What is wrong.
    pub why: &'static str,
}

impl Tokens {
    /// From lines of `vantage token`; empty lines and those that begin with `#` are ignored.
    pub fn read(text: &str) -> Result<Self, TokensError> {
        let mut tokens = HashMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let words: Vec<_> = text.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                [_, token] if token.len() < 16 => return Err(TokensError { line, why: "a token has at least 16 characters" }),
                [vantage, token] => {
                    if tokens.insert(digest(token), VantageId::from(*vantage)).is_some() {
                        return Err(TokensError { line, why: "this token is already bound to a vantage" });
                    }
                }
                _ => return Err(TokensError { line, why: "write a vantage and its token, parted by a space" }),
            }
        }
        Ok(Self(tokens))
    }

    /// The vantages that tokens speak for, one as often as it has tokens.
    pub fn vantages(&self) -> impl Iterator<Item = &VantageId> {
        self.0.values()
    }

    /// The vantage that the value of an `Authorization` header speaks for.
    #[must_use]
    pub fn vantage(&self, authorization: &str) -> Option<&VantageId> {
        let (scheme, token) = authorization.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| self.0.get(&digest(token.trim())))?
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} vantages)", self.0.len())
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Why samples were not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// They are not this vantage's samples, or not samples at all; none of them was appended.
    #[error("record {record}: {why}")]
    Unfit {
        /// Which, from 1.
        record: usize,
        /// What is wrong.
        why: String,
    },
    /// Too many at once.
    #[error("more than {MOST_RECORDS} records: send fewer at a time")]
    TooMany,
    /// The log did not take them.
    #[error("the evidence log did not take them")]
    Log(#[source] AppendError),
}

/// Appends the samples of `vantage` in `body`, one JSON object per line. All of them are durable when it returns, or an error says why not.
pub async fn ingest(log: &impl EvidenceLog, vantage: &VantageId, body: &[u8]) -> Result<(usize, Option<Time>), IngestError> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let records: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
    if records.len() > MOST_RECORDS {
        return Err(IngestError::TooMany);
    }
    for (record, bytes) in (1..).zip(&records) {
        check(vantage, bytes).map_err(|why| IngestError::Unfit { record, why })?;
    }
    if records.is_empty() {
        return Ok((0, None));
    }
    let appended = log.append(&records).await.map_err(IngestError::Log)?;
    Ok((records.len(), appended.last().map(|appended| appended.appended_at)))
}

/// A sample that breaks another rule goes to the log all the same: there it is refused visibly, with a dead letter.
fn check(vantage: &VantageId, bytes: &[u8]) -> Result<(), String> {
    let decoded = decode(bytes).map_err(|error| error.to_string())?;
    match decoded.record {
        Ok(Record::Sample(sample)) if sample.vantage == vantage.as_str() => Ok(()),
        Ok(Record::Sample(sample)) => Err(format!("this token speaks for vantage {vantage}, not for {}", sample.vantage)),
        Ok(_) => Err("a probe appends samples and nothing else".to_owned()),
        Err(refusal) => {
            let claims = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
            let is_own = claims["type"] == "sample" && claims["vantage"] == vantage.as_str();
            if is_own { Ok(()) } else { Err(refusal.to_string()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_token_speaks_for_its_vantage_and_is_shown_nowhere() {
        let tokens = Tokens::read("# probes\naz05 0123456789abcdef\n\naz06 fedcba9876543210\n").unwrap();
        assert_eq!(tokens.vantages().collect::<BTreeSet<_>>(), BTreeSet::from([&"az05".into(), &"az06".into()]));
        assert_eq!(tokens.vantage("Bearer 0123456789abcdef"), Some(&"az05".into()));
        assert_eq!(tokens.vantage("bearer 0123456789abcdef"), Some(&"az05".into()), "a scheme is written as one likes (RFC 9110)");
        assert_eq!(tokens.vantage("0123456789abcdef"), None);
        assert_eq!(tokens.vantage("Basic 0123456789abcdef"), None);
        assert_eq!(tokens.vantage("Bearer wrong"), None);
        assert!(!format!("{tokens:?}").contains("0123"));
        for (text, line) in [("az05 short", 1), ("az05 0123456789abcdef\naz06 0123456789abcdef", 2), ("az05", 1)] {
            assert_eq!(Tokens::read(text).unwrap_err().line, line);
        }
    }

    #[test]
    fn a_probe_appends_its_own_samples_and_nothing_else() {
        let sample = |vantage: &str, t1: i64| {
            format!(
                "{{\"v\":1,\"type\":\"sample\",\"target\":\"t\",\"vantage\":\"{vantage}\",\"run\":\"r\",\"seq\":0,\"t0\":5,\"t1\":{t1},\
                 \"outcome\":\"ok\",\"period_us\":10,\"timeout_us\":1,\"clock_error_us\":0}}"
            )
        };
        let az05 = VantageId::from("az05");
        assert_eq!(check(&az05, sample("az05", 9).as_bytes()), Ok(()));
        assert_eq!(check(&az05, sample("az05", 1).as_bytes()), Ok(()), "the log says what is wrong with it");
        assert!(check(&az05, sample("az06", 9).as_bytes()).unwrap_err().contains("az06"));
        assert!(check(&az05, sample("az06", 1).as_bytes()).is_err());
        assert!(check(&az05, b"{\"v\":1,\"type\":\"tick\",\"appended_at\":1}").is_err());
        assert!(check(&az05, b"nonsense").is_err());
    }
}
