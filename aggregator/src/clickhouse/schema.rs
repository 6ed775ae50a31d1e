//! The tables: `schema/*.sql`, applied and checked.

use std::collections::BTreeMap;
use std::fmt;

use clickhouse::Row;
use clickhouse::error::Error;
use serde::Deserialize;

use super::Settings;

/// The files, in the order in which they are applied.
const FILES: [&str; 11] = [
    include_str!("../../schema/001_windows.sql"),
    include_str!("../../schema/002_gaps.sql"),
    include_str!("../../schema/003_accounts.sql"),
    include_str!("../../schema/004_claims.sql"),
    include_str!("../../schema/005_exclusions.sql"),
    include_str!("../../schema/006_catalogues.sql"),
    include_str!("../../schema/007_dead_letters.sql"),
    include_str!("../../schema/008_samples.sql"),
    include_str!("../../schema/009_latency.sql"),
    include_str!("../../schema/010_frontiers.sql"),
    include_str!("../../schema/011_latency_by_hour.sql"),
];

/// Where the server's tables are not those of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A table or view is missing.
    Missing(String),
    /// A column is missing, or has another type.
    Column {
        /// Of which table.
        table: String,
        /// Which.
        column: String,
        /// Its type there, if it is there.
        found: Option<String>,
        /// Its type here.
        wanted: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(table) => write!(f, "{table} is missing: `vigie schema --apply` makes it"),
            Self::Column { table, column, found: None, .. } => write!(f, "{table} has no column {column}: `vigie schema --apply` adds it"),
            Self::Column { table, column, found: Some(found), wanted } => {
                write!(
                    f,
                    "{table}.{column} is {found}, and must be {wanted}: move the table away and fill a new one from the log's archive"
                )
            }
        }
    }
}

/// Makes the database and what is missing in it; what is there stays, but for views, which are made anew, and columns, which are added.
pub async fn apply(settings: &Settings) -> Result<(), Error> {
    settings.server().query(&format!("CREATE DATABASE IF NOT EXISTS `{}`", settings.database)).execute().await?;
    let client = settings.client();
    for statement in FILES.iter().flat_map(|file| statements(file)) {
        client.query_raw(&statement).execute().await?;
    }
    for mismatch in check(settings).await? {
        if let Mismatch::Column { table, column, found: None, wanted } = mismatch {
            client.query_raw(&format!("ALTER TABLE `{table}` ADD COLUMN IF NOT EXISTS `{column}` {wanted}")).execute().await?;
        }
    }
    Ok(())
}

#[derive(Row, Deserialize)]
struct Column {
    table: String,
    name: String,
    r#type: String,
}

/// What is missing or different on the server.
pub async fn check(settings: &Settings) -> Result<Vec<Mismatch>, Error> {
    let known = settings.server().query("SELECT table, name, type FROM system.columns WHERE database = ?").bind(&settings.database);
    let mut tables: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for column in known.fetch_all::<Column>().await? {
        tables.entry(column.table).or_default().insert(column.name, column.r#type);
    }
    let mut mismatches = Vec::new();
    for statement in FILES.iter().flat_map(|file| statements(file)) {
        let Some((table, columns)) = definition(&statement) else { continue };
        let Some(found) = tables.get(&table) else {
            mismatches.push(Mismatch::Missing(table));
            continue;
        };
        for (column, wanted) in columns {
            let there = found.get(&column);
            if there != Some(&wanted) {
                mismatches.push(Mismatch::Column { table: table.clone(), column, found: there.cloned(), wanted });
            }
        }
    }
    Ok(mismatches)
}

/// The statements of a file, without its comments.
fn statements(file: &str) -> Vec<String> {
    let code: Vec<&str> = file.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    code.join("\n")
        .split(";\n")
        .chain(None)
        .map(|text| text.trim().trim_end_matches(';').trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect()
}

/// The name of the table or view that a statement makes, and its columns with their types.
fn definition(statement: &str) -> Option<(String, Vec<(String, String)>)> {
    let rest = ["CREATE TABLE IF NOT EXISTS ", "CREATE OR REPLACE VIEW ", "CREATE MATERIALIZED VIEW IF NOT EXISTS "]
        .iter()
        .find_map(|start| statement.strip_prefix(start))?;
    let (name, rest) = rest.split_once('\n')?;
    let body = rest.strip_prefix("(\n")?.split("\n)").next()?;
    let column = |line: &str| {
        let (name, rest) = line.trim().strip_prefix('`')?.split_once("` ")?;
        let ends = [" COMMENT ", " ALIAS ", " CODEC("].iter().filter_map(|end| rest.find(end)).min();
        Some((name.to_owned(), rest[..ends.unwrap_or(rest.len())].trim_end_matches(',').to_owned()))
    };
    Some((name.to_owned(), body.lines().filter_map(column).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_is_understood() {
        let all: Vec<String> = FILES.iter().flat_map(|file| statements(file)).collect();
        let made: Vec<_> = all.iter().filter_map(|statement| definition(statement)).collect();
        let written = FILES.iter().flat_map(|file| file.lines()).filter(|line| line.starts_with("CREATE ")).count();
        // A materialized view has the columns of the table that it fills.
        assert_eq!((all.len(), made.len() + 1), (written, written), "{all:#?}");
        assert!(made.iter().all(|(_, columns)| !columns.is_empty()), "{made:#?}");
        let (name, columns) = &made[0];
        assert_eq!((name.as_str(), columns[0].1.as_str()), ("windows", "LowCardinality(String)"));
        assert!(columns.contains(&("kind".to_owned(), "Enum8('outage' = 1, 'claim' = 2, 'mixed' = 3)".to_owned())));
    }
}
