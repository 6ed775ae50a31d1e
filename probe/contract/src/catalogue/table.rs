//! Reading one TOML table: every value is asked for by key and type, and what is missing, misshapen or unknown becomes a [`Problem`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Offset;

use super::problem::Problem;
use crate::time::{Span, SpanError, Time};

/// The mistakes found so far.
#[derive(Default)]
pub(super) struct Problems {
    pub(super) list: Vec<Problem>,
    /// Parts of the text could not be parsed, so that what is not there proves nothing.
    pub(super) partial: bool,
}

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// A problem that only says that something is absent.
    pub(super) fn push_absence(&mut self, problem: Problem) {
        if !self.partial {
            self.list.push(problem);
        }
    }
}

/// One table, and the keys that were asked of it.
pub(super) struct Table<'a> {
    /// What the table is, for messages: `this [[target]]`.
    what: &'static str,
    pub(super) span: Range<usize>,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

/// One value, and where it stands.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) key: &'static str,
    pub(super) span: Range<usize>,
    value: &'a DeValue<'a>,
}

/// A string, and where it stands.
#[derive(Clone)]
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    pub(super) span: Range<usize>,
}

impl<'a> Table<'a> {
    pub(super) fn new(what: &'static str, span: Range<usize>, entries: &'a DeTable<'a>) -> Self {
        Self { what, span, entries, known: Vec::new() }
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        let value = self.entries.get(key)?;
        Some(Item { key, span: value.span(), value: value.get_ref() })
    }

    /// The value of `key`, which must be there.
    pub(super) fn need(&mut self, key: &'static str, problems: &mut Problems) -> Option<Item<'a>> {
        let item = self.get(key);
        if item.is_none() {
            let problem = Problem::error(&self.span, format!("{} has no `{key}`", self.what), format!("`{key}` is missing"));
            problems.push_absence(problem.help(format!("add `{key} = …`")));
        }
        item
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        for key in self.entries.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let problem = Problem::error(&key.span(), format!("unknown key `{name}` in {}", self.what), "unknown key");
            let help = match nearest(name, self.known.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("it may have: {}", self.known.join(", ")),
            };
            problems.push(problem.help(help));
        }
    }
}

impl<'a> Item<'a> {
    pub(super) fn mismatch(&self, expected: &str) -> Problem {
        let found = if self.value.is_integer() && integer(self.value).is_none() { "more than 64 bits hold" } else { self.value.type_str() };
        Problem::error(&self.span, format!("`{}` must be {expected}", self.key), format!("expected {expected}, found {found}"))
    }

    pub(super) fn wrong(&self, message: impl Into<String>, label: impl Into<String>) -> Problem {
        Problem::error(&self.span, format!("`{}`: {}", self.key, message.into()), label)
    }

