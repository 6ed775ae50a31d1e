//! Truth beside what was derived: the demo's table, and whether all of it is right.

use std::fmt::Write;

use serde::Deserialize;
use vigie_contract::{Span, Time};

use super::catalogue::{Pace, pace_of};

/// What an incident of the script really was, and what must therefore have been derived.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Truth {
    /// A service was out of order in `[from, to)`, and had come back at `back` at the latest.
    Outage { service: &'static str, from: Time, to: Time, back: Time },
    /// The same, back at once, and a customer had noticed at `opened` already.
    Claimed { service: &'static str, opened: Time, from: Time, to: Time },
    /// No outage, however it may look: `recognized` says what shows that vigie saw what it was, or else what is wrong.
    Harmless { recognized: Result<String, String> },
}

/// An incident of the script.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Incident {
    pub(super) name: &'static str,
    pub(super) truth: Truth,
}

/// What the demo reads of a window, as the API gives it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Window {
    pub(super) id: String,
    pub(super) service: String,
    pub(super) onset_us: i64,
    pub(super) end_us: Option<i64>,
    pub(super) first_failed_us: Option<i64>,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    name: String,
    service: String,
    truth: String,
    derived: String,
    pub(super) is_right: bool,
}

/// One row for each incident, and one for every window that no incident caused.
pub(super) fn judge(incidents: &[Incident], windows: &[Window]) -> Vec<Row> {
    let mut rows: Vec<Row> = incidents.iter().map(|incident| judge_one(incident, windows)).collect();
    let is_caused = |window: &&Window| incidents.iter().any(|incident| belongs(window, &incident.truth));
    rows.extend(windows.iter().filter(|window| !is_caused(window)).map(|window| Row {
        name: "nothing".to_owned(),
        service: window.service.clone(),
        truth: "no incident".to_owned(),
        derived: in_words(window),
        is_right: false,
    }));
    rows
}

/// Whether a window is close enough to an incident to be its doing.
fn belongs(window: &Window, truth: &Truth) -> bool {
    let near = |service: &str, from: Time, to: Time| {
        let Pace { period, timeout, .. } = pace_of(service);
        let slack = period + period + timeout;
        let end = window.end_us.map_or(Time::FOREVER, Time::from_us);
        window.service == service && Time::from_us(window.onset_us) < to + slack && end > from - slack
    };
    match *truth {
        Truth::Outage { service, from, back, .. } => near(service, from, back),
        Truth::Claimed { service, opened, to, .. } => near(service, opened, to),
        Truth::Harmless { .. } => false,
    }
}

fn judge_one(incident: &Incident, windows: &[Window]) -> Row {
    let row = |service: &str, truth, derived, is_right| Row {
        name: incident.name.to_owned(),
        service: service.to_owned(),
        truth,
        derived,
        is_right,
    };
    let found: Vec<&Window> = windows.iter().filter(|window| belongs(window, &incident.truth)).collect();
    let derived = match found.as_slice() {
        [] => "no window".to_owned(),
        [one] => in_words(one),
        several => format!("{} windows", several.len()),
    };
    match &incident.truth {
        Truth::Outage { service, from, to, back } => {
            let is_right = matches!(found.as_slice(), [one] if begins_right(one, *from) && ends_right(one, *to, *back));
            row(service, format!("down {}", interval(*from, Some(*to))), derived, is_right)
        }
        Truth::Claimed { service, opened, from, to } => {
            // Exactly when the ticket says; what supervision saw first stays visible beside it.
            let first_failed = |window: &Window| window.first_failed_us.map(Time::from_us);
            let is_right = matches!(found.as_slice(), [one] if one.onset_us == opened.us() && ends_right(one, *to, *to)
                && first_failed(one).is_some_and(|first| is_onset_of(service, first, *from)));
            row(service, format!("ticket {}, down {}", clock(*opened), interval(*from, Some(*to))), derived, is_right)
        }
        Truth::Harmless { recognized } => {
            let (Ok(derived) | Err(derived)) = recognized;
            row("", "no outage".to_owned(), derived.clone(), recognized.is_ok())
        }
    }
}

/// How much later than its instant a change may be seen. What one vantage alone sees of a zone waits for the next slot where this machine was
/// too slow for one, which is then `void`; of the region's there are others who see it.
fn latest(service: &str) -> Span {
    let Pace { period, timeout, .. } = pace_of(service);
    let slots = if service.ends_with("/fr1") { 1 } else { 2 };
    Span::from_us(period.us() * slots) + timeout
}

/// A request in flight may be the first to fail.
fn is_onset_of(service: &str, onset: Time, from: Time) -> bool {
    from - pace_of(service).timeout <= onset && onset <= from + latest(service)
}

fn begins_right(window: &Window, from: Time) -> bool {
    is_onset_of(&window.service, Time::from_us(window.onset_us), from)
}

fn ends_right(window: &Window, to: Time, back: Time) -> bool {
    window.end_us.map(Time::from_us).is_some_and(|end| to <= end && end <= back + latest(&window.service))
}

fn in_words(window: &Window) -> String {
    format!("window {}", interval(Time::from_us(window.onset_us), window.end_us.map(Time::from_us)))
}

fn interval(from: Time, to: Option<Time>) -> String {
    match to {
        Some(to) => format!("{} … {} ({})", clock(from), clock(to), seconds(to - from)),
        None => format!("{} … open", clock(from)),
    }
}

