//! What every action and observation can use: who this agent is, what it looks after, and how it reaches its peers.

use std::collections::BTreeMap;
use std::sync::Arc;

use baton_proto::{HostName, InstanceName};
use baton_wire::Dialer;

use crate::certificates::Certificates;
use crate::claims::Claims;
use crate::config::AgentConfig;
use crate::deposed::Notes;
use crate::instance::Instance;
use crate::journals::Journals;
use crate::peers::Peers;
use crate::spool::Spools;
use crate::transfer::Offers;

/// How this program names itself to its peers.
pub const SOFTWARE: &str = concat!("baton-agent ", env!("CARGO_PKG_VERSION"));

pub struct Agent {
    pub host: HostName,
    pub config: AgentConfig,
    pub instances: BTreeMap<InstanceName, Arc<Instance>>,
    pub offers: Offers,
    pub spools: Spools,
    pub dialer: Dialer,
    pub notes: Notes,
    pub peers: Peers,
    pub claims: Claims,
    pub journals: Journals,
    pub certificates: Certificates,
}
