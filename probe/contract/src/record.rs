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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueRecord {
    /// The highest accepted revision is in force.
    pub rev: u64,
    /// SHA-256 of the text, in hexadecimal.
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
    /// An instant lies outside the years 0000 to 9999.
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
    /// The catalogue's text is not what its digest says.
    WrongDigest,
    /// A higher revision of the catalogue is in force.
    Superseded,
}

impl RefusalReason {
    /// All reasons.
    pub const ALL: [Self; 17] = [
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
        Self::WrongDigest,
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
            Self::WrongDigest => "wrong_digest",
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
    /// A refusal for `reason`.
    #[must_use]
    pub fn new(reason: RefusalReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Input that is not a JSON object: not evidence at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object: {why}")]
pub struct Unreadable {
    /// What the parser met, and at which column.
    pub why: String,
}

/// Decodes one record. Only input that is not a JSON object is an error; everything else is a record or a visible refusal.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, Unreadable> {
    if bytes.len() > LONGEST_RECORD_BYTES {
        return Err(Unreadable { why: format!("{} bytes, more than the {LONGEST_RECORD_BYTES} that a record may have", bytes.len()) });
    }
    let text = std::str::from_utf8(bytes).map_err(|e| Unreadable { why: format!("byte {} is not UTF-8", e.valid_up_to() + 1) })?;
    // Almost every record is a sound sample: read it in one pass, and take the slow way only when that fails.
    if let Ok(wire) = serde_json::from_str::<WireSample<'_>>(text)
        && wire.kind == "sample"
        && wire.v == VERSION
    {
        return Ok(decoded_sample(wire));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|e| Unreadable { why: e.to_string() })?;
    let appended_at = envelope.append_time();
    let record = envelope.decode(text, appended_at);
    Ok(Decoded { appended_at, record })
}

fn decoded_sample(wire: WireSample<'_>) -> Decoded<'_> {
    let appended_at = Time::checked(wire.appended_at.unwrap_or(wire.t1));
    let record = match appended_at {
        Some(_) => wire.into_sample().map(Record::Sample),
        None => Err(out_of_range("appended_at", wire.appended_at.unwrap_or(wire.t1))),
    };
    Decoded { appended_at, record }
}

fn out_of_range(field: &str, us: i64) -> Refusal {
    Refusal::new(RefusalReason::TimeOutOfRange, format!("`{field}` = {us} us lies outside the years 0000 to 9999"))
}

fn time(field: &str, us: i64) -> Result<Time, Refusal> {
    Time::checked(us).ok_or_else(|| out_of_range(field, us))
}

fn malformed(error: impl fmt::Display) -> Refusal {
    Refusal::new(RefusalReason::Malformed, error.to_string())
}

/// What every record has, read from any JSON object whatever the rest looks like.
#[derive(Default)]
struct Envelope<'a> {
    v: Option<&'a RawValue>,
    kind: Option<&'a RawValue>,
    appended_at: Option<&'a RawValue>,
    t1: Option<&'a RawValue>,
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
                    let slot = match &*key.0 {
                        "v" => &mut envelope.v,
                        "type" => &mut envelope.kind,
                        "appended_at" => &mut envelope.appended_at,
                        "t1" => &mut envelope.t1,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    // A key that comes twice is refused when the record itself is read; here the first stands.
                    let value = map.next_value()?;
                    slot.get_or_insert(value);
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
    fn append_time(&self) -> Option<Time> {
        let integer = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<Option<i64>>(raw.get()).ok()).flatten();
        let absent = self.appended_at.is_none_or(|raw| raw.get() == "null");
        Time::checked(integer(if absent { self.t1 } else { self.appended_at })?)
    }

    fn decode(&self, text: &'a str, appended_at: Option<Time>) -> Result<Record<'a>, Refusal> {
        let v = self.v.ok_or_else(|| malformed("missing field `v`"))?;
        match serde_json::from_str::<i64>(v.get()) {
            Ok(VERSION) => {}
            Ok(v) if v > VERSION => {
                return Err(Refusal::new(RefusalReason::NewerVersion, format!("`v` = {v}; this version reads {VERSION}")));
            }
            _ => return Err(malformed(format!("`v` = {}; expected {VERSION}", excerpt(v.get())))),
        }
        let kind = self.kind.ok_or_else(|| malformed("missing field `type`"))?;
        let Ok(kind) = serde_json::from_str::<Cow<'_, str>>(kind.get()) else {
            return Err(malformed(format!("`type` = {}; expected a string", excerpt(kind.get()))));
        };
        if !matches!(&*kind, "sample" | "tick" | "claim" | "exclusion" | "catalogue") {
            return Err(Refusal::new(RefusalReason::UnknownType, format!("`type` = \"{}\"", excerpt(&kind))));
        }
        if kind == "sample" {
            let wire: WireSample<'_> = serde_json::from_str(text).map_err(malformed)?;
            return decoded_sample(wire).record;
        }
        let appended_at = match (appended_at, self.appended_at) {
            (Some(appended_at), Some(_)) => appended_at,
            (_, None) => return Err(malformed("missing field `appended_at`")),
            (None, Some(raw)) => return Err(malformed(format!("`appended_at` = {} is not an instant", excerpt(raw.get())))),
        };
        match &*kind {
            "tick" => serde_json::from_str::<WireTick>(text).map(|_| Record::Tick).map_err(malformed),
            "claim" => serde_json::from_str::<WireClaim>(text).map_err(malformed)?.into_claim(appended_at).map(Record::Claim),
            "exclusion" => serde_json::from_str::<WireExclusion>(text).map_err(malformed)?.into_exclusion().map(Record::Exclusion),
            _ => serde_json::from_str::<WireCatalogue>(text).map_err(malformed).map(|wire| Record::Catalogue(wire.into())),
        }
    }
}

/// At most forty characters of `text`: an error names what it met without repeating ten megabytes of it.
fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[derive(Deserialize)]
struct WireTick {
    #[serde(rename = "appended_at")]
    _appended_at: i64,
}

#[derive(Serialize, Deserialize)]
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
    fn into_sample(self) -> Result<Sample<'a>, Refusal> {
        for (field, us) in [("period_us", self.period_us), ("timeout_us", self.timeout_us)] {
            if us <= 0 || us > Sample::LONGEST_PERIOD.us() {
                return Err(Refusal::new(RefusalReason::PeriodOutOfRange, format!("`{field}` = {us} is not in (0, 24 h]")));
            }
        }
        let (t0, t1) = (time("t0", self.t0)?, time("t1", self.t1)?);
        if t0 > t1 {
            return Err(Refusal::new(RefusalReason::EndsBeforeStart, format!("`t0` = {} is after `t1` = {}", self.t0, self.t1)));
        }
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
        let opened_at = time("opened_at", self.opened_at)?;
        let resolved_at = self.resolved_at.map(|us| time("resolved_at", us)).transpose()?;
        if resolved_at.is_some_and(|resolved_at| resolved_at <= opened_at) {
            return Err(Refusal::new(
                RefusalReason::EmptyPeriod,
                format!("claim {}: `resolved_at` is not after `opened_at`", excerpt(&self.id)),
            ));
        }
        for (field, instant) in [("opened_at", Some(opened_at)), ("resolved_at", resolved_at)] {
            if instant.is_some_and(|instant| instant > appended_at + Sample::WORST_CLOCK) {
                let detail = format!("claim {}: `{field}` is later than its append time", excerpt(&self.id));
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

#[derive(Deserialize)]
struct WireExclusion {
    id: Box<str>,
    rev: u64,
    kind: ExclusionKind,
    services: Vec<Box<str>>,
    start: i64,
    end: i64,
    state: String,
    #[serde(default)]
    override_by: Option<String>,
    #[serde(default)]
    approved_by: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl WireExclusion {
    fn into_exclusion(self) -> Result<Exclusion, Refusal> {
        let (start, end) = (time("start", self.start)?, time("end", self.end)?);
        if start >= end {
            return Err(Refusal::new(RefusalReason::EmptyPeriod, format!("exclusion {}: `end` is not after `start`", excerpt(&self.id))));
        }
        Ok(Exclusion {
            id: (&*self.id).into(),
            rev: self.rev,
            kind: self.kind,
            services: self.services.iter().map(|service| (&**service).into()).collect(),
            start,
            end,
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
    #[serde(default)]
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
            put("services", exclusion.services.iter().map(|service| service.as_str()).collect::<Vec<_>>().into());
            put("start", exclusion.start.us().into());
            put("end", exclusion.end.us().into());
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
