//! How much memory the large answers take that wait for their clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::metrics::AnswerMetrics;

/// The large answers of one process, over HTTP and to sockets, that have been made and not yet been written. A client that
/// asks for a list and does not read it holds one, so all of them have one bound.
pub(crate) struct Answers {
    n_bytes: AtomicUsize,
    max_bytes: usize,
    metrics: AnswerMetrics,
}

/// An answer that counts until nobody holds a part of it.
struct Held {
    answer: Bytes,
    answers: Arc<Answers>,
}

/// Below this an answer is not counted: a connection's own buffers are as large.
const SMALL_BYTES: usize = 16 * 1024;

impl Answers {
    /// With the limit `limits.answers_bytes`.
    pub(crate) fn new(max_bytes: usize, metrics: AnswerMetrics) -> Arc<Self> {
        Arc::new(Self { n_bytes: AtomicUsize::new(0), max_bytes, metrics })
    }

    /// Counts an answer until the last part of it has been dropped. `None` if too many wait already.
    pub(crate) fn hold(self: &Arc<Self>, answer: Bytes) -> Option<Bytes> {
        if answer.len() <= SMALL_BYTES {
            return Some(answer);
        }
        let n_before = self.n_bytes.fetch_add(answer.len(), Ordering::Relaxed);
        let fits = n_before + answer.len() <= self.max_bytes;
        // Dropping it gives the bytes back.
        let held = Held { answer, answers: self.clone() };
        if !fits {
            self.metrics.too_many();
            return None;
        }
        Some(Bytes::from_owner(held))
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.answers.n_bytes.fetch_sub(self.answer.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    #[test]
    fn an_answer_counts_until_its_last_part_is_gone() {
        let answers = Answers::new(3 * SMALL_BYTES, AnswerMetrics::new(&mut Registry::default()));
        let large = || Bytes::from(vec![0; 2 * SMALL_BYTES]);
        let mut first = answers.hold(large()).unwrap();
        assert!(answers.hold(large()).is_none());
        let part = first.split_to(1);
        drop(first);
        assert!(answers.hold(large()).is_none(), "a part of the first is still held");
        assert!(answers.hold(Bytes::from(vec![0; SMALL_BYTES])).is_some(), "what is small is not counted");
        drop(part);
        assert!(answers.hold(large()).is_some());
    }
}
