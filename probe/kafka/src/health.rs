//! Why Kafka does not work: `librdkafka` tells it in a callback and a log, and hides it behind a timeout where one waits for an answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientContext, Statistics};

/// What is wrong, as far as a person mends it: the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// No broker is known by that name, none answers, or too few copies are in sync.
    Unreachable,
    /// A certificate is wrong: theirs by our authorities, or ours by theirs.
    Certificate,
    /// The user or the password is wrong.
    Authentication,
    /// The user may not do this.
    Authorization,
    /// Anything else: read the text.
    Other,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unreachable, Self::Certificate, Self::Authentication, Self::Authorization, Self::Other];

    /// One word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Certificate => "certificate",
            Self::Authentication => "authentication",
            Self::Authorization => "authorization",
            Self::Other => "other",
        }
    }

    /// What `code` means.
    #[must_use]
    pub(crate) fn of(code: RDKafkaErrorCode) -> Self {
        use RDKafkaErrorCode as Code;
        match code {
            Code::SSL => Self::Certificate,
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
                Self::Authentication
            }
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => Self::Authorization,
            Code::BrokerTransportFailure
            | Code::Resolve
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable => Self::Unreachable,
            _ => Self::Other,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<(Trouble, String)>,
    failures: u64,
}

/// What is wrong now with a client's connections, if anything; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

impl Health {
    /// What is wrong and in which words; `None` since the last thing that worked.
    #[must_use]
    pub fn trouble(&self) -> Option<(Trouble, String)> {
        self.state().trouble.clone()
    }

    /// How often something was wrong so far.
    pub(crate) fn failures(&self) -> u64 {
        self.state().failures
    }

    pub(crate) fn worked(&self) {
        let mut state = self.state();
        if let Some((trouble, _)) = state.trouble.take() {
            drop(state);
            tracing::info!(was = trouble.as_str(), "Kafka works again");
        }
    }

    /// That no broker answers follows from whatever else is wrong, and does not hide it.
    pub(crate) fn failed(&self, trouble: Trouble, reason: &str) {
        let mut state = self.state();
        state.failures += 1;
        let known = state.trouble.as_ref().map(|(known, _)| *known);
        let tells_more = match (known, trouble) {
            (None, _) => true,
            (Some(_), Trouble::Unreachable) => false,
            (Some(known), new) => known != new,
        };
        if tells_more {
            state.trouble = Some((trouble, reason.to_owned()));
            drop(state);
            tracing::error!(trouble = trouble.as_str(), reason, "Kafka does not work");
        }
    }

    pub(crate) fn note(&self, error: &KafkaError, reason: &str) {
        self.failed(trouble_of(error), reason);
    }

    /// What is known, or else what a caller was told.
    pub(crate) fn explain(&self, error: &KafkaError) -> (Trouble, String) {
        let told = (trouble_of(error), error.to_string());
        match self.trouble() {
            Some((trouble, reason)) if told.0 == Trouble::Unreachable => (trouble, reason),
            _ => told,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn trouble_of(error: &KafkaError) -> Trouble {
    let code = match error {
        // The library does not give the code of an administrator's question.
        KafkaError::AdminOp(code) | KafkaError::MetadataFetch(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    code.map_or(Trouble::Other, Trouble::of)
}

/// What clients call back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context(pub(crate) Health);

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "librdkafka: {message}");
            }
            _ => tracing::debug!(facility, "librdkafka: {message}"),
        }
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(&error, reason);
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nobody_answers_does_not_hide_why() {
        let health = Health::default();
        health.note(&KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "connection refused");
        assert_eq!(health.trouble(), Some((Trouble::Unreachable, "connection refused".into())));
        health.note(&KafkaError::Global(RDKafkaErrorCode::Authentication), "wrong password");
        health.note(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(health.trouble(), Some((Trouble::Authentication, "wrong password".into())));
        let told = health.explain(&KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
        assert_eq!(told, (Trouble::Authentication, "wrong password".into()));
        let told = health.explain(&KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
        assert_eq!(told.0, Trouble::Authentication);
        let other = health.explain(&KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed));
        assert_eq!(other.0, Trouble::Authorization);
        health.worked();
        assert_eq!(health.trouble(), None);
    }
}
