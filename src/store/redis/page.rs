//! How much a long read asks for at once. Redis counts pages in records, and a slow line needs pages of limited bytes.

/// The size that a page should have. It is large beside a round trip. A line of 2 Mbit/s fetches it in about a second.
const PAGE_BYTES: usize = 256 * 1024;

/// Records in the first page, when the size of records is unknown. A page may grow by at most this factor over the page
/// before.
const FIRST: usize = 32;
const GROWTH: usize = 4;

/// How many records the next page of one read asks for. If they are like the records of the page before, they make
/// about [`PAGE_BYTES`].
#[derive(Debug)]
pub(super) struct PageSize {
    count: usize,
    most: usize,
    bytes: usize,
}

impl PageSize {
    /// For pages of at most `most` records, however small they are.
    pub(super) fn up_to(most: usize) -> Self {
        Self { count: FIRST.min(most), most, bytes: PAGE_BYTES }
    }

    /// Records to ask for.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// A page came, with this many records and bytes.
    pub(super) fn adapt(&mut self, n_records: usize, n_bytes: usize) {
        if n_records > 0 {
            let record_bytes = n_bytes.div_ceil(n_records).max(1);
            self.count = (self.bytes / record_bytes).min(self.count * GROWTH).clamp(1, self.most);
        }
    }

    /// A page did not come in time. The following pages are smaller. Returns false if they cannot be smaller.
    pub(super) fn shrink(&mut self) -> bool {
        let can_shrink = self.count > 1;
        self.count = (self.count / GROWTH).max(1);
        self.bytes /= GROWTH;
        can_shrink
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_grow_to_the_bytes_that_they_should_have() {
        let mut size = PageSize::up_to(5000);
        let mut counts = Vec::new();
        for _ in 0..5 {
            counts.push(size.count());
            size.adapt(size.count(), size.count() * 250);
        }
        assert_eq!(counts, [32, 128, 512, 1048, 1048]);
        size.adapt(1048, 1048 * 2500);
        assert_eq!(size.count(), 104);
        size.adapt(0, 0);
        assert_eq!(size.count(), 104, "an empty page says nothing");
        size.adapt(1, 10 * PAGE_BYTES);
        assert_eq!(size.count(), 1, "there is no smaller page");
    }

    #[test]
    fn small_records_make_no_page_of_more_than_the_most() {
        let mut size = PageSize::up_to(40);
        size.adapt(32, 32);
        assert_eq!(size.count(), 40);
    }

    #[test]
    fn a_page_that_came_too_late_is_not_tried_again() {
        let mut size = PageSize::up_to(1000);
        size.adapt(32, 32 * 1024);
        size.adapt(128, 128 * 1024);
        assert_eq!(size.count(), 256);
        assert!(size.shrink());
        assert_eq!(size.count(), 64);
        size.adapt(64, 64 * 1024);
        assert_eq!(size.count(), 64, "it does not grow back to what was too slow");
        while size.shrink() {}
        assert_eq!(size.count(), 1);
        size.adapt(1, 1024);
        assert_eq!(size.count(), 1);
    }
}
