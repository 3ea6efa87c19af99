//! The protocol against front ends: QEMU's conversation as captured, the `vhost` crate's own
//! front end, and hostile ones. One binary, so that it links once.

mod config_space;
mod conversation;
mod framing;
mod front_end;
mod hand_over;
mod hostile;
mod sockets;
mod support;
