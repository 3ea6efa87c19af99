//! Sessions and listeners that another process goes on with. Here it is the same process, which
//! makes no difference to descriptors.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use vhost_user::{FrontendReq as Req, Listener, Ownership, Session, SessionError, SessionState};

use crate::support::{Asked, Bench, NEED_REPLY, Tracer, header, number, state};

/// The state as it comes to the other process.
pub(crate) fn sent(state: &SessionState<BorrowedFd<'_>>) -> SessionState<OwnedFd> {
    let own = |descriptor: &BorrowedFd<'_>| descriptor.try_clone_to_owned().expect("duplicate");
    SessionState {
        socket: own(&state.socket),
        is_owned: state.is_owned,
        protocol_features: state.protocol_features,
        channel: state.channel.as_ref().map(own),
        unfinished: state.unfinished.clone(),
        descriptors: state.descriptors.iter().map(own).collect(),
        unsent: state.unsent.clone(),
    }
}

#[test]
fn session_goes_on_elsewhere_at_every_byte_of_a_message() {
    let message = [&header(Req::SET_VRING_CALL.into(), 1, 8)[..], &number(1)].concat();

    for cut in 0..message.len() {
        let mut bench = Bench::new();
        let file = Tracer::new(&format!("cut at {cut}"));
        let descriptors = if cut > 0 { file.times(1) } else { Vec::new() };
        bench.send_bytes(&message[..cut], &descriptors);
        bench.turn().expect("waits");

        bench.session = Session::go_on(sent(&bench.session.state())).expect("goes on");
        let descriptors = if cut > 0 { Vec::new() } else { file.times(1) };
        bench.send_bytes(&message[cut..], &descriptors);
        bench.turn().expect("taken");

        assert_eq!(bench.backend.calls, [Asked::Call(1, true)], "cut at {cut}");
        assert_eq!(file.leaked(), 0, "cut at {cut}");
    }
}

#[test]
fn session_that_goes_on_elsewhere_acknowledges_as_was_negotiated() {
    let mut bench = Bench::acknowledging();

    bench.session = Session::go_on(sent(&bench.session.state())).expect("goes on");
    bench.send(Req::SET_VRING_NUM, NEED_REPLY, &state(0, 256), &[]);
    bench.turn().expect("taken");

    assert_eq!(bench.reply(Req::SET_VRING_NUM), number(0));
}

#[test]
fn state_that_is_no_sessions_is_refused() {
    let bench = Bench::new();
    let mut state = sent(&bench.session.state());
    state.unfinished = [&header(Req::SET_OWNER.into(), 1, 0)[..], b"more"].concat();

    let refusal = Session::go_on(state).unwrap_err();

    assert!(matches!(refusal, SessionError::InvalidBodySize { .. }), "{refusal}");
}

#[test]
fn listener_goes_on_elsewhere_and_its_file_goes_with_whoever_owns_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("vm1.sock");
    let mut old = Listener::bind(&path, &Ownership::default()).expect("bound");

    let socket = old.as_fd().try_clone_to_owned().expect("duplicate");
    let unused = Listener::adopt(socket, &path, old.identity());
    drop(unused);
    assert!(path.exists());
    let socket = old.as_fd().try_clone_to_owned().expect("duplicate");
    let mut new = Listener::adopt(socket, &path, old.identity());
    old.own_file(false);
    new.own_file(true);
    drop(old);

    let _front = UnixStream::connect(&path).expect("connected");
    assert!(new.accept().expect("accepted").is_some());
    drop(new);
    assert!(!path.exists());
}
