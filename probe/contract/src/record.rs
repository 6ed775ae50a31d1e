//! The records of the evidence log and their JSON (SPEC §1).
//!
//! One JSON object per record. Unknown fields are ignored. What is not a JSON object at all is [`Unreadable`]; an object that breaks a
//! rule is decoded into a [`Refusal`], never skipped in silence, and keeps its append time.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::claim::{Claim, ClaimState};
use crate::exclusion::{Exclusion, ExclusionKind};
use crate::sample::{Outcome, Reason, Sample};
use crate::time::{Span, Time};

/// The version of the records that this crate writes; it reads this one only, and refuses higher ones.
pub const VERSION: i64 = 1;

/// The longest record that is read. A catalogue of 100 000 targets is shorter.
pub const LONGEST_RECORD_BYTES: usize = 64 << 20;

/// One record of the evidence log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// A result of a check.
    Sample(Sample<'a>),
    /// Time passed.
    Tick,
    /// A customer's notification.
    Claim(Claim),
    /// A period that does not count.
    Exclusion(Exclusion),
    /// A new catalogue.
    Catalogue(CatalogueRecord),
}

/// A catalogue as it travels: the whole text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueRecord {
    /// The highest accepted revision is in force.
    pub rev: u64,
    /// SHA-256 of the text, in hexadecimal, as whoever wrote the record says; the text is what counts.
    pub sha256: Option<String>,
    /// The TOML of SPEC §2.
    pub text: String,
    /// Who answers for a change to the past.
    pub override_by: Option<String>,
    /// Who appended it.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What one line or message holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<'a> {
    /// The field `appended_at`, or `t1` where it is absent; a log that stamps its records itself does not need it.
    pub appended_at: Option<Time>,
    /// The record, or why it is refused.
    pub record: Result<Record<'a>, Refusal>,
}

/// Why the engine does not take a record. It goes to the dead letters, named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// One word.
    pub reason: RefusalReason,
    /// What exactly is wrong, for people.
    pub detail: String,
}

/// The one word of a [`Refusal`]: label of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// A field is missing, twice there, or of the wrong shape.
    Malformed,
    /// `v` is higher than this version reads.
    NewerVersion,
    /// `type` is none of the record types.
    UnknownType,
    /// An append time or a stamp lies outside the years 0000 to 9999.
    TimeOutOfRange,
    /// `period_us` or `timeout_us` is not in (0, 24 h].
    PeriodOutOfRange,
    /// `t0 > t1`.
    EndsBeforeStart,
    /// The sample arrived after the late horizon.
    TooLate,
    /// The catalogue never assigns this vantage to this target.
    UnassignedVantage,
    /// The sample waited for a catalogue that knows its target and vantage, and too many others waited behind it.
    UnknownTarget,
    /// The catalogue does not know a service that is named.
    UnknownService,
    /// A claim or exclusion whose end is not after its start.
    EmptyPeriod,
    /// A claim opened or resolved in the future of its own append time.
    InTheFuture,
    /// A claim under another contract.
    ForeignTenant,
    /// The catalogue has mistakes.
    InvalidCatalogue,
    /// The catalogue changes what is in force before its append time, and nobody answers for it.
    MovesThePast,
    /// A higher revision of the catalogue is in force.
    Superseded,
}

impl RefusalReason {
    /// All reasons.
    pub const ALL: [Self; 16] = [
        Self::Malformed,
        Self::NewerVersion,
        Self::UnknownType,
        Self::TimeOutOfRange,
        Self::PeriodOutOfRange,
        Self::EndsBeforeStart,
        Self::TooLate,
        Self::UnassignedVantage,
        Self::UnknownTarget,
        Self::UnknownService,
        Self::EmptyPeriod,
        Self::InTheFuture,
        Self::ForeignTenant,
        Self::InvalidCatalogue,
        Self::MovesThePast,
        Self::Superseded,
    ];

