//! What a store promises about statements, statuses, idleness, hidden users, devices and signals.

use rollcall::domain::{ChosenStatus, Departure, Device, Inquiry, LastSeen, Signal, Statement, Status, StatusText};
use rollcall::store::StatementOutcome;
use serde_json::json;

use super::*;

rules! {
    of_two_choices_the_later_one_holds_in_whichever_order_they_come
    the_same_choice_again_holds_over_one_between
    a_profile_that_was_made_from_an_old_one_is_not_stated
    each_part_of_a_statement_has_its_own_date
    a_date_far_ahead_is_cut
    a_user_is_away_exactly_while_every_socket_is_idle
    a_chosen_status_stands_whatever_is_idle
    who_is_hidden_is_numbered_and_in_no_list
    who_hides_was_last_seen_then
    a_socket_that_is_asserted_again_is_as_old_as_before
    a_choice_ends_at_its_time_and_only_that_choice
    a_hidden_user_is_not_shown_while_nobody_is_there
    a_statement_needs_no_socket_here_but_one_somewhere
    devices_are_counted_by_kind
    no_text_of_a_client_changes_anything_but_itself
    an_activity_is_noted_and_signalled_and_never_goes_back
    a_departure_says_when_the_user_was_last_active
    signals_reach_the_node_that_they_are_for
    an_examination_shows_what_is_held
    the_position_is_told_with_the_nodes
}

/// A choice that is made at `at`.
fn choice(status: Status, at: u64) -> ChosenStatus {
    ChosenStatus { status, text: None, expires_at: None, at: Timestamp(at) }
}

/// A choice that is made at `at`, and ends at `expires_at`.
fn ending(status: Status, at: u64, expires_at: u64) -> ChosenStatus {
    ChosenStatus { expires_at: Some(Timestamp(expires_at)), ..choice(status, at) }
}

fn choosing(choice: ChosenStatus) -> Presence {
    Presence { chosen: Some(Arc::new(choice)), ..Presence::default() }
}

fn now() -> u64 {
    clock::now().0
}

fn idle_join(idle: bool) -> Intent {
    Intent::Join(Join { presence: Presence::default(), idle, device: None, since: Timestamp(u64::MAX) })
}

fn device(json: serde_json::Value) -> Device {
    Device::parse(json.as_object().expect("an object")).expect("a device")
}

impl TestNode {
    /// What the store holds of a user, visible or hidden.
    async fn presence(&self, id: &str) -> Presence {
        self.roster().await.get_even_hidden(&user(id)).cloned().expect("the user is present")
    }

    async fn effective(&self, id: &str) -> &'static str {
        self.presence(id).await.effective.as_str()
    }

    async fn state(&self, id: &str, chosen: ChosenStatus) -> Option<Position> {
        let statement = Statement { profile: None, chosen: Some(chosen) };
        match self.store.state(&user(id), &statement, None).await.expect("an answer") {
            StatementOutcome::Done(position) => Some(position),
            StatementOutcome::NotPresent => None,
            StatementOutcome::Stale(_) => panic!("a status is made from no profile"),
        }
    }

    /// States a name that was made from the profile of the date `base`.
    async fn rename(&self, id: &str, name: &str, at: u64, base: u64) -> StatementOutcome {
        let profile = Profile::from_fields(&ProfileFields { name: Some(name.to_owned()), ..ProfileFields::default() });
        let statement = Statement { profile: Some((profile, Timestamp(at))), chosen: None };
        self.store.state(&user(id), &statement, Some(Timestamp(base))).await.expect("an answer")
    }

    async fn last_seen(&self, id: &str) -> Option<LastSeen> {
        self.store.last_seen(&[user(id)]).await.expect("an answer").remove(0)
    }
}

async fn of_two_choices_the_later_one_holds_in_whichever_order_they_come(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    let start = now();
    node.drive(1, "ada", join_as(choosing(choice(Status::Busy, start)))).await;
    node.drive(2, "ada", join_as(choosing(choice(Status::Dnd, start + 2)))).await;
    node.drive(1, "ada", join_as(choosing(choice(Status::Busy, start)))).await;
    let (end, _) = node.drive(3, "ada", join_as(choosing(choice(Status::Away, start + 1)))).await;
    assert_eq!(node.effective("ada").await, "dnd");
    assert_eq!(stories(&listener.up_to(end).await), ["+ada", "~ada"]);
    // Of two choices with one date the first one stays, on every node.
    let (same, _) = node.drive(3, "ada", join_as(choosing(choice(Status::Away, start + 2)))).await;
    assert_eq!((same, node.effective("ada").await), (end, "dnd"));
}

