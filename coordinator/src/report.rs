//! What a person or a program sees. stdout is the result, stderr is progress and errors; with `--json` stdout is one JSON
//! object a line. Both are made from the same events.

pub mod batch;
pub mod console;
pub mod plan;
pub mod progress;
pub mod summary;
pub mod table;
pub mod units;
