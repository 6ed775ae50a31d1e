//! Problems of a catalogue, drawn into its text as a compiler does.

use std::io::IsTerminal;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use vigie_contract::catalogue::{Problem, Severity};

/// Nobody reads more drawings; further problems get a line each.
const MOST_DRAWINGS: usize = 100;
/// A longer line is not drawn, only named.
const LONGEST_DRAWN_LINE: usize = 1_000;

/// All `problems` of the catalogue `text` that was read from `path`, for standard error.
pub(crate) fn draw(path: &Path, text: &str, problems: &[Problem]) -> String {
    let renderer = if std::io::stderr().is_terminal() { Renderer::styled() } else { Renderer::plain() };
    let path = path.display().to_string();
    let mut drawn = String::new();
    for (index, problem) in problems.iter().enumerate() {
        if index < MOST_DRAWINGS && is_drawable(text, problem) {
            drawn += &drawing(&renderer, &path, text, problem);
        } else {
            drawn += &line(&path, text, problem);
        }
        drawn.push('\n');
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let warnings = problems.len() - errors;
    let summary = format!("{path}: {errors} error{}, {warnings} warning{}\n", plural(errors), plural(warnings));
    drawn + &summary
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn is_drawable(text: &str, problem: &Problem) -> bool {
    let places = std::iter::once(&problem.span).chain(problem.note.as_ref().map(|note| &note.span));
    places.into_iter().all(|span| {
        let (Some(before), Some(after)) = (text.get(..span.start), text.get(span.end..)) else { return false };
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = span.end + after.find('\n').unwrap_or(after.len());
        end - start <= LONGEST_DRAWN_LINE
    })
}

fn drawing(renderer: &Renderer, path: &str, text: &str, problem: &Problem) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let primary = AnnotationKind::Primary.span(problem.span.clone()).label(&problem.label);
    let note = problem.note.as_ref().map(|note| AnnotationKind::Context.span(note.span.clone()).label(&note.label));
    let snippet = Snippet::source(text).path(path).annotation(primary).annotations(note);
    let mut report = level.primary_title(&problem.message).element(snippet);
    if let Some(help) = &problem.help {
        report = report.element(Level::HELP.message(help));
    }
    renderer.render(&[report]) + "\n"
}

fn line(path: &str, text: &str, problem: &Problem) -> String {
    let (line, column) = problem.line_and_column(text);
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let help = problem.help.as_ref().map(|help| format!("; help: {help}")).unwrap_or_default();
    format!("{path}:{line}:{column}: {severity}: {}{help}\n", problem.message)
}
