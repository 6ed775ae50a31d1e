//! What Grafana does with a dashboard before it asks: variables and macros of queries are replaced, as its documentation says.
//!
//! Grafana itself is not here. The rules are those of "Variables", "Variable syntax" and "Prometheus template variables" in the manual of
//! Grafana 11, and of "Macros" in that of the plugin `grafana-clickhouse-datasource` 4. What they do not name is an error, not left alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::service::installed;

/// The languages.
pub const LANGUAGES: [&str; 2] = ["en", "fr"];

/// Where everything about dashboards is.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

/// All dashboards in a language, by name.
///
/// # Panics
/// If one cannot be read.
#[must_use]
pub fn dashboards(language: &str) -> BTreeMap<String, Value> {
    let files = std::fs::read_dir(directory().join(language)).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

/// What holds files against Grafana's schema (`tests/grafana_schema.py`): they are its arguments.
///
/// # Panics
/// If the schema is not installed; `tests/services/install` installs it.
#[must_use]
pub fn schema_judge() -> Command {
    let mut command = Command::new(installed("python").join("bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana_schema.py"));
    command
}

/// Who reads a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Prometheus.
    Prometheus,
    /// `ClickHouse`.
    ClickHouse,
}

impl Source {
    /// That of a panel, query, variable or annotation, which name it by a variable.
    ///
    /// # Panics
    /// If it is another.
    #[must_use]
    pub fn of(part: &Value) -> Self {
        match (part["datasource"]["type"].as_str(), part["datasource"]["uid"].as_str()) {
            (Some("prometheus"), Some("${prometheus}")) => Self::Prometheus,
            (Some("grafana-clickhouse-datasource"), Some("${clickhouse}")) => Self::ClickHouse,
            _ => panic!("which data source is that? {part}"),
        }
    }
}

/// What a person chose at the head of a dashboard.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The values.
    pub values: Vec<String>,
    /// Whether there may be several.
    pub is_many: bool,
}

/// What is chosen, and the time that is looked at, in Unix seconds.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Variables by name.
    pub variables: BTreeMap<String, Chosen>,
    /// The start of the time range.
    pub from: u64,
    /// The end of the time range.
    pub to: u64,
    /// `$__interval`, in seconds: what a point of a panel stands for.
    pub interval: u64,
    /// `$__rate_interval`, in seconds: at least four scrapes.
    pub rate_interval: u64,
}

impl Choice {
    /// The query as it is sent.
    ///
    /// # Errors
    /// Names a variable, format or macro that there is not.
    pub fn fill(&self, source: Source, query: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut rest = query;
        while let Some((before, after)) = rest.split_once('$') {
            text += before;
            let (inside, after) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or_else(|| format!("no }} after ${after}"))?,
                None => after.split_at(after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len())),
            };
            text += &match inside.split_once(':') {
                Some((name, format)) => self.value(source, name, Some(format))?,
                None => self.value(source, inside, None)?,
            };
            rest = after;
        }
        Ok(text + rest)
    }

    fn value(&self, source: Source, name: &str, format: Option<&str>) -> Result<String, String> {
        match (source, name, format) {
            (_, "__from", None) => return Ok((self.from * 1000).to_string()),
            (_, "__to", None) => return Ok((self.to * 1000).to_string()),
            (Source::Prometheus, "__rate_interval", None) => return Ok(format!("{}s", self.rate_interval)),
            (Source::ClickHouse, "__interval_s", None) => return Ok(self.interval.to_string()),
            _ => {}
        }
        let chosen = self.variables.get(name).ok_or_else(|| format!("there is no variable {name}"))?;
        match (source, format, chosen.values.as_slice()) {
            (Source::ClickHouse, Some("sqlstring"), values) => {
                let quoted: Vec<String> = values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
                Ok(quoted.join(","))
            }
            (Source::Prometheus, None, [value]) if !chosen.is_many => Ok(value.replace('\\', "\\\\").replace('"', "\\\"")),
            (Source::Prometheus, None, [value]) => Ok(regex_escaped(value)),
            (Source::Prometheus, None, values) => {
                let escaped: Vec<String> = values.iter().map(|value| regex_escaped(value)).collect();
                Ok(format!("({})", escaped.join("|")))
            }
            (Source::ClickHouse, None, [value]) if !chosen.is_many => Ok(value.clone()),
            _ => Err(format!("{name}:{format:?} of {chosen:?} says nothing to {source:?}")),
        }
    }
}

/// A value within a regular expression within a string of `PromQL`.
fn regex_escaped(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars() {
        match c {
            '\\' => text += "\\\\\\\\",
            '$' | '^' | '*' | '{' | '}' | '[' | ']' | '\'' | '+' | '?' | '.' | '(' | ')' | '|' => {
                text += "\\\\";
                text.push(c);
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice() -> Choice {
        let chosen = |values: &[&str], is_many| Chosen { values: values.iter().map(|value| (*value).to_owned()).collect(), is_many };
        let variables = [
            ("service".to_owned(), chosen(&["s3/fr1", "it's.(x)"], true)),
            ("one".to_owned(), chosen(&["a.b"], false)),
            ("some".to_owned(), chosen(&["a.b"], true)),
        ];
        Choice { variables: variables.into(), from: 10, to: 20, interval: 2, rate_interval: 4 }
    }

    #[test]
    fn variables_are_replaced_as_grafana_replaces_them() {
        let prometheus = |query| choice().fill(Source::Prometheus, query).unwrap();
        assert_eq!(prometheus("{s=~\"$service\"}[$__rate_interval]"), "{s=~\"(s3/fr1|it\\\\'s\\\\.\\\\(x\\\\))\"}[4s]");
        assert_eq!(prometheus("$one ${some}x"), "a.b a\\\\.bx");
        let clickhouse = |query| choice().fill(Source::ClickHouse, query).unwrap();
        assert_eq!(clickhouse("IN (${service:sqlstring}) = '$one'"), "IN ('s3/fr1','it''s.(x)') = 'a.b'");
        assert_eq!(clickhouse("${__from} ${__to} $__interval_s"), "10000 20000 2");
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for (source, query) in [
            (Source::Prometheus, "$nobody"),
            (Source::ClickHouse, "$__timeTravel"),
            (Source::ClickHouse, "$service"),
            (Source::Prometheus, "${service:sqlstring}"),
            (Source::Prometheus, "${service"),
        ] {
            assert!(choice().fill(source, query).is_err(), "{query}");
        }
    }
}
