//! What a client knows of the rooms in which its socket is. Each frame about a room must fit to what was told before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The rooms in which a socket is, as far as its client knows.
#[derive(Default)]
pub(crate) struct RoomPictures {
    pictures: BTreeMap<String, Picture>,
    /// The rooms that a `resync` has made the client forget. A `room_joined` will show each of them anew.
    forgotten: BTreeMap<String, RoomInterest>,
    /// The rooms that were shown while the node could not know all that are there. About these, it may ask the store.
    unsure: BTreeSet<String>,
}

/// What a client wants to hear of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoomInterest {
    /// Who is there.
    Everyone,
    /// How many users are there.
    Count,
    /// Nothing.
    Nobody,
}

/// What a client knows of one room.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Picture {
    /// Who is there, each as last shown.
    Everyone(BTreeMap<String, Value>),
    /// How many users are there.
    Count(u64),
    /// It does not want to know.
    Nobody,
}

/// What is wrong with a frame.
type Wrong = Result<(), String>;

impl RoomInterest {
    /// The name in `join_room`. The tests also use it as the `ref`, so that the answer says what it answers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Count => "count",
            Self::Nobody => "none",
        }
    }

    fn of_reference(frame: &Value) -> Option<RoomInterest> {
        let named = |interest: &RoomInterest| frame["ref"] == interest.name();
        [Self::Everyone, Self::Count, Self::Nobody].into_iter().find(named)
    }
}

impl Picture {
    /// What the client wants to hear of the room.
    fn interest(&self) -> RoomInterest {
        match self {
            Self::Everyone(_) => RoomInterest::Everyone,
            Self::Count(_) => RoomInterest::Count,
            Self::Nobody => RoomInterest::Nobody,
        }
    }
}

impl RoomPictures {
    /// What the client knows of every room in which it is.
    pub(crate) fn all(&self) -> BTreeMap<String, Picture> {
        self.pictures.clone()
    }

    /// What the client knows of a room, if it is in the room.
    pub(crate) fn get(&self, room: &str) -> Option<&Picture> {
        self.pictures.get(room)
    }

    /// The client must forget what it knows.
    pub(super) fn forget(&mut self) {
        let pictures = std::mem::take(&mut self.pictures);
        self.forgotten.extend(pictures.into_iter().map(|(room, picture)| (room, picture.interest())));
    }

    /// The socket is in no room any more.
    pub(super) fn leave_all(&mut self) {
        *self = RoomPictures::default();
    }

    /// Takes in a frame about a room.
    ///
    /// # Errors
    /// The frame does not fit to what was told before.
    pub(super) fn take_in(&mut self, frame: &Value) -> Wrong {
        let room = frame["roomId"].as_str().ok_or("a frame about a room names none")?;
        match frame["type"].as_str().unwrap_or_default() {
            "room_joined" => self.take_joined(room, frame),
            "room_left" => self.take_left(room, frame),
            "room_users" => self.compare(room, frame),
            // The answer to a question may repeat what is known.
            "room_count" if !frame["ref"].is_null() => self.know_number(room, &frame["onlineCount"]),
            "room_count" => self.take_count(room, frame),
            _ => self.take_event(room, frame),
        }
    }

    fn take_joined(&mut self, room: &str, frame: &Value) -> Wrong {
        let known = self.pictures.get(room).map(Picture::interest).or(self.forgotten.remove(room));
        let interest = RoomInterest::of_reference(frame).or(known).unwrap_or(RoomInterest::Everyone);
        let total = frame["total"].as_u64().ok_or("a room has no total")?;
        let picture = match interest {
            RoomInterest::Everyone => Picture::Everyone(whole_list(frame)?),
            RoomInterest::Count => Picture::Count(total),
            RoomInterest::Nobody => Picture::Nobody,
        };
        self.pictures.insert(room.to_owned(), picture);
        match frame["degraded"].as_bool() {
            Some(true) => self.unsure.insert(room.to_owned()),
            _ => self.unsure.remove(room),
        };
        let may_show = interest == RoomInterest::Everyone || frame.get("users").is_none();
        ensure(may_show, "who does not ask for the users of a room is shown them")
    }

