//! What everybody must know when all faults are over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use rand::RngExt;
use serde_json::{Value, json};

use super::listener::{OwnStatus, Way};
use super::model::Said;
use super::*;

/// What must be known of a user with an open socket.
#[derive(Debug)]
pub(super) struct Truth {
    effective: String,
    own: OwnStatus,
    name: Option<String>,
}

/// Long enough for each node to have beaten, so that its clock is right again.
const SETTLES: Duration = Duration::from_secs(2);

/// The users whom others see, each with the user object.
pub(super) type Shown = BTreeMap<String, Value>;

impl Simulation {
    /// Everybody knows the truth: whose sockets are really open, and what these users said.
    pub(super) async fn check(&mut self) {
        self.resume_everybody().await;
        self.state_anew().await;
        let since = Instant::now();
        let truth = self.truth();
        self.story.tell(format_args!("{} sockets are open, of {truth:#?}", self.sockets.len()));
        self.check_redis(&truth).await;
        for SimulatedNode { process, .. } in &self.nodes {
            check_node(process, &truth).await;
        }
        self.check_sockets(&truth).await;
        self.check_rooms(&truth).await;
        self.listen();
        self.leave_all_rooms();
        self.check_that_no_room_is_left().await;
        // To leave a room changes nothing else.
        self.check_sockets(&truth).await;
        self.listen();
        let (n_sockets, looks) = (self.sockets.len(), &self.looks);
        let n_watch = self.sockets.iter().filter(|socket| socket.wishes.watches.is_some()).count();
        let n_socketio = self.sockets.iter().filter(|socket| socket.way != Way::Native).count();
        looks.assert_enough();
        let since = since.elapsed();
        eprintln!(
            "agreement {since:?} after all nodes were well; {n_sockets} sockets, {n_watch} of them watch, {n_socketio} speak \
             Socket.IO; {looks}"
        );
    }

    /// A user of whom the model is not sure says something once more, after all that was said before.
    async fn state_anew(&mut self) {
        let is_waiting = async || {
            self.listen();
            self.model.waits()
        };
        eventually_eq_within(2 * DEADLINE, is_waiting, false, "the nodes have taken in what was said").await;
        pass(SETTLES).await;
        self.model.clocks_are_right();
        let mut users = BTreeSet::new();
        for index in 0..self.sockets.len() {
            let user = self.sockets[index].listener.user().to_owned();
            if users.insert(user.clone()) {
                self.state_anew_on(index, &user);
            }
        }
        let unsure = async || {
            self.listen();
            let is_unsure = |user: &&String| PARTS.iter().any(|part| self.model.holds(user, *part).is_none());
            users.iter().filter(is_unsure).cloned().collect::<Vec<String>>()
        };
        becomes(unsure, NOBODY, "everybody's last statement is answered").await;
    }

    fn state_anew_on(&mut self, socket: usize, user: &str) {
        if self.model.holds(user, Part::Status).is_none() {
            let status = ["busy", "online", "invisible"][self.random.random_range(0..3)].to_owned();
            let text = Some(self.new_words(socket));
            self.say(socket, Said::Status { status, text, lasts: None });
        }
        if self.model.holds(user, Part::Name).is_none() {
            let name = self.new_words(socket);
            self.say(socket, Said::Name(name));
        }
    }

    fn truth(&self) -> BTreeMap<String, Truth> {
        let mut truth = BTreeMap::new();
        for socket in &self.sockets {
            let user = socket.listener.user();
            let mut of_user = self.sockets.iter().filter(|other| other.listener.user() == user);
            let are_all_idle = of_user.all(|socket| socket.is_idle_in_the_end(self.variant));
            let status = self.model.holds(user, Part::Status).expect("it is sure");
            let name = self.model.holds(user, Part::Name).expect("it is sure");
            truth.insert(user.to_owned(), Truth::of(status, name, are_all_idle));
        }
        truth
    }

    async fn check_redis(&self, truth: &BTreeMap<String, Truth>) {
        let redis = &self.redis;
        for (key, is_hidden) in [("online:users:set", false), ("online:users:hidden", true)] {
            let users = truth.iter().filter(|(_, known)| known.is_hidden() == is_hidden);
            let users: Vec<&str> = users.map(|(user, _)| user.as_str()).collect();
            becomes(async || redis.smembers(key).await, users, &format!("{key} is the truth")).await;
        }
        for (user, truth) in truth {
            let stored = async || in_redis(redis.get(&format!("online:presence:{user}")).await);
            let expected = Some((truth.effective.clone(), truth.own.chosen.clone()));
            becomes(stored, expected, &format!("the presence of {user} is the truth")).await;
        }
        let n_sockets = async || redis.keys("online:socket:user:*").await.len();
        becomes(n_sockets, self.sockets.len(), "Redis holds the open sockets").await;
    }

