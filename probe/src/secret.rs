//! Tokens and passwords: read from a file or the environment, shown nowhere (DESIGN §5).
//!
//! One that somebody has to renew is known by its end, so that a person is told in time: `{ file = "…", expires = 2027-11-30T00:00:00Z }`.
//! A secret that is a web token says its end itself. The catalogue is one for all vantages: where each has a secret of its own, it is the
//! first of their ends that is written there. To change it makes the probe read the secret anew, which it does not otherwise while it runs.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use vigie_contract::Time;

use crate::web_token::Claims;

/// Where a secret is to be found. The catalogue holds this, never the secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct SecretSource {
    place: Place,
    expires: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Env(String),
}

/// A secret. It has no `Display`, and its `Debug` does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// Why a secret could not be read. Says where it should be, never what it is.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}: {cause}", path.display())]
    File {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The variable is missing or not UTF-8.
    #[error("the environment variable {0} is not set to a secret")]
    Env(String),
    /// There is nothing in it, or it could not stand in a header.
    #[error("the secret in {0} is empty or has characters that are not printable ASCII")]
    Unfit(String),
}

impl TryFrom<Value> for SecretSource {
    type Error = &'static str;

    /// Without a word of what stands there: it may be the secret itself.
    fn try_from(value: Value) -> Result<Self, Self::Error> {
        const SHAPE: &str = "a secret is never written here: say where it is, { file = \"…\" } or { env = \"…\" }";
        const EXPIRES: &str = "`expires` of a secret is an instant such as 2027-11-30T00:00:00+01:00";
        let Value::Object(mut fields) = value else { return Err(SHAPE) };
        let expires = fields.remove("expires");
        let expires = expires.map(|at| at.as_str().and_then(Time::parse).ok_or(EXPIRES));
        let mut places = fields.into_iter();
        let place = match (places.next(), places.next()) {
            (Some((kind, Value::String(path))), None) if kind == "file" => Place::File(path.into()),
            (Some((kind, Value::String(name))), None) if kind == "env" => Place::Env(name),
            _ => return Err(SHAPE),
        };
        Ok(Self { place, expires: expires.transpose()? })
    }
}

impl SecretSource {
    /// In a file, without its last newline.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::File(path.into()), expires: None }
    }

    /// In an environment variable.
    pub fn env(name: impl Into<String>) -> Self {
        Self { place: Place::Env(name.into()), expires: None }
    }

    /// Reads the secret.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let (text, place) = match &self.place {
            Place::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|cause| SecretError::File { path: path.clone(), cause })?;
                (text.trim_end_matches(['\r', '\n']).to_owned(), path.display().to_string())
            }
            Place::Env(name) => (std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?, name.clone()),
        };
        if text.is_empty() || !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(SecretError::Unfit(place));
        }
        Ok(Secret(text.into()))
    }

    /// When what is there now expires, as far as the catalogue or the secret itself says it.
    pub(crate) fn expiry(&self) -> Option<Time> {
        let own = self.read().ok().and_then(|secret| Claims::read(secret.reveal())).map(|claims| claims.expiry());
        own.into_iter().chain(self.expires).min()
    }
}

impl Secret {
    /// The secret itself, for the one place that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_without_its_newline_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "s3cr3t\n").unwrap();
        let secret = SecretSource::file(path).read().unwrap();
        assert_eq!(secret.reveal(), "s3cr3t");
        assert!(!format!("{secret:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_is_missing_or_unfit_is_named_by_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(SecretSource::file(&path).read().unwrap_err().to_string().contains("token"));
        std::fs::write(&path, "two\nlines").unwrap();
        let error = SecretSource::file(path).read().unwrap_err().to_string();
        assert!(error.contains("token") && !error.contains("lines"), "{error}");
        assert!(SecretSource::env("VIGIE_NO_SUCH_VARIABLE").read().is_err());
    }

    #[test]
    fn one_that_is_written_where_its_place_belongs_is_not_told_on() {
        use serde_json::json;
        for wrong in
            [json!("s3cr3t"), json!({"s3cr3t": 1}), json!({"file": ["s3cr3t"]}), json!({"file": "a", "env": "s3cr3t"}), json!(null)]
        {
            let error = serde_json::from_value::<SecretSource>(wrong).unwrap_err().to_string();
            assert!(error.contains("never written here") && !error.contains("s3cr3t"), "{error}");
        }
        let source: SecretSource = serde_json::from_value(json!({"env": "TOKEN"})).unwrap();
        assert_eq!(source, SecretSource::env("TOKEN"));
    }
    #[test]
    fn the_first_of_the_ends_that_are_known_is_its_end() {
        use serde_json::json;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let expiry = |text: &str, mut source: Value| {
            std::fs::write(&path, text).unwrap();
            source["file"] = json!(path);
            serde_json::from_value::<SecretSource>(source).unwrap().expiry().map(|at| at.us() / 1_000_000)
        };
        let year_2027 = json!({"expires": "2027-01-01T01:00:00+01:00"});
        // {"exp":1800000000}, thirteen days later.
        let web_token = "e30.eyJleHAiOjE4MDAwMDAwMDB9.c2ln\n";
        assert_eq!(expiry("s3cr3t", json!({})), None);
        assert_eq!(expiry("s3cr3t", year_2027.clone()), Some(1_798_761_600));
        assert_eq!(expiry(web_token, json!({})), Some(1_800_000_000));
        assert_eq!(expiry(web_token, year_2027), Some(1_798_761_600));
        assert_eq!(expiry(web_token, json!({"expires": "2027-02-01T00:00:00Z"})), Some(1_800_000_000));
        assert_eq!(expiry("not.a.token", json!({})), None);
        for wrong in [json!("2027-01-01"), json!("s3cr3t"), json!(1_800_000_000), json!(null)] {
            let error = serde_json::from_value::<SecretSource>(json!({"env": "TOKEN", "expires": wrong})).unwrap_err().to_string();
            assert!(error.contains("`expires`") && !error.contains("s3cr3t"), "{error}");
        }
    }
}
