//! How far a replica is behind its primary, in bytes of the stream. A replica alone cannot know, so its primary is asked, with
//! the login that the replica uses.

use baton_proto::report::{Role, Running};

use crate::info::Info;
use crate::instance::Instance;
use crate::reach;
use crate::server::{Endpoint, Server};

/// Asks the primary where it stands. The error says why that is not known.
pub(super) async fn bytes(instance: &Instance, running: &Running) -> Result<u64, String> {
    let Role::Replica { primary, .. } = &running.role else { return Err("it follows nobody".into()) };
    let stream = reach::connect(instance, primary).await.map_err(|reach| reach.detail)?;
    let server = Server::over(stream, &Endpoint::Tcp(primary.clone())).await;
    let mut server = server.map_err(|error| error.to_string())?;
    let text = server.info().await.map_err(|_| format!("{primary} does not tell"))?;
    let theirs: u64 = Info::parse(&text)
        .field("master_repl_offset")
        .and_then(|offset| offset.parse().ok())
        .ok_or_else(|| format!("{primary} does not tell where it stands"))?;
    Ok(theirs.saturating_sub(running.replication.lineage.offset))
}
