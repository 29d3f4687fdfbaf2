//! How a message leaves: as what this release says, or in a debug build as what another one would.

use baton_proto::{Fault, FaultKind, codec};
use serde::Serialize;

#[cfg(not(debug_assertions))]
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Fault> {
    codec::encode(message).map_err(defect)
}

#[cfg(debug_assertions)]
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, Fault> {
    match baton_neighbour::own() {
        Some(neighbour) => neighbour.encode(message).map_err(defect),
        None => codec::encode(message).map_err(defect),
    }
}

fn defect(error: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Internal, "a message could not be written").because(error)
}
