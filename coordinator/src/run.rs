//! One execution of a plan: what its steps learn, and the state machine that says what comes next. All of it is
//! pure; [`crate::drive`] acts on it, and [`crate::journal`] keeps its events.

pub mod ledger;
pub mod machine;

pub use ledger::{Learnt, Ledger};
pub use machine::{Aim, End, Event, Next, Run};
