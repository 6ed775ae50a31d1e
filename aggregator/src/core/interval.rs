//! Finite unions of half-open intervals `[a, b)`, and their lengths (SPEC "Time").

use vigie_contract::{Span, Time};

/// A finite union of half-open intervals: in order, disjoint, none empty, none touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intervals(Vec<(Time, Time)>);

impl Intervals {
    /// The union of any intervals; empty ones count for nothing, touching ones join.
    #[must_use]
    pub fn union_of(intervals: impl IntoIterator<Item = (Time, Time)>) -> Self {
        let mut all: Vec<_> = intervals.into_iter().filter(|(start, end)| start < end).collect();
        all.sort_unstable();
        let mut joined: Vec<(Time, Time)> = Vec::with_capacity(all.len());
        for (start, end) in all {
            match joined.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        Self(joined)
    }

    /// The intervals, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Time, Time)> + '_ {
        self.0.iter().copied()
    }

    /// Whether `time` lies in it.
    #[must_use]
    pub fn contains(&self, time: Time) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= time);
        after > 0 && time < self.0[after - 1].1
    }

    /// What lies in `[from, to)`.
    #[must_use]
    pub fn cut(&self, from: Time, to: Time) -> Self {
        let first = self.0.partition_point(|(_, end)| *end <= from);
        let within = self.0[first..].iter().take_while(|(start, _)| *start < to);
        Self::union_of(within.map(|&(start, end)| (start.max(from), end.min(to))))
    }

    /// What lies in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(&&(a0, a1)), Some(&&(b0, b1))) = (a.peek(), b.peek()) {
            if a0.max(b0) < a1.min(b1) {
                both.push((a0.max(b0), a1.min(b1)));
            }
            if a1 <= b1 {
                a.next()
            } else {
                b.next()
            };
        }
        Self(both)
    }

    /// What lies in it and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        let mut others = other.0.iter().peekable();
        for &(start, end) in &self.0 {
            let mut from = start;
            while let Some(&&(gone, back)) = others.peek() {
                if gone >= end {
                    break;
                }
                if from < gone {
                    rest.push((from, gone));
                }
                from = from.max(back);
                if back > end {
                    break;
                }
                others.next();
            }
            if from < end {
                rest.push((from, end));
            }
        }
        Self(rest)
    }

    /// Its total length.
    #[must_use]
    pub fn length(&self) -> Span {
        self.0.iter().map(|&(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(bits: u32) -> Intervals {
        let t = |k: u32| Time::from_us(i64::from(k));
        Intervals::union_of((0..10).filter(|k| bits >> k & 1 == 1).map(|k| (t(k), t(k + 1))))
    }

    fn bits(set: &Intervals) -> u32 {
        (0..10).filter(|k| set.contains(Time::from_us(i64::from(*k)))).map(|k| 1 << k).sum()
    }

    #[test]
    fn sets_of_instants_behave_like_sets() {
        for a in (0..1024).step_by(7) {
            assert_eq!(set(a).length().us(), i64::from(a.count_ones()));
            for b in (0..1024).step_by(5) {
                assert_eq!(bits(&set(a).and(&set(b))), a & b);
                assert_eq!(bits(&set(a).without(&set(b))), a & !b, "{a:b} without {b:b}");
                assert_eq!(set(a).without(&set(b)), set(a & !b));
            }
            assert_eq!(bits(&set(a).cut(Time::from_us(2), Time::from_us(7))), a & 0b111_1100);
        }
    }
}
