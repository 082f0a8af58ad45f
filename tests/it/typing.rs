//! Who hears that somebody types.

use serde_json::{Value, json};

use crate::support::*;

fn start_in(room: &str) -> Value {
    json!({"type": "typing_start", "roomId": room})
}

fn typing(frames: &[Value]) -> Vec<&Value> {
    frames.iter().filter(|frame| frame["type"] == "typing").collect()
}

async fn next_typing(client: &mut WsClient) -> Value {
    client.wait_for(|frame| frame["type"] == "typing").await
}

#[tokio::test]
async fn those_in_a_room_hear_who_types_there_and_nobody_else_does() {
    for place in Place::each(|_| ()).await {
        let mut ada = place.node(0).join("ada").await;
        let mut tab = place.node(1).join("ada").await;
        let mut bob = place.node(1).join("bob").await;
        let mut outside = place.node(1).join("outside").await;
        let mut counting = place.node(1).join("counting").await;
        for client in [&mut ada, &mut tab, &mut bob] {
            client.join_room("lobby").await;
        }
        counting.ask(json!({"type": "join_room", "roomId": "lobby", "presence": "count"})).await;

        let heard = until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await;
        assert_eq!(heard, json!({"type": "typing", "roomId": "lobby", "userId": "ada", "isTyping": true}));
        ada.ask(json!({"type": "typing_stop", "roomId": "lobby"})).await;
        assert_eq!(next_typing(&mut bob).await["isTyping"], false);
        // What others hear was written before the frame that bob has read, or will never come.
        for client in [&mut ada, &mut tab, &mut outside, &mut counting] {
            let frames = client.fence().await;
            assert_eq!(typing(&frames), NOTHING, "{frames:?}");
        }
    }
}

const NOTHING: [&Value; 0] = [];

#[tokio::test]
async fn all_sockets_of_one_user_hear_who_types_to_them() {
    for place in Place::each(|_| ()).await {
        let mut ada = place.node(0).join("ada").await;
        let mut bob = place.node(1).join("7").await;
        let mut tab = place.node(2).ws("/ws?userId=7&presence=none").await;
        tab.expect_type("welcome").await;
        let mut carol = place.node(1).join("carol").await;
        let heard = until_typing_is_heard(&mut ada, &mut bob, json!({"toUserId": 7})).await;
        assert_eq!(heard, json!({"type": "typing", "userId": "ada", "isTyping": true}));
        assert_eq!(next_typing(&mut tab).await, heard);
        assert_eq!(typing(&carol.fence().await), NOTHING);
        let nobody = ada.ask(json!({"type": "typing_start", "toUserId": "nobody"})).await;
        assert_eq!(nobody, json!({"type": "typing_ack", "ref": "asked"}), "nobody learns who is there");
    }
}

#[tokio::test]
async fn typing_ends_by_itself() {
    for place in Place::each(|_| ()).await {
        let (mut ada, mut bob) = place.two_in("lobby").await;
        until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await;
        ada.abort();
        let end = next_typing(&mut bob).await;
        assert_eq!(end, json!({"type": "typing", "roomId": "lobby", "userId": "ada", "isTyping": false}));
    }
}

#[tokio::test]
async fn nobody_hears_that_a_hidden_user_types() {
    for place in Place::each(|_| ()).await {
        let mut ada = place.node(0).join_as(json!({"userId": "ada", "status": "invisible"})).await;
        let mut bob = place.node(1).join("bob").await;
        let mut carol = place.node(0).join("carol").await;
        for client in [&mut ada, &mut bob, &mut carol] {
            client.join_room("lobby").await;
        }
        // What a node sends first comes first, if it comes at all.
        for _ in 0..2 {
            for target in [json!({"roomId": "lobby"}), json!({"toUserId": "bob"})] {
                let mut request = target.clone();
                request["type"] = "typing_start".into();
                ada.ask(request).await;
                let heard = until_typing_is_heard(&mut carol, &mut bob, target.clone()).await;
                assert_eq!(heard["userId"], "carol");
                let mut request = target;
                request["type"] = "typing_stop".into();
                carol.ask(request).await;
                assert_eq!(next_typing(&mut bob).await["userId"], "carol");
            }
        }
    }
}

