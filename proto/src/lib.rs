//! What Baton's agents and its coordinator agree upon.
//!
//! Participants: an *agent* on every host, and `coord`, the coordinator, which gives orders to the agents and sequences
//! them. Agents talk to each other only to move a snapshot. This crate is values and pure functions: no runtime, socket,
//! file or clock. How messages are carried is the business of `baton-wire`.
//!
//! ```text
//!            orders, observations                       orders, observations
//!   agent B <─────────────────────── coord ───────────────────────────> agent C
//!      │                                                                   │
//!      └──────────── snapshot chunks, pulled by C with a ticket ───────────┘
//! ```
//!
//! Words, one per thing: *host*, *instance* (one server process on a host), *group* (a primary and its replicas),
//! *source* and *target* (of a transfer), *snapshot*, *chunk*, *run* (one execution of a verb), *step*, *gate*,
//! *lineage* (replication id and offset), *frozen* (a replica whose primary is gone and which nobody promoted).

pub mod chunk;
pub mod claim;
pub mod codec;
pub mod compared;
pub mod condition;
pub mod control;
pub mod data;
pub mod deposed;
pub mod digest;
pub mod fault;
pub mod hello;
pub mod lineage;
pub mod name;
pub mod rdb;
pub mod report;
pub mod speeds;
pub mod version;

pub use fault::{Fault, FaultKind};
pub use lineage::{Lineage, ReplId};
pub use name::{HostName, HostPort, InstanceName, InstanceRef, RunId};
