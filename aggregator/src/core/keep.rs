//! What of the evidence is kept for ever (DESIGN §4): an hour around every window that was ever published, and what people said.
//!
//! Pure: the windows' versions and a segment's records in, yes or no out. Whoever deletes is `archive::prune`.

use std::collections::BTreeMap;

use vigie_contract::{Record, Span, Time};

/// So far around a window its evidence is kept.
pub const AROUND: Span = Span::HOUR;

/// A version of a window, as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Which window.
    pub id: String,
    /// Which version.
    pub ver: u64,
    /// Start.
    pub onset: Time,
    /// End; `None` if it was open.
    pub end: Option<Time>,
    /// The frontier then.
    pub as_of: Time,
    /// Whether it was taken back.
    pub retracted: bool,
}

/// The hours around windows, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hours(Vec<(Time, Time)>);

impl Hours {
    /// Around all windows of these versions, in whatever order they come: each from its onset to the latest end that any of its versions
    /// had, to the frontier where one had none, and for ever while its last has none.
    #[must_use]
    pub fn around(versions: impl IntoIterator<Item = Said>) -> Self {
        // By window: its onset, the latest end that was said, the highest version and whether that is open.
        let mut windows: BTreeMap<String, (Time, Time, u64, bool)> = BTreeMap::new();
        for said in versions {
            let until = said.end.unwrap_or(said.as_of);
            let is_open = said.end.is_none() && !said.retracted;
            let known = windows.entry(said.id).or_insert((said.onset, until, said.ver, is_open));
            known.0 = known.0.min(said.onset);
            known.1 = known.1.max(until);
            if said.ver >= known.2 {
                (known.2, known.3) = (said.ver, is_open);
            }
        }
        let around = |(onset, until, _, is_open): (Time, Time, u64, bool)| {
            (onset - AROUND, if is_open { Time::FOREVER } else { until.max(onset) + AROUND })
        };
        let mut hours: Vec<_> = windows.into_values().map(around).collect();
        hours.sort_unstable();
        hours.dedup_by(|next, kept| {
            let joins = next.0 <= kept.1;
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        Self(hours)
    }

    /// Whether anything of `[from, to]`, ends included, lies in them.
    #[must_use]
    pub fn touch(&self, from: Time, to: Time) -> bool {
        let after = self.0.partition_point(|(_, end)| *end < from);
        self.0.get(after).is_some_and(|(start, _)| *start <= to)
    }
}

/// What a segment's records say about whether it may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The earliest and the latest append time; `None` without a record.
    pub appended: Option<(Time, Time)>,
    /// The earliest instant that a sample speaks of, or an append time if that is earlier.
    pub oldest: Option<Time>,
    /// Whether a sample speaks of an hour that is kept, however late it came.
    near: bool,
    /// Whether there is a catalogue, a claim or an exclusion in it: without them the windows' evidence says nothing.
    facts: bool,
}

impl Extent {
    /// Takes the next record; `None` if the engine refused it unread.
    pub fn take(&mut self, appended_at: Time, record: Option<&Record<'_>>, hours: &Hours) {
        let (first, last) = self.appended.unwrap_or((appended_at, appended_at));
        self.appended = Some((first.min(appended_at), last.max(appended_at)));
        let mut oldest = self.oldest.unwrap_or(appended_at).min(appended_at);
        match record {
            Some(Record::Sample(sample)) => {
                oldest = oldest.min(sample.t0);
                self.near |= hours.touch(sample.t0, sample.t1.max(sample.t0));
            }
            Some(Record::Claim(_) | Record::Exclusion(_) | Record::Catalogue(_)) => self.facts = true,
            Some(Record::Tick) | None => {}
        }
        self.oldest = Some(oldest);
    }

    /// Whether everything in it was appended before `cut`.
    #[must_use]
    pub fn is_older_than(&self, cut: Time) -> bool {
        self.appended.is_none_or(|(_, last)| last < cut)
    }

