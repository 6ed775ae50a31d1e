//! Where a region's tables are: in a data directory, or on ClickHouse.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vigie_aggregator::sqlite::{Access, DataDir, SqliteStore};

use crate::shell::Failure;

/// A row of a table.
pub(crate) type Row = Map<String, Value>;

/// Where to look for them.
#[derive(clap::Args)]
pub(crate) struct Source {
    /// The data directory of the region
    #[arg(long, value_name = "DIR", default_value = "vigie-data")]
    data: PathBuf,
    /// Instead of a data directory: the settings of ClickHouse, TOML
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    clickhouse: Option<PathBuf>,
}

impl Source {
    pub(crate) fn open(&self) -> Result<Tables, Failure> {
        #[cfg(feature = "kafka")]
        if let Some(clickhouse) = &self.clickhouse {
            return Tables::on_clickhouse(clickhouse);
        }
        Tables::in_directory(&self.data)
    }
}

/// The tables, to be read.
pub(crate) enum Tables {
    Embedded(Box<SqliteStore>),
    #[cfg(feature = "kafka")]
    ClickHouse(Box<vigie_aggregator::clickhouse::ClickHouseStore>),
}

impl Tables {
    pub(crate) fn in_directory(data: &Path) -> Result<Self, Failure> {
        Ok(Self::Embedded(Box::new(SqliteStore::open(&DataDir::open(data, Access::Join)?)?)))
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn on_clickhouse(settings: &Path) -> Result<Self, Failure> {
        use vigie_aggregator::clickhouse::{ClickHouseStore, Settings};
        Ok(Self::ClickHouse(Box::new(ClickHouseStore::new(&Settings::read(settings)?))))
    }

    /// The rows of a `SELECT` that both understand; `?1`, `?2` … stand for `arguments`.
    pub(crate) async fn rows(&self, sql: &str, arguments: Vec<Value>) -> Result<Vec<Row>, Failure> {
        match self {
            Self::Embedded(store) => Ok(store.rows(sql, arguments).await?),
            #[cfg(feature = "kafka")]
            Self::ClickHouse(store) => {
                let (sql, arguments) = in_order(sql, &arguments);
                Ok(store.rows(&sql, arguments).await?)
            }
        }
    }
}

/// The same for whoever counts question marks instead of reading their numbers.
#[cfg(feature = "kafka")]
fn in_order(sql: &str, arguments: &[Value]) -> (String, Vec<Value>) {
    let (mut text, mut given) = (String::new(), Vec::new());
    let mut parts = sql.split('?');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let place = part[..digits].parse::<usize>().unwrap_or(1);
        given.push(arguments.get(place - 1).cloned().unwrap_or_default());
        text.push('?');
        text.push_str(&part[digits..]);
    }
    (text, given)
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_given_in_the_order_of_their_marks() {
        let (sql, arguments) = in_order("a < ?1 AND coalesce(b, ?2) > ?12 OR c = ?1", &[1.into(), 2.into()]);
        assert_eq!(sql, "a < ? AND coalesce(b, ?) > ? OR c = ?");
        assert_eq!(arguments, [1.into(), 2.into(), Value::Null, 1.into()]);
    }
}
