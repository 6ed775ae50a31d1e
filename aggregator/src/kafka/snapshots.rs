//! Snapshots in a compacted topic: a cache, never the truth.
//!
//! Chunks lie under their digests, so that one that did not change is not written again, and a snapshot that was begun and not ended
//! takes nothing from the one before. The index of a snapshot is written when all its chunks are acknowledged; what no index needs any
//! more is ended after that. Every deployment has its own, and may begin from another's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use vigie_kafka::{Message, PartitionReader, Producer, Purpose, Settings};

use super::store_error;
use crate::core::digest::sha256_hex;
use crate::core::snapshot::{LONGEST_CHUNK_BYTES, Manifest, SEMANTICS_REVISION};
use crate::live::{Restored, Snapshots};
use crate::port::StoreError;
use crate::publish::Ledger;

/// So many records are sent together: the producer's queue is bounded by bytes, too.
const TOGETHER: usize = 64;

/// What names the pieces of a snapshot.
#[derive(Serialize, Deserialize)]
struct Index {
    semantics_revision: u32,
    log_epoch: u64,
    offset: u64,
    /// Digests of the pieces of manifest and ledger.
    head: Vec<String>,
}

/// Keeps snapshots in the topic.
pub struct KafkaSnapshots {
    settings: Settings,
    producer: Arc<Producer>,
    deployment: String,
    /// By group, the digests that our index in the topic needs.
    needed: Mutex<HashMap<String, BTreeSet<String>>>,
}

impl KafkaSnapshots {
    /// For the replicas that share the consumer group `deployment`.
    #[must_use]
    pub fn new(settings: &Settings, producer: Arc<Producer>, deployment: impl Into<String>) -> Self {
        Self { settings: settings.clone(), producer, deployment: deployment.into(), needed: Mutex::default() }
    }

    fn partition(&self, group: &str) -> Result<i32, StoreError> {
        self.settings.partition(group).ok_or_else(|| StoreError::Unavailable(format!("the settings do not name group {group}").into()))
    }

    fn chunk_key(&self, group: &str, digest: &str) -> String {
        format!("{}/{group}/{digest}", self.deployment)
    }

    async fn put(&self, partition: i32, records: &[(String, Option<&[u8]>)]) -> Result<(), StoreError> {
        for records in records.chunks(TOGETHER) {
            let messages: Vec<Message<'_>> = records
                .iter()
                .map(|(key, payload)| Message {
                    topic: &self.settings.topics.snapshots,
                    partition: Some(partition),
                    key: Some(key.as_bytes()),
                    payload: *payload,
                    header: None,
                })
                .collect();
            self.producer.send(&messages).await.map_err(store_error)?;
        }
        Ok(())
    }
}

impl Snapshots for KafkaSnapshots {
    async fn save(&self, group: &str, manifest: &Manifest, changed: BTreeMap<String, Vec<u8>>, ledger: &Ledger) -> Result<(), StoreError> {
        let partition = self.partition(group)?;
        let head = postcard::to_stdvec(&(manifest, ledger)).map_err(|error| StoreError::Unavailable(error.into()))?;
        let pieces: Vec<(String, &[u8])> = head.chunks(LONGEST_CHUNK_BYTES).map(|piece| (sha256_hex(piece), piece)).collect();
        let index = Index {
            semantics_revision: manifest.semantics_revision,
            log_epoch: manifest.log_epoch,
            offset: manifest.offset,
            head: pieces.iter().map(|(digest, _)| digest.clone()).collect(),
        };
        let index = postcard::to_stdvec(&index).map_err(|error| StoreError::Unavailable(error.into()))?;
        let new: BTreeSet<String> = manifest.chunks.values().cloned().chain(pieces.iter().map(|(digest, _)| digest.clone())).collect();
        let known = self.needed.lock().unwrap_or_else(PoisonError::into_inner).get(group).cloned().unwrap_or_default();

        let chunks = changed.iter().filter_map(|(key, bytes)| Some((manifest.chunks.get(key)?, bytes.as_slice())));
        let all = chunks.chain(pieces.iter().map(|(digest, piece)| (digest, *piece)));
        let records: Vec<_> = all.map(|(digest, bytes)| (self.chunk_key(group, digest), Some(bytes))).collect();
        self.put(partition, &records).await?;
        self.put(partition, &[(format!("{}/{group}", self.deployment), Some(&index))]).await?;
        let ended: Vec<_> = known.difference(&new).map(|digest| (self.chunk_key(group, digest), None)).collect();
        self.needed.lock().unwrap_or_else(PoisonError::into_inner).insert(group.to_owned(), new);
        // One that stays for want of this costs room until the next process finds it.
        self.put(partition, &ended).await
    }

