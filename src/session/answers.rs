//! How much memory large answers take while they wait for their clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::metrics::AnswerMetrics;

/// The large answers of one process that are made and not yet written, over HTTP and to sockets. If a client asks for a
/// list and does not read it, the process holds that list. So one bound holds for all answers together.
pub(crate) struct Answers {
    n_bytes: AtomicUsize,
    max_bytes: usize,
    metrics: AnswerMetrics,
}

/// An answer. It counts until the last part of it is dropped.
struct Held {
    answer: Bytes,
    answers: Arc<Answers>,
}

/// An answer up to this size is not counted, because a connection's own buffers are as large.
const SMALL_BYTES: usize = 16 * 1024;

impl Answers {
    /// No answers yet. `max_bytes` is `limits.answers_bytes`.
    pub(crate) fn new(max_bytes: usize, metrics: AnswerMetrics) -> Arc<Self> {
        Arc::new(Self { n_bytes: AtomicUsize::new(0), max_bytes, metrics })
    }

    /// Counts an answer until the last part of it is dropped. Returns `None` if too many answers wait already.
    pub(crate) fn hold(self: &Arc<Self>, answer: Bytes) -> Option<Bytes> {
        if answer.len() <= SMALL_BYTES {
            return Some(answer);
        }
        let n_before = self.n_bytes.fetch_add(answer.len(), Ordering::Relaxed);
        let fits = n_before + answer.len() <= self.max_bytes;
        // Dropping `held` gives the bytes back.
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