    async fn check_sockets(&self, truth: &BTreeMap<String, Truth>) {
        for socket in &self.sockets {
            let (user, node) = (socket.listener.user(), &socket.node);
            let mut others = shown(truth);
            let watches = socket.wishes.watches.as_ref();
            others.retain(|other, _| other != user && watches.is_none_or(|watches| watches.contains(other)));
            let what = format!("the view of {user} on {node} is the truth");
            becomes(async || socket.listener.others(), others, &what).await;
            let what = format!("the own status of {user} on {node} is the truth");
            becomes(async || socket.listener.own_status(), Some(truth[user].own.clone()), &what).await;
            socket.listener.assert_sound();
        }
    }
}

impl Truth {
    /// A choice that ends by itself is `online` after that.
    fn of(status: Option<&Said>, name: Option<&Said>, are_all_idle: bool) -> Truth {
        let (chosen, text) = match status {
            Some(Said::Status { status, text, lasts: None }) => (status.clone(), text.clone()),
            _ => ("online".to_owned(), None),
        };
        let name = match name {
            Some(Said::Name(name)) => Some(name.clone()),
            _ => None,
        };
        let effective = if chosen == "online" && are_all_idle { "away".to_owned() } else { chosen.clone() };
        Truth { effective: effective.clone(), own: OwnStatus { chosen, effective, text, expires_at: None }, name }
    }

    fn is_hidden(&self) -> bool {
        self.effective == "invisible"
    }

    /// The user object that others are shown, unless the user hides.
    pub(super) fn shown(&self, user: &str) -> Option<Value> {
        let mut shown = json!({"id": user, "status": self.effective, "statusText": self.own.text, "name": self.name});
        shown.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        (!self.is_hidden()).then_some(shown)
    }
}

/// What a node says over HTTP: who is online and how, how many have each status, and that nobody else is there.
async fn check_node(process: &NodeProcess, truth: &BTreeMap<String, Truth>) {
    let node = process.node_id();
    let shown = shown(truth);
    for path in ["/api/online-users", "/api/user-status/online"] {
        becomes(async || listed(process, path).await, shown.clone(), &format!("{path} of {node} is the truth")).await;
    }
    let n_with = |status: &str| shown.values().filter(|user| user["status"] == status).count();
    let counts = ["online", "away", "busy", "dnd"].map(|status| (status.to_owned(), json!(n_with(status))));
    let counts = json!({"count": shown.len(), "byStatus": serde_json::Map::from_iter(counts)});
    let counted = async || process.get("/api/user-status/online/count").await.1["data"].clone();
    becomes(counted, counts, &format!("the counts of {node} are the truth")).await;
    for user in truth.iter().filter(|(_, known)| known.is_hidden()).map(|(user, _)| user) {
        // A user whom nobody has ever seen is not found. Otherwise the answer is that of a user who is offline.
        let (_, answer) = process.get(&format!("/api/user-status/{user}")).await;
        let is_offline = answer["data"]["status"] == "offline" && answer["data"]["isOnline"] == false;
        let is_bare = answer["data"].get("user").is_none() && answer["data"]["devices"] == json!({});
        let is_right = is_offline && is_bare || answer["code"] == "user_not_found";
        assert!(is_right, "{user} hides, and {node} answers {answer}");
    }
}

/// The user objects of all who are not hidden.
fn shown(truth: &BTreeMap<String, Truth>) -> Shown {
    truth.iter().filter_map(|(user, truth)| Some((user.clone(), truth.shown(user)?))).collect()
}

/// Whom a node lists, each as it is shown. The lists have users, or objects with a user in each.
async fn listed(process: &NodeProcess, path: &str) -> Shown {
    let (_, list) = process.get(path).await;
    let users = list["data"].as_array().expect("a list").iter().map(|entry| entry.get("user").unwrap_or(entry));
    users.map(|user| (user["id"].as_str().expect("an id").to_owned(), user.clone())).collect()
}

/// What others see, and what was chosen, as Redis holds it.
fn in_redis(stored: Option<String>) -> Option<(String, String)> {
    let stored: Value = serde_json::from_str(&stored?).expect("Redis holds JSON");
    let chosen = stored["chosen"]["status"].as_str().unwrap_or("online");
    Some((stored["status"].as_str()?.to_owned(), chosen.to_owned()))
}

/// Waits until a value is the truth.
pub(super) async fn becomes<T: PartialEq<E> + Debug, E: Debug>(value: impl AsyncFnMut() -> T, truth: E, what: &str) {
    eventually_eq_within(2 * DEADLINE, value, truth, what).await;
}
