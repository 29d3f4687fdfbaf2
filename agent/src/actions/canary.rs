//! A key that is written on the primary and must be seen on its replicas: the proof that writes flow. It is removed
//! once it was seen, and expires by itself if nobody comes to remove it.

use std::time::Duration;

use baton_proto::control::{Outcome, Progress};
use baton_proto::{Fault, FaultKind, RunId};
use tokio::time::Instant;

use super::look;
use super::pace::Pace;
use crate::instance::Instance;
use crate::names;
use crate::server::{Answer, Server, ServerError};
use crate::tasks::ProgressSink;

/// How long the key lives: longer than any replica's wait for it.
const LIFE_MS: &str = "60000";
/// How often the first write is tried: clients wait for that moment, and how long they did is told.
const WRITE_EVERY: Duration = Duration::from_millis(2);

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

/// Writes the key as soon as the instance is a primary that takes writes. The role is asked for first: a replica that is
/// not read-only would take the key as well. Until then it is made to tell its primary all the time how far it has read;
/// else a handover under load would wait for that for up to a second.
pub(super) async fn await_writes(
    instance: &Instance,
    run: &RunId,
    value: &str,
    limit: Duration,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    let mut prompter = Some(look::connect(instance).await?);
    let key = names::canary_key(run);
    let deadline = Instant::now() + limit;
    progress.report(Progress { doing: "waiting to take over".into(), ready: true, ..Progress::default() });
    loop {
        let refused = match write_as_primary(&mut server, &key, value).await {
            Ok(()) => return Ok(Outcome::CanaryWritten),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(Fault::new(FaultKind::Server, format!("no write was taken within {} s", limit.as_secs_f32()))
                .because(refused));
        }
        // The primary hands over when it has heard that everything was read.
        if let Some(connection) = &mut prompter
            && !matches!(connection.acknowledge().await, Ok(true))
        {
            prompter = None;
        }
        tokio::time::sleep(WRITE_EVERY).await;
        if let ServerError::Lost(_) = refused
            && let Ok(again) = instance.connect().await
        {
            server = again;
        }
    }
}

async fn write_as_primary(server: &mut Server, key: &str, value: &str) -> Result<(), ServerError> {
    let Answer::List(role) = server.call(&["ROLE"]).await? else {
        return Err(ServerError::Lost("ROLE was not answered by a list".to_owned()));
    };
    match role.first().and_then(Answer::as_text) {
        Some("master" | "primary") => server.call(&["SET", key, value, "PX", LIFE_MS]).await.map(|_| ()),
        other => Err(ServerError::Said(format!("its role is {}", other.unwrap_or("unknown")))),
    }
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
