//! The production side of the evidence log (DESIGN §4): Kafka's topics as the ports see them.

mod log;
mod outbox;
mod snapshots;

pub use log::KafkaLog;
pub use outbox::Outbox;
pub use snapshots::KafkaSnapshots;

use vigie_kafka::SendError;

use crate::port::StoreError;

fn store_error(error: SendError) -> StoreError {
    StoreError::Unavailable(error.into())
}
