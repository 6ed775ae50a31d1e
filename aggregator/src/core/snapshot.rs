//! The engine's state as chunks of bytes (DESIGN §4): a cache of the fold, never the truth.
//!
//! A [`Manifest`] names every chunk and its digest; a chunk whose digest the previous manifest has already is not written again. What
//! follows from the rest (verdicts, windows, the agenda) is derived anew when a snapshot is read back.

use std::collections::{BTreeMap, VecDeque};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vigie_contract::catalogue::VantageIx;
use vigie_contract::record::CatalogueRecord;
use vigie_contract::{Catalogue, Claim, ClaimId, ExclusionId, Month, RunId, ServiceId, Span, TargetId, Time, VantageId};

use super::account::Revision;
use super::chunk::Chunk;
use super::digest::sha256_hex;
use super::engine::{Engine, Settings};
use super::gate::Gates;
use super::intake::{Fact, Waiting};
use super::report::Latency;
use super::state::Steps;
use super::target::Level;
use super::track::Track;

/// Rises whenever the same log gives another state: a snapshot of another revision is not read, the log is folded again.
pub const SEMANTICS_REVISION: u32 = 2;
/// No chunk is longer: a Kafka message carries it.
pub const LONGEST_CHUNK_BYTES: usize = 512 << 10;
/// So many targets share the chunks of what changes all the time.
const TARGETS_PER_CHUNK: usize = 32;

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`SEMANTICS_REVISION`].
    pub semantics_revision: u32,
    /// The log's epoch.
    pub log_epoch: u64,
    /// The offset of the last record in it.
    pub offset: u64,
    /// SHA-256 of each chunk, in hexadecimal, by the chunk's key.
    pub chunks: BTreeMap<String, String>,
}

/// A snapshot, and which of its chunks are new.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// To be written after the chunks.
    pub manifest: Manifest,
    /// The chunks that the previous manifest does not have, by key.
    pub changed: BTreeMap<String, Vec<u8>>,
}

/// Why a snapshot is not used; the log is folded instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It was written by an engine with other semantics.
    #[error("semantics revision {0}, this engine has {SEMANTICS_REVISION}")]
    OtherSemantics(u32),
    /// It belongs to another log.
    #[error("log epoch {0}, this log has {1}")]
    OtherEpoch(u64, u64),
    /// A chunk is missing, or is not what the manifest says.
    #[error("chunk {0} is missing or damaged")]
    Damaged(String),
    /// It was taken under another catalogue than the one that is given.
    #[error("it was taken under another catalogue")]
    OtherCatalogue,
}

/// Everything small.
#[derive(Serialize, Deserialize)]
struct Head {
    catalogue: Option<CatalogueRecord>,
    targets: Vec<TargetId>,
    vantages: Vec<VantageId>,
    services: Vec<ServiceId>,
    now: Time,
    frontier: Time,
    horizon: Time,
    /// Of each service, where its memory begins.
    memories: Vec<Time>,
    sampled_from: Time,
    next_pruning: Time,
    runs: Vec<(RunId, u32)>,
    next_run: u32,
    first_evidence: Vec<Option<Time>>,
    past_latencies: Vec<BTreeMap<Month, Latency>>,
    gates: Vec<Gates>,
    claims: BTreeMap<ClaimId, Fact<Claim>>,
    exclusions: BTreeMap<ExclusionId, BTreeMap<u64, Revision>>,
    waiting: VecDeque<Waiting>,
}

type Live = Vec<(Vec<(VantageIx, Track)>, Steps<Level>)>;
type Sealed = Vec<(usize, VantageIx, Chunk)>;

fn bytes_of(value: &impl Serialize) -> Vec<u8> {
    // Into memory, of types that are ours: there is nothing that could fail.
    postcard::to_stdvec(value).unwrap_or_default()
}

