use std::pin::Pin;

use actix_rt::net::TcpStream;
use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::metrics::{Registry, SocketioMetrics};
use crate::transport::{HttpStream, PollingStream, Sid, Sids, Stream};

/// Frames are longer than this now and then.
const PIPE_BYTES: usize = 64;

/// A server's frame.
fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        length @ ..126 => vec![length as u8],
        length => [&[126][..], &(length as u16).to_be_bytes()].concat(),
    };
    [&[first][..], &length, payload].concat()
}

fn text(payload: &str) -> Vec<u8> {
    frame_of(0x80 | TEXT_FRAME, payload.as_bytes())
}

fn open() -> (Arc<Sids>, Sid, Stream, Arc<Pipe>) {
    let metrics = Arc::new(SocketioMetrics::new(&mut Registry::default(), []));
    let sids = Sids::new("node".to_owned(), 2, PIPE_BYTES, metrics);
    let sid = sids.sid("secret");
    let stream: PollingStream = sids.open(&sid).expect("there is room");
    let pipe = sids.get(sid.as_str()).expect("it is open").1;
    (sids, sid, Stream::Polling(Box::new(stream)), pipe)
}

/// What a session reads without waiting.
fn read(stream: &Stream) -> io::Result<Vec<u8>> {
    let (mut buffer, mut bytes) = ([0; 256], Vec::new());
    let mut context = Context::from_waker(Waker::noop());
    match stream.poll_read(&mut context, &mut buffer, &mut |part| bytes.extend_from_slice(part)) {
        Poll::Ready(Err(error)) => Err(error),
        _ => Ok(bytes),
    }
}

/// A client, and what its session has done so far.
struct World {
    stream: Stream,
    pipe: Arc<Pipe>,
    /// What the session says in the end, and how much of it the stream has taken.
    says: Vec<u8>,
    n_written: usize,
    /// The packets that the client has got by GET.
    fetched: Vec<String>,
    /// What the client has said, and what of it the session has read.
    said: Vec<u8>,
    read: Vec<u8>,
    n_said: u8,
    websocket: Option<tokio::net::TcpStream>,
}

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Fetch,
    Say,
    Read,
}

impl World {
    async fn take(&mut self, step: &Step) {
        match step {
            Step::Write(n_bytes) => self.write(*n_bytes),
            Step::Fetch => self.fetch().await,
            Step::Say => self.say().await,
            Step::Read => self.read.extend(read(&self.stream).expect("it goes on")),
        }
    }

