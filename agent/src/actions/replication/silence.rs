//! Why a link does not come up, and when to stop waiting for it.

use std::time::Duration;

use baton_proto::control::ReachVerdict;
use baton_proto::{Fault, FaultKind, HostPort};
use tokio::time::Instant;

use crate::instance::Instance;
use crate::reach;

/// How often the way to a primary is tried whose link does not come up: its replica tries once a second.
const TRY_EVERY: Duration = Duration::from_secs(2);
/// How long nobody may listen there, so that a restart is borne: a server that loads listens.
const DESERTED_TIMEOUT: Duration = Duration::from_secs(8);

/// A link that neither is up nor brings anything, and what the way to the primary is like meanwhile.
#[derive(Default)]
pub(super) struct Silence {
    /// When it began, or the way was last tried.
    since: Option<Instant>,
    /// Since when nobody listens there.
    deserted: Option<Instant>,
    why: Option<String>,
}

impl Silence {
    /// Yields why nothing comes, as far as it is known. A primary that does not answer is waited for, as the network may
    /// be at fault; one that is gone is not.
    pub(super) async fn look(
        &mut self,
        instance: &Instance,
        to: &HostPort,
        moves: bool,
    ) -> Result<Option<&str>, Fault> {
        if moves {
            *self = Silence::default();
            return Ok(None);
        }
        if self.since.get_or_insert_with(Instant::now).elapsed() >= TRY_EVERY {
            let reach = reach::reach(instance, to).await;
            self.since = Some(Instant::now());
            match reach.verdict {
                ReachVerdict::Refused => self.deserted = self.deserted.or_else(|| Some(Instant::now())),
                _ => self.deserted = None,
            }
            self.why = (reach.verdict != ReachVerdict::Open).then_some(reach.detail);
        }
        if self.deserted.is_some_and(|since| since.elapsed() >= DESERTED_TIMEOUT) {
            let fault = Fault::new(FaultKind::Server, format!("no link to {to}: its server is gone"));
            return Err(self.why.take().into_iter().fold(fault, Fault::because).hint(format!(
                "start the server at {to} on what it held; this one goes on trying, and takes what that holds then"
            )));
        }
        Ok(self.why.as_deref())
    }
}
