//! What happens: incidents of targets, and troubles of the vantages that watch them.
//!
//! A target has an incident every half hour or so, at least a quarter of an hour after the one before, so that no rule has to tell two
//! apart. Only a total one is an outage. What one vantage's path does is none: the other two see the target well. A partial loss is
//! neither, since no line of the contract says how much loss is an outage: what a rule says during it is counted apart.
//!
//! Beside that, vantages have troubles of their own, one at a time: one of them is cut off from everything (sometimes two at once, for
//! the anchors to notice), measures nothing and says so, is dead, or cannot deliver what it measures before the trouble is over.
//!
//! That is far more than a real week has: it is meant to try the rules, not to look like one.

use std::fmt::Write;

use vigie_aggregator::core::interval::Intervals;
use vigie_contract::{Span, Time};

use super::{START, Settings, VANTAGES};
use crate::world::Random;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
/// The judged targets: name, service, period and timeout in microseconds.
const TARGETS: [(&str, &str, i64, i64); 6] = [
    ("compute-az05", "compute/az05", 5 * SECOND, 3 * SECOND / 2),
    ("storage-az06", "storage/az06", 10 * SECOND, 2 * SECOND),
    ("internet-fr1", "internet/fr1", 5 * SECOND, 3 * SECOND / 2),
    ("console-fr1", "console/fr1", 10 * SECOND, 4 * SECOND),
    ("api-fr1", "api/fr1", 10 * SECOND, 2 * SECOND),
    ("s3-fr1", "s3/fr1", 5 * SECOND, 3 * SECOND / 2),
];
/// An anchor in each zone. They have no incidents of their own, and are not judged: what two vantages that are cut off say of them is
/// their outage by SPEC §3.2.
const ANCHORS: [&str; 3] = ["anchor-az05", "anchor-az06", "anchor-az07"];
const ANCHOR_PERIOD: i64 = 10 * SECOND;
const ANCHOR_TIMEOUT: i64 = 2 * SECOND;
/// How much longer than a vantage's trouble its evidence may be worth nothing: the anchors notice within a period and a timeout, and are
/// trusted again with the target's next sample.
const TROUBLE_EDGE: Span = Span::from_us(3 * ANCHOR_PERIOD);
/// As far as any rule looks back, with some time to spare.
const LOOKING_BACK: Span = Span::from_us(6 * MINUTE);

/// How an attempt fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// At once.
    Refuses,
    /// Nobody answers before it is over.
    Hangs,
    /// An answer that says so, slower than a good one.
    Errs,
}

/// From where it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// From everywhere: an outage.
    Total,
    /// From one vantage only.
    Path(usize),
    /// From everywhere, but only so many attempts in a thousand.
    Loss(u64),
}

/// Something is wrong with a target, or with the way to it.
#[derive(Clone, Debug)]
pub(super) struct Incident {
    pub(super) scope: Scope,
    pub(super) manner: Manner,
    pub(super) start: Time,
    pub(super) end: Time,
    /// When it fails: all the time, or, flapping, now and then, with less than `stable_up` between.
    pub(super) failing: Intervals,
}

impl Incident {
    /// The longest time for which it fails without a break.
    pub(super) fn longest(&self) -> Span {
        self.failing.iter().map(|(start, end)| end - start).max().unwrap_or(Span::ZERO)
    }

    /// Whether it comes and goes.
    pub(super) fn is_flapping(&self) -> bool {
        self.failing.iter().nth(1).is_some()
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) id: &'static str,
    pub(super) service: &'static str,
    pub(super) period: Span,
    pub(super) timeout: Span,
    pub(super) is_judged: bool,
    /// In order.
    pub(super) incidents: Vec<Incident>,
}

impl Target {
    /// Its incidents that are outages.
    pub(super) fn outages(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.iter().filter(|incident| incident.scope == Scope::Total)
    }
}

/// What ails a vantage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ailment {
    /// It reaches nothing; whether its samples get away meanwhile.
    CutOff { delivers: bool },
    /// It cannot measure and says so: `void`.
    Blind,
    /// It is dead.
    Dead,
    /// It measures and cannot deliver.
    Mute,
}