/// Time of day in UTC, to the millisecond.
pub(super) fn clock(time: Time) -> String {
    let ms = time.us().rem_euclid(Span::DAY.us()) / 1_000;
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}

fn seconds(span: Span) -> String {
    format!("{}.{:03} s", span.us() / 1_000_000, span.us() / 1_000 % 1_000)
}

/// The table, with a heading.
pub(super) fn table(rows: &[Row]) -> String {
    let heading = ["incident", "service", "truth (UTC)", "derived (UTC)", ""].map(str::to_owned);
    let word = |is_right| if is_right { "right" } else { "WRONG" };
    let cell = |row: &Row| [row.name.clone(), row.service.clone(), row.truth.clone(), row.derived.clone(), word(row.is_right).to_owned()];
    let cells = rows.iter().map(cell);
    let lines: Vec<[String; 5]> = std::iter::once(heading).chain(cells).collect();
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for line in &lines {
        let [name, service, truth, derived, verdict] = line;
        let _ = write!(text, "  {name:0$}  {service:1$}  {truth:2$}  ", width(0), width(1), width(2));
        let _ = writeln!(text, "{derived:0$}  {verdict}", width(3));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(service: &str, onset_us: i64, end_us: Option<i64>) -> Window {
        Window { id: "w".to_owned(), service: service.to_owned(), onset_us, end_us, first_failed_us: Some(onset_us) }
    }

    const FROM: i64 = 100_000_000;
    const TO: i64 = 110_000_000;

    fn outage() -> Incident {
        let (from, to) = (Time::from_us(FROM), Time::from_us(TO));
        Incident { name: "outage", truth: Truth::Outage { service: "web/fr1", from, to, back: to } }
    }

    fn verdicts(windows: &[Window]) -> Vec<bool> {
        judge(&[outage()], windows).iter().map(|row| row.is_right).collect()
    }

    #[test]
    fn an_onset_within_a_period_and_two_timeouts_is_right_and_no_other() {
        let Pace { period, timeout, .. } = pace_of("web/fr1");
        let (period, timeout) = (period.us(), timeout.us());
        assert_eq!(verdicts(&[window("web/fr1", FROM - timeout, Some(TO))]), [true]);
        assert_eq!(verdicts(&[window("web/fr1", FROM + period + timeout, Some(TO + period + timeout))]), [true]);
        assert_eq!(verdicts(&[window("web/fr1", FROM - timeout - 1, Some(TO))]), [false]);
        assert_eq!(verdicts(&[window("web/fr1", FROM, Some(TO - 1))]), [false]);
        assert_eq!(verdicts(&[window("web/fr1", FROM, Some(TO + period + timeout + 1))]), [false]);
        assert_eq!(verdicts(&[window("web/fr1", FROM, None)]), [false]);
    }

    #[test]
    fn a_missing_a_torn_and_an_invented_window_are_wrong() {
        assert_eq!(verdicts(&[]), [false]);
        assert_eq!(verdicts(&[window("web/fr1", FROM, Some(FROM + 1)), window("web/fr1", TO - 1, Some(TO))]), [false]);
        assert_eq!(verdicts(&[window("web/fr1", FROM, Some(TO)), window("api", FROM, Some(TO))]), [true, false]);
        assert_eq!(
            verdicts(&[window("web/fr1", FROM, Some(TO)), window("web/fr1", FROM + 60_000_000, Some(TO + 60_000_000))]),
            [true, false]
        );
    }

    #[test]
    fn a_harmless_incident_is_right_only_if_it_was_recognized() {
        let is_right = |recognized| judge(&[Incident { name: "starved", truth: Truth::Harmless { recognized } }], &[])[0].is_right;
        assert!(is_right(Ok("9 slots not measured".to_owned())));
        assert!(!is_right(Err("2 failures".to_owned())));
    }

    #[test]
    fn a_ticket_is_the_onset_to_the_microsecond() {
        let (opened, from, to) = (Time::from_us(FROM - 7_000_000), Time::from_us(FROM), Time::from_us(TO));
        let incident = Incident { name: "ticket", truth: Truth::Claimed { service: "web/fr1", opened, from, to } };
        let mut derived = window("web/fr1", opened.us(), Some(TO));
        derived.first_failed_us = Some(FROM);
        assert!(judge(std::slice::from_ref(&incident), std::slice::from_ref(&derived))[0].is_right);
        derived.onset_us += 1;
        assert!(!judge(&[incident], &[derived])[0].is_right);
    }

    #[test]
    fn what_came_back_some_time_in_a_while_may_be_seen_in_all_of_it() {
        let (from, to, back) = (Time::from_us(FROM), Time::from_us(TO), Time::from_us(TO + 3_000_000));
        let is_right = |end_us| {
            let incident = Incident { name: "dark", truth: Truth::Outage { service: "web/fr1", from, to, back } };
            judge(&[incident], &[window("web/fr1", FROM, Some(end_us))])[0].is_right
        };
        let last = back + latest("web/fr1");
        assert!(is_right(TO) && is_right(last.us()));
        assert!(!is_right(TO - 1) && !is_right(last.us() + 1));
    }

    #[test]
    fn a_zone_has_a_slot_more_than_the_region() {
        assert_eq!(latest("network/az06") - latest("network/fr1"), pace_of("network/fr1").period);
        assert_eq!(latest("backup/az06") - latest("backup/fr1"), pace_of("backup/fr1").period);
    }
}
