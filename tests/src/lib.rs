//! The harness: hosts on loopback addresses of their own, with real servers, real agents and the real `coord`.
//!
//! ```text
//!   World (a temporary directory)
//!     pki/ coord.toml                       made by `coord pki`
//!     machine-a/ redis.conf data/ agent.toml machine-a.pem *.log      127.x.y.1: server on 6379, agent on 7400
//!     machine-b/ ...                                                  127.x.y.2
//!   Coord: runs `coord` in an empty environment, keeps what it says
//!   Relay: between a host's agent and everybody else, to cut and slow the network; TcpRelay: before a host's server
//! ```
//!
//! Rules: every world has addresses of its own, so tests run side by side; everything that a world started ends with it,
//! also after a panic, and then its directory is kept and its logs are shown; nothing sleeps to synchronise, waiting is
//! for a fact, with a deadline that prints what was seen. What does not belong here: knowledge of how Baton works inside.

pub mod address;
pub mod bench;
pub mod clock;
pub mod conf;
pub mod content;
pub mod coord;
pub mod dataset;
pub mod drill;
pub mod fleet;
pub mod footprint;
pub mod hold;
pub mod host;
pub mod machine;
pub mod namespace;
pub mod process;
pub mod programs;
pub mod relay;
pub mod resp;
pub mod rng;
pub mod servers;
pub mod sshd;
pub mod steady;
pub mod tcp_relay;
pub mod tls;
pub mod wait;
pub mod world;
pub mod writer;
