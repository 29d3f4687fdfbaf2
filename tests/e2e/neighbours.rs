//! Programs of neighbouring releases beside each other, and agents that are upgraded while a run is at work.
//!
//! - `plays`: this build's programs play another release (`proto/neighbour`), one version newer or too far away
//! - `upgraded`: an agent or `coord` is replaced by another build's in the middle of a run. By itself that is this one's at another
//!   place; `tests/neighbours` has it be one that was built from another revision.

mod plays;
mod upgraded;