    fn write(&mut self, n_bytes: usize) {
        let end = (self.n_written + n_bytes).min(self.says.len());
        if end > self.n_written {
            match self.stream.try_write(&self.says[self.n_written..end]) {
                Ok(n_taken) => self.n_written += n_taken,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    async fn fetch(&mut self) {
        if self.websocket.is_some() {
            return;
        }
        let payload = self.pipe.poll(Duration::ZERO).await.expect("it is open");
        let payload = String::from_utf8(payload).expect("UTF-8");
        self.fetched.extend(payload.split('\x1e').filter(|packet| *packet != "6").map(str::to_owned));
    }

    async fn say(&mut self) {
        self.n_said += 1;
        let frame = vec![self.n_said; 20];
        match &mut self.websocket {
            Some(websocket) => websocket.write_all(&frame).await.expect("it is open"),
            None => {
                let giving = self.pipe.begin_give().expect("it is open");
                let mut given = Box::pin(giving.give(frame.clone(), false, Duration::from_secs(60)));
                if given.as_mut().now_or_never().is_none() {
                    // The session has to read first.
                    self.read.extend(read(&self.stream).expect("it goes on"));
                    given.await.expect("there is room");
                }
            }
        }
        self.said.extend(frame);
    }

    async fn upgrade(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let server = listener.accept().await.expect("a client").0;
        let probe = self.pipe.begin_upgrade().expect("it is the only one");
        probe.asked();
        let early = vec![200; 10];
        self.said.extend(&early);
        assert!(probe.complete(HttpStream::Plain(server).detach().expect("it lives"), early));
        self.websocket = Some(client);
    }

    /// Says and reads everything. Returns what the client has got.
    async fn finish(mut self) -> Vec<String> {
        while self.n_written < self.says.len() {
            self.write(usize::MAX / 2);
            match self.websocket {
                Some(_) => self.stream.writable().await.expect("it goes on"),
                None => self.fetch().await,
            }
        }
        while self.read.len() < self.said.len() {
            let mut buffer = [0; 256];
            let Self { stream, read, .. } = &mut self;
            poll_fn(|context| stream.poll_read(context, &mut buffer, &mut |part| read.extend_from_slice(part)))
                .await
                .expect("it goes on");
        }
        assert_eq!(self.read, self.said);
        self.fetch().await;
        let Some(mut websocket) = self.websocket else { return self.fetched };
        while self.stream.try_flush().is_err() {
            self.stream.writable().await.expect("it goes on");
        }
        drop(self.stream);
        let mut rest = Vec::new();
        websocket.read_to_end(&mut rest).await.expect("an end");
        let mut at = 0;
        while let Some((opcode, place)) = first_frame(&rest[at..]) {
            assert_eq!(opcode, TEXT_FRAME);
            self.fetched.push(String::from_utf8(rest[at..][place.clone()].to_vec()).expect("UTF-8"));
            at += place.end;
        }
        assert_eq!(at, rest.len());
        self.fetched
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..120_usize).prop_map(Step::Write),
        2 => Just(Step::Fetch),
        2 => Just(Step::Say),
        2 => Just(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_directions_are_one_stream_of_bytes_wherever_a_websocket_takes_over(
        steps in vec(step(), 0..60),
        upgrade_at in 0..80_usize,
        lengths in vec(prop_oneof![4 => 1..20_usize, 1 => 60..300_usize], 0..20),
    ) {
        let texts: Vec<_> =
            lengths.iter().enumerate().map(|(n, length)| format!("42[{n}{}]", "x".repeat(*length))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = runtime.block_on(async {
            let (_sids, _, stream, pipe) = open();
            let mut world = World {
                stream,
                pipe,
                says: texts.iter().flat_map(|packet| text(packet)).collect(),
                n_written: 0,
                fetched: Vec::new(),
                said: Vec::new(),
                read: Vec::new(),
                n_said: 0,
                websocket: None,
            };
            for (n, step) in steps.iter().enumerate() {
                if n == upgrade_at {
                    world.upgrade().await;
                }
                world.take(step).await;
            }
            world.finish().await
        });
        prop_assert_eq!(got, texts);
    }
}

#[tokio::test]
async fn a_pipe_is_bounded_but_takes_one_frame_of_any_length() {
    let (_sids, _, stream, pipe) = open();
    let (long, short) = (text(&"x".repeat(1000)), text("4"));
    let both = [&long[..], &short].concat();
    assert_eq!(stream.try_write(&both).ok(), Some(PIPE_BYTES));
    assert_eq!(pipe.poll(Duration::ZERO).await, Ok(NOOP.to_vec()), "a part is nothing");
    assert_eq!(stream.try_write(&both[PIPE_BYTES..]).ok(), Some(long.len() - PIPE_BYTES));
    let full = stream.try_write(&short).map_err(|error| error.kind());
    assert_eq!(full, Err(io::ErrorKind::WouldBlock));
    let mut writable: Pin<Box<dyn Future<Output = _>>> = Box::pin(stream.writable());
    assert!(writable.as_mut().now_or_never().is_none());
    assert_eq!(pipe.poll(Duration::ZERO).await.map(|payload| payload.len()), Ok(1000));
    assert!(writable.await.is_ok());
}

#[tokio::test]
async fn the_last_words_come_one_after_the_other() {
    let (_sids, _, stream, pipe) = open();
    let close = frame_of(0x80 | CLOSE_FRAME, &[0x03, 0xE8]);
    let words = [text("42[1]"), text("41"), close].concat();
    assert_eq!(stream.try_write(&words).ok(), Some(words.len()));
    assert_eq!(pipe.poll(Duration::ZERO).await, Ok(b"42[1]\x1e41".to_vec()));
    assert!(read(&stream).is_ok(), "the client has not got the close");
    assert_eq!(pipe.poll(Duration::ZERO).await, Ok(b"1".to_vec()));
    assert!(read(&stream).is_err() && stream.try_write(b"x").is_err());
    assert_eq!(pipe.poll(Duration::ZERO).await, Err(PollRefused::Gone));
}

#[tokio::test]
async fn last_words_of_a_session_that_has_gone_are_still_fetched() {
    let (sids, sid, stream, pipe) = open();
    stream.try_write(&text("42[1]")).unwrap();
    drop(stream);
    assert!(sids.get(sid.as_str()).is_none());
    assert_eq!(pipe.poll(Duration::ZERO).await, Ok(b"42[1]".to_vec()));
    assert_eq!(pipe.poll(Duration::ZERO).await, Err(PollRefused::Gone));
    assert!(pipe.begin_give().is_err() && pipe.begin_upgrade().is_err());
}

#[tokio::test]
async fn a_request_that_breaks_off_ends_the_pipe_after_what_was_said() {
    let (_sids, _, stream, pipe) = open();
    pipe.begin_give().unwrap().give(vec![1], false, Duration::ZERO).await.unwrap();
    assert!(pipe.poll(Duration::from_secs(60)).now_or_never().is_none(), "it waits, and is dropped");
    assert_eq!(read(&stream).unwrap(), [1]);
    assert!(read(&stream).is_err());
}

#[tokio::test]
async fn after_a_bad_post_nothing_more_is_taken() {
    let (_sids, _sid, stream, pipe) = open();
    pipe.begin_give().unwrap().refuse();
    assert_eq!(pipe.begin_give().err(), Some(PollRefused::Gone), "also while the session has not read it yet");
    assert_eq!(read(&stream).unwrap(), NO_FRAME);
}

#[tokio::test]
async fn a_session_that_does_not_read_lets_a_post_wait_until_its_deadline() {
    let (_sids, _, stream, pipe) = open();
    pipe.begin_give().unwrap().give(vec![1], false, Duration::ZERO).await.unwrap();
    let late = pipe.begin_give().unwrap().give(vec![2], false, Duration::from_millis(10)).await;
    assert_eq!(late, Err(PollRefused::Gone));
    assert_eq!(read(&stream).unwrap(), [1]);
    assert!(read(&stream).is_err());
}

#[tokio::test]
async fn so_many_sockets_have_a_place_and_no_more() {
    let (sids, _, stream, _) = open();
    let second = sids.open(&sids.sid("second")).unwrap();
    assert!(!sids.has_room() && sids.open(&sids.sid("third")).is_none());
    drop(second);
    drop(stream);
    assert!(sids.open(&sids.sid("third")).is_some());
}