    /// The reason's one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NewerVersion => "newer_version",
            Self::UnknownType => "unknown_type",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::PeriodOutOfRange => "period_out_of_range",
            Self::EndsBeforeStart => "ends_before_start",
            Self::TooLate => "too_late",
            Self::UnassignedVantage => "unassigned_vantage",
            Self::UnknownTarget => "unknown_target",
            Self::UnknownService => "unknown_service",
            Self::EmptyPeriod => "empty_period",
            Self::InTheFuture => "in_the_future",
            Self::ForeignTenant => "foreign_tenant",
            Self::InvalidCatalogue => "invalid_catalogue",
            Self::MovesThePast => "moves_the_past",
            Self::Superseded => "superseded",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Refusal {
    /// No detail is longer: a catalogue of a thousand mistakes makes no message that a log would refuse in turn.
    pub const LONGEST_DETAIL_BYTES: usize = 4_096;

    /// A refusal for `reason`; what is too long of `detail` is cut off.
    #[must_use]
    pub fn new(reason: RefusalReason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > Self::LONGEST_DETAIL_BYTES {
            let end = (0..=Self::LONGEST_DETAIL_BYTES).rev().find(|end| detail.is_char_boundary(*end)).unwrap_or(0);
            detail.truncate(end);
            detail.push('…');
        }
        Self { reason, detail }
    }
}

/// Input that is not a JSON object: not evidence at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object: {why}")]
pub struct Unreadable {
    /// What the parser met, and at which column.
    pub why: String,
}

/// Decodes one record of a file, which carries its append time itself. Only input that is not a JSON object is an error; everything
/// else is a record or a visible refusal.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, Unreadable> {
    decode_stamped(bytes, None)
}

/// Decodes one record of a log that stamped it with `appended_at`; what the record says about that itself does not count.
pub fn decode_appended(bytes: &[u8], appended_at: Time) -> Result<Decoded<'_>, Unreadable> {
    decode_stamped(bytes, Some(appended_at))
}

fn decode_stamped(bytes: &[u8], stamped: Option<Time>) -> Result<Decoded<'_>, Unreadable> {
    if bytes.len() > LONGEST_RECORD_BYTES {
        return Err(Unreadable { why: format!("{} bytes, more than the {LONGEST_RECORD_BYTES} that a record may have", bytes.len()) });
    }
    let text = std::str::from_utf8(bytes).map_err(|e| Unreadable { why: format!("byte {} is not UTF-8", e.valid_up_to() + 1) })?;
    // Almost every record is a sound sample: read it in one pass, and take the slow way only when that fails.
    if let Ok(wire) = serde_json::from_str::<WireSample<'_>>(text)
        && wire.kind == "sample"
        && wire.v == VERSION
    {
        let appended_at = match stamped {
            Some(stamped) => Ok(stamped),
            None => wire.append_time(),
        };
        return Ok(wire.decoded(appended_at));
    }
    let envelope: Envelope<'_> =
        serde_json::from_str(text).map_err(|e| Unreadable { why: excerpt(&e.to_string(), LONGEST_ERROR).into_owned() })?;
    let appended_at = match stamped {
        Some(stamped) => Ok(stamped),
        None => envelope.append_time(),
    };
    Ok(Decoded { appended_at: appended_at.as_ref().ok().copied(), record: envelope.decode(text, appended_at) })
}

fn time(field: &str, us: i64) -> Result<Time, Refusal> {
    Time::checked(us)
        .ok_or_else(|| Refusal::new(RefusalReason::TimeOutOfRange, format!("`{field}` = {us} us lies outside the years 0000 to 9999")))
}

fn malformed(error: impl fmt::Display) -> Refusal {
    Refusal::new(RefusalReason::Malformed, excerpt(&error.to_string(), LONGEST_ERROR))
}