    async fn load(&self, group: &str, log_epoch: u64) -> Result<Option<Restored>, StoreError> {
        let records = self.read(self.partition(group)?).await?;
        self.remember(group, &records);
        let mut indices: Vec<(&str, Index)> = Vec::new();
        for (key, bytes) in &records {
            let Some((deployment, of)) = key.split_once('/') else { continue };
            let Ok(index) = postcard::from_bytes::<Index>(bytes) else { continue };
            if of != group {
                continue;
            }
            let (revision, epoch) = (index.semantics_revision, index.log_epoch);
            if (revision, epoch) == (SEMANTICS_REVISION, log_epoch) {
                indices.push((deployment, index));
            } else {
                tracing::warn!(deployment, group, revision, epoch, "a snapshot of another semantics revision or log epoch is not used");
            }
        }
        // The newest; of two as new our own.
        indices.sort_by_key(|(deployment, index)| (index.offset, *deployment == self.deployment));
        while let Some((deployment, index)) = indices.pop() {
            match assemble(&records, deployment, group, &index) {
                Some(restored) => {
                    // Chunks of another deployment are not in our keeping: our next snapshot is whole.
                    return Ok(Some(Restored { is_borrowed: deployment != self.deployment, ..restored }));
                }
                None => tracing::warn!(deployment, group, offset = index.offset, "a snapshot is not whole: looking for another"),
            }
        }
        Ok(None)
    }
}

impl KafkaSnapshots {
    /// Everything in the partition, the newest of each key.
    async fn read(&self, partition: i32) -> Result<HashMap<String, Vec<u8>>, StoreError> {
        let unavailable = |error: vigie_kafka::ReadError| StoreError::Unavailable(error.into());
        let reader =
            PartitionReader::open(&self.settings, &self.settings.topics.snapshots, partition, Purpose::Cache).map_err(unavailable)?;
        let (mut next, end) = reader.bounds().await.map_err(unavailable)?;
        let mut newest = HashMap::new();
        while next < end {
            let fetched = reader.read(next, usize::MAX).await.map_err(unavailable)?;
            let Some(last) = fetched.last() else { break };
            next = last.offset + 1;
            for record in fetched {
                let key = String::from_utf8_lossy(&record.key).into_owned();
                match record.payload {
                    Some(bytes) => newest.insert(key, bytes),
                    None => newest.remove(&key),
                };
            }
        }
        Ok(newest)
    }

    /// What of ours lies in the topic: the next snapshot ends what it does not need.
    fn remember(&self, group: &str, records: &HashMap<String, Vec<u8>>) {
        let ours = format!("{}/{group}/", self.deployment);
        let known = records.keys().filter_map(|key| key.strip_prefix(&ours)).map(str::to_owned).collect();
        self.needed.lock().unwrap_or_else(PoisonError::into_inner).insert(group.to_owned(), known);
    }
}

fn assemble(records: &HashMap<String, Vec<u8>>, deployment: &str, group: &str, index: &Index) -> Option<Restored> {
    let piece = |digest: &String| records.get(&format!("{deployment}/{group}/{digest}")).filter(|bytes| sha256_hex(bytes) == *digest);
    let head = index.head.iter().map(piece).collect::<Option<Vec<_>>>()?;
    let head: Vec<u8> = head.into_iter().flatten().copied().collect();
    let (manifest, ledger): (Manifest, Ledger) = postcard::from_bytes(&head).ok()?;
    let chunks = manifest.chunks.iter().map(|(key, digest)| Some((key.clone(), piece(digest)?.clone()))).collect::<Option<_>>()?;
    Some(Restored { manifest, chunks, ledger, is_borrowed: false })
}
