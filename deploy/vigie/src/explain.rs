//! `vigie explain`: why there is a window, or why there is none.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::core::line::Line;
use vigie_aggregator::explain::{self, Language};
use vigie_contract::Time;

use crate::replay;

/// Say why there is an outage window, or why there is none, from the evidence
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The id of a window; or, with --at, a service
    #[arg(value_name = "WINDOW|SERVICE")]
    subject: String,
    /// Explain what was known of the service at this instant: RFC 3339 with an offset, or microseconds since 1970
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    at: Option<String>,
    #[command(flatten)]
    source: replay::Source,
    /// In which words
    #[arg(long, value_enum, default_value_t = Lang::En)]
    lang: Lang,
    /// As JSON instead of words
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Lang {
    En,
    Fr,
}

pub(crate) fn run(args: &Args) -> io::Result<ExitCode> {
    let at = match args.at.as_deref().map(|text| (text, Time::parse(text))) {
        Some((text, None)) => {
            return refuse(&format!("--at {text} is no instant: write 2026-03-01T10:00:00+01:00, with an offset, or microseconds"));
        }
        at => at.and_then(|(_, time)| time),
    };
    let Some(evaluated) = replay::evaluate(&args.source)? else { return Ok(ExitCode::from(2)) };
    let engine = &evaluated.engine;
    // What a hole in the evidence made look so is no answer.
    let is_pruned = match at {
        Some(at) => evaluated.holes.iter().any(|hole| hole.bears_on(at, at)),
        None => {
            let is_meant = |line: &&Line| matches!(line, Line::Window(window) if window.id == args.subject);
            !evaluated.holes.is_empty() && engine.lines().iter().filter(is_meant).any(|line| !evaluated.can_tell(line))
        }
    };
    if is_pruned {
        return refuse("evidence of that time was pruned from the archive: what was published of it is in the window store");
    }
    let language = match args.lang {
        Lang::En => Language::English,
        Lang::Fr => Language::French,
    };
    let told = match at {
        Some(at) => explain::moment(engine, &args.subject, at).map(|moment| (serde_json::to_string(&moment), moment.in_words(language))),
        None => explain::window(engine, &args.subject).map(|story| (serde_json::to_string(&story), story.in_words(language))),
    };
    let Some((json, words)) = told else { return refuse(&unknown(engine, args)) };
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json?)?
    } else {
        out.write_all(words.as_bytes())?
    }
    Ok(ExitCode::SUCCESS)
}

fn refuse(message: &str) -> io::Result<ExitCode> {
    writeln!(io::stderr(), "error: {message}")?;
    Ok(ExitCode::from(2))
}

fn unknown(engine: &Engine, args: &Args) -> String {
    let services = engine.catalogue().map(|catalogue| catalogue.services.iter().map(|service| service.id.as_str()).collect::<Vec<_>>());
    let services = services.unwrap_or_default();
    let subject = &args.subject;
    match args.at {
        Some(_) => format!("there is no service `{subject}`; there are: {}", services.join(", ")),
        None if services.contains(&subject.as_str()) => format!("`{subject}` is a service: say --at TIME, or give the id of a window"),
        None => format!("there is no window `{subject}` at this frontier: `vigie replay` lists them"),
    }
}
