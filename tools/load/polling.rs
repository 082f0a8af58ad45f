//! A client of Socket.IO that polls: one kept-alive connection, on which one request follows the other.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;

use crate::frames::{Frames, Taken};
use crate::http::{Connection, get_request};
use crate::tally::{Heard, Tally};

/// What separates the packets of a payload.
const SEPARATOR: u8 = 0x1E;

/// One session. It ends some time after this is dropped.
pub(crate) struct Polling {
    reader: JoinHandle<Result<()>>,
}

impl Polling {
    /// Begins a session whose user joins. What it hears is counted in `tally`.
    pub(crate) async fn open(addr: SocketAddr, user: &str, tally: &Arc<Tally>) -> Result<Self> {
        const PATH: &str = "/socket.io/?EIO=4&transport=polling";
        let mut connection = Connection::open(addr, get_request(PATH)).await?;
        let open = exchange(&mut connection).await?;
        let sid = open.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).context("a sid")?;
        let path = format!("{PATH}&sid={sid}");
        let (frames, tally) = (Frames::of_socketio(Some(user)), tally.clone());
        let reader = tokio::spawn(read(connection, path, open, frames, tally));
        Ok(Self { reader })
    }

    /// Fails if the session has ended.
    pub(crate) fn check_open(&self) -> Result<()> {
        ensure!(!self.reader.is_finished(), "a session that polls has ended");
        Ok(())
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Answers what is to be answered, and then fetches what comes next, again and again.
async fn read(
    mut connection: Connection,
    path: String,
    mut payload: String,
    frames: Frames,
    tally: Arc<Tally>,
) -> Result<()> {
    let heard = Heard::default();
    loop {
        let (mut answers, mut n_events) = (Vec::new(), 0);
        for packet in payload.as_bytes().split(|byte| *byte == SEPARATOR) {
            match frames.take_text(packet, &heard, &tally) {
                Taken::Event => n_events += 1,
                Taken::Answer(answer) => answers.push(answer),
                Taken::Noted => {}
            }
        }
        if n_events > 0 {
            tally.note_events(n_events);
        }
        for answer in answers {
            connection.request = post_text(&path, &answer);
            ensure!(exchange(&mut connection).await? == "ok", "a packet is not taken");
        }
        connection.request = get_request(&path);
        payload = exchange(&mut connection).await?;
    }
}

async fn exchange(connection: &mut Connection) -> Result<String> {
    let (status, body) = connection.exchange().await?;
    let body = String::from_utf8(body.to_vec())?;
    ensure!(status == 200, "a session that polls is answered {status}: {body}");
    Ok(body)
}

fn post_text(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
