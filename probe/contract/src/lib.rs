//! The contract between probes, aggregator and readers (SPEC §1 and §2).
//!
//! A [`Sample`] is one result of one check; [`Claim`] and [`Exclusion`] are facts that people append; a [`Catalogue`] says what is
//! measured, from where, and what was promised. All four travel as [`Record`]s in one totally ordered log. This crate knows their
//! shape, their encodings and the rules that need nothing but the record or the text itself. It does no I/O and reads no clock.

pub mod calendar;
pub mod catalogue;
pub mod claim;
pub mod exclusion;
pub mod id;
pub mod metric;
pub mod record;
pub mod sample;
pub mod time;

pub use calendar::{Calendar, Month};
pub use catalogue::Catalogue;
pub use claim::{Claim, ClaimState};
pub use exclusion::{Exclusion, ExclusionKind};
pub use id::{ClaimId, ExclusionId, IndicatorId, RunId, ServiceId, TargetId, VantageId};
pub use record::{Decoded, Record, Refusal, RefusalReason};
pub use sample::{Outcome, Reason, Sample};
pub use time::{Span, Time};
