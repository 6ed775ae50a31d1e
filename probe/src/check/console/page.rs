//! What is looked for in a page: forgiving as a browser, but with no idea of a document. Whatever looks like a tag is one.

use super::template::is_name;
use serde::Deserialize;

/// The longest name of a character, such as `&quot;`, that is understood.
const LONGEST_ENTITY: usize = 10;

/// Where a page has a value; one of three ways.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// The `value` of the `<input>` of this name.
    input: Option<String>,
    /// The `content` of the `<meta>` of this name.
    meta: Option<String>,
    /// What stands between the first of this text and …
    after: Option<String>,
    /// … the next of that.
    before: Option<String>,
}

impl Place {
    /// What is wrong with it, if something is.
    pub(super) fn mistake(&self, name: &str) -> Option<String> {
        let texts = [&self.input, &self.meta, &self.after, &self.before];
        let is_one_way = matches!(texts, [Some(_), None, None, None] | [None, Some(_), None, None] | [None, None, Some(_), Some(_)]);
        if !is_name(name) {
            return Some(format!("`{name}` cannot stand in braces: name a value by letters, digits and `_`"));
        }
        if !is_one_way || texts.into_iter().flatten().any(String::is_empty) {
            return Some(format!(
                "`{name}` is taken from one place: {{ input = \"…\" }}, {{ meta = \"…\" }} or {{ after = \"…\", before = \"…\" }}"
            ));
        }
        None
    }

    /// The value, if the page has it.
    pub(super) fn find(&self, page: &str) -> Option<String> {
        let of_tag = |tag, name: &str, key| {
            let mut tags = tags(page, tag).filter(|tag| tag.is("name", name));
            tags.find_map(|tag| tag.get(key))
        };
        match self {
            Self { input: Some(name), .. } => of_tag("input", name, "value").map(decoded),
            Self { meta: Some(name), .. } => of_tag("meta", name, "content").map(decoded),
            Self { after, before, .. } => {
                let (_, rest) = page.split_once(after.as_deref()?)?;
                rest.split_once(before.as_deref()?).map(|(value, _)| decoded(value))
            }
        }
    }
}

/// Whether the page asks for a password or for a second factor.
pub(super) fn asks_for_credential(page: &str) -> bool {
    tags(page, "input").any(|tag| tag.is("type", "password") || tag.is("autocomplete", "one-time-code"))
}

/// The attributes of a tag, in their order; one without a value has an empty one.
struct Tag<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tag<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| *value)
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.get(key).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }
}

/// The opening tags of this name. What is commented out is not there.
fn tags<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = Tag<'a>> {
    let mut rest = page;
    std::iter::from_fn(move || {
        loop {
            (_, rest) = rest.split_once('<')?;
            if let Some(comment) = rest.strip_prefix("!--") {
                (_, rest) = comment.split_once("-->")?;
                continue;
            }
            let end = rest.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>').unwrap_or(rest.len());
            if rest[..end].eq_ignore_ascii_case(name) {
                let (tag, behind) = attributes(&rest[end..]);
                rest = behind;
                return Some(tag);
            }
        }
    })
}

/// The attributes up to the tag's end, and what is behind it.
fn attributes(mut rest: &str) -> (Tag<'_>, &str) {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() || rest.starts_with('>') {
            return (Tag(found), rest.strip_prefix('>').unwrap_or(rest));
        }
        // A stray `=` begins a name, as it does for browsers.
        let ends_name = |(at, c): &(usize, char)| *at > 0 && (c.is_ascii_whitespace() || ['=', '/', '>'].contains(c));
        let (name, behind) = rest.split_at(rest.char_indices().find(ends_name).map_or(rest.len(), |(at, _)| at));
        let (value, behind) = match behind.trim_ascii_start().strip_prefix('=') {
            Some(value) => attribute_value(value.trim_ascii_start()),
            None => ("", behind),
        };
        found.push((name, value));
        rest = behind;
    }
}

fn attribute_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote) {
            return quoted.split_once(quote).unwrap_or((quoted, ""));
        }
    }
    text.split_at(text.find(|c: char| c.is_ascii_whitespace() || c == '>').unwrap_or(text.len()))
}

/// The text that a page writes with names or numbers of characters.
fn decoded(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let entity = after.split_once(';').filter(|(name, _)| name.len() <= LONGEST_ENTITY);
        match entity.and_then(|(name, behind)| Some((character(name)?, behind))) {
            Some((character, behind)) => {
                plain.push(character);
                rest = behind;
            }
            None => {
                plain.push('&');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// Those that escapers write.
fn character(name: &str) -> Option<char> {
    let number = |text: &str, radix| u32::from_str_radix(text, radix).ok().and_then(char::from_u32);
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let text = name.strip_prefix('#')?;
            match text.strip_prefix(['x', 'X']) {
                Some(text) => number(text, 16),
                None => number(text, 10),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PAGE: &str = "<!doctype html><META content='a&amp;b' name=\"csrf\"><meta name=other content=x>
        <!-- <input name=token value=old type=password> -->
        <form action=\"/login?s=1&amp;t=2\"><input type=hidden value='1 > 0' /name=\"TOKEN\"/>
        <input disabled name=empty><inputs name=empty value=no><input name=sum value=a&#43;b&#x3D;&nbsp;&>";

    fn find(place: serde_json::Value) -> Option<String> {
        serde_json::from_value::<Place>(place).unwrap().find(PAGE)
    }

    #[test]
    fn values_are_found_however_they_are_written() {
        assert_eq!(find(json!({"meta": "csrf"})).as_deref(), Some("a&b"));
        assert_eq!(find(json!({"input": "token"})).as_deref(), Some("1 > 0"), "not the one that is commented out");
        assert_eq!(find(json!({"input": "sum"})).as_deref(), Some("a+b=&nbsp;&"));
        assert_eq!(find(json!({"after": "<form action=\"", "before": "\""})).as_deref(), Some("/login?s=1&t=2"));
        for none in [json!({"input": "empty"}), json!({"meta": "token"}), json!({"after": "<form ", "before": "</form>"})] {
            assert_eq!(find(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn a_form_that_asks_for_a_credential_is_known() {
        assert!(!asks_for_credential(PAGE));
        assert!(asks_for_credential("<p><INPUT name=p TYPE='Password'>"));
        assert!(asks_for_credential("<input autocomplete=\"one-time-code\" inputmode=numeric>"));
    }

    #[test]
    fn no_page_is_too_broken() {
        for page in ["<", "<input", "<input =", "<input a=", "<input a='", "<!-- <input", "<input name=é value=\"é\"", "&&;&#x;&#1114112;"]
        {
            let _ = (tags(page, "input").count(), decoded(page), asks_for_credential(page));
        }
        assert_eq!(decoded("&&;&#x;&#1114112;&#233;"), "&&;&#x;&#1114112;é");
    }
}
