//! The control socket: JSON-RPC 2.0, one object a line.
//!
//! `server.rs` moves lines, `protocol.rs` makes requests and responses of them, `methods.rs`
//! carries requests out. A bad line gets an error object; it never closes anybody's connection.

pub(crate) mod methods;
mod protocol;
mod server;

pub(crate) use server::{Server, ServerError};
