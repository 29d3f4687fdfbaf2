pub mod table;
pub mod units;
