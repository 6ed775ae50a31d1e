//! Explanations in words, for people who were not there.

use std::fmt::Write;

use vigie_contract::{ClaimState, Outcome, Time};

use super::{ClaimPart, ExclusionPart, Measured, Moment, TargetPart, VantagePart, WindowStory};
use crate::core::state::State;
use crate::core::window::{EndedBy, Kind, Status};

/// In which words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// French.
    French,
}

impl Language {
    fn pick<'a>(self, english: &'a str, french: &'a str) -> &'a str {
        match self {
            Self::English => english,
            Self::French => french,
        }
    }

    fn state(self, state: State) -> &'static str {
        match (self, state) {
            (Self::English, State::Up) => "up",
            (Self::English, State::Unknown) => "unknown",
            (Self::English, State::Down) => "down",
            (Self::French, State::Up) => "en service",
            (Self::French, State::Unknown) => "inconnu",
            (Self::French, State::Down) => "en panne",
        }
    }
}

fn time(us: i64) -> String {
    Time::from_us(us).to_string()
}

/// A length as people read it, exact to the microsecond: `1 h 2 min 18.442 s`.
fn length(language: Language, us: i64) -> String {
    let (days, hours, minutes, rest_us) = (us / 86_400_000_000, us / 3_600_000_000 % 24, us / 60_000_000 % 60, us % 60_000_000);
    let day = language.pick("d", "j");
    let whole = [(days, day), (hours, "h"), (minutes, "min")].into_iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<_> = whole.map(|(count, unit)| format!("{count} {unit}")).collect();
    if rest_us > 0 || parts.is_empty() {
        let seconds = format!("{}.{:06}", rest_us / 1_000_000, rest_us % 1_000_000);
        let seconds = seconds.trim_end_matches('0').trim_end_matches('.').replace('.', language.pick(".", ","));
        parts.push(format!("{seconds} s"));
    }
    parts.join(" ")
}

/// Lines of text; writing into a `String` cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.0, "{line}");
    }
}

impl Moment {
    /// The moment in words.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        let mut text = Text::default();
        let (service, at) = (&self.service, time(self.at_us));
        match (language, self.measured) {
            (Language::English, Measured::NotEvaluated) => {
                text.line(&format!("{service} at {at}: not evaluated yet, evidence is evaluated up to {}.", time(self.frontier_us)));
            }
            (Language::French, Measured::NotEvaluated) => {
                text.line(&format!("{service} à {at} : pas encore évalué, les relevés sont évalués jusqu'à {}.", time(self.frontier_us)));
            }
            (Language::English, Measured::NotYet) => text.line(&format!("{service} at {at}: not measured, measurement had not begun.")),
            (Language::French, Measured::NotYet) => text.line(&format!("{service} à {at} : non mesuré, la mesure n'avait pas commencé.")),
            (Language::English, Measured::NoLonger) => text.line(&format!("{service} at {at}: not measured, measurement had ended.")),
            (Language::French, Measured::NoLonger) => text.line(&format!("{service} à {at} : non mesuré, la mesure avait pris fin.")),
            (_, Measured::Yes) => self.state_in_words(language, &mut text),
        }
        self.targets.iter().for_each(|target| target.in_words(language, &mut text));
        self.claims.iter().for_each(|claim| claim.in_words(language, &mut text));
        self.exclusions.iter().for_each(|exclusion| exclusion.in_words(language, &mut text));
        text.0
    }

    fn state_in_words(&self, language: Language, text: &mut Text) {
        let (service, at, state) = (&self.service, time(self.at_us), language.state(self.counted));
        text.line(&match language {
            Language::English => format!("{service} at {at}: {state}. It needs {}.", self.needs),
            Language::French => format!("{service} à {at} : {state}. Il lui faut {}.", self.needs),
        });
        text.line(&match (language, &self.window) {
            (Language::English, Some(window)) => {
                format!("This instant lies in window {}, which begins at {}.", window.id, time(window.onset_us))
            }
            (Language::French, Some(window)) => {
                format!("Cet instant est dans la fenêtre {}, qui commence à {}.", window.id, time(window.onset_us))
            }
            (Language::English, None) => format!("No window covers this instant{}", no_window(language, self.counted)),
            (Language::French, None) => format!("Aucune fenêtre ne couvre cet instant{}", no_window(language, self.counted)),
        });
        if self.counted == State::Down && self.observed != State::Down {
            text.line(language.pick(
                "It is inferred, not observed: after the outage was seen nothing was, and blindness is not restoration.",
                "C'est déduit, non observé : après la panne constatée, plus rien n'a été vu, et ne rien voir n'est pas un rétablissement.",
            ));
        }
    }
}