/// A vantage's own trouble.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) ailment: Ailment,
    pub(super) manner: Manner,
    /// Which vantages have it.
    pub(super) has: [bool; VANTAGES.len()],
    pub(super) start: Time,
    pub(super) end: Time,
}

impl Trouble {
    fn is_cut_off(&self) -> bool {
        matches!(self.ailment, Ailment::CutOff { .. })
    }

    fn is_of_two(&self) -> bool {
        self.has.iter().filter(|has| **has).count() > 1
    }

    /// The time in which it may still be felt.
    fn wide(&self) -> (Time, Time) {
        (self.start - TROUBLE_EDGE, self.end + TROUBLE_EDGE)
    }
}

/// The truth.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) targets: Vec<Target>,
    /// In order, one at a time.
    pub(super) troubles: Vec<Trouble>,
    pub(super) end: Time,
}

impl World {
    pub(super) fn new(settings: &Settings) -> Self {
        let end = START + settings.length;
        let mut random = Random::new(settings.seed);
        let troubles = troubles(&mut random, end);
        let judged = TARGETS.iter().map(|&(id, service, period, timeout)| Target {
            id,
            service,
            period: Span::from_us(period),
            timeout: Span::from_us(timeout),
            is_judged: true,
            incidents: incidents(&mut random, period, end),
        });
        let mut targets: Vec<Target> = judged.collect();
        targets.extend(ANCHORS.iter().map(|id| Target {
            id,
            service: "",
            period: Span::from_us(ANCHOR_PERIOD),
            timeout: Span::from_us(ANCHOR_TIMEOUT),
            is_judged: false,
            incidents: Vec::new(),
        }));
        Self { targets, troubles, end }
    }

    /// The targets that are judged, in the order of their services in [`World::catalogue`].
    pub(super) fn judged(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| target.is_judged)
    }

    /// What the engine is told.
    pub(super) fn catalogue(&self) -> String {
        let mut text = String::from("[[indicator]]\nid = \"I\"\nobjective = \"99.99\"\n");
        for vantage in VANTAGES {
            let anchors = ANCHORS.iter().filter(|anchor| !anchor.ends_with(vantage)).map(|anchor| format!("{anchor:?}"));
            let _ = writeln!(text, "[[vantage]]\nid = {vantage:?}\nanchors = [{}]", anchors.collect::<Vec<_>>().join(", "));
        }
        for target in &self.targets {
            let _ = writeln!(text, "[[target]]\nid = {:?}\nvantages = {VANTAGES:?}", target.id);
        }
        for target in self.judged() {
            let _ = writeln!(text, "[[service]]\nid = {:?}\nindicator = \"I\"\nneeds = {:?}\nsince = {START}", target.service, target.id);
        }
        text
    }

    /// When at least two vantages are cut off: what happens then nobody can tell.
    pub(super) fn hidden(&self) -> Intervals {
        Intervals::union_of(self.troubles.iter().filter(|trouble| trouble.is_cut_off() && trouble.is_of_two()).map(Trouble::wide))
    }

    /// When windows of `target` are neither right nor wrong: a part of the attempts is lost; or two of three vantages do not reach it for
    /// two reasons that have nothing to do with each other, and nobody knows better than the evidence.
    pub(super) fn open_to_dispute(&self, target: &Target) -> Intervals {
        let of_incident = |incident: &Incident| match incident.scope {
            Scope::Total => Vec::new(),
            Scope::Loss(_) => vec![(incident.start, incident.end)],
            Scope::Path(vantage) => {
                let elsewhere =
                    self.troubles.iter().filter(|trouble| trouble.is_cut_off() && (trouble.is_of_two() || !trouble.has[vantage]));
                let both = elsewhere.map(|trouble| (trouble.wide().0.max(incident.start), trouble.wide().1.min(incident.end)));
                both.collect()
            }
        };
        Intervals::union_of(target.incidents.iter().flat_map(of_incident))
    }

    /// When a vantage is in trouble, or a window may have to do with its trouble before or after.
    pub(super) fn troubled(&self) -> Intervals {
        Intervals::union_of(self.troubles.iter().map(|trouble| (trouble.start - LOOKING_BACK, trouble.end + LOOKING_BACK)))
    }

    /// How many outages nobody is judged by.
    pub(super) fn unseen(&self) -> usize {
        let hidden = self.hidden();
        self.judged().map(|target| target.outages().filter(|outage| meets(&hidden, outage.start, outage.end)).count()).sum()
    }

    /// How many partial losses there are.
    pub(super) fn losses(&self) -> usize {
        let is_loss = |incident: &&Incident| matches!(incident.scope, Scope::Loss(_));
        self.judged().map(|target| target.incidents.iter().filter(is_loss).count()).sum()
    }
}

