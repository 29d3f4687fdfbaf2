//! One execution of a plan: its steps, what they learn, and the state machine that says what comes next. All of it is
//! pure; [`crate::drive`] acts on it, and [`crate::journal`] keeps its events.

pub mod ledger;
pub mod machine;
pub mod step;

pub use ledger::{Learnt, Ledger, Resync};
pub use machine::{End, Event, Next, Run};
pub use step::Step;
