//! What is published of a window, each time that anything but the passage of time changes it (SPEC §7).

use serde::Serialize;
use uuid::Uuid;
use vigie_contract::catalogue::{Catalogue, Service};
use vigie_contract::{ServiceId, Span, Time};

use super::line::WindowLine;
use super::window::{Lengths, Outage, Published, Status, View};

/// The name space of window ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_7a52_6d0c_5b0e_9d39_2f6b_2f0a_7c11);
/// How far one can backdate (SPEC §7 "settled").
pub const FARTHEST_BACKDATING: Span = Span::from_secs(48 * 3600);

/// One version of a window. Same (id, ver), same bytes, on any replica and in any replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The window.
    #[serde(flatten)]
    pub window: WindowLine,
    /// Rises with every version.
    pub ver: u64,
    /// The frontier of that moment, as of which lengths are.
    pub as_of_us: i64,
    /// Whether samples could change it no more at that moment.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Of a retracted one: the window that took its place.
    pub superseded_by: Option<String>,
}

/// `log_epoch · 2⁴⁸ + offset + 1`.
#[must_use]
pub fn version_number(log_epoch: u64, offset: u64) -> u64 {
    (log_epoch << 48) + offset + 1
}

/// `UUIDv5(…, "{service}/{onset_us}")`.
#[must_use]
pub fn window_id(service: &ServiceId, onset: Time) -> String {
    Uuid::new_v5(&NAMESPACE, format!("{service}/{}", onset.us()).as_bytes()).to_string()
}

/// Whether no sample can change anything before `time` any more.
#[must_use]
pub fn is_settled(time: Time, late_horizon: Span, frontier: Time) -> bool {
    time + FARTHEST_BACKDATING + late_horizon <= frontier
}

/// A window as `replay` shows it.
#[must_use]
pub fn window_line(catalogue: &Catalogue, service: &Service, window: &Published, lengths: &Lengths) -> WindowLine {
    WindowLine {
        id: window_id(&service.id, window.onset),
        service: service.id.clone(),
        indicator: catalogue.indicators[service.indicator].id.clone(),
        kind: window.kind,
        status: window.status,
        onset_us: window.onset.us(),
        end_us: window.end.map(Time::us),
        first_failed_us: window.first_failed.map(Time::us),
        detected_us: window.detected.map(Time::us),
        notified_us: window.notified.map(Time::us),
        observed_down_us: lengths.observed_down.us(),
        inferred_down_us: lengths.inferred_down.us(),
        up_inside_us: lengths.up_inside.us(),
        unknown_inside_us: lengths.unknown_inside.us(),
        contested_us: lengths.contested.us(),
        claims: window.claims.clone(),
        ended_by: window.ended_by,
    }
}

/// Whether a window is not open, and all its supervision windows are settled.
#[must_use]
pub fn is_final(view: &View<'_>, late_horizon: Span, window: &Published) -> bool {
    let Some(end) = window.end else { return false };
    let clock = &view.clock;
    let first = view.outages.partition_point(|outage| outage.onset < window.onset);
    let within = view.outages[first..].iter().take_while(|outage| outage.onset < end);
    let closed_at = |outage: &Outage| {
        let closed = clock.end_of(outage) + clock.stable_up;
        clock.until.map_or(closed, |until| until.min(closed))
    };
    within.map(closed_at).all(|closed| is_settled(closed, late_horizon, clock.frontier))
}

impl Version {
    /// A window as it is now.
    #[must_use]
    pub fn published(view: &View<'_>, catalogue: &Catalogue, service: &Service, window: &Published, lengths: &Lengths, ver: u64) -> Self {
        Self {
            window: window_line(catalogue, service, window, lengths),
            ver,
            as_of_us: view.clock.frontier.us(),
            is_final: is_final(view, catalogue.late_horizon, window),
            superseded_by: None,
        }
    }

    /// A window that is no more.
    #[must_use]
    pub fn retracted(
        view: &View<'_>,
        catalogue: &Catalogue,
        service: &Service,
        window: &Published,
        successor: Option<Time>,
        ver: u64,
    ) -> Self {
        let gone = Published { status: Status::Retracted, ..window.clone() };
        Self {
            superseded_by: successor.map(|onset| window_id(&service.id, onset)),
            is_final: false,
            ..Self::published(view, catalogue, service, &gone, &view.lengths(&gone), ver)
        }
    }
}
