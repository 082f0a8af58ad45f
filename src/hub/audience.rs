//! The sockets of one worker that hear of everyone.

use slab::Slab;

use super::listener::Listener;

/// The keys of the sockets that hear of everyone, in no order. An event goes through them, and touches no other socket.
/// Each of them knows its place here.
#[derive(Default)]
pub(super) struct Audience(Vec<u32>);

impl Audience {
    /// One more socket hears of everyone.
    pub(super) fn add(&mut self, key: usize, listeners: &mut Slab<Listener>) {
        listeners[key].set_place(index(self.0.len()));
        self.0.push(index(key));
    }

    /// The socket does not hear of everyone any more. The last one takes its place. So a walk from the end to the
    /// beginning never misses a socket.
    pub(super) fn remove(&mut self, key: usize, listeners: &mut Slab<Listener>) {
        let place = listeners[key].place();
        self.0.swap_remove(place as usize);
        if let Some(moved) = self.0.get(place as usize) {
            listeners[*moved as usize].set_place(place);
        }
    }

    /// The keys of up to `n` sockets before the place `end`, and the place of the first of them.
    pub(super) fn before(&self, end: usize, n: usize) -> (&[u32], usize) {
        let end = end.min(self.0.len());
        let begin = end.saturating_sub(n);
        (&self.0[begin..end], begin)
    }

    /// All keys.
    pub(super) fn keys(&self) -> &[u32] {
        &self.0
    }
}

/// A key of the slab in half of the memory. A node has a million sockets at most (`server.max_sockets`).
pub(super) fn index(key: usize) -> u32 {
    u32::try_from(key).expect("server.max_sockets is below 2^32")
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;
    use crate::hub::Outbound;
    use crate::wire::Format;

    struct Nowhere;

    impl Outbound for Nowhere {
        fn try_write(&self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
    }

    proptest! {
        #[test]
        fn a_walk_from_the_end_misses_nobody_who_stays(changes in prop::collection::vec((any::<bool>(), any::<u8>()), 0..60)) {
            let (mut audience, mut listeners, mut keys) = (Audience::default(), Slab::new(), Vec::new());
            for _ in 0..20 {
                let key = listeners.insert(Listener::new(Rc::new(Nowhere), Format::Native));
                audience.add(key, &mut listeners);
                keys.push(key);
            }
            let mut must_be_seen: Vec<u32> = keys.iter().map(|key| index(*key)).collect();
            let (mut seen, mut left, mut changes) = (Vec::new(), usize::MAX, changes.into_iter());
            while left > 0 {
                let (chunk, first) = audience.before(left, 3);
                seen.extend_from_slice(chunk);
                left = first;
                for (comes, which) in changes.by_ref().take(4) {
                    if comes {
                        let key = listeners.insert(Listener::new(Rc::new(Nowhere), Format::Native));
                        audience.add(key, &mut listeners);
                        keys.push(key);
                    } else if !keys.is_empty() {
                        let key = keys.swap_remove(usize::from(which) % keys.len());
                        audience.remove(key, &mut listeners);
                        listeners.remove(key);
                        must_be_seen.retain(|other| *other != index(key));
                    }
                }
            }
            prop_assert!(must_be_seen.iter().all(|key| seen.contains(key)), "{seen:?} {must_be_seen:?}");
            prop_assert_eq!(audience.keys().len(), keys.len());
        }
    }
}
