//! The harness of the integration tests. What others need as well is [`shared`], in `tools/support/`.
//!
//! # How to write a test
//!
//! A test lives in a topic file beside `main.rs`, begins with `use crate::support::*;`, and has a sentence for a name:
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_second_tab_is_no_transition() {
//!     let cluster = Cluster::start(2).await;
//!     let mut ada = cluster[0].join("ada").await;
//!     let _tab = cluster[1].join("bob").await;
//!     ada.wait_for(|frame| frame["type"] == "user_online" && frame["userId"] == "bob").await;
//!     let _second_tab = cluster[1].join("bob").await;
//!     // Whatever the node told of the second tab lies before this.
//!     let _carol = cluster[1].join("carol").await;
//!     let told = ada.collect_until(|frame| frame["userId"] == "carol").await;
//!     assert_eq!(told.len(), 1, "only carol: {told:?}");
//! }
//! ```
//!
//! - Each test has its own Redis, nodes and ports, and leaves nothing behind, also when it panics. Tests run side by
//!   side.
//! - Wait for a condition ([`eventually`], [`WsClient::wait_for`]), never for a time. What must *not* come is shown by
//!   a later thing that came ([`WsClient::fence`]).
//! - Choose the cheapest node that shows it: [`Node`] in a thread; [`NodeProcess`] for signals, `kill -9` and the
//!   binary's own words. Choose the fault where it happens: [`RedisServer`] for Redis itself,
//!   [`ChaosProxy`] for the network.
//! - No retries, no ignored tests, no assertion that something took less than a time.

mod balancer;
mod chaos_proxy;
mod cluster;
mod command;
mod endpoint;
mod eventually;
mod issuer;
mod node;
mod pki;
mod places;
mod poller;
pub(crate) mod polling;
mod prometheus;
pub(crate) mod raw_ws;
mod redis_server;
mod room_client;
mod schema;
mod secrets;
mod sentinel;
#[path = "../../../tools/support/mod.rs"]
pub(crate) mod shared;
mod sio_client;
mod sio_js;
pub(crate) mod sio_ws;
mod staged_store;
mod ws_client;

use shared::{frame, http, ports, process};

pub(crate) use balancer::Balancer;
pub(crate) use chaos_proxy::ChaosProxy;
pub(crate) use cluster::{
    Cluster, ClusterNode, node_behind_proxy, test_environment, test_settings, test_settings_with_redis,
};
pub(crate) use command::RunningCommand;
pub(crate) use endpoint::{Endpoint, HttpAnswer, percent_encoded};
pub(crate) use eventually::{eventually, eventually_eq, eventually_eq_within, eventually_within};
pub(crate) use issuer::{Issuer, Mood, SECRET, SigningKey, seconds_from_now, token, token_of, with_secret};
pub(crate) use node::{Node, NodeProcess};
pub(crate) use pki::{Issued, Pki, Tunnel, connect_tls, encrypted};
pub(crate) use places::Place;
pub(crate) use polling::Polling;
pub(crate) use prometheus::{Prometheus, deployed};
pub(crate) use raw_ws::RawWs;
pub(crate) use redis_server::RedisServer;
pub(crate) use room_client::{shown, told_of, until_typing_is_heard};
pub(crate) use schema::{Document, NO_VIOLATIONS};
pub(crate) use sentinel::Sentinels;
pub(crate) use shared::DEADLINE;
pub(crate) use shared::ports::Port;
pub(crate) use sio_client::{Carrier, SioClient};
pub(crate) use sio_js::{Js, JsClient, WAYS};
pub(crate) use sio_ws::SioWs;
pub(crate) use ws_client::WsClient;

/// What [`Endpoint::online_ids`] and [`RedisServer::smembers`] return when nobody is online.
pub(crate) const NOBODY: [&str; 0] = [];

/// What [`WsClient::fence`] returns when nothing was told.
pub(crate) const NOTHING: [serde_json::Value; 0] = [];
