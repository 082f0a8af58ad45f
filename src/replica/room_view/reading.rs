//! What comes while a snapshot of a room is read.

use std::collections::HashMap;

use crate::domain::{OfflineReason, RoomChange, RoomPosition, RoomRoster, RoomTransition, UserId};

/// The transitions of a room that were delivered since the reading of a snapshot began. They are all that were delivered, in
/// order, up to the first one that is missing.
#[derive(Debug, Default)]
pub(super) struct Reading {
    kept: Vec<RoomTransition>,
    is_cut: bool,
}

/// How many transitions wait for one snapshot at most. If there are more, the room is read once more. A node reads few rooms
/// at once, so this bounds all of them.
pub(super) const KEPT: usize = 4096;

/// What a snapshot and the transitions that came meanwhile lead to.
#[derive(Debug)]
pub(super) struct Target {
    /// The room, as the store has it.
    pub(super) roster: RoomRoster,
    /// Who left with these transitions, and why.
    pub(super) left: HashMap<UserId, OfflineReason>,
    /// The transitions that are in effect.
    pub(super) applied: Vec<RoomTransition>,
    /// Whether transitions are missing.
    pub(super) has_gap: bool,
    /// Where the snapshot was.
    read_at: RoomPosition,
}

impl Reading {
    /// One more transition was delivered.
    pub(super) fn keep(&mut self, transition: &RoomTransition) {
        if self.kept.len() >= KEPT {
            self.is_cut = true;
        }
        if !self.is_cut {
            self.kept.push(transition.clone());
        }
    }

    /// Transitions are missing from here on.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// What was delivered.
    pub(super) fn into_kept(self) -> Vec<RoomTransition> {
        self.kept
    }

    /// Goes from the snapshot to the last transition.
    pub(super) fn arrive_at(self, snapshot: RoomRoster) -> Target {
        let (left, applied) = (HashMap::new(), Vec::new());
        let read_at = snapshot.position;
        let mut target = Target { roster: snapshot, left, applied, has_gap: self.is_cut, read_at };
        for transition in self.kept {
            target.take(transition);
        }
        target
    }
}

impl Target {
    fn take(&mut self, transition: RoomTransition) {
        self.note(&transition);
        if !self.is_new(transition.position) {
            return;
        }
        self.roster.position = transition.position;
        match transition.change {
            RoomChange::Entered => _ = self.roster.members.insert(transition.user.clone()),
            RoomChange::Left(_) => _ = self.roster.members.remove(&transition.user),
        }
        self.applied.push(transition);
    }

    /// The snapshot may have a transition already. But it does not say why somebody left.
    fn note(&mut self, transition: &RoomTransition) {
        match transition.change {
            RoomChange::Entered => _ = self.left.remove(&transition.user),
            RoomChange::Left(reason) => _ = self.left.insert(transition.user.clone(), reason),
        }
    }

    /// Whether a transition comes after what was reached so far.
    fn is_new(&mut self, position: RoomPosition) -> bool {
        let (known, RoomPosition { birth, revision }) = (self.roster.position, position);
        if birth == known.birth {
            let comes_again = revision <= known.revision && is_after(position, self.read_at);
            self.has_gap |= revision > known.revision + 1 || comes_again;
            return revision > known.revision;
        }
        // If the birth began before the reading did, and is not the one that was read, it was over by then.
        let begins = revision == 1;
        if begins {
            // The room was empty before. A snapshot may have members who came later: their transitions follow.
            self.roster.members.clear();
        }
        begins
    }
}

/// Whether a transition at `position` came after a snapshot at `read_at`. Of those before, the subscription may still deliver
/// some. It delivers each of those after it once. So if one comes again, one of the two is not the store's.
pub(super) fn is_after(position: RoomPosition, read_at: RoomPosition) -> bool {
    position.birth != read_at.birth || position.revision > read_at.revision
}
