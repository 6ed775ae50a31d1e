//! The topics as they must be (DESIGN §4): made where they are missing, and judged where they are there.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::health::{Context, Health, Trouble};
use crate::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(10);
const DAY_MS: i64 = 86_400_000;
/// The SLA engine has so long to read a version of a window.
const WINDOWS_DAYS: i64 = 90;
/// Dead letters are kept as long as the archive.
const DEAD_LETTER_DAYS: i64 = 400;
/// A snapshot's chunk and what Kafka adds to it.
const LEAST_MESSAGE_BYTES: i64 = 1_000_012;

/// So often, and with such pauses, a topic that was just made is looked at until it is as it must be.
const NEW_LOOKS: u32 = 100;
const NEW_PAUSE: Duration = Duration::from_millis(100);
/// What is said of a topic that is not there.
const MISSING: &str = "is missing, or this user may not see it: `vigie topics --create` makes it";

/// What is wrong with a topic, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Which topic.
    pub topic: String,
    /// What is wrong with it, and what to set.
    pub problem: String,
    /// Whether order, time or evidence would be corrupted: nobody may use the topic as it is.
    pub is_fatal: bool,
}

/// Why nothing is known of the topics.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at the topics: {}: {reason}", trouble.as_str())]
pub struct TopicsError {
    /// What somebody must mend.
    pub trouble: Trouble,
    /// In Kafka's words.
    pub reason: String,
}

/// A topic as it must be.
struct Wanted<'a> {
    name: &'a str,
    partitions: i32,
    /// Whether more partitions than wanted corrupt nothing.
    may_have_more: bool,
    settings: Vec<Must>,
}

/// What a setting of a topic must be.
struct Must {
    name: &'static str,
    value: String,
    rule: Rule,
    is_fatal: bool,
}

/// How a setting is judged.
#[derive(Clone, Copy)]
enum Rule {
    Is,
    /// Among the words of a list.
    Has,
    /// Or −1: without a limit.
    AtLeast,
}

fn must(name: &'static str, rule: Rule, value: impl Display, is_fatal: bool) -> Must {
    Must { name, value: value.to_string(), rule, is_fatal }
}

fn wanted(settings: &Settings) -> Vec<Wanted<'_>> {
    let groups = settings.groups.len() as i32;
    let durable = || must("min.insync.replicas", Rule::AtLeast, settings.min_insync_replicas, true);
    let kept = |days: i64| {
        [
            must("cleanup.policy", Rule::Is, "delete", true),
            must("retention.ms", Rule::AtLeast, days * DAY_MS, true),
            must("retention.bytes", Rule::AtLeast, -1, true),
        ]
    };
    let mut evidence = vec![
        must("message.timestamp.type", Rule::Is, "LogAppendTime", true),
        must("unclean.leader.election.enable", Rule::Is, "false", true),
        durable(),
        must("max.message.bytes", Rule::AtLeast, LEAST_MESSAGE_BYTES, false),
    ];
    evidence.extend(kept(i64::from(settings.evidence_days)));
    let mut windows = vec![durable(), must("message.timestamp.type", Rule::Is, "LogAppendTime", false)];
    windows.extend(kept(WINDOWS_DAYS));
    let mut dead_letters = vec![durable()];
    dead_letters.extend(kept(DEAD_LETTER_DAYS));
    let snapshots = vec![
        must("cleanup.policy", Rule::Has, "compact", false),
        must("max.message.bytes", Rule::AtLeast, LEAST_MESSAGE_BYTES, true),
        // What is replaced every minute is to be read at a start no longer than for an hour or two.
        must("segment.bytes", Rule::Is, 67_108_864, false),
        must("segment.ms", Rule::Is, 3_600_000, false),
    ];
    let topic = |name, partitions, may_have_more, settings| Wanted { name, partitions, may_have_more, settings };
    vec![
        topic(&settings.topics.evidence, groups, false, evidence),
        topic(&settings.topics.windows, 1, true, windows),
        topic(&settings.topics.snapshots, groups, true, snapshots),
        topic(&settings.topics.dead_letters, 1, true, dead_letters),
    ]
}

fn admin(settings: &Settings) -> Result<(AdminClient<Context>, Health), TopicsError> {
    let health = Health::default();
    let client = settings.client().create_with_context(Context(health.clone()));
    client.map(|client| (client, health)).map_err(|error| TopicsError { trouble: Trouble::Other, reason: error.to_string() })
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// What is wrong with the topics as they are.
pub async fn verify(settings: &Settings) -> Result<Vec<Finding>, TopicsError> {
    let (client, health) = admin(settings)?;
    let mut findings = Vec::new();
    for wanted in wanted(settings) {
        look(&client, &health, settings, &wanted, &mut findings).await?;
    }
    Ok(findings)
}

/// Makes what is missing, and says what is wrong with the rest: what is there is never changed, it may be somebody's.
pub async fn ensure(settings: &Settings) -> Result<Vec<Finding>, TopicsError> {
    let (client, health) = admin(settings)?;
    let wanted = wanted(settings);
    let topics = wanted.iter().map(|wanted| {
        let new = NewTopic::new(wanted.name, wanted.partitions, TopicReplication::Fixed(settings.replication));
        wanted.settings.iter().fold(new, |new, must| new.set(must.name, &must.value))
    });
    let topics: Vec<NewTopic<'_>> = topics.collect();
    let made = client.create_topics(&topics, &options()).await.map_err(|error| explain(&health, &error))?;
    let (mut findings, mut new) = (Vec::new(), Vec::new());
    for result in made {
        match result {
            Ok(topic) => new.push(topic),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                let problem = match code {
                    RDKafkaErrorCode::InvalidReplicationFactor => {
                        format!("cannot be made: the cluster has fewer than {} brokers: mend `replication`", settings.replication)
                    }
                    code => format!("cannot be made: {code}"),
                };
                findings.push(Finding { topic, problem, is_fatal: true });
            }
        }
    }
    if findings.is_empty() {
        for wanted in &wanted {
            let mut last = Vec::new();
            // One that was just made is not known to all brokers at once, nor all of it.
            for _ in 0..if new.iter().any(|topic| topic == wanted.name) { NEW_LOOKS } else { 1 } {
                last.clear();
                look(&client, &health, settings, wanted, &mut last).await?;
                if last.is_empty() {
                    break;
                }
                tokio::time::sleep(NEW_PAUSE).await;
            }
            findings.extend(last);
        }
    }
    Ok(findings)
}

