//! Why there is a window, or why there is none: the evidence behind a verdict, as JSON and in words.

mod words;

use serde::Serialize;
use vigie_contract::catalogue::{Need, ServiceIx, TargetIx};
use vigie_contract::{ClaimState, ExclusionKind, Outcome, Span, Time};

pub use self::words::Language;
use crate::core::engine::Engine;
use crate::core::line::WindowLine;
use crate::core::state::State;
use crate::core::version::{window_id, window_line};
use crate::core::window::{Published, View};

/// A window lists no more of its interruptions than this.
const MOST_PAUSES: usize = 20;

/// The story of one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowStory {
    /// The window itself.
    pub window: WindowLine,
    /// Less time than this without DOWN did not close it.
    pub stable_up_us: i64,
    /// What was known when it begins.
    pub onset: Moment,
    /// What was known when a quorum first saw it.
    pub detected: Option<Moment>,
    /// Why it did not close earlier: stretches in it without DOWN, at most twenty.
    pub pauses: Vec<Pause>,
    /// How many there are.
    pub pause_count: usize,
    /// What was known when it ends.
    pub end: Option<Moment>,
    /// What customers said.
    pub claims: Vec<ClaimPart>,
    /// What was excluded, or was not allowed to be.
    pub exclusions: Vec<ExclusionPart>,
}

/// A stretch of a window in which the service was not DOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Start.
    pub start_us: i64,
    /// End.
    pub end_us: i64,
    /// What it was instead.
    pub state: State,
}

/// Everything that makes up a service's state at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// The service.
    pub service: String,
    /// The instant.
    pub at_us: i64,
    /// How far evidence is evaluated.
    pub frontier_us: i64,
    /// Whether the service is measured then.
    pub measured: Measured,
    /// `R`: what counts.
    pub counted: State,
    /// `R⁺`: what was observed, onsets dated back.
    pub observed: State,
    /// `R₀`: what the quorums saw.
    pub seen: State,
    /// The expression.
    pub needs: String,
    /// The published window that it lies in.
    pub window: Option<WindowLine>,
    /// The targets that the expression reaches.
    pub targets: Vec<TargetPart>,
    /// Claims that have to do with the instant.
    pub claims: Vec<ClaimPart>,
    /// Exclusions that cover it.
    pub exclusions: Vec<ExclusionPart>,
}

/// Whether an instant is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// It is.
    Yes,
    /// Before the service's start, or there is no evidence yet.
    NotYet,
    /// After its end.
    NoLonger,
    /// The frontier has not come there.
    NotEvaluated,
}

/// What made up a target's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetPart {
    /// The target.
    pub target: String,
    /// `T`.
    pub seen: State,
    /// `T⁺`.
    pub dated: State,
    /// `T*`, for this service.
    pub counted: State,
    /// So many vantages DOWN make it DOWN.
    pub down_quorum: usize,
    /// So many vantages UP make it UP.
    pub up_quorum: usize,
    /// What each assigned vantage saw.
    pub vantages: Vec<VantagePart>,
    /// The instant is DOWN because the quorum came later, and was dated back over it.
    pub dated_back_from_us: Option<i64>,
    /// The instant is DOWN because nothing was seen since this end of an observed outage, and blindness is not restoration.
    pub persists_since_us: Option<i64>,
}

/// What one vantage saw of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VantagePart {
    /// The vantage.
    pub vantage: String,
    /// Its state after the gate.
    pub state: State,
    /// The sample that spoke for the target.
    pub sample: Option<SamplePart>,
    /// The failure did not count: all the vantage's anchors were DOWN, from and to.
    pub gated_us: Option<(i64, i64)>,
}

/// The sample that spoke for a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SamplePart {
    /// What it found.
    pub outcome: Outcome,
    /// The instant that it bears witness to.
    pub stamp_us: i64,
    /// Until when it speaks, if none comes after it.
    pub holds_until_us: i64,
    /// The probe's process.
    pub run: String,
    /// Its number.
    pub seq: u64,
}

/// A claim's part in a window or instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimPart {
    /// The claim.
    pub claim: String,
    /// What support made of it.
    pub state: ClaimState,
    /// When the customer notified.
    pub opened_us: i64,
    /// When the customer said it was well again.
    pub resolved_us: Option<i64>,
    /// Whether it counts here.
    pub counted: bool,
}

/// An exclusion's part in a window or instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExclusionPart {
    /// The exclusion.
    pub exclusion: String,
    /// Why the period should not count.
    pub kind: ExclusionKind,
    /// Start.
    pub start_us: i64,
    /// End.
    pub end_us: i64,
    /// Whether it is approved.
    pub approved: bool,
    /// Whether the indicator allows the kind.
    pub allowed: bool,
    /// Of a maintenance: whether it was on record before it began, or somebody answers for it.
    pub announced: bool,
}

