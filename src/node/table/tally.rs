//! How many entries the store must hold. Each beat asks. A node may have hundreds of thousands of entries in rooms. So these
//! are counted while they change.

use std::ops::RangeInclusive;

use crate::node::entry::Confirmed;

/// How many entries the store holds, as far as this node knows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tally {
    n_present: u64,
    n_grace: u64,
    n_unknown: u64,
}

impl Tally {
    /// An entry is there.
    pub(super) fn add(&mut self, confirmed: Confirmed) {
        self.of(confirmed).into_iter().for_each(|count| *count += 1);
    }

    /// An entry is there no more.
    pub(super) fn remove(&mut self, confirmed: Confirmed) {
        self.of(confirmed).into_iter().for_each(|count| *count -= 1);
    }

    /// How many entries the store must hold for this node. The lower bound is the number of confirmed entries. The upper
    /// bound adds the entries in grace, because a goodbye elsewhere may have removed them. `None` while an outcome is
    /// unknown.
    pub(super) fn range(&self) -> Option<RangeInclusive<u64>> {
        (self.n_unknown == 0).then_some(self.n_present..=self.n_present + self.n_grace)
    }

    fn of(&mut self, confirmed: Confirmed) -> Option<&mut u64> {
        match confirmed {
            Confirmed::Present => Some(&mut self.n_present),
            Confirmed::Grace => Some(&mut self.n_grace),
            Confirmed::Unknown => Some(&mut self.n_unknown),
            Confirmed::Absent => None,
        }
    }
}