    fn take_left(&mut self, room: &str, frame: &Value) -> Wrong {
        let was_in = self.pictures.remove(room).is_some() || self.forgotten.remove(room).is_some();
        ensure(was_in, "a room is left in which the socket is not")?;
        ensure(frame.get("removed").is_none(), "nobody is removed from a room")
    }

    /// A page comes where it belongs among the events. So it shows what the client knows.
    fn compare(&mut self, room: &str, frame: &Value) -> Wrong {
        match self.pictures.get(room) {
            Some(Picture::Everyone(known)) if !self.unsure.contains(room) && *known != whole_list(frame)? => {
                Err(format!("the page is not what was told before: {known:?}"))
            }
            _ => self.know_number(room, &frame["total"]),
        }
    }

    /// A client that hears how many users are in the room was answered how many there are.
    fn know_number(&mut self, room: &str, number: &Value) -> Wrong {
        if let Some(Picture::Count(known)) = self.pictures.get_mut(room) {
            *known = number.as_u64().ok_or("an answer has no number")?;
        }
        Ok(())
    }

    fn take_count(&mut self, room: &str, frame: &Value) -> Wrong {
        let told = frame["onlineCount"].as_u64().ok_or("a count has no number")?;
        match self.pictures.get_mut(room) {
            Some(Picture::Count(known)) if *known != told => {
                *known = told;
                Ok(())
            }
            known => Err(format!("a count is told to one who knew {known:?}")),
        }
    }

    fn take_event(&mut self, room: &str, frame: &Value) -> Wrong {
        let Some(Picture::Everyone(known)) = self.pictures.get_mut(room) else {
            return Err(format!("an event of a room is told to one who knew {:?}", self.pictures.get(room)));
        };
        let user = frame["userId"].as_str().ok_or("an event is about nobody")?;
        let (kind, shown) = (frame["type"].as_str().unwrap_or_default(), &frame["user"]);
        let before = match kind {
            "room_user_left" => known.remove(user),
            _ => known.insert(user.to_owned(), shown.clone()),
        };
        let fits = match kind {
            "room_user_joined" => before.is_none(),
            "room_user_changed" => before.as_ref().is_some_and(|before| before != shown),
            "room_user_left" => before.is_some() && frame["reason"].is_string(),
            _ => false,
        };
        ensure(fits, &format!("an event of a room is told to one who knew {before:?} of the user"))?;
        ensure(kind == "room_user_left" || shown["id"] == user, "an event of a room shows another user")?;
        ensure(shown["status"] != "invisible", "somebody is shown as invisible in a room")
    }
}

/// The users of a page that shows all.
fn whole_list(frame: &Value) -> Result<BTreeMap<String, Value>, String> {
    let users = frame["users"].as_array().ok_or("a room is shown without its users")?;
    ensure(frame.get("nextCursor").is_none(), "the rooms of the tests have one page")?;
    let mut listed = BTreeMap::new();
    for user in users {
        let id = user["id"].as_str().ok_or("a user in a room has no id")?;
        ensure(user["status"] != "invisible", "somebody is shown as invisible in a room")?;
        ensure(listed.insert(id.to_owned(), user.clone()).is_none(), "a user is in a list twice")?;
    }
    ensure(frame["total"] == listed.len(), "the total is not the number of users")?;
    Ok(listed)
}