/// The story of the window with this id.
#[must_use]
pub fn window(engine: &Engine, id: &str) -> Option<WindowStory> {
    let catalogue = engine.catalogue()?;
    (0..catalogue.services.len()).find_map(|service| {
        let name = &catalogue.services[service].id;
        let found = engine.published(service).find(|window| window_id(name, window.onset) == id)?;
        story(engine, service, found)
    })
}

fn story(engine: &Engine, service: ServiceIx, window: &Published) -> Option<WindowStory> {
    let catalogue = engine.catalogue()?;
    let definition = &catalogue.services[service];
    engine.with_view(service, |view| {
        let end = window.end.unwrap_or(engine.frontier());
        let pieces = view.verdicts.pieces(window.onset, end).filter(|(_, _, verdict)| verdict.counted != State::Down);
        let mut pauses: Vec<_> =
            pieces.map(|(start, end, verdict)| Pause { start_us: start.us(), end_us: end.us(), state: verdict.counted }).collect();
        let pause_count = pauses.len();
        pauses.truncate(MOST_PAUSES);
        WindowStory {
            window: window_line(catalogue, definition, window, &view.lengths(window)),
            stable_up_us: definition.stable_up.us(),
            onset: moment_in(engine, service, view, window.onset),
            detected: window.detected.map(|at| moment_in(engine, service, view, at)),
            pauses,
            pause_count,
            end: window.end.filter(|end| *end < engine.frontier()).map(|at| moment_in(engine, service, view, at)),
            claims: claims(view, |claim| window.claims.contains(claim), window.onset, end),
            exclusions: exclusions(engine, service, window.onset, end),
        }
    })
}

/// What is known of `service` at `at`, and why.
#[must_use]
pub fn moment(engine: &Engine, service: &str, at: Time) -> Option<Moment> {
    let ix = engine.catalogue()?.services.iter().position(|definition| definition.id.as_str() == service)?;
    engine.with_view(ix, |view| moment_in(engine, ix, view, at))
}

fn moment_in(engine: &Engine, service: ServiceIx, view: &View<'_>, at: Time) -> Moment {
    let verdict = view.verdicts.at(at);
    let clock = &view.clock;
    let measured = match clock.since {
        _ if at >= clock.frontier => Measured::NotEvaluated,
        _ if clock.until.is_some_and(|until| until <= at) => Measured::NoLonger,
        Some(since) if since <= at => Measured::Yes,
        _ => Measured::NotYet,
    };
    let catalogue = engine.catalogue();
    let definition = catalogue.map(|catalogue| &catalogue.services[service]);
    let us = Span::from_us(1);
    let published = view.published(Time::BEGINNING, Time::FOREVER);
    let around = published.values().find(|window| window.onset <= at && at < window.end.unwrap_or(clock.frontier));
    let in_claims = around.map(|window| window.claims.clone()).unwrap_or_default();
    Moment {
        service: definition.map(|definition| definition.id.to_string()).unwrap_or_default(),
        at_us: at.us(),
        frontier_us: clock.frontier.us(),
        measured,
        counted: verdict.counted,
        observed: verdict.observed,
        seen: verdict.seen,
        needs: definition.zip(catalogue).map(|(definition, _)| need_text(engine, definition.needs.at(at))).unwrap_or_default(),
        window: around
            .zip(definition)
            .zip(catalogue)
            .map(|((window, definition), catalogue)| window_line(catalogue, definition, window, &view.lengths(window))),
        targets: engine.reach(service).targets.iter().filter_map(|&target| target_part(engine, service, target, at)).collect(),
        claims: claims(view, |claim| in_claims.contains(claim), at, at + us),
        exclusions: exclusions(engine, service, at, at + us),
    }
}

fn need_text(engine: &Engine, need: &Need) -> String {
    let list = |needs: &[Need]| needs.iter().map(|need| need_text(engine, need)).collect::<Vec<_>>().join(", ");
    match (need, engine.catalogue()) {
        (Need::Target(target), Some(catalogue)) => catalogue.targets[*target].id.to_string(),
        (Need::Service(service), Some(catalogue)) => catalogue.services[*service].id.to_string(),
        (Need::All(needs), _) => format!("all({})", list(needs)),
        (Need::Any(needs), _) => format!("any({})", list(needs)),
        (Need::AtLeast(k, needs), _) => format!("at_least({k} of {})", list(needs)),
        (_, None) => String::new(),
    }
}