/// What every record has, read from any JSON object whatever the rest looks like.
#[derive(Default)]
struct Envelope<'a> {
    v: Option<&'a RawValue>,
    kind: Option<&'a RawValue>,
    appended_at: Option<&'a RawValue>,
    t1: Option<&'a RawValue>,
    /// A key of these that comes twice: readers that take the first and readers that take the last would disagree.
    twice: Option<&'static str>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Envelope<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Envelope<'de>, M::Error> {
                let mut envelope = Envelope::default();
                while let Some(key) = map.next_key::<Key<'de>>()? {
                    let (name, slot) = match &*key.0 {
                        "v" => ("v", &mut envelope.v),
                        "type" => ("type", &mut envelope.kind),
                        "appended_at" => ("appended_at", &mut envelope.appended_at),
                        "t1" => ("t1", &mut envelope.t1),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if slot.replace(map.next_value()?).is_some() {
                        envelope.twice = Some(name);
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Envelope<'a> {
    fn append_time(&self) -> Result<Time, Refusal> {
        let written = self.appended_at.filter(|raw| raw.get() != "null").map(|raw| ("appended_at", raw));
        let (field, raw) = written.or(self.t1.map(|raw| ("t1", raw))).ok_or_else(|| malformed("missing field `appended_at`"))?;
        let us = serde_json::from_str(raw.get());
        time(field, us.map_err(|_| malformed(format!("`{field}` = {} is not an instant", excerpt(raw.get(), LONGEST_VALUE))))?)
    }

    fn decode(&self, text: &'a str, appended_at: Result<Time, Refusal>) -> Result<Record<'a>, Refusal> {
        if let Some(field) = self.twice {
            return Err(malformed(format!("duplicate field `{field}`")));
        }
        let v = self.v.ok_or_else(|| malformed("missing field `v`"))?;
        match serde_json::from_str::<i64>(v.get()) {
            Ok(VERSION) => {}
            Ok(v) if v > VERSION => {
                return Err(Refusal::new(RefusalReason::NewerVersion, format!("`v` = {v}; this version reads {VERSION}")));
            }
            _ => return Err(malformed(format!("`v` = {}; expected {VERSION}", excerpt(v.get(), LONGEST_VALUE)))),
        }
        let kind = self.kind.ok_or_else(|| malformed("missing field `type`"))?;
        let Ok(kind) = serde_json::from_str::<Cow<'_, str>>(kind.get()) else {
            return Err(malformed(format!("`type` = {}; expected a string", excerpt(kind.get(), LONGEST_VALUE))));
        };
        if !matches!(&*kind, "sample" | "tick" | "claim" | "exclusion" | "catalogue") {
            return Err(Refusal::new(RefusalReason::UnknownType, format!("`type` = \"{}\"", excerpt(&kind, LONGEST_VALUE))));
        }
        if kind == "sample" {
            // First its shape: a sample that lacks `t1` is not said to lack `appended_at`.
            return serde_json::from_str::<WireSample<'_>>(text).map_err(malformed)?.decoded(appended_at).record;
        }
        let appended_at = appended_at?;
        match &*kind {
            "tick" => Ok(Record::Tick),
            "claim" => serde_json::from_str::<WireClaim>(text).map_err(malformed)?.into_claim(appended_at).map(Record::Claim),
            "exclusion" => serde_json::from_str::<WireExclusion>(text).map_err(malformed)?.into_exclusion().map(Record::Exclusion),
            _ => serde_json::from_str::<WireCatalogue>(text).map_err(malformed).map(|wire| Record::Catalogue(wire.into())),
        }
    }
}

/// So many characters of one value stand in an error.
const LONGEST_VALUE: usize = 40;
/// So many characters has an error of the parser's.
const LONGEST_ERROR: usize = 300;

/// The beginning of `text`: an error names what it met without repeating ten megabytes of it.
fn excerpt(text: &str, longest: usize) -> Cow<'_, str> {
    match text.char_indices().nth(longest) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[derive(Deserialize)]
struct WireSample<'a> {
    v: i64,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow)]
    vantage: Cow<'a, str>,
    #[serde(borrow)]
    run: Cow<'a, str>,
    seq: u64,
    t0: i64,
    t1: i64,
    outcome: Outcome,
    period_us: i64,
    timeout_us: i64,
    clock_error_us: i64,
    #[serde(default)]
    latency_us: Option<u64>,
    #[serde(default)]
    appended_at: Option<i64>,
}

impl<'a> WireSample<'a> {
    fn append_time(&self) -> Result<Time, Refusal> {
        self.appended_at.map_or_else(|| time("t1", self.t1), |us| time("appended_at", us))
    }

