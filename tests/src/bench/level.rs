//! When a replica is level with its primary, also while that is written to.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::host::Host;

/// How long two servers may take to come level.
const TIMEOUT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(20);

/// Waits until a replica is linked and has read all that its primary had written when it was seen linked. `meanwhile` is
/// asked at every look, and ends the wait by an error.
pub fn await_level(
    replica: &Host,
    primary: &Host,
    mut meanwhile: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut written = None;
    loop {
        // A server that loads a full resync answers to nobody.
        match look(replica, primary) {
            Ok(Some((read, now))) if read >= *written.get_or_insert(now) => return Ok(()),
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => written = None,
        }
        meanwhile()?;
        ensure!(begun.elapsed() < TIMEOUT, "{} has not come level with {}", replica.name, primary.name);
        sleep(LOOK);
    }
}

/// What a replica has read and its primary has written, if they are linked.
fn look(replica: &Host, primary: &Host) -> Result<Option<(u64, u64)>, String> {
    let own = replica.try_client()?.try_info()?;
    let is = |name: &str, value: &str| own.get(name).is_some_and(|found| found == value);
    if !is("master_link_status", "up") || !is("master_host", &primary.ip.to_string()) {
        return Ok(None);
    }
    let other = primary.try_client()?.try_info()?;
    if other.get("role").is_none_or(|role| role != "master") {
        return Ok(None);
    }
    let number = |value: Option<&String>| value.and_then(|value| value.parse().ok());
    Ok(number(own.get("slave_repl_offset")).zip(number(other.get("master_repl_offset"))))
}
