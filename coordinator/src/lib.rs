//! The `coord` command: observes the hosts, plans, runs the plan step by step across the agents, and proves the result.
//!
//! ```text
//!   cli ──> observe ──> topology ──> plan ──> (shown, confirmed) ──> drive ──> report
//!             shell       pure       pure                            │  ▲
//!                                                                    ▼  │
//!                                              run::machine (pure), journal, client (shells)
//! ```

pub mod batch;
pub mod cli;
pub mod client;
pub mod drive;
pub mod error;
pub mod gate;
pub mod install;
pub mod inventory;
pub mod journal;
pub mod last_seen;
pub mod observe;
pub mod pki;
pub mod plan;
pub mod rate;
pub mod report;
pub mod run;
pub mod seat;
pub mod topology;
