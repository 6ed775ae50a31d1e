//! The schedule of one vantage: open loop, absolute slots, one sample for every slot (DESIGN §5).

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use vigie_contract::record::{Record, SampleDetails, encode};
use vigie_contract::sample::hold;
use vigie_contract::{Catalogue, Outcome, Reason, Sample, Span, TargetId, Time, VantageId};

use crate::ceiling::{self, Exceeded};
use crate::check::{self, Attempt, Check, CheckError, Finding, Trace};
use crate::clock::{Clock, Disturbance, duration, now, span};
use crate::limits::{RETRY_AFTER, SHORTEST_PERIOD};
use crate::load::{Admission, Stalls};
use crate::net::Net;
use crate::plan::{self, Assignment};
use crate::stats::{LAG_BOUNDS_US, Last, Stats, TargetStats};

/// The scheduler wakes at least this often: between two beats it cannot see a stall.
const BEAT: Duration = Duration::from_millis(50);
/// Slots this close together share a wake-up; each sample still tells its true start.
const GATHER: Duration = Duration::from_millis(2);
/// A slot that is dispatched later than this is not measured: its answer would belong to another moment.
const LATEST: Span = Span::from_us(250_000);
/// A stall of more than this part of the timeout makes a failure the probe's own doing.
const STALL_SHARE: u32 = 5;
/// A stall this long makes a latency meaningless: the answer may have waited for us.
const LATENCY_STALL: Duration = Duration::from_millis(50);
/// So many slots in a row of one target are made up for with `void` after a pause of the machine or a leap of its clock; older ones are
/// only counted.
const MOST_MISSED: u64 = 1_000;
/// Descriptors that checks leave to the rest of the process.
const RESERVED_DESCRIPTORS: u64 = 256;

/// What the schedule is told.
pub(crate) enum Command {
    /// Make the checks of this catalogue, for when it is adopted; whether they can be, is answered.
    Prepare(Arc<Catalogue>, oneshot::Sender<Result<(), Vec<Unmeasurable>>>),
    /// Measure by this catalogue from now on; whether it can be, is answered.
    Adopt(Arc<Catalogue>, oneshot::Sender<Result<usize, Vec<Unmeasurable>>>),
    /// Say that the schedule runs.
    Answer(oneshot::Sender<()>),
    /// Begin nothing any more; what is in flight becomes `void`.
    Stop(oneshot::Sender<()>),
}

/// A target whose check cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("target `{target}`: {cause}")]
pub struct Unmeasurable {
    /// Which.
    pub target: TargetId,
    /// Why.
    #[source]
    pub cause: CheckError,
}

impl From<Exceeded> for Unmeasurable {
    fn from(exceeded: Exceeded) -> Self {
        Self { target: exceeded.target(), cause: exceeded.into() }
    }
}

/// One target under measurement.
struct Watched {
    assignment: Assignment,
    check: Box<dyn Check>,
    credential_expiry: Option<Time>,
    /// Counts 0, 1, 2 … over the run (SPEC §1).
    seq: Cell<u64>,
    credit: Cell<f32>,
}

/// What to measure, and until when that holds.
type Built = (Vec<Rc<Watched>>, Option<Time>);

/// The next slot of a target, by its place among those that are watched.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    slot: Time,
    place: usize,
}

/// The probe's schedule and all that its tasks share.
pub(crate) struct Station {
    vantage: VantageId,
    run: String,
    net: Net,
    clock: Arc<Clock>,
    stats: Stats,
    made: SyncSender<Bytes>,
    stalls: RefCell<Stalls>,
    admission: RefCell<Admission>,
    /// When the clock last stepped or the machine last slept, and which.
    disturbed: Cell<Option<(Instant, Reason)>>,
    in_flight: Cell<u64>,
    most_in_flight: u64,
    stopping: Cell<bool>,
    epoch: Cell<u64>,
    /// Where each target's count stood when it was last measured.
    counts: RefCell<HashMap<TargetId, u64>>,
}

