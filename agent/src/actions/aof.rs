//! Turns the append-only file back on, once the data it is to hold is the right one.

use std::time::Duration;

use baton_proto::control::{Outcome, Progress};
use baton_proto::{Fault, FaultKind, RunId};
use tokio::time::Instant;

use super::look::{self, Watch};
use super::pace::Pace;
use super::role;
use crate::instance::Instance;
use crate::service::{self, LogMark};
use crate::tasks::ProgressSink;

/// Turns it on, and waits until its first rewrite is on disk: until then a restart would come up with less.
pub(super) async fn enable(
    instance: &Instance,
    run: &RunId,
    limit: Duration,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    // A start that a crash cut short may have left the next start without its append-only file.
    service::settle(instance).await?;
    let mut server = look::connect(instance).await?;
    let mark = LogMark::now(instance, Some(&mut server)).await;
    let begun = Instant::now();
    let before = look::look_loaded(instance, &mut server).await?.running;
    if !before.persistence.aof_enabled
        && let Err(error) = server.set_config("appendonly", "yes").await
    {
        let fault = error.fault(instance.name(), "CONFIG SET appendonly yes");
        return Err(mark.explain(fault).await);
    }
    // Only now does the server have what its file wants: before, the file could not tell the role without telling otherwise.
    role::write(instance, run).await;
    let mut watch = Watch::new(instance, Some(server));
    let mut pace = Pace::within(limit);
    let mut seen = String::new();
    loop {
        if let Some(look) = watch.look().await {
            let state = &look.running.persistence;
            let scheduled = look.info.flag("aof_rewrite_scheduled");
            seen = format!(
                "aof_enabled:{}, aof_rewrite_in_progress:{}, aof_rewrite_scheduled:{}",
                u8::from(state.aof_enabled),
                u8::from(state.aof_rewriting),
                u8::from(scheduled)
            );
            if !state.aof_rewriting && !scheduled {
                if !state.aof_rewrite_ok || !state.aof_enabled {
                    let fault = Fault::new(FaultKind::Server, "the first rewrite of the append-only file failed");
                    let fault = mark.explain(fault.because(seen)).await;
                    return Err(fault.hint("the server is unharmed and goes on trying: see its disk, then repeat"));
                }
                break;
            }
        } else if watch.has_ended() {
            let fault = Fault::new(FaultKind::Server, "the server ended while its append-only file was written");
            let fault = watch.missed.into_iter().fold(fault, Fault::because);
            return Err(mark.explain(fault).await.hint("see why it ended, then start it and repeat"));
        }
        progress.report(Progress { doing: "writing the append-only file".into(), ..Progress::default() });
        if !pace.wait().await {
            let message = format!("the append-only file was not written within {} s", limit.as_secs());
            return Err(mark.explain(Fault::new(FaultKind::Server, message).because(seen)).await);
        }
    }
    let files = instance.data_files().await?;
    let on_disk = [&files.appenddirname, &files.appendfilename].iter().any(|name| files.dir.join(name).exists());
    if !on_disk {
        return Err(Fault::new(
            FaultKind::Verification,
            format!("the server wrote no append-only file in {}", files.dir.display()),
        ));
    }
    Ok(Outcome::AofEnabled { rewrite_seconds: begun.elapsed().as_secs_f64() })
}