    pub(super) fn string(&self, problems: &mut Problems) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            problems.push(self.mismatch("a string"));
        }
        text
    }

    /// A string that is not empty.
    pub(super) fn name(&self, problems: &mut Problems) -> Option<Name<'a>> {
        let text = self.string(problems)?;
        if text.is_empty() {
            problems.push(self.wrong("a name cannot be empty", "empty"));
            return None;
        }
        Some(Name { text, span: self.span.clone() })
    }

    pub(super) fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            problems.push(self.mismatch("`true` or `false`"));
        }
        value
    }

    pub(super) fn count(&self, problems: &mut Problems) -> Option<usize> {
        let Some(integer) = integer(self.value) else {
            problems.push(self.mismatch("a whole number"));
            return None;
        };
        let count = usize::try_from(integer).ok();
        if count.is_none() {
            problems.push(self.wrong("a count cannot be negative", "negative"));
        }
        count
    }

    pub(super) fn array(&self, expected: &str, problems: &mut Problems) -> Option<Vec<Item<'a>>> {
        let items = self.items();
        if items.is_none() {
            problems.push(self.mismatch(expected));
        }
        items
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Option<Vec<Item<'a>>> {
        let array = self.value.as_array()?;
        Some(array.iter().map(|value| Item { key: self.key, span: value.span(), value: value.get_ref() }).collect())
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    /// A list of different names.
    pub(super) fn names(&self, problems: &mut Problems) -> Option<Vec<Name<'a>>> {
        let mut names: Vec<Name<'a>> = Vec::new();
        let mut places = HashMap::new();
        for item in self.array("a list of names", problems)? {
            let Some(name) = item.name(problems) else { continue };
            match places.entry(name.text) {
                Entry::Occupied(first) => {
                    let problem = Problem::error(&name.span, format!("`{}` names `{}` twice", self.key, name.text), "again here");
                    problems.push(problem.note(first.get(), "first here").help("each counts once: remove one"));
                }
                Entry::Vacant(place) => {
                    place.insert(name.span.clone());
                    names.push(name);
                }
            }
        }
        Some(names)
    }

    /// A duration: a string with units, or microseconds.
    pub(super) fn duration(&self, problems: &mut Problems) -> Option<Span> {
        let span = match (self.value.as_str(), integer(self.value)) {
            (Some(text), _) => Span::parse(text),
            (None, Some(us)) => Span::checked(us),
            (None, None) => {
                problems.push(self.mismatch("a duration such as \"10s\", or whole microseconds"));
                return None;
            }
        };
        span.map_err(|error| {
            let help = match error {
                SpanError::NoUnit | SpanError::Shape => "write \"10s\", \"150ms\", \"1h30m\", or whole microseconds without quotes",
                SpanError::Negative => "durations count forwards",
                SpanError::TooLong => "did you mean a smaller unit?",
            };
            problems.push(self.wrong(error.to_string(), "not a usable duration").help(help));
        })
        .ok()
    }

    /// A duration that is longer than nothing.
    pub(super) fn duration_above_zero(&self, problems: &mut Problems) -> Option<Span> {
        let span = self.duration(problems)?;
        if span == Span::ZERO {
            problems.push(self.wrong("must be longer than nothing", "zero"));
            return None;
        }
        Some(span)
    }

    /// A date-time with an offset, as TOML's own or in quotes.
    pub(super) fn instant(&self, problems: &mut Problems) -> Option<Time> {
        let instant = Time::checked(self.instant_us(problems)?);
        if instant.is_none() {
            self.no_instant(problems);
        }
        instant
    }

    /// The same as an end: one beyond the calendar is as good as its last instant.
    pub(super) fn end_instant(&self, problems: &mut Problems) -> Option<Time> {
        self.instant_us(problems).map(Time::clamped)
    }

    fn no_instant(&self, problems: &mut Problems) {
        problems.push(self.wrong("there is no such instant between the years 0000 and 9999", "not in the calendar"));
    }

    fn instant_us(&self, problems: &mut Problems) -> Option<i64> {
        let datetime = match (self.value.as_datetime(), self.value.as_str()) {
            (Some(datetime), _) => Some(*datetime),
            (None, Some(text)) => text.parse().ok(),
            (None, None) => None,
        };
        let Some(datetime) = datetime else {
            problems.push(self.mismatch("a date-time such as 2026-01-01T00:00:00+01:00"));
            return None;
        };
        if datetime.date.is_none() && datetime.time.is_none() {
            // What the parser puts in the place of a date-time that it has refused.
            return None;
        }
        let (Some(date), Some(time), Some(offset)) = (datetime.date, datetime.time, datetime.offset) else {
            let problem = self.wrong("a date-time needs a date, a time and an offset", "which instant this is depends on where one stands");
            problems.push(problem.help(format!("write {}", with_offset(&datetime))));
            return None;
        };
        let time_of_day = (time.second.unwrap_or(0), time.nanosecond.unwrap_or(0));
        let offset_s = match offset {
            Offset::Z => 0,
            Offset::Custom { minutes } => i64::from(minutes) * 60,
        };
        let local = civil_us(date, time.hour, time.minute, time_of_day.0, time_of_day.1);
        if local.is_none() {
            self.no_instant(problems);
        }
        local.map(|us| us.saturating_sub(offset_s * 1_000_000))
    }

    /// The text of a decimal number, whether written as a string, an integer or a float.
    pub(super) fn decimal(&self, problems: &mut Problems) -> Option<String> {
        let text = match self.value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Float(float) => Some(float.as_str().to_owned()),
            DeValue::Integer(_) => integer(self.value).map(|integer| integer.to_string()),
            _ => None,
        };
        if text.is_none() {
            problems.push(self.mismatch("a decimal number or string such as \"99.99\""));
        }
        text
    }

    pub(super) fn table(&self, what: &'static str) -> Option<Table<'a>> {
        self.value.as_table().map(|entries| Table::new(what, self.span.clone(), entries))
    }

    /// A table whose meaning is somebody else's, as JSON.
    pub(super) fn json(&self, problems: &mut Problems) -> Option<serde_json::Value> {
        if !self.value.is_table() {
            problems.push(self.mismatch("a table"));
            return None;
        }
        let json = json(self.value);
        if json.is_none() {
            problems.push(self.wrong("holds a number that does not fit 64 bits", "somewhere in here"));
        }
        json
    }
}

fn civil_us(date: toml::value::Date, hour: u8, minute: u8, second: u8, nanosecond: u32) -> Option<i64> {
    let (year, month, day) = (i16::try_from(date.year).ok()?, i8::try_from(date.month).ok()?, i8::try_from(date.day).ok()?);
    let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
    // A leap second has no instant of its own in UTC microseconds.
    let second = i8::try_from(second.min(59)).ok()?;
    let civil = jiff::civil::DateTime::new(year, month, day, hour, minute, second, i32::try_from(nanosecond).ok()?).ok()?;
    // The last hours of the calendar are later than any instant that can be computed with.
    Some(jiff::tz::TimeZone::UTC.to_timestamp(civil).map_or(i64::MAX, jiff::Timestamp::as_microsecond))
}

/// What the author may have meant.
fn with_offset(datetime: &toml::value::Datetime) -> String {
    match (datetime.date, datetime.time) {
        (Some(date), Some(time)) => format!("{date}T{time}+01:00, with the offset you mean"),
        (Some(date), None) => format!("{date}T00:00:00+01:00, with the offset you mean"),
        _ => "2026-01-01T00:00:00+01:00".to_owned(),
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    Some(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(_) => integer(value)?.into(),
        DeValue::Float(float) => serde_json::Number::from_f64(float.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(boolean) => (*boolean).into(),
        DeValue::Datetime(datetime) => datetime.to_string().into(),
        DeValue::Array(array) => array.iter().map(|value| json(value.get_ref())).collect::<Option<Vec<_>>>()?.into(),
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let key: &toml::de::DeString<'_> = key.get_ref();
                Some((key.to_string(), json(value.get_ref())?))
            };
            serde_json::Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// The known word that a mistyped one most likely stands for.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &&str| distance(word, candidate) <= 1 + candidate.chars().count() / 4;
    // Long texts are no typing mistakes, and comparing them costs their product.
    if word.len() > 100 {
        return None;
    }
    known.filter(|candidate| candidate.len() <= 100).filter(near).min_by_key(|candidate| distance(word, candidate))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_are_recognised() {
        let known = ["vantages", "down_quorum", "period"];
        assert_eq!(nearest("vantage", known.into_iter()), Some("vantages"));
        assert_eq!(nearest("downquorum", known.into_iter()), Some("down_quorum"));
        assert_eq!(nearest("timeout", known.into_iter()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
