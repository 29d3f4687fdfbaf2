//! The per-host agent.
//!
//! ```text
//!   coord ──orders──> serve ──> tasks ──> actions ──> instance, server, service, durable     (shells)
//!   agent ──chunks──> serve ──> transfer::offers                                              (shell)
//!     pure: config, redis_conf, info, names; of transfer: receiver, sender, throttle, map, tickets, packing, plain; and
//!           each file that says so in its first line
//! ```
//!
//! Invariants: an order is done for an operator only; a chunk is served only to the agent that holds the ticket; no path
//! comes from the wire; one action at a time works on an instance; a task outlives whoever ordered it.

pub mod actions;
pub mod adopt;
pub mod agent;
mod blocking;
pub mod certificates;
pub mod claims;
pub mod cli;
mod compare;
pub mod config;
pub mod deposed;
pub mod discover;
pub mod durable;
pub mod feed;
pub mod fence;
pub mod host;
pub mod info;
pub mod instance;
pub mod journals;
pub mod log;
pub mod metrics;
pub mod names;
pub mod notify;
pub mod observe;
pub mod peers;
pub mod reach;
pub mod redis_conf;
pub mod replica;
mod secret;
pub mod serve;
pub mod server;
pub mod service;
pub mod speeds;
pub mod spool;
pub mod tasks;
pub mod tls;
pub mod transfer;
pub mod visitors;