fn put(chunks: &mut BTreeMap<String, Vec<u8>>, key: &str, bytes: &[u8]) {
    for (part, piece) in bytes.chunks(LONGEST_CHUNK_BYTES).enumerate() {
        chunks.insert(format!("{key}/{part:04}"), piece.to_vec());
    }
}

impl Engine {
    /// The state after the record at `offset`; chunks that `previous` has are left out.
    #[must_use]
    pub fn snapshot(&self, offset: u64, previous: Option<&Manifest>) -> Snapshot {
        let mut chunks = BTreeMap::new();
        put(&mut chunks, "head", &bytes_of(&self.head()));
        let targets: Vec<_> = self.tracks.iter().zip(&self.levels).collect();
        for (group, targets) in targets.chunks(TARGETS_PER_CHUNK).enumerate() {
            let unsealed =
                |tracks: &Vec<(VantageIx, Track)>| tracks.iter().map(|(vantage, track)| (*vantage, track.without_sealed())).collect();
            let live: Live = targets.iter().map(|(tracks, levels)| (unsealed(tracks), (*levels).clone())).collect();
            put(&mut chunks, &format!("live/{group:06}"), &bytes_of(&live));
        }
        put(&mut chunks, "absent", &bytes_of(&self.absent));
        for (hour, sealed) in self.sealed_by_hour() {
            put(&mut chunks, &format!("samples/{hour:+012}"), &bytes_of(&sealed));
        }
        let digests = chunks.iter().map(|(key, bytes)| (key.clone(), sha256_hex(bytes))).collect();
        let manifest = Manifest { semantics_revision: SEMANTICS_REVISION, log_epoch: self.settings.log_epoch, offset, chunks: digests };
        if let Some(previous) = previous {
            chunks.retain(|key, _| previous.chunks.get(key) != manifest.chunks.get(key));
        }
        Snapshot { manifest, changed: chunks }
    }

    fn head(&self) -> Head {
        let catalogue = self.catalogue.as_ref();
        let mut runs: Vec<_> = self.runs.iter().map(|(id, run)| (id.clone(), *run)).collect();
        runs.sort_unstable_by_key(|(_, run)| *run);
        Head {
            catalogue: self.catalogue_record.clone(),
            targets: catalogue.map(|catalogue| catalogue.targets.iter().map(|target| target.id.clone()).collect()).unwrap_or_default(),
            vantages: catalogue.map(|catalogue| catalogue.vantages.iter().map(|vantage| vantage.id.clone()).collect()).unwrap_or_default(),
            services: catalogue.map(|catalogue| catalogue.services.iter().map(|service| service.id.clone()).collect()).unwrap_or_default(),
            now: self.now,
            frontier: self.frontier,
            horizon: self.horizon,
            memories: self.services.iter().map(|state| state.memory).collect(),
            sampled_from: self.sampled_from,
            next_pruning: self.next_pruning,
            runs,
            next_run: self.next_run,
            first_evidence: self.first_evidence.clone(),
            past_latencies: self.past_latencies.clone(),
            gates: self.gates.clone(),
            claims: self.claims.clone(),
            exclusions: self.exclusions.clone(),
            waiting: self.waiting.clone(),
        }
    }

    fn sealed_by_hour(&self) -> BTreeMap<i64, Sealed> {
        let mut hours: BTreeMap<i64, Sealed> = BTreeMap::new();
        for (target, tracks) in self.tracks.iter().enumerate() {
            for (vantage, track) in tracks {
                for chunk in track.sealed() {
                    let hour = chunk.first.us().div_euclid(Span::HOUR.us());
                    hours.entry(hour).or_default().push((target, *vantage, chunk.clone()));
                }
            }
        }
        hours
    }