fn no_window(language: Language, state: State) -> &'static str {
    match (language, state) {
        (Language::English, State::Up) => ": the service was seen to work.",
        (Language::French, State::Up) => " : le service a été vu en fonctionnement.",
        (Language::English, State::Unknown) => {
            ": nothing is known of it. Time that was never seen down is at most unknown; it is open to a customer's claim."
        }
        (Language::French, State::Unknown) => {
            " : on n'en sait rien. Un temps jamais vu en panne est tout au plus inconnu ; il reste ouvert à une réclamation du client."
        }
        (_, State::Down) => ".",
    }
}

impl TargetPart {
    fn in_words(&self, language: Language, text: &mut Text) {
        let count = |state| self.vantages.iter().filter(|vantage| vantage.state == state).count();
        let (down, up, n) = (count(State::Down), count(State::Up), self.vantages.len());
        let (target, state) = (&self.target, language.state(self.counted));
        text.line(&match language {
            Language::English => {
                format!("- {target}: {state}. Of {n} vantages {down} saw it down ({} make it down), {up} up ({} make it up).", self.down_quorum, self.up_quorum)
            }
            Language::French => format!(
                "- {target} : {state}. Sur {n} points de mesure, {down} le voient en panne (il en faut {}), {up} en service (il en faut {}).",
                self.down_quorum, self.up_quorum
            ),
        });
        if let Some(q) = self.dated_back_from_us {
            text.line(&match language {
                Language::English => format!("  The quorum saw it down at {}; the onset is dated back to the first failure that the evidence allows, over this instant.", time(q)),
                Language::French => format!("  Le quorum l'a vu en panne à {} ; le début est antidaté au premier échec que les relevés permettent, avant cet instant.", time(q)),
            });
        }
        if let Some(since) = self.persists_since_us {
            text.line(&match language {
                Language::English => format!(
                    "  Nothing was seen of it since {}, just after it was down: it counts as down until it is seen up.",
                    time(since)
                ),
                Language::French => format!(
                    "  On n'en voit plus rien depuis {}, juste après une panne : il compte en panne jusqu'à être vu en service.",
                    time(since)
                ),
            });
        }
        self.vantages.iter().for_each(|vantage| vantage.in_words(language, text));
    }
}

impl VantagePart {
    fn in_words(&self, language: Language, text: &mut Text) {
        let (vantage, state) = (&self.vantage, language.state(self.state));
        let Some(sample) = &self.sample else {
            text.line(&match language {
                Language::English => format!("  · {vantage}: {state}, no sample speaks for this instant."),
                Language::French => format!("  · {vantage} : {state}, aucun relevé ne vaut pour cet instant."),
            });
            return;
        };
        let outcome = match (language, sample.outcome) {
            (Language::English, Outcome::Ok) => "a success",
            (Language::English, Outcome::Fail) => "a failure",
            (Language::French, Outcome::Ok) => "un succès",
            (Language::French, Outcome::Fail) => "un échec",
            (Language::English, Outcome::Void) => "no evidence",
            (Language::French, Outcome::Void) => "pas un relevé",
        };
        let (stamp, holds, run, seq) = (time(sample.stamp_us), time(sample.holds_until_us), &sample.run, sample.seq);
        text.line(&match language {
            Language::English => {
                format!("  · {vantage}: {state}; {outcome} at {stamp} (run {run}, seq {seq}), which holds until {holds} at most.")
            }
            Language::French => {
                format!("  · {vantage} : {state} ; {outcome} à {stamp} (run {run}, seq {seq}), valable jusqu'à {holds} au plus.")
            }
        });
        if let Some((from, to)) = self.gated_us {
            text.line(&match language {
                Language::English => format!(
                    "    This failure does not count: from {} to {} the vantage saw all its anchors down, so it was cut off itself.",
                    time(from),
                    time(to)
                ),
                Language::French => format!(
                    "    Cet échec ne compte pas : de {} à {} ce point de mesure voyait toutes ses ancres en panne, c'est donc lui qui était coupé.",
                    time(from),
                    time(to)
                ),
            });
        }
    }
}

