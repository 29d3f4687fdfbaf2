//! A key that is written on the primary and must be seen on its replicas: the proof that writes flow. It is removed
//! once it was seen, and expires by itself if nobody comes to remove it.

use std::time::Duration;

use baton_proto::control::Outcome;
use baton_proto::{Fault, FaultKind, RunId};

use super::look;
use super::pace::Pace;
use crate::instance::Instance;
use crate::names;
use crate::server::{Answer, ServerError};

/// How long the key lives: longer than any replica's wait for it.
const LIFE_MS: &str = "60000";

pub(super) async fn write(instance: &Instance, run: &RunId, value: &str) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    look::call(instance, &mut server, &["SET", &names::canary_key(run), value, "PX", LIFE_MS]).await.map_err(
        |fault| {
            if fault.to_string().contains("NOREPLICAS") {
                fault.hint("`min-replicas-to-write` holds writes back until enough replicas are linked")
            } else {
                fault
            }
        },
    )?;
    Ok(Outcome::CanaryWritten)
}

/// Removes the key, so that the data set is again what it was.
pub(super) async fn drop_key(instance: &Instance, run: &RunId) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    look::call(instance, &mut server, &["DEL", &names::canary_key(run)]).await?;
    Ok(Outcome::CanaryDropped)
}

pub(super) async fn read(instance: &Instance, run: &RunId, value: &str, limit: Duration) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    let key = names::canary_key(run);
    let mut pace = Pace::within(limit);
    loop {
        let found = server.call(&["GET", &key]).await;
        if matches!(&found, Ok(answer) if answer.as_text() == Some(value)) {
            return Ok(Outcome::CanarySeen);
        }
        if let Err(ServerError::Lost(_)) = &found
            && let Ok(again) = instance.connect().await
        {
            server = again;
        }
        if !pace.wait().await {
            let seen = match &found {
                Ok(Answer::Nil) => "the key is not there".to_owned(),
                Ok(_) => "the key has another value, of an earlier attempt".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(Fault::new(
                FaultKind::Verification,
                format!("the canary was not seen within {} s", limit.as_secs()),
            )
            .because(seen)
            .hint("the replica does not receive writes: see its link by `coord status`"));
        }
    }
}
