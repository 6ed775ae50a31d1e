//! The production side of the window store: `ClickHouse`, the tables of `schema/*.sql`.

mod schema;
mod store;

use std::fs;
use std::path::{Path, PathBuf};

use clickhouse::{Client, Compression};
use serde::Deserialize;

pub use schema::{Mismatch, apply, check};
pub use store::ClickHouseStore;

/// How the server is reached: a TOML file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `http://host:8123`.
    pub url: String,
    /// The database that holds the tables.
    #[serde(default = "vigie")]
    pub database: String,
    /// Who we are there.
    #[serde(default = "default_user")]
    pub user: String,
    password_file: Option<PathBuf>,
    #[serde(skip)]
    base: PathBuf,
}

fn vigie() -> String {
    "vigie".to_owned()
}

fn default_user() -> String {
    "default".to_owned()
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct SettingsError {
    path: PathBuf,
    why: String,
}

/// What is wrong and where, without the line itself: somebody may have written a password into it.
fn told(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line}: {}", error.message())
}

impl Settings {
    /// Reads the file at `path`; the password's file lies beside it unless its path is absolute.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let wrong = |why: String| SettingsError { path: path.to_owned(), why };
        let text = fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let mut settings: Self = toml::from_str(&text).map_err(|error| wrong(told(&text, &error)))?;
        settings.base = path.parent().map(Path::to_owned).unwrap_or_default();
        settings.password().map_err(|error| wrong(format!("cannot read the password: {error}")))?;
        let is_known = |scheme| settings.url.starts_with(scheme);
        if !is_known("http://") && (!is_known("https://") || cfg!(not(feature = "clickhouse-tls"))) {
            return Err(wrong(format!("`url` is `{}`: write http://host:8123 (https needs `--features clickhouse-tls`)", settings.url)));
        }
        if !settings.database.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') || settings.database.is_empty() {
            return Err(wrong(format!("`database` is `{}`: write letters, digits and _", settings.database)));
        }
        Ok(settings)
    }

    fn password(&self) -> std::io::Result<Option<String>> {
        let read = |file: &PathBuf| fs::read_to_string(self.base.join(file));
        Ok(self.password_file.as_ref().map(read).transpose()?.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    /// A client that knows no database yet: it may have to be made.
    fn server(&self) -> Client {
        let client = Client::default().with_url(&self.url).with_user(&self.user).with_compression(Compression::Lz4);
        // It was there when the settings were read; without it the server says that it is wrong.
        match self.password().unwrap_or_default() {
            Some(password) => client.with_password(password),
            None => client,
        }
    }

    fn client(&self) -> Client {
        self.server().with_database(&self.database)
    }
}
