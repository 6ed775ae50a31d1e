//! The three states, and step functions of them.

use serde::{Deserialize, Serialize};
use vigie_contract::{Outcome, Time};

/// What is known of a thing at an instant. Ordered as in SPEC "States".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was seen to work.
    Up,
    /// Nothing is known.
    #[default]
    Unknown,
    /// It was seen to fail.
    Down,
}

impl State {
    /// What a sample that is not void says.
    #[must_use]
    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Ok => Self::Up,
            Outcome::Fail => Self::Down,
            Outcome::Void => Self::Unknown,
        }
    }

    /// The word of metrics and explanations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::Down => "down",
        }
    }
}

/// A right-continuous step function: each value from its start until the next one's, the last one for ever; before the first, the
/// default. Neighbours differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps<V> {
    steps: Vec<(Time, V)>,
}

impl<V: Copy + Default + PartialEq> Steps<V> {
    /// Appends a step; a value that changes nothing is merged, one at the same start replaces.
    pub fn push(&mut self, start: Time, value: V) {
        if self.steps.last().is_some_and(|(last, _)| *last == start) {
            self.steps.pop();
        }
        debug_assert!(self.steps.last().is_none_or(|(last, _)| *last < start), "steps in order");
        if self.last_value() != value {
            self.steps.push((start, value));
        }
    }

    fn last_value(&self) -> V {
        self.steps.last().map_or(V::default(), |(_, value)| *value)
    }

    /// The value at `time`.
    #[must_use]
    pub fn at(&self, time: Time) -> V {
        match self.index_at(time) {
            Some(index) => self.steps[index].1,
            None => V::default(),
        }
    }

    /// The place of the step in force at `time`; `None` before the first.
    #[must_use]
    pub fn index_at(&self, time: Time) -> Option<usize> {
        self.steps.partition_point(|(start, _)| *start <= time).checked_sub(1)
    }

    /// All steps.
    #[must_use]
    pub fn as_slice(&self) -> &[(Time, V)] {
        &self.steps
    }

    /// The first instant after `time` at which the value changes.
    #[must_use]
    pub fn next_change(&self, time: Time) -> Option<Time> {
        self.steps.get(self.steps.partition_point(|(start, _)| *start <= time)).map(|(start, _)| *start)
    }

    /// The pieces `(start, end, value)` that cover `[from, to)`.
    pub fn pieces(&self, from: Time, to: Time) -> impl Iterator<Item = (Time, Time, V)> + '_ {
        let mut at = from;
        let mut next = self.steps.partition_point(|(start, _)| *start <= from);
        std::iter::from_fn(move || {
            if at >= to {
                return None;
            }
            let value = next.checked_sub(1).map_or(V::default(), |index| self.steps[index].1);
            let end = self.steps.get(next).map_or(to, |(start, _)| (*start).min(to));
            next += 1;
            let piece = (at, end, value);
            at = end;
            Some(piece)
        })
    }

    /// Replaces the function on `[from, to)` by `new`, whose first step must not start after `from`. Answers the hull of where it
    /// differs from before.
    pub fn splice(&mut self, from: Time, to: Time, new: &Self) -> Option<(Time, Time)> {
        let changed = self.first_difference(from, to, new)?;
        let after = self.at(to);
        let first = self.steps.partition_point(|(start, _)| *start < changed);
        let last = self.steps.partition_point(|(start, _)| *start <= to);
        let before = first.checked_sub(1).map_or(V::default(), |index| self.steps[index].1);
        let mut steps = Self { steps: Vec::new() };
        let mut value = before;
        let mut push = |start, next: V| {
            if next != value {
                steps.steps.push((start, next));
                value = next;
            }
        };
        let mut end = changed;
        let old = self.part(changed, to);
        for (start, stop, next) in new.pieces(changed, to) {
            push(start, next);
            for (old_start, old_stop, old_value) in old.pieces(start, stop) {
                if old_value != next {
                    end = old_stop;
                    debug_assert!(old_start < old_stop);
                }
            }
        }
        push(to, after);
        self.steps.splice(first..last, steps.steps);
        Some((changed, end))
    }

    /// The same function on `[from, to)`.
    #[must_use]
    pub fn part(&self, from: Time, to: Time) -> Self {
        let steps = self.pieces(from, to).map(|(start, _, value)| (start, value)).collect();
        Self { steps }
    }

    /// Whether the two differ somewhere on `[from, to)`, as `alike` sees it.
    #[must_use]
    pub fn differs(&self, other: &Self, from: Time, to: Time, alike: impl Fn(&V, &V) -> bool) -> bool {
        let mut at = from;
        while at < to {
            if !alike(&self.at(at), &other.at(at)) {
                return true;
            }
            let next = self.next_change(at).into_iter().chain(other.next_change(at)).min();
            at = next.unwrap_or(to);
        }
        false
    }

    fn first_difference(&self, from: Time, to: Time, new: &Self) -> Option<Time> {
        let mut at = from;
        while at < to {
            if self.at(at) != new.at(at) {
                return Some(at);
            }
            at = self.next_change(at).into_iter().chain(new.next_change(at)).min()?;
        }
        None
    }

    /// Forgets the steps before the one in force at `time`.
    pub fn forget_before(&mut self, time: Time) {
        if let Some(index) = self.index_at(time) {
            self.steps.drain(..index);
            self.steps.shrink_to_fit();
        }
    }

    /// Forgets everything before `time`: the default there.
    pub fn cut_before(&mut self, time: Time) {
        self.forget_before(time);
        if let Some((start, _)) = self.steps.first_mut() {
            *start = (*start).max(time);
        }
    }

    /// Bytes it occupies.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.steps.capacity() * size_of::<(Time, V)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(values: &[(i64, u8)]) -> Steps<u8> {
        let mut steps = Steps::default();
        values.iter().for_each(|&(start, value)| steps.push(Time::from_us(start), value));
        steps
    }

    #[test]
    fn splicing_replaces_exactly_the_interval_and_says_where_it_differs() {
        let t = Time::from_us;
        for from in 0..8 {
            for to in from..9 {
                for seed in 0..3000_u32 {
                    let bit = |n: u32, k: i64| u8::try_from(n.rotate_left(k as u32 * 3) % 3).unwrap();
                    let make = |n: u32| {
                        let mut steps = Steps::default();
                        (0..9).for_each(|k| steps.push(t(k), bit(n, k)));
                        steps
                    };
                    let (old, new) = (make(seed.wrapping_mul(2_654_435_761)), make(seed.wrapping_mul(40_503).rotate_left(7)));
                    let mut spliced = old.clone();
                    let hull = spliced.splice(t(from), t(to), &new);
                    let differs = |k: &i64| old.at(t(*k)) != new.at(t(*k));
                    for k in -1..10 {
                        let expected = if (from..to).contains(&k) { new.at(t(k)) } else { old.at(t(k)) };
                        assert_eq!(spliced.at(t(k)), expected);
                    }
                    let first = (from..to).find(differs);
                    let last = (from..to).rev().find(differs);
                    assert_eq!(hull, first.zip(last).map(|(first, last)| (t(first), t(last + 1))));
                    assert!(spliced.as_slice().windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
                }
            }
        }
    }

    #[test]
    fn pieces_cover_an_interval() {
        let steps = steps(&[(0, 1), (5, 2)]);
        let pieces: Vec<_> = steps.pieces(Time::from_us(-2), Time::from_us(7)).map(|(a, b, v)| (a.us(), b.us(), v)).collect();
        assert_eq!(pieces, [(-2, 0, 0), (0, 5, 1), (5, 7, 2)]);
    }
}