async fn the_same_choice_again_holds_over_one_between(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let start = now();
    node.drive(1, "ada", join_as(choosing(choice(Status::Busy, start)))).await;
    node.drive(1, "ada", join_as(choosing(choice(Status::Busy, start + 2)))).await;
    // It was made before the second, and comes late.
    node.drive(2, "ada", join_as(choosing(choice(Status::Away, start + 1)))).await;
    assert_eq!(node.effective("ada").await, "busy");
}

async fn a_profile_that_was_made_from_an_old_one_is_not_stated(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let start = now();
    node.drive(1, "ada", join_as(dated("Ada", start))).await;
    let StatementOutcome::Done(first) = node.rename("ada", "Ada L.", start + 1, start).await else { panic!() };
    let again = node.rename("ada", "Ada L.", start + 1, start).await;
    assert_eq!(again, StatementOutcome::Done(first), "it is in effect");
    assert_eq!(node.rename("ada", "A. L.", start + 2, start).await, StatementOutcome::Stale(first));
    let name = |presence: Presence| presence.profile.map(|profile| profile.members().to_owned());
    assert_eq!(name(node.presence("ada").await).as_deref(), Some(r#""name":"Ada L.""#));
    assert!(matches!(node.rename("ada", "A. L.", start + 2, start + 1).await, StatementOutcome::Done(_)));
    assert_eq!(node.rename("bob", "Bob", start, 0).await, StatementOutcome::NotPresent);
}

async fn each_part_of_a_statement_has_its_own_date(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let start = now();
    let both = Presence { chosen: choosing(choice(Status::Busy, start + 5)).chosen, ..dated("old", start) };
    node.drive(1, "ada", join_as(both)).await;
    let other = Presence { chosen: choosing(choice(Status::Dnd, start + 1)).chosen, ..dated("new", start + 3) };
    node.drive(2, "ada", join_as(other)).await;
    let held = node.presence("ada").await;
    assert_eq!((held.profile_at, held.chosen_at()), (Timestamp(start + 3), Timestamp(start + 5)));
    assert_eq!((held.effective, held.profile), (Status::Busy, dated("new", 1).profile));
}

async fn a_date_far_ahead_is_cut(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let far = now() + 3_600_000;
    let ahead = Presence { chosen: choosing(choice(Status::Busy, far)).chosen, ..dated("x", far) };
    let Outcome::Done { dates, .. } = node.try_drive(1, "ada", join_as(ahead)).await else { panic!("it is refused") };
    let bound = now() + 1500;
    assert!(dates.profile_at.0 <= bound && dates.chosen_at.0 <= bound, "{dates:?}");
    let held = node.presence("ada").await;
    assert_eq!((held.profile_at, held.chosen_at()), (dates.profile_at, dates.chosen_at));
    assert!(node.state("ada", choice(Status::Away, bound + 10)).await.is_some());
    assert_eq!(node.effective("ada").await, "away", "somebody else can change it");
}

async fn a_user_is_away_exactly_while_every_socket_is_idle(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut other = TestNode::join(truth, 2).await;
    truth.end_hold().await;
    let mut listener = Listener::to(&node).await;
    node.drive(1, "ada", join()).await;
    other.drive(1, "ada", join()).await;
    for (number, idle, effective) in
        [(1, true, "online"), (2, true, "away"), (2, true, "away"), (1, false, "online"), (1, true, "away")]
    {
        let (node, other) = (&mut node, &mut other);
        let owner = if number == 1 { node } else { other };
        owner.drive(1, "ada", Intent::Idle(idle)).await;
        assert_eq!(owner.effective("ada").await, effective);
    }
    // A socket in grace counts as it is marked, and one that comes is not idle.
    node.drive(1, "ada", Intent::Grace).await;
    assert_eq!(node.effective("ada").await, "away");
    node.drive(2, "ada", join()).await;
    assert_eq!(node.effective("ada").await, "online");
    node.drive(2, "ada", Intent::Remove(OfflineReason::TimedOut)).await;
    assert_eq!(node.effective("ada").await, "away", "the ones that are left are idle");
    // Asserting an idle socket again changes nothing.
    let (end, _) = other.drive(1, "ada", idle_join(true)).await;
    assert_eq!(node.effective("ada").await, "away");
    let heard = listener.up_to(end).await;
    assert_eq!(stories(&heard), ["+ada", "~ada", "~ada", "~ada", "~ada", "~ada"]);
    // A mark creates nothing.
    node.drive(9, "bob", Intent::Idle(true)).await;
    assert_eq!(node.ids().await, ["ada"]);
}

async fn a_chosen_status_stands_whatever_is_idle(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    truth.end_hold().await;
    node.drive(1, "ada", join_as(choosing(choice(Status::Dnd, now())))).await;
    node.drive(1, "ada", Intent::Idle(true)).await;
    assert_eq!(node.effective("ada").await, "dnd");
    node.state("ada", choice(Status::Online, now() + 1)).await.expect("ada is present");
    assert_eq!(node.effective("ada").await, "away", "whoever chose online is away while idle");
    node.drive(1, "ada", Intent::Idle(false)).await;
    assert_eq!(node.effective("ada").await, "online");
}

async fn who_is_hidden_is_numbered_and_in_no_list(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    let start = now();
    node.drive(1, "ada", join_as(choosing(choice(Status::Invisible, start)))).await;
    assert_eq!(node.ids().await, NOBODY);
    assert_eq!(node.effective("ada").await, "invisible");
    // Another tab that states nothing shows nobody.
    node.drive(2, "ada", join()).await;
    assert_eq!(node.ids().await, NOBODY);
    node.state("ada", choice(Status::Online, start + 1)).await.expect("ada is present");
    assert_eq!(node.ids().await, ["ada"]);
    node.state("ada", choice(Status::Invisible, start + 2)).await.expect("ada is present");
    assert_eq!(node.ids().await, NOBODY);
    node.drive(1, "ada", Intent::Leave).await;
    let (end, _) = node.drive(2, "ada", Intent::Leave).await;
    assert!(node.roster().await.get_even_hidden(&user("ada")).is_none());
    let heard = listener.up_to(end).await;
    assert_eq!(stories(&heard), ["+ada", "~ada", "~ada", "-ada left"]);
    let hidden = heard.iter().map(|transition| match &transition.change {
        Change::Online(presence) | Change::Changed(presence) => Some(presence.is_hidden()),
        Change::Offline(_) => None,
    });
    assert_eq!(hidden.collect::<Vec<_>>(), [Some(true), Some(false), Some(true), None]);
    // The log says the same to a node that reads it later.
    let roster = node.roster().await;
    assert_eq!((roster.position(), roster.iter_even_hidden().count()), (end, 0));
}

async fn who_hides_was_last_seen_then(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    assert_eq!(node.last_seen("ada").await, None);
    let start = now();
    node.drive(1, "ada", join_as(choosing(choice(Status::Invisible, start)))).await;
    node.drive(1, "ada", Intent::Leave).await;
    assert_eq!(node.last_seen("ada").await, None, "nobody has seen the user");

    node.drive(2, "ada", join_as(choosing(choice(Status::Online, start + 1)))).await;
    let before = now();
    node.state("ada", choice(Status::Invisible, start + 2)).await.expect("ada is present");
    let seen = node.last_seen("ada").await.expect("the user was seen");
    assert!(seen.seen_at.0 + 1000 >= before && seen.seen_at.0 <= now() + 1000, "{seen:?}");
    node.drive(3, "ada", join()).await;
    node.drive(3, "ada", LOST).await;
    node.store.note_activity(&[(user("ada"), Timestamp(now()))]).await.expect("an answer");
    node.drive(2, "ada", Intent::Leave).await;
    assert_eq!(node.last_seen("ada").await, Some(seen), "what is done while hidden is not seen");
}

async fn a_socket_that_is_asserted_again_is_as_old_as_before(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let since = Timestamp(now() - 3_600_000);
    let join = Join { presence: Presence::default(), idle: false, device: None, since };
    node.drive(1, "ada", Intent::Join(join)).await;
    let sockets = node.store.sockets_of(&user("ada")).await.expect("an answer");
    assert_eq!(sockets.iter().map(|held| held.since).collect::<Vec<_>>(), [since]);
    node.drive(1, "ada", Intent::Leave).await;
    assert!(node.last_seen("ada").await.is_some(), "ada was there for an hour");
}

async fn a_hidden_user_is_not_shown_while_nobody_is_there(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let start = now();
    node.drive(1, "ada", join_as(choosing(ending(Status::Invisible, start, start + 3000)))).await;
    node.drive(1, "ada", Intent::Grace).await;
    eventually(async || now() > start + 3000, "the choice has ended").await;
    node.store.expire(&[(user("ada"), Timestamp(start))]).await.expect("an answer");
    assert_eq!(node.effective("ada").await, "invisible", "her connection broke");
    node.drive(2, "ada", super::join()).await;
    assert_eq!(node.effective("ada").await, "online", "she has come back");
}

async fn a_choice_ends_at_its_time_and_only_that_choice(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let (start, ada) = (now(), user("ada"));
    node.drive(1, "ada", join_as(choosing(ending(Status::Busy, start, start + 60_000)))).await;
    node.store.expire(&[(ada.clone(), Timestamp(start))]).await.expect("an answer");
    assert_eq!(node.effective("ada").await, "busy", "its time has not come");

    node.state("ada", ending(Status::Invisible, start + 1, start + 20)).await.expect("ada is present");
    let ended = async || {
        node.store.expire(&[(ada.clone(), Timestamp(start + 1))]).await.expect("an answer");
        node.effective("ada").await
    };
    eventually_eq(ended, "online", "it ends").await;
    let held = node.presence("ada").await;
    assert_eq!((held.chosen_status(), held.chosen_at()), (Status::Online, Timestamp(start + 1)));
    assert_eq!(node.ids().await, ["ada"]);
    // An assertion of the choice that has ended does not bring it back.
    node.drive(2, "ada", join_as(choosing(ending(Status::Invisible, start + 1, start + 20)))).await;
    node.state("ada", choice(Status::Busy, start)).await.expect("ada is present");
    assert_eq!(node.effective("ada").await, "online");
    // The store was away. So it hears after that end of a choice that was made before it.
    node.state("ada", choice(Status::Away, start + 10)).await.expect("ada is present");
    assert_eq!(node.effective("ada").await, "away", "it is later than the choice that ended");
    // Another choice than the one that is named does not end.
    node.state("ada", ending(Status::Dnd, start + 30, start + 31)).await.expect("ada is present");
    node.store.expire(&[(ada, Timestamp(start + 29))]).await.expect("an answer");
    assert!(["dnd", "online"].contains(&node.effective("ada").await));
}

async fn a_statement_needs_no_socket_here_but_one_somewhere(truth: &impl Truth) {
    let node = TestNode::join(truth, 1).await;
    let mut other = TestNode::join(truth, 2).await;
    let start = now();
    assert_eq!(node.state("ada", choice(Status::Busy, start)).await, None);
    other.drive(1, "ada", join_as(dated("Ada", start))).await;
    let mut listener = Listener::to(&node).await;
    let end = node.state("ada", choice(Status::Busy, start)).await.expect("ada is present");
    assert_eq!(node.state("ada", choice(Status::Busy, start)).await, Some(end), "again, it changes nothing");
    assert_eq!(stories(&listener.up_to(end).await), ["~ada"]);
    let fields = ProfileFields { name: Some("Ada L.".to_owned()), ..ProfileFields::default() };
    let profile = Profile::from_fields(&fields);
    let statement = Statement { profile: Some((profile.clone(), Timestamp(start + 1))), chosen: None };
    node.store.state(&user("ada"), &statement, None).await.expect("an answer");
    let held = node.presence("ada").await;
    assert_eq!((held.profile, held.effective), (profile, Status::Busy));
    let nothing = Statement { profile: Some((None, Timestamp(start + 2))), chosen: None };
    node.store.state(&user("ada"), &nothing, None).await.expect("an answer");
    assert_eq!(node.presence("ada").await.profile, None, "all fields can be taken away");
}

async fn devices_are_counted_by_kind(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    let on = |kind: &str| {
        Intent::Join(Join {
            presence: Presence::default(),
            idle: false,
            device: Some(device(json!({"kind": kind, "name": "\"grace\":1"}))),
            since: Timestamp(u64::MAX),
        })
    };
    node.drive(1, "ada", on("web")).await;
    node.drive(2, "ada", on("mobile")).await;
    node.drive(3, "ada", on("web")).await;
    node.drive(4, "ada", join()).await;
    let kinds = async |node: &TestNode| -> Vec<(String, u32)> {
        let devices = node.presence("ada").await.devices;
        devices.iter().map(|(kind, n_sockets)| (kind.to_owned(), n_sockets)).collect()
    };
    assert_eq!(kinds(&node).await, [("mobile".to_owned(), 1), ("web".to_owned(), 2)]);
    node.drive(2, "ada", LOST).await;
    assert_eq!(kinds(&node).await, [("web".to_owned(), 2)]);
    node.drive(1, "ada", on("web")).await;
    node.drive(1, "ada", LOST).await;
    node.drive(3, "ada", LOST).await;
    assert_eq!(kinds(&node).await, []);
    let (end, _) = node.drive(4, "ada", Intent::Leave).await;
    let heard = stories(&listener.up_to(end).await);
    assert_eq!(heard, ["+ada", "~ada", "~ada", "~ada", "~ada", "~ada", "-ada left"]);
}

async fn no_text_of_a_client_changes_anything_but_itself(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    truth.end_hold().await;
    let hostile = r#"{"grace":1,"idle":1,"since":1,"status":"invisible","profileBytes":1,"activeAt":9,"updatedAt":9}"#;
    let text = StatusText::parse(hostile).expect("it is short");
    let long = StatusText::parse(&"\u{301}".repeat(128)).expect("it is short enough");
    for (number, text) in [(1, text), (2, long)] {
        let id = format!("{hostile}{number}");
        let at = now();
        let fields = json!({"name": hostile, "metadata": {"grace": 1, "x": [hostile, {}, []], "updatedAt": 5}});
        let profile = Profile::from_fields(&serde_json::from_value(fields).expect("fields"));
        let stated = Presence {
            profile: profile.clone(),
            profile_at: Timestamp(at),
            chosen: Some(Arc::new(ChosenStatus { text: text.clone(), ..choice(Status::Busy, at) })),
            ..Presence::default()
        };
        let device = Some(device(json!({"kind": "web", "name": "\"grace\":1,\"idle\":1,\"kind\":\"tv\"}"})));
        let join = Join { presence: stated, idle: false, device, since: Timestamp(u64::MAX) };
        node.drive(number, &id, Intent::Join(join.clone())).await;
        node.drive(number, &id, Intent::Idle(true)).await;
        node.drive(number, &id, Intent::Idle(false)).await;
        node.drive(number + 10, &id, super::join()).await;
        node.drive(number + 10, &id, LOST).await;
        let held = node.presence(&id).await;
        assert_eq!((&held.profile, held.status_text(), held.effective), (&profile, text.as_ref(), Status::Busy));
        assert_eq!(held.devices.iter().collect::<Vec<_>>(), [("web", 1)]);
        // A leave of another socket takes along only what is in grace.
        node.drive(number + 20, &id, super::join()).await;
        node.drive(number + 20, &id, Intent::Leave).await;
        assert_eq!(node.effective(&id).await, "busy");
        node.state(&id, choice(Status::Online, at + 5)).await.expect("the user is present");
        assert_eq!((node.effective(&id).await, node.presence(&id).await.profile), ("online", profile));
    }
}

async fn an_activity_is_noted_and_signalled_and_never_goes_back(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut signals = node.store.subscribe_signals().await.expect("a subscription");
    node.drive(1, "ada", join_as(dated("Ada", now()))).await;
    let before = node.roster().await.position();
    let (ada, nobody, at) = (user("ada"), user("nobody"), Timestamp(now() - 10));
    node.store.note_activity(&[(ada.clone(), at), (nobody.clone(), at)]).await.expect("an answer");
    node.store.note_activity(&[(ada.clone(), Timestamp(at.0 - 5))]).await.expect("an answer");
    let held = node.presence("ada").await;
    assert_eq!((held.active_at, held.profile), (at, dated("Ada", 1).profile));
    assert_eq!(node.roster().await.position(), before, "it is no transition");
    let heard = timeout(DEADLINE, signals.recv()).await.expect("a signal in time").expect("the subscription lasts");
    assert_eq!(heard, Signal::Active { users: vec![(ada, at), (nobody, at)] });
}

async fn a_departure_says_when_the_user_was_last_active(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let mut listener = Listener::to(&node).await;
    node.drive(1, "ada", join()).await;
    let active_at = Timestamp(now() - 50);
    let order = Order { active_at, ..node.order(1, "ada", Intent::Leave) };
    let outcomes = node.writer.drive(node.claim, &[order]).await.expect("outcomes");
    let Outcome::Done { position, .. } = outcomes[0] else { panic!("{outcomes:?}") };
    let heard = listener.up_to(position).await;
    let at = heard[1].at;
    let departure = Departure { reason: OfflineReason::Left, seen_at: Some(at), active_at: Some(active_at) };
    assert_eq!(heard[1].change, Change::Offline(departure));
    assert_eq!(node.last_seen("ada").await, Some(LastSeen { seen_at: at, active_at: Some(active_at) }));
}

async fn signals_reach_the_node_that_they_are_for(truth: &impl Truth) {
    let node = TestNode::join(truth, 1).await;
    let mut signals = node.store.subscribe_signals().await.expect("a subscription");
    let signal = |number| Signal::Question { from: node.id, number, user: user("a\"b"), inquiry: Inquiry::Explain };
    node.store.signal(node.id, &signal(7)).await.expect("it is sent");
    let heard = timeout(DEADLINE, signals.recv()).await.expect("a signal in time").expect("the subscription lasts");
    assert_eq!(heard, signal(7));
}

async fn an_examination_shows_what_is_held(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let nothing = node.store.examine(&user("ada")).await.expect("an answer");
    assert!(!nothing.is_present && nothing.sockets.is_empty() && nothing.transitions.is_empty());
    let device = device(json!({"kind": "web", "name": "x"}));
    let join = Join { presence: Presence::default(), idle: true, device: Some(device), since: Timestamp(u64::MAX) };
    node.drive(1, "ada", Intent::Join(join)).await;
    node.drive(1, "ada", Intent::Grace).await;
    node.drive(2, "bob", super::join()).await;
    let held = node.store.examine(&user("ada")).await.expect("an answer");
    assert!(held.is_present && held.presence.is_some(), "{held:?}");
    assert_eq!(stories(&held.transitions), ["+ada"]);
    let [socket] = &held.sockets[..] else { panic!("{held:?}") };
    assert_eq!((socket.socket, socket.in_grace, socket.is_idle), (node.socket(1), true, true));
    assert_eq!(socket.device.as_deref(), Some(r#"{"kind":"web","name":"x"}"#));
    assert_eq!(node.store.sockets_of(&user("ada")).await.expect("an answer"), held.sockets);
    node.drive(1, "ada", LOST).await;
    let gone = node.store.examine(&user("ada")).await.expect("an answer");
    assert!(!gone.is_present && gone.sockets.is_empty());
    assert_eq!(node.store.sockets_of(&user("ada")).await.expect("an answer"), []);
    assert_eq!(stories(&gone.transitions), ["-ada connection_lost", "+ada"]);
}

async fn the_position_is_told_with_the_nodes(truth: &impl Truth) {
    let mut node = TestNode::join(truth, 1).await;
    let before = node.store.nodes().await.expect("an answer");
    node.drive(1, "ada", super::join()).await;
    let after = node.store.nodes().await.expect("an answer");
    assert_eq!(after.position.epoch, before.position.epoch);
    assert_eq!(after.position.revision, before.position.revision + 1);
    assert!(after.now >= before.now);
    // The embedded store gives no lease, and so names no node.
    for held in &after.nodes {
        assert_eq!((held.node, held.n_sockets, held.is_drained), (node.id, Some(1), false));
        assert!(held.lease_end > after.now);
    }
}

#[tokio::test]
async fn during_a_hold_whoever_was_told_to_be_online_is_not_shown_as_away() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    let idle = |effective| {
        let presence = Presence { effective, ..Presence::default() };
        Intent::Join(Join { presence, idle: true, device: None, since: Timestamp(u64::MAX) })
    };
    // Another node may hold a socket that is not idle, and may not have asserted it yet.
    node.drive(1, "ada", idle(Status::Online)).await;
    node.drive(2, "bob", idle(Status::Away)).await;
    assert_eq!((node.effective("ada").await, node.effective("bob").await), ("online", "away"));
    node.drive(1, "ada", Intent::Idle(true)).await;
    assert_eq!(node.effective("ada").await, "online");
    // When the hold has ended, the marks are stated again, and decide.
    truth.end_hold().await;
    node.drive(1, "ada", Intent::Idle(true)).await;
    assert_eq!(node.effective("ada").await, "away");
}

#[tokio::test]
async fn the_keys_of_a_hidden_user_are_told_apart_and_leave_nothing_behind() {
    let truth = Shared::start().await;
    let mut node = TestNode::join(&truth, 1).await;
    node.drive(1, "ada", join_as(choosing(choice(Status::Invisible, now())))).await;
    assert_eq!(truth.redis.smembers("online:users:hidden").await, ["ada"]);
    assert_eq!(truth.redis.smembers("online:users:set").await, NOBODY);
    node.drive(1, "ada", Intent::Leave).await;
    let keys: Vec<String> = truth.redis.query(&["KEYS", "*ada*"]).await;
    assert_eq!(keys, NOBODY);
    assert_eq!(truth.redis.query::<u64>(&["EXISTS", "online:users:hidden"]).await, 0);
}
