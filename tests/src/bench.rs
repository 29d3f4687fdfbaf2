//! The benchmark that `tests/bench` runs: Baton beside the tools that an operator would take instead, on the same files,
//! over the same links, in one run; and what it costs others and itself meanwhile.
//!
//! ```text
//!   Lab:  namespace B --- link (own, in user space; or veth, unshaped) --- namespace C
//!         agent B, coord, ssh client, zstd                                 agent C, sshd, zstd
//!   file  -> target/bench-data, made once by a real server's SAVE
//!   peer  -> moves the dump from B to C; what arrives is compared with what was sent
//!   measure/ one file a subcommand: each yields sections of tables, with the bar and whether it was met
//! ```
//!
//! Rules: nothing in a table is a constant but the bars; what was not measured, or failed, is `-`. Peers take turns, so
//! that a slow minute of the machine hits all of them. Left out: everything that tests correctness; see the suites.

pub mod bars;
pub mod cpu;
pub mod files;
pub mod flow;
pub mod lab;
pub mod level;
pub mod link;
pub mod measure;
pub mod network;
pub mod peers;
pub mod probe;
pub mod report;
pub mod tun;
