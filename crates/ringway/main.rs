//! The switch and the command that talks to it: one binary, `ringway`.
//!
//! `ringway run` is the daemon. One control thread with one epoll loop owns everything that is not
//! on the way of a frame; the poll threads are the data path's. Every other command is a client
//! that sends one request over the control socket and prints what comes back.
//!
//! ```text
//!   cli ──▶ commands ──▶ client ══ control socket ══▶ control ──▶ switch ──▶ data path
//!                                                       ▲            ▲
//!   config ────────────────────────────▶ daemon ────────┴────────────┤
//!                                                 front ends ──▶ guest_port ──▶ guest
//! ```

#![deny(unsafe_code)]

mod cli;
mod client;
mod commands;
mod config;
mod control;
mod cores;
mod daemon;
mod guest;
mod guest_port;
mod hand_over;
mod host_tap;
mod poller;
mod port_log;
mod port_spec;
mod refusal;
mod render;
mod report;
mod switch;
mod uplink;
mod vlan_spec;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
