//! Text of a catalogue with `{name}` where a value goes that the journey finds on its way.

use std::collections::HashMap;

/// What a journey has found, by name. It may hold what only its finder should know: it has no `Debug`.
#[derive(Default)]
pub(super) struct Values(HashMap<String, String>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Value(String),
}

impl Values {
    pub(super) fn keep(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }
}

impl Template {
    /// Braces around anything but a name are plain text.
    pub(super) fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            match after.split_once('}').filter(|(name, _)| is_name(name)) {
                Some((name, behind)) => {
                    pieces.push(Piece::Plain(std::mem::take(&mut plain)));
                    pieces.push(Piece::Value(name.to_owned()));
                    rest = behind;
                }
                None => {
                    plain.push('{');
                    rest = after;
                }
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Plain(plain));
        pieces.retain(|piece| *piece != Piece::Plain(String::new()));
        Self(pieces)
    }

    /// The names of the values that it needs.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(name) => Some(name.as_str()),
            Piece::Plain(_) => None,
        })
    }

    /// Whether it is nothing but one value.
    pub(super) fn is_value(&self) -> bool {
        matches!(self.0[..], [Piece::Value(_)])
    }

    /// The text with its values, each as `write` writes it; none while one is not known.
    pub(super) fn fill(&self, values: &Values, write: impl Fn(&str) -> String) -> Option<String> {
        let piece = |piece: &Piece| match piece {
            Piece::Plain(text) => Some(text.clone()),
            Piece::Value(name) => values.0.get(name).map(|value| write(value)),
        };
        self.0.iter().map(piece).collect()
    }
}

/// Whether this can be the name of a value.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_where_their_names_stood() {
        let mut values = Values::default();
        values.keep("id", "a/b".to_owned());
        let fill = |text| Template::parse(text).fill(&values, str::to_uppercase);
        assert_eq!(fill("/x/{id}?y={id}&z=1").as_deref(), Some("/x/A/B?y=A/B&z=1"));
        assert_eq!(fill("{\"a\": {}} {no name} {").as_deref(), Some("{\"a\": {}} {no name} {"));
        assert_eq!(fill("{other}"), None);
        assert!(Template::parse("{id}").is_value() && !Template::parse("{id}/").is_value());
        assert_eq!(Template::parse("{a}-{b}").names().collect::<Vec<_>>(), ["a", "b"]);
    }
}
