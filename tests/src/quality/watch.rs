//! What a vantage sees of a target: the probe's own slots, a first attempt, and after a failure another (SPEC §1). The rules beside it are
//! told how the very same first attempts ended.

use vigie_contract::{Outcome, Span, Time};
use vigie_probe::{RETRY_AFTER, Slots};

use super::truth::{Ailment, Incident, Manner, Scope, Target, Trouble, World};
use super::{START, Settings, VANTAGES};
use crate::world::Random;

/// A sample as the log has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logged {
    pub(super) appended_at: Time,
    pub(super) target: usize,
    pub(super) vantage: usize,
    pub(super) seq: u64,
    pub(super) t0: Time,
    pub(super) t1: Time,
    pub(super) outcome: Outcome,
}

/// The first attempt of a slot, as one who makes only one sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scrape {
    pub(super) at: Time,
    /// When its end is known.
    pub(super) known: Time,
    /// `None` if the vantage does not measure.
    pub(super) ok: Option<bool>,
}

/// Everything that a vantage sees of a target.
pub(super) struct Seen {
    pub(super) samples: Vec<Logged>,
    pub(super) scrapes: Vec<Scrape>,
}

struct Attempt {
    ok: bool,
    ends: Time,
}

struct Eye<'a> {
    target: &'a Target,
    vantage: usize,
    troubles: Vec<&'a Trouble>,
    noise: u64,
    random: Random,
}

pub(super) fn watch(world: &World, settings: &Settings, place: usize, vantage: usize) -> Seen {
    let target = &world.targets[place];
    let own = (place * VANTAGES.len() + vantage + 1) as u64;
    let mut eye = Eye {
        target,
        vantage,
        troubles: world.troubles.iter().filter(|trouble| trouble.has[vantage]).collect(),
        noise: settings.noise,
        random: Random::new(settings.seed.wrapping_add(own << 32)),
    };
    let slots = Slots::new(target.id, vantage, VANTAGES.len(), target.period);
    let mut seen = Seen { samples: Vec::new(), scrapes: Vec::new() };
    let mut slot = slots.after(START);
    for seq in 0.. {
        if slot >= world.end {
            break;
        }
        // A slot begins a moment after it is due.
        let t0 = slot + eye.some(0, 2_000);
        let ailment = eye.trouble(t0).map(|trouble| trouble.ailment);
        if matches!(ailment, Some(Ailment::Dead | Ailment::Blind)) {
            seen.scrapes.push(Scrape { at: t0, known: t0, ok: None });
            if ailment == Some(Ailment::Blind) {
                let appended_at = eye.delivered(t0);
                seen.samples.push(Logged { appended_at, target: place, vantage, seq, t0, t1: t0, outcome: Outcome::Void });
            }
        } else {
            let first = eye.attempt(t0);
            seen.scrapes.push(Scrape { at: t0, known: first.ends, ok: Some(first.ok) });
            let last = if first.ok || !settings.retries { first } else { eye.attempt(first.ends.max(t0 + RETRY_AFTER)) };
            let (t1, outcome) = (last.ends, if last.ok { Outcome::Ok } else { Outcome::Fail });
            seen.samples.push(Logged { appended_at: eye.delivered(t1), target: place, vantage, seq, t0, t1, outcome });
        }
        slot = slots.after(slot);
    }
    seen
}

impl Eye<'_> {
    fn some(&mut self, from_us: i64, to_us: i64) -> Span {
        Span::from_us(self.random.between(from_us, to_us))
    }

    fn trouble(&self, at: Time) -> Option<&Trouble> {
        let next = self.troubles.partition_point(|trouble| trouble.end <= at);
        self.troubles.get(next).copied().filter(|trouble| trouble.start <= at)
    }

    fn incident(&self, at: Time) -> Option<&Incident> {
        let next = self.target.incidents.partition_point(|incident| incident.end <= at);
        self.target.incidents.get(next).filter(|incident| incident.start <= at)
    }

    /// An attempt meets the target half way through the time that a good answer takes; what it finds there decides.
    fn attempt(&mut self, from: Time) -> Attempt {
        let way = self.some(2_000, 30_000);
        let limit = from + self.target.timeout;
        if self.random.once_in(self.noise) {
            return Attempt { ok: false, ends: if self.random.once_in(2) { limit } else { from + way + way } };
        }
        let slower = self.some(0, 500_000);
        let (ok, ends) = match self.hindrance(from + way) {
            None => (true, from + way + way),
            Some((Manner::Refuses, _)) => (false, from + way + way),
            Some((Manner::Errs, _)) => (false, from + way + way + slower),
            // Whoever waits long enough is answered.
            Some((Manner::Hangs, over)) => (over + way < limit, over + way),
        };
        Attempt { ok, ends: ends.min(limit) }
    }

    /// What is in the way at `at`, and until when.
    fn hindrance(&mut self, at: Time) -> Option<(Manner, Time)> {
        let cut_off = self.trouble(at).filter(|trouble| matches!(trouble.ailment, Ailment::CutOff { .. }));
        if let Some(trouble) = cut_off {
            return Some((trouble.manner, trouble.end));
        }
        let incident = self.incident(at)?;
        let (_, over) = incident.failing.iter().find(|(start, end)| (*start..*end).contains(&at))?;
        let (manner, scope) = (incident.manner, incident.scope);
        match scope {
            Scope::Total => Some((manner, over)),
            Scope::Path(vantage) => (vantage == self.vantage).then_some((manner, over)),
            // What is lost is lost: it hangs however long one waits.
            Scope::Loss(permille) => (self.random.below(1_000) < permille).then_some((Manner::Hangs, Time::FOREVER)),
        }
    }

    /// When the log has what was found at `t1`, in its milliseconds: soon, or when the vantage's trouble is over.
    fn delivered(&mut self, t1: Time) -> Time {
        let stuck = |trouble: &&Trouble| matches!(trouble.ailment, Ailment::Mute | Ailment::CutOff { delivers: false });
        let stuck_in = self.trouble(t1).filter(stuck).map(|trouble| (trouble.start, trouble.end));
        let at = match stuck_in {
            // Oldest first, a hundred times as fast as it was measured.
            Some((start, end)) => end + Span::from_us((t1 - start).us() / 100) + self.some(2_000, 50_000),
            None if self.random.once_in(500) => t1 + self.some(100_000, 20_000_000),
            None => t1 + self.some(2_000, 50_000),
        };
        Time::from_us(at.us() / 1_000 * 1_000 + 1_000)
    }
}