impl Station {
    pub(crate) fn new(vantage: VantageId, run: String, net: Net, clock: Arc<Clock>, stats: Stats, made: SyncSender<Bytes>) -> Self {
        let most = crate::descriptors::raise();
        let at = now();
        Self {
            vantage,
            run,
            net,
            clock,
            stats,
            made,
            stalls: RefCell::new(Stalls::new(at)),
            admission: RefCell::new(Admission::new(at)),
            disturbed: Cell::new(None),
            in_flight: Cell::new(0),
            most_in_flight: most.saturating_sub(RESERVED_DESCRIPTORS).max(16),
            stopping: Cell::new(false),
            epoch: Cell::new(0),
            counts: RefCell::default(),
        }
    }

    /// What its checks share.
    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// Runs the schedule until it is told to stop. Inside a `LocalSet`.
    pub(crate) async fn run(self: Rc<Self>, mut commands: mpsc::Receiver<Command>) {
        let mut catalogue: Option<Arc<Catalogue>> = None;
        let mut until: Option<Time> = None;
        let mut watched: Vec<Rc<Watched>> = Vec::new();
        let mut prepared: Vec<Rc<Watched>> = Vec::new();
        let mut due: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
        let mut next_inspection = now();
        loop {
            let at = now();
            if at >= next_inspection {
                next_inspection = at + 5 * BEAT;
                if self.inspect(at) {
                    due = rewound(due, &watched, self.clock.wall(now()));
                }
            }
            let wall = self.clock.wall(now());
            if let Some(boundary) = until.filter(|until| wall >= *until)
                && let Some(catalogue) = &catalogue
            {
                match self.build(catalogue, [&watched, &[]], boundary) {
                    Ok((next, end)) => {
                        self.switch(&mut watched, &mut due, next, boundary - Span::from_us(1));
                        until = end;
                    }
                    Err(problems) => {
                        tracing::error!(problems = problems.len(), first = %problems[0], "the catalogue's next version cannot be measured");
                        until = None;
                    }
                }
            }
            self.dispatch(&watched, &mut due, wall);
            let next_slot = due.peek().map_or(at + BEAT, |Reverse(due)| self.clock.instant(due.slot) + GATHER);
            let next = next_slot.clamp(at, at + BEAT);
            self.beat(next);
            let command = tokio::select! {
                biased;
                command = commands.recv() => command,
                () = tokio::time::sleep_until(next.into()) => continue,
            };
            match command {
                Some(Command::Prepare(new, answer)) => {
                    let built = self.build(&new, [&watched, &[]], self.clock.wall(now()));
                    let _ = answer.send(built.map(|(next, _)| prepared = next));
                }
                Some(Command::Adopt(new, answer)) => {
                    let wall = self.clock.wall(now());
                    let built = self.build(&new, [&watched, &std::mem::take(&mut prepared)], wall);
                    let said = built.map(|(next, end)| {
                        self.switch(&mut watched, &mut due, next, wall);
                        (until, catalogue) = (end, Some(new));
                        self.epoch.set(self.epoch.get() + 1);
                        watched.len()
                    });
                    let _ = answer.send(said);
                }
                Some(Command::Answer(answer)) => {
                    let _ = answer.send(());
                }
                Some(Command::Stop(answer)) => {
                    self.stopping.set(true);
                    while self.in_flight.get() > 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let _ = answer.send(());
                    return;
                }
                None => return,
            }
        }
    }