    fn decoded(self, appended_at: Result<Time, Refusal>) -> Decoded<'a> {
        Decoded {
            appended_at: appended_at.as_ref().ok().copied(),
            record: appended_at.and_then(|_| self.into_sample()).map(Record::Sample),
        }
    }

    fn into_sample(self) -> Result<Sample<'a>, Refusal> {
        for (field, us) in [("period_us", self.period_us), ("timeout_us", self.timeout_us)] {
            if us <= 0 || us > Sample::LONGEST_PERIOD.us() {
                return Err(Refusal::new(RefusalReason::PeriodOutOfRange, format!("`{field}` = {us} is not in (0, 24 h]")));
            }
        }
        if self.t0 > self.t1 {
            return Err(Refusal::new(RefusalReason::EndsBeforeStart, format!("`t0` = {} is after `t1` = {}", self.t0, self.t1)));
        }
        // The stamp says when something was so; the other end, however extreme, says nothing that counts.
        let (t0, t1) = match self.outcome {
            Outcome::Fail => (time("t0", self.t0)?, Time::clamped(self.t1)),
            Outcome::Ok | Outcome::Void => (Time::clamped(self.t0), time("t1", self.t1)?),
        };
        let latency = self.latency_us.map(i64::try_from).transpose().map_err(|_| malformed("`latency_us` is larger than any duration"))?;
        Ok(Sample {
            target: self.target,
            vantage: self.vantage,
            run: self.run,
            seq: self.seq,
            t0,
            t1,
            outcome: self.outcome,
            latency: latency.map(Span::from_us),
            period: Span::from_us(self.period_us),
            timeout: Span::from_us(self.timeout_us),
            clock_error: Span::from_us(self.clock_error_us),
        })
    }
}

#[derive(Deserialize)]
struct WireClaim {
    id: Box<str>,
    rev: u64,
    service: Box<str>,
    #[serde(default)]
    tenant: Option<String>,
    opened_at: i64,
    state: ClaimState,
    #[serde(default)]
    resolved_at: Option<i64>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl WireClaim {
    fn into_claim(self, appended_at: Time) -> Result<Claim, Refusal> {
        if self.resolved_at.is_some_and(|resolved_at| resolved_at <= self.opened_at) {
            return Err(Refusal::new(
                RefusalReason::EmptyPeriod,
                format!("claim {}: `resolved_at` is not after `opened_at`", excerpt(&self.id, LONGEST_VALUE)),
            ));
        }
        let (opened_at, resolved_at) = (Time::clamped(self.opened_at), self.resolved_at.map(Time::clamped));
        for (field, instant) in [("opened_at", Some(opened_at)), ("resolved_at", resolved_at)] {
            if instant.is_some_and(|instant| instant > appended_at + Sample::WORST_CLOCK) {
                let detail = format!("claim {}: `{field}` is later than its append time", excerpt(&self.id, LONGEST_VALUE));
                return Err(Refusal::new(RefusalReason::InTheFuture, detail));
            }
        }
        Ok(Claim {
            id: (&*self.id).into(),
            rev: self.rev,
            service: (&*self.service).into(),
            tenant: self.tenant,
            opened_at,
            state: self.state,
            resolved_at,
            actor: self.actor,
            reason: self.reason,
        })
    }
}

/// Who answers for something: an empty name is nobody's.
fn somebody<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|name| !name.trim().is_empty()))
}

#[derive(Deserialize)]
struct WireExclusion {
    id: Box<str>,
    rev: u64,
    kind: ExclusionKind,
    services: Vec<Box<str>>,
    start: i64,
    end: i64,
    #[serde(default)]
    announced_at: Option<i64>,
    state: String,
    #[serde(default, deserialize_with = "somebody")]
    override_by: Option<String>,
    #[serde(default, deserialize_with = "somebody")]
    approved_by: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl WireExclusion {
    fn into_exclusion(self) -> Result<Exclusion, Refusal> {
        if self.start >= self.end {
            return Err(Refusal::new(
                RefusalReason::EmptyPeriod,
                format!("exclusion {}: `end` is not after `start`", excerpt(&self.id, LONGEST_VALUE)),
            ));
        }
        Ok(Exclusion {
            id: (&*self.id).into(),
            rev: self.rev,
            kind: self.kind,
            services: self.services.iter().map(|service| (&**service).into()).collect(),
            start: Time::clamped(self.start),
            end: Time::clamped(self.end),
            announced_at: self.announced_at.map(Time::clamped),
            state: self.state,
            override_by: self.override_by,
            approved_by: self.approved_by,
            reason: self.reason,
        })
    }
}

#[derive(Deserialize)]
struct WireCatalogue {
    rev: u64,
    text: String,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default, deserialize_with = "somebody")]
    override_by: Option<String>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl From<WireCatalogue> for CatalogueRecord {
    fn from(wire: WireCatalogue) -> Self {
        let WireCatalogue { rev, text, sha256, override_by, actor, reason } = wire;
        Self { rev, sha256, text, override_by, actor, reason }
    }
}

