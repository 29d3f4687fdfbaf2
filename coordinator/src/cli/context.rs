//! What every verb that talks to agents starts from: the inventory, the connections, the journals, the console.

use std::path::Path;

use baton_wire::{Credentials, Dialer, Role};

use crate::client::Agents;
use crate::error::CoordError;
use crate::inventory::{Inventory, Places};
use crate::journal::Journals;
use crate::report::console::Console;

/// How this program names itself to its peers.
const SOFTWARE: &str = concat!("coord ", env!("CARGO_PKG_VERSION"));

pub struct Context {
    pub console: Console,
    /// The operator by name.
    pub operator: String,
    pub inventory: Inventory,
    pub agents: Agents,
    pub journals: Journals,
}

impl Context {
    /// Reads `coord.toml` and the identity. Must be called within a tokio runtime.
    pub fn open(config: Option<&Path>, console: Console) -> Result<Context, CoordError> {
        let inventory = Inventory::find(config, &Places::of_environment())?;
        let credentials = Credentials::load(&inventory.identity).map_err(CoordError::usage)?;
        let identity = credentials.identity();
        let operator = match identity.role() {
            Role::Operator(name) => name.clone(),
            Role::Agent(host) => {
                let path = inventory.identity.display();
                return Err(CoordError::usage(format!("identity {path} is that of the agent of {host}"))
                    .hint("name the operator's in coord.toml: `coord pki init` made it as operator.pem"));
            }
        };
        if let Some(list) = crate::pki::ledger::list(&inventory.state)? {
            credentials.revoke(&list).map_err(CoordError::usage)?;
        }
        // On a machine that is new to it, what was revoked before is known by the identity alone.
        credentials.revoke_by_identity().map_err(CoordError::usage)?;
        let dialer = Dialer::new(&credentials, SOFTWARE)?;
        let agents = Agents::new(dialer, credentials, &inventory);
        let journals = Journals::new(&inventory.state);
        Ok(Context { console, operator, inventory, agents, journals })
    }
}