fn ensure(is_right: bool, what: &str) -> Wrong {
    if is_right { Ok(()) } else { Err(what.to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Takes in frames of the room `r`, and returns which of them were wrong.
    fn wrong(frames: &[Value]) -> Vec<usize> {
        let mut rooms = RoomPictures::default();
        let mut take = |frame: &Value| match frame["type"].as_str() {
            Some("resync") => {
                rooms.forget();
                Ok(())
            }
            _ => rooms.take_in(frame),
        };
        (0..frames.len()).filter(|index| take(&frames[*index]).is_err()).collect()
    }

    fn joined(interest: RoomInterest, users: Option<&[&str]>, total: usize) -> Value {
        let mut frame = json!({"type": "room_joined", "roomId": "r", "total": total, "ref": interest.name()});
        if let Some(users) = users {
            let users = users.iter().map(|user| json!({"id": user, "status": "online"}));
            frame["users"] = users.collect();
        }
        frame
    }

    fn event(kind: &str, user: &str, status: &str) -> Value {
        let shown = json!({"id": user, "status": status});
        let kind = format!("room_user_{kind}");
        json!({"type": kind, "roomId": "r", "userId": user, "user": shown, "reason": "left"})
    }

    #[test]
    fn what_is_told_twice_in_a_row_is_wrong() {
        let room = joined(RoomInterest::Everyone, Some(&["a"]), 1);
        let came = event("joined", "b", "online");
        let went = event("left", "b", "online");
        assert_eq!(wrong(&[room.clone(), came.clone(), came.clone()]), [2]);
        assert_eq!(wrong(&[room.clone(), went.clone()]), [1]);
        let changed = event("changed", "a", "busy");
        assert_eq!(wrong(&[room.clone(), changed.clone(), changed]), [2]);
        assert_eq!(wrong(&[room.clone(), event("joined", "a", "online")]), [1]);
        assert_eq!(wrong(&[room, came.clone(), went, came]), [0; 0]);
        let count = |number: u64| json!({"type": "room_count", "roomId": "r", "onlineCount": number});
        let room = joined(RoomInterest::Count, None, 2);
        assert_eq!(wrong(&[room.clone(), count(2), count(3), count(3), count(2)]), [1, 3]);
        let page = json!({"type": "room_users", "roomId": "r", "ref": "page", "total": 3, "users": []});
        let answer = json!({"type": "room_count", "roomId": "r", "ref": "count", "onlineCount": 3});
        assert_eq!(wrong(&[room.clone(), page, count(3), count(2)]), [2]);
        assert_eq!(wrong(&[room, answer, count(3), count(2)]), [2]);
    }

    #[test]
    fn who_is_not_in_a_room_or_wants_less_hears_no_event_of_it() {
        let came = event("joined", "b", "online");
        assert_eq!(wrong(std::slice::from_ref(&came)), [0]);
        let left = json!({"type": "room_left", "roomId": "r"});
        let room = joined(RoomInterest::Everyone, Some(&[]), 0);
        assert_eq!(wrong(&[room.clone(), left.clone(), came.clone(), left.clone()]), [2, 3]);
        assert_eq!(wrong(&[joined(RoomInterest::Count, None, 0), came.clone()]), [1]);
        assert_eq!(wrong(&[joined(RoomInterest::Nobody, Some(&[]), 0)]), [0]);
        assert_eq!(wrong(&[room, json!({"type": "resync"}), came]), [2]);
    }

    #[test]
    fn a_room_that_nobody_asked_for_replaces_what_is_known_and_keeps_the_interest() {
        let unasked = |frame: Value| {
            let mut frame = frame;
            frame.as_object_mut().unwrap().remove("ref");
            frame
        };
        let resync = json!({"type": "resync"});
        let counted = joined(RoomInterest::Count, None, 2);
        let count = json!({"type": "room_count", "roomId": "r", "onlineCount": 2});
        assert_eq!(wrong(&[counted.clone(), resync, unasked(counted), count]), [3]);
        let room = joined(RoomInterest::Everyone, Some(&["a"]), 1);
        let later = unasked(joined(RoomInterest::Everyone, Some(&["b"]), 1));
        assert_eq!(wrong(&[room, later, event("left", "b", "online")]), [0; 0]);
    }

    #[test]
    fn a_page_and_the_picture_agree() {
        let room = joined(RoomInterest::Everyone, Some(&["a"]), 1);
        let page = json!({"type": "room_users", "roomId": "r", "total": 1, "users": [{"id": "a", "status": "online"}]});
        assert_eq!(wrong(&[room, page.clone(), event("joined", "b", "online"), page]), [3]);
    }
}
