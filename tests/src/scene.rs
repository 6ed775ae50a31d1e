//! What the probes of a catalogue tell while something is broken: a deterministic model of slots, attempts and deliveries, and nothing of
//! how outages are derived.

use serde_json::json;
use vigie_contract::catalogue::{Catalogue, Plan};
use vigie_contract::{Span, Time};
use vigie_probe::{RETRY_AFTER, Slots};

/// What comes of asking a target once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is well.
    Ok,
    /// It is well, measured with a clock that is off.
    OkByAWrongClock,
    /// It is not.
    Fail,
    /// Nothing can be said of it.
    Void,
    /// Whoever should ask is dead.
    Silence,
}

/// A trouble, and what it does to those who ask.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// It begins.
    pub from: Time,
    /// It is over.
    pub to: Time,
    /// What asking comes to meanwhile, by the target's kind and place (`out`, `az05` of `out-az05-1`) and the vantage.
    pub happens: fn(&str, &str, &str) -> Answer,
    /// Vantages whose samples reach the log only when it is over.
    pub unheard: &'static [&'static str],
}

/// Evidence is made from so long before a trouble until so long after it.
pub const AROUND: Span = Span::from_secs(300);
const ANSWER_TAKES: Span = Span::from_us(50_000);
const WAY_TO_THE_LOG: Span = Span::from_us(200_000);
/// What could not be delivered comes so long after the trouble.
const BACKLOG: Span = Span::from_secs(60);

/// How an attempt ended, and when.
type Slot = (Answer, Time);

impl Scene {
    /// All samples by their append times, a line of NDJSON each.
    ///
    /// # Panics
    /// If a target has no period and no timeout.
    #[must_use]
    pub fn evidence(&self, catalogue: &Catalogue) -> Vec<(Time, String)> {
        let mut evidence = Vec::new();
        for target in &catalogue.targets {
            let plan = target.plan.at(self.from);
            for (place, vantage) in plan.vantages.iter().enumerate() {
                evidence.extend(self.samples(target.id.as_str(), catalogue.vantages[*vantage].id.as_str(), place, plan));
            }
        }
        evidence.sort();
        evidence
    }

    fn samples(&self, target: &str, vantage: &str, place: usize, plan: &Plan) -> Vec<(Time, String)> {
        let (period, timeout) = (plan.period.unwrap(), plan.timeout.unwrap());
        let slots = Slots::new(target, place, plan.vantages.len(), period);
        let mut words = target.split('-');
        let (kind, at) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let ask = |when: Time| if self.is_on(when) { (self.happens)(kind, at, vantage) } else { Answer::Ok };
        let mut t0 = self.from - AROUND;
        let mut samples = Vec::new();
        for seq in 0.. {
            t0 = slots.after(t0);
            if t0 >= self.to + AROUND {
                break;
            }
            let (answer, t1) = measure(t0, timeout, ask);
            let outcome = match answer {
                Answer::Silence => continue,
                Answer::Ok | Answer::OkByAWrongClock => "ok",
                Answer::Fail => "fail",
                Answer::Void => "void",
            };
            let clock_error_us = if answer == Answer::OkByAWrongClock { 2_000_000 } else { 350 };
            let is_held_back = self.unheard.contains(&vantage) && self.is_on(t1);
            let appended_at = if is_held_back { self.to + BACKLOG } else { t1 + WAY_TO_THE_LOG };
            let sample = json!({"v": 1, "type": "sample", "target": target, "vantage": vantage, "run": vantage, "seq": seq, "t0": t0.us(),
                "t1": t1.us(), "outcome": outcome, "latency_us": (outcome == "ok").then_some(ANSWER_TAKES.us()), "period_us": period.us(),
                "timeout_us": timeout.us(), "clock_error_us": clock_error_us, "appended_at": appended_at.us()});
            samples.push((appended_at, sample.to_string()));
        }
        samples
    }

    fn is_on(&self, at: Time) -> bool {
        self.from <= at && at < self.to
    }
}

/// A slot: one attempt, and another if it fails, which waits for its timeout.
fn measure(t0: Time, timeout: Span, ask: impl Fn(Time) -> Answer) -> Slot {
    let first = ask(t0);
    if first != Answer::Fail {
        return (first, if first == Answer::Void { t0 } else { t0 + ANSWER_TAKES });
    }
    let again = t0 + timeout.max(RETRY_AFTER);
    match ask(again) {
        Answer::Fail => (Answer::Fail, again + timeout),
        second => (second, again + ANSWER_TAKES),
    }
}
