//! What a program exports for Prometheus: metric families by name, and their text.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Line, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

/// One metric family as it is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, `vigie_` or a peer's prefix first and the unit last.
    pub name: &'static str,
    /// One line on how to read it: the text after `# HELP`.
    pub help: &'static str,
    /// Whether it may go down.
    pub kind: Kind,
    /// The names of its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
}

/// The type of a metric, as in the text after `# TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counts since the start of the process, never down.
    Counter,
    /// A value now.
    Gauge,
    /// Counts by upper bound since the start of the process.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The values of one scrape, on their way to text.
#[derive(Default)]
pub struct Exposition {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Exposition {
    /// The media type of [`Exposition::into_text`].
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Adds a value of a counter or gauge, its labels in the order of [`Metric::labels`].
    pub fn put(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        let mut line = Self::line(metric, labels);
        match metric.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                line.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                line.set_gauge(gauge);
            }
        }
        self.family(metric).mut_metric().push(line);
    }

    /// Adds a histogram: `counts[i]` values were at most `bounds[i]` and above the bound before; the last count has no bound.
    pub fn put_histogram(&mut self, metric: &Metric, labels: &[&str], bounds: &[f64], counts: &[u64], sum: f64) {
        let mut histogram = Histogram::default();
        let mut total = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        for (bound, count) in bounds.iter().zip(counts) {
            total += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(total);
            buckets.push(bucket);
        }
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut line = Self::line(metric, labels);
        line.set_histogram(histogram);
        self.family(metric).mut_metric().push(line);
    }

    /// The text exposition format.
    #[must_use]
    pub fn into_text(self) -> String {
        let families: Vec<_> = self.families.into_values().collect();
        let mut text = Vec::new();
        // Writing to memory fails only for a family without lines or names, and none is made here.
        let _ = TextEncoder::new().encode(&families, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    fn family(&mut self, metric: &Metric) -> &mut MetricFamily {
        self.families.entry(metric.name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family
        })
    }

    fn line(metric: &Metric, labels: &[&str]) -> Line {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        Line::from_label(metric.labels.iter().zip(labels).map(pair).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_text_with_escaped_labels() {
        let up = Metric { name: "vigie_up", help: "Up.", kind: Kind::Gauge, labels: &["who"] };
        let took = Metric { name: "vigie_took_seconds", help: "Took.", kind: Kind::Histogram, labels: &[] };
        let mut exposition = Exposition::default();
        exposition.put(&up, &["a\"b"], 1.0);
        exposition.put_histogram(&took, &[], &[0.1, 1.0], &[1, 2, 3], 9.5);
        let expected = "# HELP vigie_took_seconds Took.\n# TYPE vigie_took_seconds histogram\n\
            vigie_took_seconds_bucket{le=\"0.1\"} 1\nvigie_took_seconds_bucket{le=\"1\"} 3\nvigie_took_seconds_bucket{le=\"+Inf\"} 6\n\
            vigie_took_seconds_sum 9.5\nvigie_took_seconds_count 6\n\
            # HELP vigie_up Up.\n# TYPE vigie_up gauge\nvigie_up{who=\"a\\\"b\"} 1\n";
        assert_eq!(exposition.into_text(), expected);
    }
}
