//! What the fold forgets, and what it keeps (DESIGN §2, "bounded state").

use vigie_contract::{Span, Time};

use super::engine::{Engine, ServiceState};
use super::report::tally_latencies;
use super::state::Steps;
use super::track::Track;
use super::window::{Outage, Published};

/// For how long claims and exclusions can still change what counts: thirteen months.
const LONGEST_MEMORY: Span = Span::from_secs(397 * 86_400);

/// Before this no sample is needed any more: a late one moves states a few holds before its stamp, for which the samples before it are
/// read.
pub(super) fn sample_horizon(now: Time, late_horizon: Span, margin: Span) -> Time {
    now - late_horizon - Span::from_us(8 * margin.us()) - Span::HOUR
}

impl Engine {
    /// Forgets what can no longer be revised: samples after the late horizon, states after thirteen months.
    pub(super) fn prune(&mut self) {
        let Some(catalogue) = &self.catalogue else { return };
        for target in 0..self.tracks.len() {
            let margin = self.evidence(target).map_or(Span::ZERO, |evidence| evidence.margin());
            let horizon = sample_horizon(self.now, catalogue.late_horizon, margin);
            let forgotten: Vec<_> = self.tracks[target].iter_mut().flat_map(|(_, track)| track.forget_before(horizon)).collect();
            for chunk in forgotten {
                tally_latencies(catalogue, target, chunk.entries(), &mut self.past_latencies[target]);
            }
        }
        self.sampled_from = self.sampled_from.max(self.now - catalogue.late_horizon - Span::HOUR);
        let (late_horizon, horizon) = (catalogue.late_horizon, self.horizon);
        self.absent.retain(|_, absent| absent.forget(self.now, late_horizon, horizon));
        self.forget_states();
        let absent = self.absent.values().flat_map(|absent| absent.tracks.iter().map(|(_, track)| track));
        let tracks = self.tracks.iter().flatten().map(|(_, track)| track).chain(absent);
        let mut used: Vec<u32> = tracks.flat_map(Track::runs).collect();
        used.sort_unstable();
        used.dedup();
        self.runs.retain(|_, run| used.binary_search(run).is_ok());
        self.next_pruning = self.frontier + Span::HOUR;
    }

    /// Forgets what services were thirteen months ago.
    fn forget_states(&mut self) {
        let Some(calendar) = self.catalogue.as_ref().map(|catalogue| catalogue.calendar.clone()) else { return };
        self.horizon = self.horizon.max(self.frontier - LONGEST_MEMORY);
        for service in 0..self.services.len() {
            let memory = self.with_view(service, |view| view.memory(&self.services[service].published, &calendar, self.horizon));
            let state = &mut self.services[service];
            state.memory = state.memory.max(memory.unwrap_or(self.horizon));
            state.verdicts.cut_before(state.memory);
            state.outages.retain(|outage| outage.onset >= state.memory);
            state.published.retain(|onset, _| *onset >= state.memory);
        }
        for target in 0..self.levels.len() {
            let memories = self.users[target].iter().map(|&service| self.services[service].memory);
            self.levels[target].forget_before(memories.min().unwrap_or(self.horizon).min(self.horizon));
        }
        for gates in &mut self.gates {
            gates.forget_before(self.horizon);
        }
    }

    /// Bytes that all samples occupy, and bytes that all states and windows occupy, which are kept for thirteen months.
    #[must_use]
    pub fn size_bytes(&self) -> (usize, usize) {
        let samples = self.tracks.iter().flatten().map(|(_, track)| track.size_bytes()).sum();
        let of_service = |service: &ServiceState| {
            let windows = service.outages.capacity() * size_of::<Outage>() + service.published.len() * size_of::<(Time, Published)>();
            service.verdicts.size_bytes() + windows
        };
        let levels = self.levels.iter().map(Steps::size_bytes).sum::<usize>();
        (samples, levels + self.services.iter().map(of_service).sum::<usize>())
    }
}
