//! What the agent tells systemd: that it is ready, that it lives, that it ends. Nothing where systemd does not ask for it.
//!
//! The watchdog is fed by a task of the runtime that serves requests: if that hangs, so does the feeding.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::debug;

/// The least pause between two signs of life, whatever the environment says.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Says that the agent serves, and from now on that it lives.
pub fn ready() {
    tell("READY=1");
    let Some(pause) = pause(&variable("WATCHDOG_USEC"), &variable("WATCHDOG_PID"), std::process::id()) else { return };
    tokio::spawn(async move {
        loop {
            tell("WATCHDOG=1");
            tokio::time::sleep(pause).await;
        }
    });
}

/// Says that the agent ends.
pub fn stopping() {
    tell("STOPPING=1");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// How long to wait between signs of life: a third of the limit, so that one may be late.
fn pause(limit_us: &str, pid: &str, own: u32) -> Option<Duration> {
    let limit: u64 = limit_us.parse().ok().filter(|limit| *limit > 0)?;
    // Set for another process, from which this one has the environment.
    let ours = pid.is_empty() || pid.parse() == Ok(own);
    ours.then(|| (Duration::from_micros(limit) / 3).max(PAUSE_MIN))
}

fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        debug!("tell systemd {state}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_come_three_times_within_the_limit() {
        assert_eq!(pause("30000000", "", 7), Some(Duration::from_secs(10)));
        assert_eq!(pause("30000000", "7", 7), Some(Duration::from_secs(10)));
        assert_eq!(pause("1", "7", 7), Some(PAUSE_MIN));
    }

    #[test]
    fn nobody_is_told_what_nobody_asked_for() {
        assert_eq!(pause("", "", 7), None);
        assert_eq!(pause("0", "", 7), None);
        assert_eq!(pause("30000000", "8", 7), None);
    }
}
