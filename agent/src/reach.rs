//! Reach and rehearse.

use baton_proto::control::Reach;
use baton_proto::{Fault, HostPort};

use crate::instance::Instance;

pub async fn reach(instance: &Instance, to: &HostPort) -> Reach {
    unimplemented!()
}

/// Listens where the stopped instance would, for a bounded time, in the background.
pub async fn rehearse(instance: &Instance, seconds: u32) -> Result<(), Fault> {
    unimplemented!()
}

/// Ends a rehearsal that still runs, and returns when its ports are free. A start calls this first.
pub async fn end_rehearsal(instance: &Instance) {
    unimplemented!()
}
