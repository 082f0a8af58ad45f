//! Tests of one socket in the hub. A kernel buffer takes some bytes, or none.

use proptest::prelude::*;

use super::*;
use crate::hub::test_sockets::{Holding, Pipe};
use crate::metrics::Sent;

#[derive(Debug, Clone)]
enum Step {
    Event { own: bool, length: usize },
    Private { length: usize },
    Room(usize),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), 1..20usize).prop_map(|(own, length)| Step::Event { own, length }),
        (1..20usize).prop_map(|length| Step::Private { length }),
        (0..40usize).prop_map(Step::Room),
        Just(Step::Flush),
    ]
}

proptest! {
    #[test]
    fn a_socket_gets_every_frame_whole_once_and_in_order(steps in prop::collection::vec(step(), 1..200)) {
        let pipe = Rc::new(Pipe::default());
        let mut streams = Streams::new(1 << 20);
        let mut listener = Listener::new(pipe.clone(), Format::Native);
        listener.listen(0);
        let mut expected = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            match step {
                Step::Event { own, length } => {
                    let frame = vec![i as u8; *length];
                    let (begin, end) = streams.native().append(i as u64, &frame);
                    if *own { listener.skip(begin, end, streams.native().start()) } else { expected.extend(frame) }
                }
                Step::Private { length } => {
                    let frame = vec![i as u8; *length];
                    listener.send(streams.native().end(), frame.clone().into());
                    expected.extend(frame);
                }
                Step::Room(room) => {
                    pipe.room.set(*room);
                    listener.unblock();
                }
                Step::Flush => listener.flush(&streams, None, &mut Sent::default()),
            }
            prop_assert!(expected.starts_with(&pipe.taken.borrow()));
        }
        pipe.room.set(usize::MAX);
        listener.unblock();
        listener.flush(&streams, None, &mut Sent::default());
        prop_assert_eq!(&*pipe.taken.borrow(), &expected);
        prop_assert!(listener.is_drained() && listener.backlog.is_none());
    }
}

#[test]
fn a_session_waits_for_a_transport_that_holds_something_back() {
    let transport = Rc::new(Holding::default());
    let streams = Streams::new(1 << 20);
    let mut listener = Listener::new(transport.clone(), Format::Native);
    transport.is_slow.set(true);
    listener.send(0, vec![1; 5].into());
    listener.flush(&streams, None, &mut Sent::default());
    assert_eq!(transport.n_held.get(), 5);
    let attention = listener.attention(Duration::ZERO, Waker::noop());
    assert!(attention == Some(Attention::Blocked) && !listener.is_drained());
    transport.is_slow.set(false);
    listener.unblock();
    listener.flush(&streams, None, &mut Sent::default());
    assert!(listener.attention(Duration::ZERO, Waker::noop()).is_none() && listener.is_drained());

    transport.is_slow.set(true);
    listener.whisper(&vec![1; 5].into(), &streams, &mut Sent::default());
    assert!(listener.attention(Duration::ZERO, Waker::noop()) == Some(Attention::Blocked));
}

#[test]
fn what_is_left_out_stays_so_when_the_socket_is_placed_before_it() {
    let pipe = Rc::new(Pipe::default());
    pipe.room.set(100);
    let mut streams = Streams::new(1 << 20);
    let mut listener = Listener::new(pipe.clone(), Format::Native);
    let (before, own, after) =
        (streams.native().append(1, &[1; 3]), streams.native().append(2, &[2; 3]), streams.native().append(3, &[3; 3]));
    listener.skip(own.0, own.1, streams.native().start());
    listener.listen(before.1);
    listener.flush(&streams, None, &mut Sent::default());
    assert_eq!(*pipe.taken.borrow(), [3; 3], "only {after:?}");
}

#[test]
fn a_socket_that_does_not_read_falls_off_with_its_last_frame_whole() {
    let pipe = Rc::new(Pipe::default());
    let mut streams = Streams::new(1 << 20);
    let mut listener = Listener::new(pipe.clone(), Format::Native);
    listener.listen(0);
    pipe.room.set(4);
    for sequence in 1..=10 {
        if streams.native().len_bytes() == 30 {
            streams.native().forget_first();
        }
        streams.native().append(sequence, &[sequence as u8; 10]);
        listener.flush(&streams, None, &mut Sent::default());
    }
    let waker = Waker::noop();
    let interval = Duration::from_secs(30);
    assert_eq!(listener.attention(interval, waker), Some(Attention::Blocked));
    pipe.room.set(100);
    listener.unblock();
    listener.flush(&streams, None, &mut Sent::default());
    assert_eq!(*pipe.taken.borrow(), [1; 10], "the frame that was begun is completed, nothing else is written");
    assert_eq!(listener.attention(interval, waker), Some(Attention::Resync));

    let fall_off_again = |listener: &mut Listener, streams: &mut Streams, room: usize| {
        listener.listen(streams.native().end());
        pipe.room.set(room);
        for sequence in 11..=12 {
            streams.native().append(sequence, &[sequence as u8; 10]);
            listener.flush(streams, None, &mut Sent::default());
            streams.native().forget_all();
        }
        pipe.room.set(100);
        listener.unblock();
        listener.flush(streams, None, &mut Sent::default());
        listener.attention(interval, waker)
    };
    assert_eq!(fall_off_again(&mut listener, &mut streams, 0), Some(Attention::TooSlow));
}

#[test]
fn more_than_the_log_holds_at_once_is_not_the_clients_doing() {
    let pipe = Rc::new(Pipe::default());
    pipe.room.set(100);
    let mut streams = Streams::new(1 << 20);
    let mut listener = Listener::new(pipe, Format::Native);
    for sequence in 1..=3 {
        listener.listen(streams.native().end());
        streams.native().append(sequence, &[1; 10]);
        streams.native().forget_all();
        listener.flush(&streams, None, &mut Sent::default());
        let attention = listener.attention(Duration::from_secs(30), Waker::noop());
        assert_eq!(attention, Some(Attention::Resync));
    }
}

#[test]
fn a_pause_does_not_make_a_slow_client_a_quick_one() {
    let pipe = Rc::new(Pipe::default());
    let mut streams = Streams::new(1 << 20);
    let mut listener = Listener::new(pipe.clone(), Format::Native);
    let interval = Duration::from_secs(30);
    for expected in [Attention::Resync, Attention::TooSlow] {
        listener.listen(streams.native().end());
        pipe.room.set(0);
        let next = streams.native().end() + 1;
        streams.native().append(next, &[1; 10]);
        listener.flush(&streams, None, &mut Sent::default());
        let fault = listener.hole(&streams).expect("it is behind");
        listener.mute();
        // It goes on.
        pipe.room.set(100);
        listener.unblock();
        listener.listen(streams.native().end());
        listener.fall_off_by(fault);
        assert_eq!(listener.attention(interval, Waker::noop()), Some(expected));
    }
}