    /// The targets to measure from `wall` on; what is `known`, watched or prepared, and does not change is not made again. Changes nothing.
    fn build(&self, catalogue: &Catalogue, known: [&[Rc<Watched>]; 2], wall: Time) -> Result<Built, Vec<Unmeasurable>> {
        let plan = plan::of(catalogue, &self.vantage, wall);
        let known = known.map(|all| all.iter().map(|watched| (&watched.assignment.target, watched)).collect::<HashMap<_, _>>());
        let mut problems: Vec<_> = ceiling::exceeded(catalogue, wall).into_iter().map(Unmeasurable::from).collect();
        let mut next = Vec::with_capacity(plan.assignments.len());
        for assignment in plan.assignments {
            let same = known.iter().filter_map(|known| known.get(&assignment.target)).find(|same| same.assignment == assignment);
            if let Some(same) = same {
                next.push(Rc::clone(same));
                continue;
            }
            match self.watch(assignment) {
                Ok(watched) => next.push(Rc::new(watched)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok((next, plan.until)) } else { Err(problems) }
    }

    /// Measures `next` instead of `watched` after `wall`: what came due until then is measured as it was, so that no slot is lost.
    fn switch(self: &Rc<Self>, watched: &mut Vec<Rc<Watched>>, due: &mut BinaryHeap<Reverse<Due>>, next: Vec<Rc<Watched>>, wall: Time) {
        self.dispatch(watched, due, wall);
        self.take_over(watched, &next);
        *due = timetable(&next, wall);
        *watched = next;
    }

    /// Counts and figures go on with `next`: each target's where they stood.
    fn take_over(&self, old: &[Rc<Watched>], next: &[Rc<Watched>]) {
        let mut counts = self.counts.borrow_mut();
        for watched in old {
            counts.insert(watched.assignment.target.clone(), watched.seq.get());
        }
        let mut figures = self.stats.lock();
        for watched in next {
            let target = &watched.assignment.target;
            if let Some(count) = counts.remove(target) {
                watched.seq.set(count);
            }
            let kind = watched.check.kind();
            let stats = figures.targets.entry(target.clone()).or_insert_with(|| TargetStats::new(kind));
            (stats.kind, stats.credential_expiry) = (kind, watched.credential_expiry);
        }
        let kept: std::collections::HashSet<&TargetId> = next.iter().map(|watched| &watched.assignment.target).collect();
        figures.targets.retain(|target, _| kept.contains(target));
        figures.assigned = next.len() as u64;
    }

    fn watch(&self, assignment: Assignment) -> Result<Watched, Unmeasurable> {
        let wrong = |cause| Unmeasurable { target: assignment.target.clone(), cause };
        if assignment.slots.period() < SHORTEST_PERIOD {
            let why = format!("a period of {} is shorter than the {SHORTEST_PERIOD} that a probe allows", assignment.slots.period());
            return Err(wrong(CheckError::Shape(why)));
        }
        let check = check::build(&assignment.check, &self.net).map_err(wrong)?;
        let credential_expiry = check::credential_expiry(&assignment.check);
        Ok(Watched { assignment, check, credential_expiry, seq: Cell::new(0), credit: Cell::new(0.0) })
    }

    /// Looks at the clocks; whether wall time jumped.
    fn inspect(&self, at: Instant) -> bool {
        let disturbance = self.clock.inspect();
        let mut figures = self.stats.lock();
        figures.clock_error = self.clock.error(at);
        match disturbance {
            None => false,
            Some(Disturbance::Step(by)) => {
                figures.clock_steps += 1;
                drop(figures);
                tracing::warn!(%by, "the wall clock was set");
                self.disturbed.set(Some((at, Reason::Clock)));
                true
            }
            Some(Disturbance::Suspended(slept)) => {
                figures.suspensions += 1;
                drop(figures);
                tracing::warn!(%slept, "the machine slept");
                self.disturbed.set(Some((at, Reason::Suspended)));
                true
            }
        }
    }

    fn beat(&self, next: Instant) {
        let at = now();
        let late = self.stalls.borrow_mut().beat(at, next);
        let mut admission = self.admission.borrow_mut();
        admission.beat(at, late);
        let mut figures = self.stats.lock();
        figures.share = admission.share();
        figures.in_flight = self.in_flight.get();
        if late > LATENCY_STALL {
            figures.stalls += 1;
            figures.stalled += late;
        }
    }

    /// Begins every slot that is due at `wall`.
    fn dispatch(self: &Rc<Self>, watched: &[Rc<Watched>], due: &mut BinaryHeap<Reverse<Due>>, wall: Time) {
        while let Some(mut head) = due.peek_mut() {
            if head.0.slot > wall {
                break;
            }
            let Reverse(Due { slot, place }) = *head;
            let target = &watched[place];
            head.0.slot = self.catch_up(target, slot, wall);
            drop(head);
            self.begin(target, slot);
        }
    }

    /// The slot after `slot`; after a very long pause the oldest ones are only counted.
    fn catch_up(&self, target: &Watched, slot: Time, wall: Time) -> Time {
        let slots = &target.assignment.slots;
        let next = slots.after(slot);
        let behind = ((wall - next).us() / slots.period().us()).max(0) as u64;
        if behind <= MOST_MISSED {
            return next;
        }
        let skipped = behind - MOST_MISSED;
        self.stats.lock().slots_skipped += skipped;
        next + Span::from_us(skipped as i64 * slots.period().us())
    }

    fn begin(self: &Rc<Self>, target: &Rc<Watched>, slot: Time) {
        let begins = now();
        let lag = self.clock.wall(begins) - slot;
        {
            let mut figures = self.stats.lock();
            figures.slots_due += 1;
            figures.schedule_lag.add(&LAG_BOUNDS_US, lag);
        }
        let shot = Shot { slot, begins, t0: self.clock.wall(begins), seq: target.seq.get() };
        target.seq.set(shot.seq + 1);
        let mut credit = target.credit.get();
        let admitted = self.admission.borrow().admits(&mut credit);
        target.credit.set(credit);
        let refused = if lag > LATEST {
            let disturbed = self.disturbed.get().filter(|(at, _)| begins.saturating_duration_since(*at) < duration(lag) + BEAT);
            Some(disturbed.map_or(Reason::Starved, |(_, reason)| reason))
        } else if self.in_flight.get() >= self.most_in_flight {
            Some(Reason::Descriptors)
        } else if !admitted {
            Some(Reason::Overload)
        } else if self.stopping.get() {
            Some(Reason::Cancelled)
        } else {
            None
        };
        if let Some(reason) = refused {
            let trace = Trace::new(begins);
            return self.conclude(target, &shot, Finding::Void(reason), 0, &trace, begins);
        }
        self.in_flight.set(self.in_flight.get() + 1);
        let (station, target) = (Rc::clone(self), Rc::clone(target));
        tokio::task::spawn_local(async move {
            station.measure(&target, &shot).await;
            station.in_flight.set(station.in_flight.get() - 1);
        });
    }

    /// One slot: an attempt, and after a failure another on a fresh connection (SPEC §1).
    async fn measure(&self, target: &Watched, shot: &Shot) {
        let (mut finding, mut trace) = self.attempt(target, shot, 1).await;
        let mut attempts = 1;
        if matches!(finding, Finding::Fail(_)) && self.excuse(target, shot, &trace).is_none() {
            tokio::time::sleep_until((shot.begins + duration(RETRY_AFTER)).into()).await;
            (finding, trace) = self.attempt(target, shot, 2).await;
            attempts = 2;
        }
        let ends = now();
        if let (Finding::Fail(_), Some(reason)) = (finding, self.excuse(target, shot, &trace)) {
            finding = Finding::Void(reason);
        }
        self.conclude(target, shot, finding, attempts, &trace, ends);
    }

    async fn attempt(&self, target: &Watched, shot: &Shot, number: u32) -> (Finding, Trace) {
        let began = now();
        let deadline = began + duration(target.assignment.timeout);
        let mut trace = Trace::new(began);
        if self.stopping.get() {
            return (Finding::Void(Reason::Cancelled), trace);
        }
        let id = format!("{}-{}-{}-{number}", &self.run[..self.run.len().min(8)], target.assignment.target, shot.seq);
        let attempt = Attempt {
            net: &self.net,
            id: &id,
            target: target.assignment.target.as_str(),
            vantage: self.vantage.as_str(),
            is_retry: number > 1,
            wall: self.clock.wall(began),
            deadline,
            clock_error: self.clock.error(began),
        };
        let answer = tokio::time::timeout_at(deadline.into(), target.check.attempt(&attempt, &mut trace)).await;
        let at = now();
        trace.close(at);
        // Given up far too late: what was answered meanwhile waited for us, perhaps at every step.
        let is_late = at.saturating_duration_since(deadline) > duration(target.assignment.timeout) / STALL_SHARE;
        (answer.unwrap_or(if is_late { Finding::Void(Reason::Starved) } else { Finding::Fail(Reason::Timeout) }), trace)
    }

    /// Why the failure of the attempt in `trace` is the probe's own: it slept or lost its time since the slot began, or it did not run
    /// during the attempt. A stall before the attempt, or between two, took nothing from it.
    fn excuse(&self, target: &Watched, shot: &Shot, trace: &Trace) -> Option<Reason> {
        if let Some((_, reason)) = self.disturbed.get().filter(|(at, _)| *at >= shot.begins) {
            return Some(reason);
        }
        let stalled = self.stalls.borrow().within(trace.began, now());
        (stalled > duration(target.assignment.timeout) / STALL_SHARE).then_some(Reason::Starved)
    }

    /// Makes the sample of a slot.
    fn conclude(&self, target: &Watched, shot: &Shot, finding: Finding, attempts: u32, trace: &Trace, ends: Instant) {
        let (outcome, reason) = match finding {
            Finding::Ok => (Outcome::Ok, None),
            Finding::Fail(reason) => (Outcome::Fail, Some(reason)),
            Finding::Void(reason) => (Outcome::Void, Some(reason)),
        };
        let took = trace.latency.unwrap_or_else(|| span(ends.saturating_duration_since(trace.counts_from)));
        let is_sharp = trace.latency.is_some() || self.stalls.borrow().within(trace.counts_from, ends) < LATENCY_STALL;
        let assignment = &target.assignment;
        let sample = Sample {
            target: assignment.target.as_str().into(),
            vantage: self.vantage.as_str().into(),
            run: self.run.as_str().into(),
            seq: shot.seq,
            t0: shot.t0,
            t1: shot.t0 + span(ends.saturating_duration_since(shot.begins)),
            outcome,
            latency: (outcome == Outcome::Ok && is_sharp).then_some(took),
            period: assignment.slots.period(),
            timeout: assignment.timeout,
            clock_error: self.clock.error(ends),
        };
        let details = SampleDetails {
            scheduled: Some(shot.slot.us()),
            reason,
            phases_us: trace.phases().map(|(phase, length)| (phase.as_str().to_owned(), length.us().into())).collect(),
            attempts: Some(attempts),
            epoch: Some(self.epoch.get()),
        };
        let bytes = encode(&Record::Sample(sample), Some(&details), None);
        let is_lost = self.made.try_send(Bytes::from(bytes)).is_err();
        let mut figures = self.stats.lock();
        if is_lost {
            figures.unspoolable += 1;
            figures.dropped += 1;
            figures.made += 1;
        }
        let holds = duration(hold(assignment.slots.period(), assignment.timeout));
        let last = Last { outcome, at: ends, holds, took, phases: trace.phases().collect(), facts: trace.facts.clone() };
        if let Some(stats) = figures.targets.get_mut(&assignment.target) {
            stats.note(reason, last);
        }
    }
}

/// The first slot of every target after `wall`.
fn timetable(watched: &[Rc<Watched>], wall: Time) -> BinaryHeap<Reverse<Due>> {
    watched.iter().enumerate().map(|(place, watched)| Reverse(Due { slot: watched.assignment.slots.after(wall), place })).collect()
}

/// The timetable once wall time has jumped to `wall`: slots that it leapt over are due at once, and nobody waits for longer than a period
/// because it was set back.
fn rewound(due: BinaryHeap<Reverse<Due>>, watched: &[Rc<Watched>], wall: Time) -> BinaryHeap<Reverse<Due>> {
    let rewind = |Reverse(Due { slot, place })| Reverse(Due { slot: slot.min(watched[place].assignment.slots.after(wall)), place });
    due.into_iter().map(rewind).collect()
}

/// One slot that has begun.
struct Shot {
    slot: Time,
    begins: Instant,
    t0: Time,
    seq: u64,
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use vigie_contract::catalogue::Strictness;

    use super::*;
    use crate::check::{Answer, Kind};
    use crate::net::{self, Source};
    use crate::resolve::Resolver;
    use crate::slot::Slots;

    /// So long ago that every slot is too late to be measured: its sample is `void`, and made at once.
    const START: Time = Time::from_us(1_000_000_000_000_000);

    struct Never;

    impl Check for Never {
        fn attempt<'a>(&'a self, _attempt: &'a Attempt<'a>, _trace: &'a mut Trace) -> Answer<'a> {
            Box::pin(std::future::pending())
        }

        fn kind(&self) -> Kind {
            Kind::Tcp
        }
    }

    fn watched(target: &str, period_s: i64) -> Rc<Watched> {
        let slots = Slots::new(target, 0, 1, Span::from_secs(period_s));
        let assignment = Assignment { target: target.into(), slots, timeout: Span::from_secs(1), check: serde_json::Value::Null };
        Rc::new(Watched { assignment, check: Box::new(Never), credential_expiry: None, seq: Cell::new(0), credit: Cell::new(0.0) })
    }

    /// A station, and the samples that it makes.
    fn station() -> (Rc<Station>, Receiver<Bytes>) {
        let (made, samples) = sync_channel(1_000);
        let net = Net::new(Source::default(), Resolver::of_system(), Err("none".to_owned()), net::trust(None).unwrap());
        let station = Station::new("v".into(), "run".to_owned(), net, Arc::new(Clock::new()), Stats::default(), made);
        (Rc::new(station), samples)
    }

    /// The slot, the number and the reason of every sample that was made.
    fn made(samples: &Receiver<Bytes>) -> Vec<(i64, i64, String)> {
        let read = |bytes: Bytes| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        let told = |sample: serde_json::Value| {
            let reason = sample["reason"].as_str().unwrap().to_owned();
            (sample["scheduled"].as_i64().unwrap(), sample["seq"].as_i64().unwrap(), reason)
        };
        samples.try_iter().map(read).map(told).collect()
    }

    /// The slots of a target in `(from, to]`.
    fn slots(watched: &Watched, from: Time, to: Time) -> Vec<i64> {
        let after = |time: Time| watched.assignment.slots.after(time);
        let all = std::iter::successors(Some(after(from)), |slot| Some(after(*slot)));
        all.take_while(|slot| *slot <= to).map(Time::us).collect()
    }

    fn first(due: &BinaryHeap<Reverse<Due>>) -> Time {
        due.peek().unwrap().0.slot
    }

    #[test]
    fn no_slot_is_lost_when_what_is_measured_changes() {
        let (station, samples) = station();
        let (switched, end) = (START + Span::from_secs(47), START + Span::from_secs(100));
        let (mut targets, next) = (vec![watched("t", 10)], vec![watched("t", 7)]);
        let mut due = timetable(&targets, START);
        station.dispatch(&targets, &mut due, START + Span::from_secs(12));
        let expected = [slots(&targets[0], START, switched), slots(&next[0], switched, end)].concat();
        // The switch is noticed later than slots come due on both sides of it.
        station.switch(&mut targets, &mut due, next, switched);
        station.dispatch(&targets, &mut due, end);
        let made = made(&samples);
        assert_eq!(made.iter().map(|(slot, ..)| *slot).collect::<Vec<_>>(), expected);
        assert!((0..).zip(&made).all(|(number, (_, seq, _))| number == *seq), "{made:?}");
    }

    #[test]
    fn a_catalogue_that_asks_too_much_of_a_host_is_refused_whole() {
        let target = |id: &str| {
            let check = "{ kind = \"network\", address = \"192.0.2.7:862\", packets = 50 }";
            format!("[[target]]\nid = \"{id}\"\nvantages = [\"v\"]\nperiod = \"1s\"\ntimeout = \"1s\"\ncheck = {check}\n")
        };
        let service =
            "[[indicator]]\nid = \"I\"\nobjective = \"99\"\n[[service]]\nid = \"s\"\nindicator = \"I\"\nneeds = { all = [\"a\", \"b\"] }\n";
        let catalogue = Catalogue::read(&(target("a") + &target("b") + service), Strictness::Replay).unwrap().0;
        let Err(problems) = station().0.build(&catalogue, [&[], &[]], START) else { panic!("it asks 200 times a second") };
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("target `a`: too much for host `192.0.2.7`") && told[0].contains("the ceiling is 100"), "{told:?}");
    }

    #[test]
    fn slots_that_the_clock_leapt_over_are_void() {
        let (station, samples) = station();
        let (targets, leapt) = ([watched("t", 10)], START + Span::from_secs(95));
        let mut due = rewound(timetable(&targets, START), &targets, leapt);
        station.disturbed.set(Some((now(), Reason::Clock)));
        station.dispatch(&targets, &mut due, leapt);
        let made = made(&samples);
        assert_eq!(made.iter().map(|(slot, ..)| *slot).collect::<Vec<_>>(), slots(&targets[0], START, leapt));
        assert!(made.iter().all(|(.., reason)| reason == "clock"), "{made:?}");
    }

    #[test]
    fn a_stall_excuses_the_attempt_that_it_was_in_and_no_later_one() {
        let (station, _samples) = station();
        let (target, begins) = (watched("t", 10), now());
        let at = |ms| begins + Duration::from_millis(ms);
        station.stalls.borrow_mut().beat(at(0), at(50));
        station.stalls.borrow_mut().beat(at(350), at(10_000));
        let shot = Shot { slot: START, begins, t0: START, seq: 0 };
        assert_eq!(station.excuse(&target, &shot, &Trace::new(at(0))), Some(Reason::Starved));
        assert_eq!(station.excuse(&target, &shot, &Trace::new(at(1_100))), None);
    }

    #[test]
    fn a_latency_counts_from_where_the_check_says_and_only_a_stall_since_then_spoils_it() {
        let (station, samples) = station();
        let (target, begins) = (watched("t", 10), now());
        let at = |ms| begins + Duration::from_millis(ms);
        station.stalls.borrow_mut().beat(at(0), at(50));
        station.stalls.borrow_mut().beat(at(350), at(10_000));
        let shot = Shot { slot: START, begins, t0: START, seq: 0 };
        let latency = |from| {
            let mut trace = Trace::new(at(0));
            trace.counts_from = at(from);
            station.conclude(&target, &shot, Finding::Ok, 1, &trace, at(430));
            serde_json::from_slice::<serde_json::Value>(&samples.try_recv().unwrap()).unwrap()["latency_us"].as_i64()
        };
        assert_eq!(latency(400), Some(30_000));
        assert_eq!(latency(100), None);
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_no_slot_within_a_period_and_waits_no_longer_than_one() {
        let targets = [watched("t", 10)];
        let next = first(&timetable(&targets, START));
        let a_little_back = rewound(timetable(&targets, START), &targets, next - Span::from_secs(9));
        assert_eq!(first(&a_little_back), next);
        let an_hour_back = rewound(timetable(&targets, START), &targets, next - Span::HOUR);
        assert_eq!(first(&an_hour_back), next - Span::HOUR + Span::from_secs(10));
    }
}
