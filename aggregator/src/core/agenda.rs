//! What is to be looked at once the frontier is later than an instant.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;
use vigie_contract::Time;
use vigie_contract::catalogue::{ServiceIx, TargetIx, VantageIx};

/// What time alone can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Item {
    /// A hold ends, a sample waits for its time, a version begins.
    Target(TargetIx),
    /// A gate begins.
    Vantage(VantageIx),
    /// A window closes, a claim begins or ends, a version begins.
    Service(ServiceIx),
}

/// One instant at most for each item.
#[derive(Clone, Debug, Default)]
pub(super) struct Agenda {
    due: FxHashMap<Item, Time>,
    /// May hold entries that `due` no longer confirms: they are dropped when their time comes.
    heap: BinaryHeap<Reverse<(Time, Item)>>,
}

impl Agenda {
    pub(super) fn set(&mut self, item: Item, due: Time) {
        if due < Time::FOREVER {
            if self.due.insert(item, due) != Some(due) {
                self.heap.push(Reverse((due, item)));
            }
        } else {
            self.due.remove(&item);
        }
    }

    pub(super) fn not_later_than(&mut self, item: Item, due: Time) {
        if self.due.get(&item).is_none_or(|known| due < *known) {
            self.set(item, due);
        }
    }

    /// Takes an item that is due before `frontier`.
    pub(super) fn pop_before(&mut self, frontier: Time) -> Option<(Time, Item)> {
        while let Some(&Reverse((due, item))) = self.heap.peek() {
            if due >= frontier {
                return None;
            }
            self.heap.pop();
            if self.due.get(&item) == Some(&due) {
                self.due.remove(&item);
                return Some((due, item));
            }
        }
        None
    }
}