impl ClaimPart {
    fn in_words(&self, language: Language, text: &mut Text) {
        let state = match (language, self.state) {
            (Language::English, ClaimState::Received) => "received",
            (Language::English, ClaimState::Accepted) => "accepted",
            (Language::English, ClaimState::Rejected) => "rejected",
            (Language::French, ClaimState::Received) => "reçue",
            (Language::French, ClaimState::Accepted) => "acceptée",
            (Language::French, ClaimState::Rejected) => "rejetée",
        };
        let counts = match (language, self.counted) {
            (Language::English, true) => "it counts",
            (Language::English, false) => "it does not count: no supervision window is near it, and it is not accepted for this time",
            (Language::French, true) => "elle compte",
            (Language::French, false) => {
                "elle ne compte pas : aucune fenêtre de supervision n'en est proche, et elle n'est pas acceptée pour ce temps"
            }
        };
        let opened = time(self.opened_us);
        let resolved = self.resolved_us.map(|us| match language {
            Language::English => format!(", resolved at {}", time(us)),
            Language::French => format!(", rétablissement confirmé à {}", time(us)),
        });
        let resolved = resolved.unwrap_or_default();
        text.line(&match language {
            Language::English => format!("- Claim {} ({state}), opened at {opened}{resolved}: {counts}.", self.claim),
            Language::French => format!("- Réclamation {} ({state}), ouverte à {opened}{resolved} : {counts}.", self.claim),
        });
    }
}

impl ExclusionPart {
    fn in_words(&self, language: Language, text: &mut Text) {
        let why = match (self.approved, self.allowed, self.announced) {
            (false, ..) => language.pick("it is not approved, so it changes nothing", "elle n'est pas approuvée, donc ne change rien"),
            (_, false, _) => language.pick(
                "the indicator does not allow this kind, so it changes nothing",
                "l'indicateur n'admet pas ce motif, donc elle ne change rien",
            ),
            (.., false) => language.pick(
                "it was not on record before it began, so it changes nothing",
                "elle n'était pas enregistrée avant son début, donc ne change rien",
            ),
            (true, true, true) => language.pick(
                "what of it was on record in time does not count against the objective",
                "ce qui en était enregistré à temps ne compte pas contre l'objectif",
            ),
        };
        let (id, kind, start, end) = (&self.exclusion, self.kind, time(self.start_us), time(self.end_us));
        text.line(&match language {
            Language::English => format!("- Exclusion {id} ({kind}), {start} to {end}: {why}."),
            Language::French => format!("- Exclusion {id} ({kind}), de {start} à {end} : {why}."),
        });
    }
}

impl WindowStory {
    /// The story in words.
    #[must_use]
    pub fn in_words(&self, language: Language) -> String {
        let window = &self.window;
        let mut text = Text::default();
        let (onset, service) = (time(window.onset_us), &window.service);
        let who = match (language, window.kind) {
            (Language::English, Kind::Outage) => "supervision saw it",
            (Language::English, Kind::Claim) => "the customer notified it",
            (Language::English, Kind::Mixed) => "supervision saw it and the customer notified it",
            (Language::French, Kind::Outage) => "constatée par la supervision",
            (Language::French, Kind::Claim) => "notifiée par le client",
            (Language::French, Kind::Mixed) => "constatée par la supervision et notifiée par le client",
        };
        text.line(&match (language, window.end_us) {
            (Language::English, Some(end)) => {
                format!("Window {}: {service} was unavailable from {onset} to {}; {who}.", window.id, time(end))
            }
            (Language::English, None) => format!("Window {}: {service} is unavailable since {onset}; {who}.", window.id),
            (Language::French, Some(end)) => format!("Fenêtre {} : {service} indisponible de {onset} à {} ; {who}.", window.id, time(end)),
            (Language::French, None) => format!("Fenêtre {} : {service} indisponible depuis {onset} ; {who}.", window.id),
        });
        let [observed, inferred, up, unknown] =
            [window.observed_down_us, window.inferred_down_us, window.up_inside_us, window.unknown_inside_us]
                .map(|us| length(language, us));
        text.line(&match language {
            Language::English => format!("Down observed {observed}, down inferred {inferred}, up inside {up}, unknown inside {unknown}."),
            Language::French => {
                format!("Panne observée {observed}, panne déduite {inferred}, en service dedans {up}, inconnu dedans {unknown}.")
            }
        });
        self.ending(language, &mut text);
        text.line(language.pick("\nWhen it begins:", "\nÀ son début :"));
        text.0 += &self.onset.in_words(language);
        if let Some(detected) = self.detected.as_ref().filter(|detected| detected.at_us != self.onset.at_us) {
            text.line(language.pick("\nWhen a quorum first saw it:", "\nQuand un quorum l'a vue :"));
            text.0 += &detected.in_words(language);
        }
        if let Some(end) = &self.end {
            text.line(language.pick("\nWhen it ends:", "\nÀ sa fin :"));
            text.0 += &end.in_words(language);
        }
        if !self.claims.is_empty() || !self.exclusions.is_empty() {
            text.line(language.pick("\nClaims and exclusions:", "\nRéclamations et exclusions :"));
        }
        self.claims.iter().for_each(|claim| claim.in_words(language, &mut text));
        self.exclusions.iter().for_each(|exclusion| exclusion.in_words(language, &mut text));
        text.0
    }