fn target_part(engine: &Engine, service: ServiceIx, target: TargetIx, at: Time) -> Option<TargetPart> {
    let evidence = engine.evidence(target)?;
    let levels = engine.levels(target);
    let level = levels.at(at);
    let plan = evidence.target.plan.at(at);
    let margin = evidence.margin();
    let (from, to) = (at - margin - margin, (at + margin + margin + Span::from_us(1)).min(engine.frontier()).max(at + Span::from_us(1)));
    let seen = evidence.seen(from, to);
    let vantages = plan.vantages.iter().map(|&vantage| {
        let of_vantage = seen.iter().find(|seen| seen.vantage == vantage);
        let sample = of_vantage.and_then(|seen| seen.track.in_force(at));
        let gated = of_vantage.and_then(|seen| {
            let gated_failure = sample.is_some_and(|sample| sample.outcome == Outcome::Fail) && seen.states.at(at) == State::Unknown;
            let mut masks = evidence.gates[vantage].masks(seen.track, at, at + Span::from_us(1), engine.frontier());
            masks.find(|(g0, g1)| gated_failure && *g0 <= at && at < *g1)
        });
        VantagePart {
            vantage: evidence.vantages[vantage].id.to_string(),
            state: of_vantage.map_or(State::Unknown, |seen| seen.states.at(at)),
            sample: sample.map(|sample| SamplePart {
                outcome: sample.outcome,
                stamp_us: sample.stamp.us(),
                holds_until_us: (sample.stamp + sample.hold()).us(),
                run: engine.run_name(sample.run),
                seq: sample.seq,
            }),
            gated_us: gated.map(|(g0, g1)| (g0.us(), g1.min(engine.frontier()).us())),
        }
    });
    let dated_back_from = (level.dated == State::Down && level.seen != State::Down).then(|| {
        let runs = levels.pieces(at, to).find(|(_, _, level)| level.seen == State::Down);
        runs.map(|(q, _, _)| q)
    });
    let counted = engine.counted_leaf(service, target, at);
    let persists = (counted == State::Down && level.dated == State::Unknown)
        .then(|| levels.index_at(at).map(|index| levels.as_slice()[index].0.us()))
        .flatten();
    Some(TargetPart {
        target: evidence.target.id.to_string(),
        seen: level.seen,
        dated: level.dated,
        counted,
        down_quorum: plan.down_quorum,
        up_quorum: plan.up_quorum(),
        vantages: vantages.collect(),
        dated_back_from_us: dated_back_from.flatten().map(Time::us),
        persists_since_us: persists,
    })
}

fn claims(view: &View<'_>, counts: impl Fn(&vigie_contract::ClaimId) -> bool, from: Time, to: Time) -> Vec<ClaimPart> {
    let horizon = view.clock.claim_horizon;
    // A claim that counts in another window has nothing to say of this one.
    let elsewhere: Vec<_> = view.published(Time::BEGINNING, Time::FOREVER).into_values().flat_map(|window| window.claims).collect();
    let near = |claim: &&&vigie_contract::Claim| {
        counts(&claim.id)
            || (!elsewhere.contains(&claim.id)
                && claim.opened_at < to
                && claim.resolved_at.is_none_or(|resolved| from - horizon < resolved)
                && from - horizon <= claim.opened_at)
    };
    let part = |claim: &&vigie_contract::Claim| ClaimPart {
        claim: claim.id.to_string(),
        state: claim.state,
        opened_us: claim.opened_at.us(),
        resolved_us: claim.resolved_at.map(Time::us),
        counted: counts(&claim.id),
    };
    view.claims.iter().filter(near).map(part).collect()
}

fn exclusions(engine: &Engine, service: ServiceIx, from: Time, to: Time) -> Vec<ExclusionPart> {
    let Some(catalogue) = engine.catalogue() else { return Vec::new() };
    let id = &catalogue.services[service].id;
    let allowed = engine.allowed_exclusions(service, from);
    let part = |revisions: &std::collections::BTreeMap<u64, crate::core::account::Revision>| {
        let highest = &revisions.values().next_back()?.exclusion;
        let announced = |revision: &crate::core::account::Revision| {
            revision.exclusion.is_approved() && revision.exclusion.services.contains(id) && revision.appended_at < revision.exclusion.start
        };
        let meets = highest.services.contains(id) && highest.start < to && from < highest.end;
        meets.then(|| ExclusionPart {
            exclusion: highest.id.to_string(),
            kind: highest.kind,
            start_us: highest.start.us(),
            end_us: highest.end.us(),
            approved: highest.is_approved(),
            allowed: allowed.contains(&highest.kind),
            announced: highest.kind != ExclusionKind::Maintenance || highest.override_by.is_some() || revisions.values().any(announced),
        })
    };
    engine.exclusions().filter_map(part).collect()
}
