//! What the engine says: the live fold, record by record, over the log in its order.

use vigie_aggregator::core::engine::Engine;
use vigie_aggregator::core::interval::Intervals;
use vigie_aggregator::core::window::Status;
use vigie_contract::{Record, Sample, Span, Time};

use super::VANTAGES;
use super::truth::World;
use super::watch::Logged;
use crate::fold::{BOUNDED, catalogue};

/// Longer than anything waits for: holds, `stable_up` and `settle`.
const FAREWELL: Span = Span::from_secs(600);

/// What was published.
pub(super) struct Verdict {
    /// By judged target, when all evidence is there.
    pub(super) windows: Vec<Intervals>,
    /// Windows that were shown and taken back with no other in their place: by judged target, their onsets.
    pub(super) withdrawn: Vec<Vec<Time>>,
}

/// The windows that follow from `samples`, which are in the log's order.
pub(super) fn judge(world: &World, samples: &[Logged]) -> Verdict {
    let mut engine = Engine::new(BOUNDED, Some(catalogue(&world.catalogue())));
    let services: Vec<_> = world.judged().map(|target| target.service).collect();
    let mut withdrawn = vec![Vec::new(); services.len()];
    for (offset, logged) in samples.iter().enumerate() {
        let target = &world.targets[logged.target];
        let sample = Sample {
            target: target.id.into(),
            vantage: VANTAGES[logged.vantage].into(),
            run: "5e0c1f3ab86d4a0e9c1d2e3f4a5b6c7d".into(),
            seq: logged.seq,
            t0: logged.t0,
            t1: logged.t1,
            outcome: logged.outcome,
            latency: None,
            period: target.period,
            timeout: target.timeout,
            clock_error: Span::from_us(350),
        };
        let effects = engine.step(offset as u64, logged.appended_at, Ok(Record::Sample(sample)));
        assert!(effects.refusals.is_empty(), "{:?}", effects.refusals);
        for version in effects.versions {
            if version.window.status == Status::Retracted && version.superseded_by.is_none() {
                let service = services.iter().position(|service| *service == version.window.service.as_str());
                withdrawn[service.expect("the catalogue has no others")].push(Time::from_us(version.window.onset_us));
            }
        }
    }
    engine.step(samples.len() as u64, world.end + FAREWELL, Ok(Record::Tick));
    let frontier = engine.frontier();
    let windows = |service| {
        let published = engine.published(service);
        Intervals::union_of(published.map(|window| (window.onset, window.end.unwrap_or(frontier))))
    };
    Verdict { windows: (0..services.len()).map(windows).collect(), withdrawn }
}