#[tokio::test]
async fn a_paused_client_does_not_hear_who_types() {
    for place in Place::each(|_| ()).await {
        let (mut ada, mut bob) = place.two_in("lobby").await;
        let mut paused = place.node(1).join("paused").await;
        paused.join_room("lobby").await;
        paused.ask(json!({"type": "pause"})).await;
        until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await;
        ada.ask(json!({"type": "typing_stop", "roomId": "lobby"})).await;
        next_typing(&mut bob).await;
        assert_eq!(typing(&paused.fence().await), NOTHING);
    }
}

#[tokio::test]
async fn one_types_where_one_is_and_not_too_often() {
    let node = Node::start_with(|_| ()).await;
    let mut ada = node.ws("/ws").await;
    assert_eq!(ada.ask(start_in("lobby")).await["code"], "not_joined");
    ada.ask(json!({"type": "join_user", "userId": "ada"})).await;
    let refused = ada.ask(start_in("lobby")).await;
    assert_eq!((&refused["code"], &refused["roomId"]), (&json!("not_in_room"), &json!("lobby")), "{refused}");
    ada.join_room("lobby").await;
    assert_eq!(ada.ask(start_in("lobby")).await["type"], "typing_ack");
    assert_eq!(ada.ask(start_in("lobby")).await["type"], "typing_ack", "it is known");
    assert_eq!(ada.ask(json!({"type": "typing_stop", "roomId": "lobby"})).await["type"], "typing_ack");
    let refused = ada.ask(start_in("lobby")).await;
    assert_eq!(refused["code"], "rate_limited", "{refused}");
    assert!((1..=1000).contains(&refused["retryAfterMs"].as_u64().expect("a time")), "{refused}");
    ada.ask(json!({"type": "leave_room", "roomId": "lobby"})).await;
    assert_eq!(ada.ask(json!({"type": "typing_stop", "roomId": "lobby"})).await["code"], "not_in_room");
}

#[tokio::test]
async fn a_node_hears_who_types_again_after_its_connections_broke() {
    let cluster = Cluster::start(2).await;
    let mut ada = cluster[0].join("ada").await;
    let mut bob = cluster[1].join("bob").await;
    for client in [&mut ada, &mut bob] {
        client.join_room("lobby").await;
    }
    until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await;
    ada.ask(json!({"type": "typing_stop", "roomId": "lobby"})).await;
    next_typing(&mut bob).await;
    cluster.redis.query::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    let heard = until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await;
    assert_eq!(heard["isTyping"], true, "{heard}");
}

#[tokio::test]
async fn who_goes_on_typing_is_told_again_to_those_who_came_later() {
    for place in Place::each(|_| ()).await {
        let (mut ada, mut bob) = place.two_in("lobby").await;
        let mut late = place.node(1).join("late").await;
        until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await;
        late.join_room("lobby").await;
        let heard = until_typing_is_heard(&mut ada, &mut late, json!({"roomId": "lobby"})).await;
        assert_eq!(heard["isTyping"], true, "{heard}");
    }
}

#[tokio::test]
async fn who_leaves_or_hides_has_stopped_typing_and_is_heard_again_afterwards() {
    for place in Place::each(|_| ()).await {
        let (mut ada, mut bob) = place.two_in("lobby").await;
        let end = json!({"type": "typing", "roomId": "lobby", "userId": "ada", "isTyping": false});
        until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await;
        ada.ask(json!({"type": "leave_room", "roomId": "lobby"})).await;
        assert_eq!(next_typing(&mut bob).await, end);
        ada.join_room("lobby").await;
        assert_eq!(until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await["isTyping"], true);
        ada.ask(json!({"type": "set_status", "status": "invisible"})).await;
        assert_eq!(next_typing(&mut bob).await, end);
        ada.ask(json!({"type": "set_status", "status": "online"})).await;
        assert_eq!(until_typing_is_heard(&mut ada, &mut bob, json!({"roomId": "lobby"})).await["isTyping"], true);
    }
}

#[tokio::test]
async fn nobody_hears_of_their_own_typing() {
    let node = Node::start_with(|_| ()).await;
    let (mut ada, mut tab) = (node.join("ada").await, node.join("ada").await);
    assert_eq!(ada.ask(json!({"type": "typing_start", "toUserId": "ada"})).await["type"], "typing_ack");
    let mut bob = node.join("bob").await;
    until_typing_is_heard(&mut bob, &mut tab, json!({"toUserId": "ada"})).await;
    let heard = ada.fence().await;
    assert!(typing(&heard).iter().all(|frame| frame["userId"] == "bob"), "{heard:?}");
}
