//! The ordinary way to hold a WebSocket on actix: actix-web, `actix_ws::handle`, and one hub with a `Session` for each socket.
//! It speaks as much of the protocol as the workloads need, in one process and without a store: less than the service does. An
//! event is encoded once, and copied for each socket.

use std::collections::BTreeMap;

use actix_web::web::{Data, Payload, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_ws::{Message, MessageStream, Session};
use anyhow::{Context, Result};
use rollcall::clock::{self, rfc3339};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::process::{Node, Programs};

/// Runs it with the defaults of actix-web; prints its address.
pub(crate) fn run() -> Result<()> {
    actix_rt::System::new().block_on(async {
        let hub = Data::new(Mutex::new(Hub::default()));
        let app = move || {
            let app = App::new().app_data(hub.clone());
            app.route("/ws", web::get().to(connect)).route("/api/online-users", web::get().to(count))
        };
        let server = HttpServer::new(app).bind(("127.0.0.1", 0))?;
        println!("{}", server.addrs().first().context("an address")?);
        Ok(server.run().await?)
    })
}

/// Starts it in a process of its own. The workloads treat it as a node.
pub(crate) fn start(programs: &Programs) -> Result<Node> {
    let mut process = programs.own("ordinary", &["ordinary"])?;
    Ok(Node { addr: process.line()?.parse()?, process })
}

/// Users in the first page: as many as in the service's.
const PAGE: usize = 1000;

/// Who is online, and who is to be told.
#[derive(Default)]
struct Hub {
    /// With how many sockets each has.
    users: BTreeMap<String, usize>,
    listeners: BTreeMap<u64, Listener>,
    n_sockets: u64,
    revision: u64,
}

struct Listener {
    user: String,
    session: Session,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Joining {
    user_id: String,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Request {
    JoinUser(Joining),
    Leave,
    UserActivity,
}

#[derive(Serialize)]
struct User<'a> {
    id: &'a str,
    status: &'static str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum Said<'a> {
    Welcome { user_id: &'a str, socket_id: u64, online_count: usize, revision: u64, timestamp: String },
    OnlineUsersList { users: Vec<User<'a>>, total: usize, revision: u64 },
    UserOnline { user_id: &'a str, user: User<'a>, epoch: u64, revision: u64, timestamp: String },
    UserOffline { user_id: &'a str, reason: &'static str, epoch: u64, revision: u64, timestamp: String },
    Left { user_id: &'a str },
}

/// As long as the service's own.
const EPOCH: u64 = 1_795_312_345_678_901;

async fn connect(request: HttpRequest, body: Payload, hub: Data<Mutex<Hub>>) -> actix_web::Result<HttpResponse> {
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let user = Query::<Joining>::from_query(request.query_string()).ok().map(|query| query.into_inner().user_id);
    actix_rt::spawn(serve(session, messages, user, hub));
    Ok(response)
}

async fn count(hub: Data<Mutex<Hub>>) -> String {
    format!(r#"{{"success":true,"count":{},"degraded":false}}"#, hub.lock().await.users.len())
}

/// The life of a socket.
async fn serve(mut session: Session, mut messages: MessageStream, user: Option<String>, hub: Data<Mutex<Hub>>) {
    let mut key = None;
    if let Some(user) = user {
        key = Some(hub.lock().await.join(user, &session).await);
    }
    while let Some(Ok(message)) = messages.recv().await {
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(Request::JoinUser(Joining { user_id })) if key.is_none() => {
                    key = Some(hub.lock().await.join(user_id, &session).await);
                }
                Ok(Request::Leave) => {
                    if let Some(user) = hub.lock().await.leave(key.take()).await {
                        say(&mut session, &encode(&Said::Left { user_id: &user })).await;
                    }
                }
                Ok(Request::UserActivity) => {}
                // The workloads say nothing else.
                Ok(Request::JoinUser(_)) | Err(_) => break,
            },
            // Its error is told by the stream, too.
            Message::Ping(bytes) => drop(session.pong(&bytes).await),
            Message::Close(_) => break,
            _ => {}
        }
    }
    hub.lock().await.leave(key).await;
}

impl Hub {
    /// Welcomes a socket, and tells the others of a user who is new.
    async fn join(&mut self, user: String, session: &Session) -> u64 {
        let n_sockets = self.users.entry(user.clone()).or_default();
        *n_sockets += 1;
        if *n_sockets == 1 {
            self.revision += 1;
            let online = User { id: &user, status: "online" };
            let (revision, timestamp) = (EPOCH + self.revision, timestamp());
            let event = Said::UserOnline { user_id: &user, user: online, epoch: EPOCH, revision, timestamp };
            self.tell(&encode(&event)).await;
        }
        self.n_sockets += 1;
        let mut session = session.clone();
        let (socket_id, online_count, revision) = (self.n_sockets, self.users.len(), EPOCH + self.revision);
        let welcome = Said::Welcome { user_id: &user, socket_id, online_count, revision, timestamp: timestamp() };
        say(&mut session, &encode(&welcome)).await;
        let users = self.users.keys().take(PAGE).map(|id| User { id, status: "online" }).collect();
        say(&mut session, &encode(&Said::OnlineUsersList { users, total: online_count, revision })).await;
        self.listeners.insert(socket_id, Listener { user, session });
        socket_id
    }

    /// Lets a socket go, and tells the others if it was its user's last. Returns the user.
    async fn leave(&mut self, key: Option<u64>) -> Option<String> {
        let Listener { user, .. } = self.listeners.remove(&key?)?;
        let n_sockets = self.users.get_mut(&user)?;
        *n_sockets -= 1;
        if *n_sockets == 0 {
            self.users.remove(&user);
            self.revision += 1;
            let (revision, timestamp) = (EPOCH + self.revision, timestamp());
            let event = Said::UserOffline { user_id: &user, reason: "left", epoch: EPOCH, revision, timestamp };
            self.tell(&encode(&event)).await;
        }
        Some(user)
    }

    /// Says it to everybody. A client that does not read holds all of them up.
    async fn tell(&mut self, text: &str) {
        for listener in self.listeners.values_mut() {
            say(&mut listener.session, text).await;
        }
    }
}

/// Who is gone meanwhile is let go by the end of their stream.
async fn say(session: &mut Session, text: &str) {
    let _ = session.text(text).await;
}

fn encode(said: &Said<'_>) -> String {
    serde_json::to_string(said).expect("it has no map with other keys than strings")
}

fn timestamp() -> String {
    rfc3339(clock::now())
}
