use super::*;

fn status(status: &str) -> Said {
    Said::Status { status: status.to_owned(), text: None, lasts: None }
}

/// The user `ada` says this on a node, which answers at once.
fn say(model: &mut Model, node: &str, said: &Said) {
    let is_hidden = *said == status("invisible");
    let number = model.say("ada", node, said.clone(), false);
    model.answered("ada", number, Answer { at: Instant::now(), is_hidden, position: Some((1, number)) });
}

/// Makes everything that has happened so much older, as if that time had passed.
fn age(model: &mut Model, by: Duration) {
    for statement in model.statements.values_mut().flatten() {
        statement.sent_at -= by;
        statement.dated_by = statement.dated_by.map(|at| at - by);
        statement.answer.iter_mut().for_each(|answer| answer.at -= by);
    }
    model.nodes.values_mut().for_each(|node| node.up_since = node.up_since.map(|since| since - by));
}

fn model() -> Model {
    let mut model = Model::default();
    ["a", "b"].iter().for_each(|node| model.node_starts(node));
    model
}

#[test]
fn the_last_statement_holds_if_no_clock_can_be_so_wrong_that_it_is_not_the_last() {
    let mut model = model();
    assert_eq!(model.holds("ada", Part::Status), Some(None));
    say(&mut model, "a", &status("busy"));
    age(&mut model, CLOCK_ERROR / 2);
    say(&mut model, "b", &status("dnd"));
    assert_eq!(model.holds("ada", Part::Status), None, "the clocks of two nodes may differ by as much");
    age(&mut model, 2 * CLOCK_ERROR);
    say(&mut model, "a", &status("away"));
    assert_eq!(model.holds("ada", Part::Status), Some(Some(&status("away"))));
    say(&mut model, "a", &status("online"));
    assert_eq!(model.holds("ada", Part::Status), Some(Some(&status("online"))), "one node has one clock");
    assert_eq!(model.holds("ada", Part::Name), Some(None));
}

#[test]
fn what_a_node_may_have_forgotten_or_not_heard_is_not_sure() {
    let mut model = model();
    say(&mut model, "a", &status("busy"));
    model.socket_ended("ada", "a", true);
    assert!(model.holds("ada", Part::Status).is_some(), "another socket is there");
    model.socket_ended("ada", "a", false);
    assert_eq!(model.holds("ada", Part::Status), None);
    age(&mut model, 2 * CLOCK_ERROR);
    model.say("ada", "b", status("dnd"), false);
    assert_eq!(model.holds("ada", Part::Status), None, "it is not answered");
    assert!(model.waits());
    age(&mut model, 2 * TAKES_IN);
    model.pass(Instant::now());
    assert!(!model.waits(), "the node has taken it in, or never will");
}

#[test]
fn another_node_knows_who_hides_when_it_has_shown_a_later_position() {
    let mut model = model();
    say(&mut model, "a", &status("invisible"));
    let knowing = |model: &Model| {
        let hidden: Vec<_> = model.sure().into_iter().filter(|sure| sure.said.hides()).collect();
        hidden.iter().map(|hidden| ["a", "b"].map(|node| model.knows(node, hidden))).collect::<Vec<_>>()
    };
    assert_eq!(knowing(&model), [[true, false]]);
    model.shown("b", (1, 1));
    assert_eq!(knowing(&model), [[true, true]]);
    model.network("a", true);
    assert_eq!(knowing(&model), [[true, false]], "the store may lose it, and the node cannot state it again");
    say(&mut model, "a", &status("online"));
    assert_eq!(knowing(&model), [[false; 2]; 0]);
}

#[test]
fn only_what_was_said_may_be_shown() {
    let mut model = model();
    let number = model.say("ada", "a", status("invisible"), false);
    assert_eq!(number, 1);
    for (shown, may) in [("online", true), ("away", true), ("busy", false), ("invisible", false)] {
        assert_eq!(model.may_show("ada", &shown.into(), &Value::Null), may, "{shown}");
    }
    assert!(model.may_choose("ada", &"invisible".into(), &Value::Null));
    assert!(!model.may_show("ada", &"online".into(), &"words".into()));
    assert!(model.may_be_named("ada", &Value::Null) && !model.may_be_named("ada", &"Ada".into()));
}

#[test]
fn what_is_sure_allows_only_what_was_said() {
    let mut model = model();
    let allowed = |model: &Model, shown: &[Value]| {
        let sure = model.sure();
        assert_eq!(sure.len(), 1);
        shown.iter().map(|shown| sure[0].allows(shown)).collect::<Vec<_>>()
    };
    let shown = ["online", "away", "busy"].map(|status| serde_json::json!({"id": "ada", "status": status}));
    say(&mut model, "a", &status("online"));
    assert_eq!(allowed(&model, &shown), [true, true, false]);
    say(&mut model, "a", &status("busy"));
    assert_eq!(allowed(&model, &shown), [false, false, true]);
    say(&mut model, "a", &status("invisible"));
    assert_eq!(allowed(&model, &shown), [false; 3]);
}