    /// Reads a snapshot back; `chunk` fetches the bytes of a key, `given` is the catalogue of an engine that was made with one.
    pub fn restore(
        settings: Settings,
        given: Option<Catalogue>,
        manifest: &Manifest,
        chunk: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, Unusable> {
        Self::new(settings, given).restored(manifest, chunk)
    }

    /// The same into an engine that was just made.
    pub fn restored(self, manifest: &Manifest, chunk: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, Unusable> {
        let settings = self.settings;
        if manifest.semantics_revision != SEMANTICS_REVISION {
            return Err(Unusable::OtherSemantics(manifest.semantics_revision));
        }
        if manifest.log_epoch != settings.log_epoch {
            return Err(Unusable::OtherEpoch(manifest.log_epoch, settings.log_epoch));
        }
        let mut blobs: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for (key, expected) in &manifest.chunks {
            let bytes = chunk(key).filter(|bytes| sha256_hex(bytes) == *expected).ok_or_else(|| Unusable::Damaged(key.clone()))?;
            let blob = key.rsplit_once('/').map_or(key.as_str(), |(blob, _)| blob);
            blobs.entry(blob).or_default().extend(bytes);
        }
        let head: Head = read(&blobs, "head")?;
        let mut engine = self;
        if let Some(record) = head.catalogue {
            let catalogue = engine.read(&record.text).map_err(|_| Unusable::Damaged("head".to_owned()))?;
            engine.catalogue_record = Some(record);
            engine.adopt(catalogue, &mut super::engine::Effects::default());
        }
        let nothing = head.targets.is_empty() && head.vantages.is_empty() && head.services.is_empty();
        let same = engine.catalogue.as_ref().map_or(nothing, |catalogue| {
            catalogue.targets.iter().map(|target| &target.id).eq(&head.targets)
                && catalogue.vantages.iter().map(|vantage| &vantage.id).eq(&head.vantages)
                && catalogue.services.iter().map(|service| &service.id).eq(&head.services)
        });
        if !same {
            return Err(Unusable::OtherCatalogue);
        }
        let mut target = 0;
        for key in blobs.keys().filter(|key| key.starts_with("live/")) {
            for (tracks, levels) in read::<Live>(&blobs, key)? {
                let places = engine.tracks.get_mut(target).zip(engine.levels.get_mut(target));
                let (place, place_of_levels) = places.ok_or(Unusable::OtherCatalogue)?;
                (*place, *place_of_levels) = (tracks, levels);
                target += 1;
            }
        }
        let mut hours: Vec<_> = blobs.keys().filter_map(|key| Some((key.strip_prefix("samples/")?.parse::<i64>().ok()?, *key))).collect();
        hours.sort_unstable();
        for (_, key) in hours {
            for (target, vantage, chunk) in read::<Sealed>(&blobs, key)? {
                let tracks = engine.tracks.get_mut(target).ok_or(Unusable::OtherCatalogue)?;
                let track = tracks.iter_mut().find(|(of, _)| *of == vantage).ok_or(Unusable::OtherCatalogue)?;
                track.1.push_sealed(chunk);
            }
        }
        engine.absent = read(&blobs, "absent")?;
        engine.now = head.now;
        engine.frontier = head.frontier;
        engine.horizon = head.horizon;
        engine.services.iter_mut().zip(head.memories).for_each(|(state, memory)| state.memory = memory);
        engine.sampled_from = head.sampled_from;
        engine.next_pruning = head.next_pruning;
        engine.runs = head.runs.into_iter().collect();
        engine.next_run = head.next_run;
        engine.first_evidence = head.first_evidence;
        engine.past_latencies = head.past_latencies;
        engine.gates = head.gates;
        engine.claims = head.claims;
        engine.exclusions = head.exclusions;
        engine.waiting = head.waiting;
        engine.resume();
        Ok(engine)
    }
}

fn read<T: DeserializeOwned>(blobs: &BTreeMap<&str, Vec<u8>>, key: &str) -> Result<T, Unusable> {
    let damaged = || Unusable::Damaged(key.to_owned());
    postcard::from_bytes(blobs.get(key).ok_or_else(damaged)?).map_err(|_| damaged())
}
