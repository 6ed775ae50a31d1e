//! What is wrong with a catalogue, where, and how to mend it.

use std::ops::Range;

/// One mistake, or one thing that looks like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the catalogue is refused for it.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The bytes of the text that are wrong.
    pub span: Range<usize>,
    /// A few words beside those bytes.
    pub label: String,
    /// How to mend it.
    pub help: Option<String>,
    /// Another place that belongs to it.
    pub note: Option<Note>,
}

/// A second place of a [`Problem`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The bytes of the text.
    pub span: Range<usize>,
    /// A few words beside them.
    pub label: String,
}

/// Whether a catalogue with this [`Problem`] can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It is refused.
    Error,
    /// It is accepted, but somebody should look.
    Warning,
}

impl Problem {
    pub(super) fn error(span: &Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span: span.clone(), label: label.into(), help: None, note: None }
    }

    pub(super) fn warning(span: &Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message, label) }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn note(mut self, span: &Range<usize>, label: impl Into<String>) -> Self {
        self.note = Some(Note { span: span.clone(), label: label.into() });
        self
    }

    /// Line and column in `text` at which the problem begins, both counted from 1; columns are characters.
    #[must_use]
    pub fn line_and_column(&self, text: &str) -> (usize, usize) {
        let before = text.get(..self.span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}