    /// Whether it may go: all of it is older than `cut`, nothing of it is near a window, and nobody says anything in it. One without a
    /// record stays.
    #[must_use]
    pub fn may_go(&self, cut: Time, hours: &Hours) -> bool {
        let Some((first, last)) = self.appended else { return false };
        last < cut && !self.near && !self.facts && !hours.touch(first, last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vigie_contract::record::decode;

    use super::*;

    const H: i64 = Span::HOUR.us();

    fn at(hours: i64) -> Time {
        Time::from_us(hours * H)
    }

    fn said(id: &str, ver: u64, onset: i64, end: Option<i64>, as_of: i64, retracted: bool) -> Said {
        Said { id: id.to_owned(), ver, onset: at(onset), end: end.map(at), as_of: at(as_of), retracted }
    }

    #[test]
    fn every_version_counts_and_an_open_window_keeps_all_that_follows() {
        let us = |us: i64| Time::from_us(us);
        let closed = Hours::around([said("a", 2, 10, Some(12), 13, false), said("a", 1, 10, None, 11, false)]);
        assert_eq!(closed, Hours(vec![(at(9), at(13))]), "whichever version comes first");
        assert!(closed.touch(at(13), at(20)) && closed.touch(at(0), at(9)), "exactly an hour is not farther than an hour");
        assert!(!closed.touch(us(13 * H + 1), at(20)) && !closed.touch(at(0), us(9 * H - 1)));
        assert!(closed.touch(at(10), at(10)) && closed.touch(at(0), at(99)), "within, and around");

        let shrunk = Hours::around([said("a", 1, 10, Some(20), 21, false), said("a", 2, 10, Some(12), 40, false)]);
        assert!(shrunk.touch(at(21), at(21)) && !shrunk.touch(at(22), at(39)), "the longest that was said");
        let retracted = Hours::around([said("a", 1, 10, None, 15, false), said("a", 2, 10, None, 30, true)]);
        assert!(retracted.touch(at(31), at(31)) && !retracted.touch(at(32), at(99)), "open until it was taken back");
        let reopened = Hours::around([said("a", 3, 10, None, 20, false), said("a", 2, 10, Some(11), 12, false)]);
        assert!(reopened.touch(at(9_000), at(9_000)) && !reopened.touch(at(0), at(8)));
        assert_eq!(Hours::around([said("a", 1, 1, Some(2), 3, false), said("b", 1, 4, Some(5), 6, false)]).0.len(), 1, "hours that meet");
        assert!(!Hours::default().touch(Time::BEGINNING, Time::FOREVER));
    }

    fn extent(records: &[String], hours: &Hours) -> Extent {
        let mut extent = Extent::default();
        for record in records {
            let decoded = decode(record.as_bytes()).unwrap();
            extent.take(decoded.appended_at.unwrap(), decoded.record.as_ref().ok(), hours);
        }
        extent
    }

    fn sample(stamp: i64, appended_at: i64) -> String {
        format!(
            r#"{{"v":1,"type":"sample","target":"t","vantage":"v","run":"r","seq":0,"t0":{0},"t1":{0},"outcome":"ok","period_us":1000000,"timeout_us":1000,"clock_error_us":0,"appended_at":{1}}}"#,
            stamp * H,
            appended_at * H
        )
    }

    #[test]
    fn what_is_old_and_far_from_windows_goes_and_nothing_else() {
        let hours = Hours::around([said("a", 1, 100, Some(101), 101, false)]);
        let goes = |records: &[String]| extent(records, &hours).may_go(at(200), &hours);
        assert!(goes(&[sample(50, 50), sample(60, 60)]));
        assert!(!goes(&[sample(50, 50), sample(99, 99)]), "an hour before the window");
        assert!(!goes(&[sample(50, 50), sample(150, 150)]), "around it");
        assert!(!goes(&[sample(150, 150), sample(101, 151)]), "a sample of then that came late");
        assert!(!goes(&[sample(199, 200)]), "too young by a moment");
        assert!(!goes(&[sample(50, 50), sample(60, 201), sample(61, 61)]), "its newest record need not be its last");
        assert!(!goes(&[]), "an empty one says no time");
        let claim =
            format!(r#"{{"v":1,"type":"claim","id":"T","rev":1,"service":"s","opened_at":0,"state":"received","appended_at":{}}}"#, 50 * H);
        assert!(!goes(&[sample(50, 50), claim]), "what a person said");
        let tick = format!(r#"{{"v":1,"type":"tick","appended_at":{}}}"#, 50 * H);
        assert!(goes(&[tick]));
        let mut refused = Extent::default();
        refused.take(at(50), None, &hours);
        assert!(refused.may_go(at(200), &hours));
    }

    proptest! {
        /// Against the sentence, word by word: a version at a time, an instant at a time.
        #[test]
        fn hours_are_what_the_sentence_says(
            versions in prop::collection::vec((0..4_i64, prop::option::of(0..20_i64), 0..30_i64, any::<bool>()), 0..8),
            backwards in any::<bool>(),
            from in -5..90_i64,
            length in 0..6_i64,
        ) {
            let mut versions: Vec<Said> = (1..).zip(&versions).map(|(ver, (window, end, as_of, retracted))| {
                let onset = 12 * window;
                said(&window.to_string(), ver, onset, end.map(|end| onset + end), onset + as_of, *retracted)
            }).collect();
            if backwards {
                versions.reverse();
            }
            let hours = Hours::around(versions.clone());
            let is_kept = |instant: i64| versions.iter().any(|version| {
                let last = versions.iter().filter(|other| other.id == version.id).max_by_key(|other| other.ver).unwrap();
                let is_open = last.end.is_none() && !last.retracted;
                let until = version.end.unwrap_or(version.as_of);
                version.onset - AROUND <= at(instant) && (is_open || at(instant) <= until + AROUND)
            });
            prop_assert_eq!(hours.touch(at(from), at(from + length)), (from..=from + length).any(is_kept));
        }
    }
}
