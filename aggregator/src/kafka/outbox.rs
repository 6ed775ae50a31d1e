//! What a store has acknowledged goes out to the topics of windows and dead letters, before its offsets are committed.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use vigie_kafka::{Message, Producer, Settings, Topics};

use super::store_error;
use crate::port::{Batch, DeadLetterRow, StoreError, WindowStore};

/// Which replica a message is from: all send the same, and readers drop what comes twice by (id, ver).
const DEPLOYMENT: &str = "deployment";

/// A window store whose windows and dead letters are told to the world as well.
pub struct Outbox<S> {
    store: Arc<S>,
    producer: Arc<Producer>,
    topics: Topics,
    deployment: String,
}

impl<S: WindowStore> Outbox<S> {
    /// In front of `store`.
    #[must_use]
    pub fn new(store: Arc<S>, settings: &Settings, producer: Arc<Producer>, deployment: impl Into<String>) -> Self {
        Self { store, producer, topics: settings.topics.clone(), deployment: deployment.into() }
    }
}

impl<S: WindowStore> WindowStore for Outbox<S> {
    async fn highest(&self, group: &str) -> Result<Option<u64>, StoreError> {
        self.store.highest(group).await
    }

    async fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.store.apply(batch).await?;
        let unfit = |table| move |cause: serde_json::Error| StoreError::Unfit { table, cause: cause.into() };
        let mut told: Vec<(&str, &str, Vec<u8>)> = Vec::new();
        for version in &batch.windows {
            let text = serde_json::to_vec(version).map_err(unfit("windows"))?;
            told.push((&self.topics.windows, version.window.service.as_str(), text));
        }
        for letter in &batch.dead_letters {
            let text = serde_json::to_vec(&letter_json(&batch.group, letter)).map_err(unfit("dead_letters"))?;
            told.push((&self.topics.dead_letters, &batch.group, text));
        }
        let header = Some((DEPLOYMENT, self.deployment.as_str()));
        let messages: Vec<Message<'_>> = told
            .iter()
            .map(|(topic, key, text)| Message { topic, partition: None, key: Some(key.as_bytes()), payload: Some(text), header })
            .collect();
        if messages.is_empty() {
            return Ok(());
        }
        self.producer.send(&messages).await.map(|_| ()).map_err(store_error)
    }
}

/// A dead letter for people and for `vigie letters`: the record as text, or in base64 where it is none.
fn letter_json(group: &str, letter: &DeadLetterRow) -> Value {
    let mut fields: Map<String, Value> = Map::new();
    fields.insert("group".into(), group.into());
    fields.insert("ver".into(), letter.ver.into());
    fields.insert("reason".into(), letter.refusal.reason.as_str().into());
    fields.insert("detail".into(), json!(letter.refusal.detail));
    match std::str::from_utf8(&letter.record) {
        Ok(text) => fields.insert("record".into(), text.into()),
        Err(_) => fields.insert("record_base64".into(), BASE64_STANDARD.encode(&letter.record).into()),
    };
    fields.insert("record_bytes".into(), letter.record_bytes.into());
    fields.insert("appended_us".into(), letter.appended_at.us().into());
    Value::Object(fields)
}
