//! The questions of this node that wait for answers.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::domain::{NodeAnswer, NodeId};

/// What a node answered.
pub(super) type Answer = (NodeId, NodeAnswer);

/// The open questions, by their numbers.
#[derive(Default)]
pub(super) struct Questions(Mutex<Open>);

#[derive(Default)]
struct Open {
    last_number: u64,
    questions: HashMap<u64, Awaiting>,
}

/// What one question waits for.
struct Awaiting {
    /// The nodes that have not answered.
    nodes: HashSet<NodeId>,
    answers: mpsc::Sender<Answer>,
}

/// One question. Dropping it closes it.
pub(super) struct Question<'a> {
    questions: &'a Questions,
    /// The number that the answers must have.
    pub(super) number: u64,
    answers: mpsc::Receiver<Answer>,
}

/// How many questions may be open. People ask them, and each is open for a second at most.
const OPEN_MAX: usize = 64;

impl Questions {
    /// Opens a question to these nodes. It is none if too many are open.
    pub(super) fn open(&self, nodes: &[NodeId]) -> Option<Question<'_>> {
        let mut open = self.lock();
        if open.questions.len() >= OPEN_MAX {
            return None;
        }
        let (sender, answers) = mpsc::channel(nodes.len().max(1));
        open.last_number += 1;
        let number = open.last_number;
        open.questions.insert(number, Awaiting { nodes: nodes.iter().copied().collect(), answers: sender });
        Some(Question { questions: self, number, answers })
    }

    /// Takes an answer in. It counts if the question is open, and waits for this node.
    pub(super) fn take(&self, from: NodeId, number: u64, answer: NodeAnswer) {
        let mut open = self.lock();
        if let Some(awaiting) = open.questions.get_mut(&number)
            && awaiting.nodes.remove(&from)
        {
            // There is room for one answer of each node.
            let _ = awaiting.answers.try_send((from, answer));
            if awaiting.nodes.is_empty() {
                open.questions.remove(&number);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question<'_> {
    /// The next answer. It is none when all nodes have answered.
    ///
    /// # Cancel safety
    /// An answer that has come stays for the next call.
    pub(super) async fn next_answer(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.questions.lock().questions.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn node(bits: u64) -> NodeId {
        NodeId::from_bits(bits)
    }

    #[test]
    fn only_the_nodes_that_were_asked_answer_and_each_once() {
        let questions = Questions::default();
        let mut question = questions.open(&[node(1), node(2)]).unwrap();
        let number = question.number;
        for (from, number) in [(1, number), (1, number), (3, number), (2, number + 1)] {
            questions.take(node(from), number, NodeAnswer::default());
        }
        assert_eq!(question.next_answer().now_or_never(), Some(Some((node(1), NodeAnswer::default()))));
        assert_eq!(question.next_answer().now_or_never(), None, "it waits for the other one");
        questions.take(node(2), number, NodeAnswer::default());
        assert_eq!(question.next_answer().now_or_never(), Some(Some((node(2), NodeAnswer::default()))));
        assert_eq!(question.next_answer().now_or_never(), Some(None));
    }

    #[test]
    fn a_bounded_number_of_questions_is_open() {
        let questions = Questions::default();
        let open: Vec<_> = (0..OPEN_MAX).map(|_| questions.open(&[node(1)]).unwrap()).collect();
        assert!(questions.open(&[node(1)]).is_none());
        drop(open);
        assert!(questions.open(&[node(1)]).is_some());
    }
}