    fn ending(&self, language: Language, text: &mut Text) {
        let stable_up = length(language, self.stable_up_us);
        match (language, self.window.status) {
            (Language::English, Status::Open) => text.line("It is open: nothing has ended it."),
            (Language::French, Status::Open) => text.line("Elle est ouverte : rien ne l'a terminée."),
            (Language::English, Status::Restoring) => text.line(&format!("It is restoring: no longer down, but not for {stable_up} yet.")),
            (Language::French, Status::Restoring) => {
                text.line(&format!("En rétablissement : plus en panne, mais pas encore depuis {stable_up}."))
            }
            (_, Status::Closed | Status::Retracted) => match (language, self.window.ended_by) {
                (Language::English, Some(EndedBy::Customer)) => {
                    text.line("The customer's word ended it: an accepted claim was resolved at its end.")
                }
                (Language::French, Some(EndedBy::Customer)) => {
                    text.line("Le client l'a terminée : une réclamation acceptée a été résolue à sa fin.")
                }
                (Language::English, _) => text.line(&format!(
                    "Supervision ended it: after its end there was no down time for {stable_up} or until measurement ended."
                )),
                (Language::French, _) => text.line(&format!(
                    "La supervision l'a terminée : après sa fin, aucune panne pendant {stable_up} ou jusqu'à la fin de la mesure."
                )),
            },
        }
        if self.pause_count > 0 {
            text.line(&match (language, self.pause_count) {
                (Language::English, 1) => {
                    format!("It did not close earlier, in one pause without down time, shorter than {stable_up} or claimed:")
                }
                (Language::English, count) => {
                    format!("It did not close earlier, in {count} pauses without down time, each shorter than {stable_up} or claimed:")
                }
                (Language::French, 1) => {
                    format!("Elle ne s'est pas fermée plus tôt, lors d'une pause sans panne, plus courte que {stable_up} ou couverte par une réclamation :")
                }
                (Language::French, count) => {
                    format!("Elle ne s'est pas fermée plus tôt, lors de {count} pauses sans panne, chacune plus courte que {stable_up} ou couverte par une réclamation :")
                }
            });
        }
        for pause in &self.pauses {
            let (start, end, state) = (time(pause.start_us), time(pause.end_us), language.state(pause.state));
            text.line(&match language {
                Language::English => format!("  · {state} from {start} to {end}"),
                Language::French => format!("  · {state} de {start} à {end}"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_for_people() {
        let of = |us| (length(Language::English, us), length(Language::French, us));
        let text = |english: &str, french: &str| (english.to_owned(), french.to_owned());
        assert_eq!(of(18_442_324), text("18.442324 s", "18,442324 s"));
        assert_eq!(of(30_000_000), text("30 s", "30 s"));
        assert_eq!(of(0), text("0 s", "0 s"));
        assert_eq!(of(7), text("0.000007 s", "0,000007 s"));
        assert_eq!(of(93_784_500_000), text("1 d 2 h 3 min 4.5 s", "1 j 2 h 3 min 4,5 s"));
        assert_eq!(of(3_600_000_000), text("1 h", "1 h"));
    }
}