async fn look(
    client: &AdminClient<Context>,
    health: &Health,
    settings: &Settings,
    wanted: &Wanted<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), TopicsError> {
    let mut find = |is_fatal: bool, problem: String| findings.push(Finding { topic: wanted.name.to_owned(), problem, is_fatal });
    // Before anything else: a question for a topic's partitions can make one that is missing, where brokers are set so.
    let described = client.describe_configs([&ResourceSpecifier::Topic(wanted.name)], &options()).await;
    let mut described = described.map_err(|error| explain(health, &error))?;
    // The library gives a resource that is refused as one without settings.
    let resource = described.pop().and_then(Result::ok).filter(|resource| !resource.entries.is_empty());
    let one = resource.as_ref().map(|_| wanted.name);
    let metadata = tokio::task::block_in_place(|| client.inner().fetch_metadata(one, PATIENCE));
    let metadata = metadata.map_err(|error| explain(health, &error))?;
    // Another broker may not know yet of one that was just made.
    let is_unknown = |topic: &rdkafka::metadata::MetadataTopic| {
        topic.error().map(RDKafkaErrorCode::from) == Some(RDKafkaErrorCode::UnknownTopicOrPartition)
    };
    let topic = metadata.topics().iter().find(|topic| topic.name() == wanted.name && !is_unknown(topic));
    if let Some(code) = topic.and_then(rdkafka::metadata::MetadataTopic::error).map(RDKafkaErrorCode::from) {
        return Err(TopicsError { trouble: Trouble::of(code), reason: format!("topic {}: {code}", wanted.name) });
    }
    let (Some(topic), Some(resource)) = (topic, resource) else {
        let what = if topic.is_some() { "does not show its settings to this user: allow DescribeConfigs" } else { MISSING };
        find(true, what.to_owned());
        return Ok(());
    };
    let partitions = topic.partitions().len() as i32;
    if partitions < wanted.partitions {
        find(true, format!("has {partitions} partitions of {} that the settings' groups need: add partitions", wanted.partitions));
    } else if partitions > wanted.partitions && !wanted.may_have_more {
        find(true, format!("has {partitions} partitions, and the settings name {} groups: name the others at the end", wanted.partitions));
    }
    let copies = topic.partitions().iter().map(|partition| partition.replicas().len() as i32).min().unwrap_or(0);
    if copies < settings.replication {
        find(false, format!("has {copies} copies, the settings say {}: reassign its replicas", settings.replication));
    }
    let values: BTreeMap<&str, &str> =
        resource.entries.iter().filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?))).collect();
    for must in &wanted.settings {
        let value = values.get(must.name).copied().unwrap_or_default();
        if !must.is_met_by(value) {
            let sign = match must.rule {
                Rule::AtLeast if must.value != "-1" => " or more",
                _ => "",
            };
            find(must.is_fatal, format!("has {}={value}: set {}={}{sign}", must.name, must.name, must.value));
        }
    }
    Ok(())
}

impl Must {
    fn is_met_by(&self, value: &str) -> bool {
        let number = |text: &str| text.parse::<i64>().map(|number| if number == -1 { i64::MAX } else { number });
        match self.rule {
            Rule::Is => value == self.value,
            Rule::Has => value.split(',').any(|word| word.trim() == self.value),
            Rule::AtLeast => matches!((number(value), number(&self.value)), (Ok(is), Ok(least)) if is >= least),
        }
    }
}

fn explain(health: &Health, error: &KafkaError) -> TopicsError {
    let (trouble, reason) = health.explain(error);
    TopicsError { trouble, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_judged_by_their_rules() {
        let is_met = |rule, wanted: &str, value| must("x", rule, wanted, true).is_met_by(value);
        assert!(is_met(Rule::Is, "delete", "delete") && !is_met(Rule::Is, "delete", "compact,delete"));
        assert!(is_met(Rule::Has, "compact", "compact,delete") && !is_met(Rule::Has, "compact", "delete"));
        assert!(is_met(Rule::AtLeast, "5", "5") && is_met(Rule::AtLeast, "5", "-1") && !is_met(Rule::AtLeast, "5", "4"));
        assert!(is_met(Rule::AtLeast, "-1", "-1") && !is_met(Rule::AtLeast, "-1", "100") && !is_met(Rule::AtLeast, "5", ""));
    }
}
