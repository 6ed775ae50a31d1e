//! Tokens and passwords: read from a file or the environment, shown nowhere (DESIGN §5).

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// Where a secret is to be found. The catalogue holds this, never the secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum SecretSource {
    /// In a file, without its last newline.
    File(PathBuf),
    /// In an environment variable.
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
        let source = value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
        match source.map(|(kind, place)| (kind.as_str(), place)) {
            Some(("file", Value::String(path))) => Ok(Self::File(path.into())),
            Some(("env", Value::String(name))) => Ok(Self::Env(name.clone())),
            _ => Err("a secret is never written here: say where it is, { file = \"…\" } or { env = \"…\" }"),
        }
    }
}

impl SecretSource {
    /// Reads the secret.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let (text, place) = match self {
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|cause| SecretError::File { path: path.clone(), cause })?;
                (text.trim_end_matches(['\r', '\n']).to_owned(), path.display().to_string())
            }
            Self::Env(name) => (std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?, name.clone()),
        };
        if text.is_empty() || !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(SecretError::Unfit(place));
        }
        Ok(Secret(text.into()))
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
        let secret = SecretSource::File(path).read().unwrap();
        assert_eq!(secret.reveal(), "s3cr3t");
        assert!(!format!("{secret:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_is_missing_or_unfit_is_named_by_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(SecretSource::File(path.clone()).read().unwrap_err().to_string().contains("token"));
        std::fs::write(&path, "two\nlines").unwrap();
        let error = SecretSource::File(path).read().unwrap_err().to_string();
        assert!(error.contains("token") && !error.contains("lines"), "{error}");
        assert!(SecretSource::Env("VIGIE_NO_SUCH_VARIABLE".into()).read().is_err());
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
        assert_eq!(source, SecretSource::Env("TOKEN".into()));
    }
}