/// What a sample says to people only; the engine never reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SampleDetails {
    /// The slot's start.
    #[serde(default)]
    pub scheduled: Option<i64>,
    /// Why it is not `ok`. A word that this version does not know is read as `None`.
    #[serde(default, deserialize_with = "known_word")]
    pub reason: Option<Reason>,
    /// How long each phase took, in microseconds, in the order in which they happened.
    #[serde(default)]
    pub phases_us: serde_json::Map<String, serde_json::Value>,
    /// How many attempts it took.
    #[serde(default)]
    pub attempts: Option<u32>,
    /// The configuration's epoch at the probe.
    #[serde(default)]
    pub epoch: Option<u64>,
}

fn known_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reason>, D::Error> {
    let word = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    Ok(word.and_then(|word| Reason::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&word)).ok()))
}

/// The part of a sample that is for people; everything is absent where it cannot be read.
#[must_use]
pub fn decode_details(bytes: &[u8]) -> SampleDetails {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// Encodes a record as one JSON object, without a newline. `details` go with a sample; `appended_at` is for files, a log that stamps
/// its records itself passes `None`.
#[must_use]
pub fn encode(record: &Record<'_>, details: Option<&SampleDetails>, appended_at: Option<Time>) -> String {
    let mut object = serde_json::Map::new();
    let mut put = |field: &str, value: serde_json::Value| {
        object.insert(field.to_owned(), value);
    };
    put("v", VERSION.into());
    match record {
        Record::Sample(sample) => {
            put("type", "sample".into());
            put("target", (&*sample.target).into());
            put("vantage", (&*sample.vantage).into());
            put("run", (&*sample.run).into());
            put("seq", sample.seq.into());
            put("t0", sample.t0.us().into());
            put("t1", sample.t1.us().into());
            put("outcome", serde_json::to_value(sample.outcome).unwrap_or_default());
            put("latency_us", sample.latency.map(Span::us).into());
            put("period_us", sample.period.us().into());
            put("timeout_us", sample.timeout.us().into());
            put("clock_error_us", sample.clock_error.us().into());
            if let Some(details) = details {
                put("scheduled", details.scheduled.into());
                put("reason", serde_json::to_value(details.reason).unwrap_or_default());
                put("phases_us", details.phases_us.clone().into());
                put("attempts", details.attempts.into());
                put("epoch", details.epoch.into());
            }
        }
        Record::Tick => put("type", "tick".into()),
        Record::Claim(claim) => {
            put("type", "claim".into());
            put("id", claim.id.as_str().into());
            put("rev", claim.rev.into());
            put("service", claim.service.as_str().into());
            put("tenant", claim.tenant.clone().into());
            put("opened_at", claim.opened_at.us().into());
            put("state", serde_json::to_value(claim.state).unwrap_or_default());
            put("resolved_at", claim.resolved_at.map(Time::us).into());
            put("actor", claim.actor.clone().into());
            put("reason", claim.reason.clone().into());
        }
        Record::Exclusion(exclusion) => {
            put("type", "exclusion".into());
            put("id", exclusion.id.as_str().into());
            put("rev", exclusion.rev.into());
            put("kind", exclusion.kind.as_str().into());
            put("services", exclusion.services.iter().map(crate::id::ServiceId::as_str).collect::<Vec<_>>().into());
            put("start", exclusion.start.us().into());
            put("end", exclusion.end.us().into());
            put("announced_at", exclusion.announced_at.map(Time::us).into());
            put("state", exclusion.state.clone().into());
            put("approved_by", exclusion.approved_by.clone().into());
            put("override_by", exclusion.override_by.clone().into());
            put("reason", exclusion.reason.clone().into());
        }
        Record::Catalogue(catalogue) => {
            put("type", "catalogue".into());
            put("rev", catalogue.rev.into());
            put("sha256", catalogue.sha256.clone().into());
            put("text", catalogue.text.clone().into());
            put("actor", catalogue.actor.clone().into());
            put("reason", catalogue.reason.clone().into());
            put("override_by", catalogue.override_by.clone().into());
        }
    }
    if let Some(appended_at) = appended_at {
        put("appended_at", appended_at.us().into());
    }
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests;