/// Whether any of `intervals` meets `[from, to)`.
pub(super) fn meets(intervals: &Intervals, from: Time, to: Time) -> bool {
    intervals.cut(from, to).length() > Span::ZERO
}

fn span(random: &mut Random, from: i64, to: i64) -> Span {
    Span::from_us(random.between(from, to))
}

/// Half of all lengths are below two periods, where detection is a matter of luck.
fn length(random: &mut Random, period: i64) -> Span {
    match random.below(8) {
        0..4 => span(random, period / 20, 2 * period),
        4..7 => span(random, 2 * period, 30 * period),
        _ => span(random, 30 * period, 60 * MINUTE),
    }
}

fn manner(random: &mut Random) -> Manner {
    *random.pick(&[Manner::Refuses, Manner::Hangs, Manner::Errs])
}

fn incidents(random: &mut Random, period: i64, until: Time) -> Vec<Incident> {
    let mut incidents = Vec::new();
    let mut start = START + span(random, 15 * MINUTE, 30 * MINUTE);
    loop {
        let scope = match random.below(8) {
            0..4 => Scope::Total,
            4..6 => Scope::Path(random.below(VANTAGES.len() as u64) as usize),
            _ => Scope::Loss(50 + random.below(350)),
        };
        let length = length(random, period);
        let failing = if random.once_in(4) { flapping(random, period, start, length) } else { vec![(start, start + length)] };
        let end = failing.last().map_or(start, |(_, end)| *end);
        if end + Span::from_us(15 * MINUTE) > until {
            return incidents;
        }
        incidents.push(Incident { scope, manner: manner(random), start, end, failing: Intervals::union_of(failing) });
        start = end + span(random, 15 * MINUTE, 30 * MINUTE);
    }
}

/// Fails for some periods, answers for less than `stable_up`, and so on.
fn flapping(random: &mut Random, period: i64, start: Time, length: Span) -> Vec<(Time, Time)> {
    let (mut at, mut failing) = (start, Vec::new());
    while at < start + length {
        let end = at + span(random, period / 4, 3 * period);
        failing.push((at, end));
        at = end + span(random, SECOND, 25 * SECOND);
    }
    failing
}

fn troubles(random: &mut Random, until: Time) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let mut start = START + span(random, 15 * MINUTE, 45 * MINUTE);
    loop {
        let ailment = *random.pick(&[
            Ailment::CutOff { delivers: true },
            Ailment::CutOff { delivers: false },
            Ailment::Blind,
            Ailment::Dead,
            Ailment::Mute,
        ]);
        let place = random.below(VANTAGES.len() as u64) as usize;
        let mut has = [false; VANTAGES.len()];
        has[place] = true;
        // Two at once are known from the end of the world once both anchors have failed: for less than two periods nobody can know it.
        let is_of_two = matches!(ailment, Ailment::CutOff { .. }) && random.once_in(4);
        has[(place + 1) % VANTAGES.len()] = is_of_two;
        let length = length(random, ANCHOR_PERIOD);
        let end = start + if is_of_two { length.max(Span::from_us(2 * ANCHOR_PERIOD)) } else { length };
        if end + Span::from_us(15 * MINUTE) > until {
            return troubles;
        }
        troubles.push(Trouble { ailment, manner: manner(random), has, start, end });
        start = end + span(random, 15 * MINUTE, 45 * MINUTE);
    }
}
