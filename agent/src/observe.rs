//! Observes the host and its instances.

use baton_proto::report::HostReport;

use crate::serve::Agent;

pub async fn observe(agent: &Agent) -> HostReport {
    unimplemented!()
}
