//! Saving without compression. LZF packs each value alone: it slows the save down, saves little, and leaves less for the
//! packing of whole chunks. Without it the dump is larger, so this is done only where the disk has room for the largest
//! that it can be.

use std::path::Path;

use baton_proto::report::Running;
use tracing::info;

use super::super::borrow;
use super::super::stamp::Stamp;
use crate::blocking::blocking;
use crate::host;
use crate::instance::Instance;
use crate::server::Server;

const SETTING: &str = "rdbcompression";

/// Turns compression off until settings are given back. Tells whether the save will be plain. Where it is not, nothing is
/// lost but time: why is logged, and the save goes on.
pub(super) async fn borrow(
    instance: &Instance,
    server: &mut Server,
    running: &Running,
    dump: &Path,
    last: Option<&Stamp>,
) -> bool {
    let (dir, reserve) = (dump.parent().unwrap_or(dump).to_owned(), instance.disk_reserve_bytes());
    let free = blocking(move || host::free_bytes(&dir, reserve)).await.flatten();
    let needed = bytes_max(running.memory.used_bytes, last.map_or(0, |last| last.bytes));
    let kept = match free {
        Err(error) => Err(format!("the free space beside {} is not known: {error}", dump.display())),
        Ok(free) if free < needed => {
            Err(format!("it can take {needed} bytes, and {free} are free beside {} and the reserve", dump.display()))
        }
        Ok(_) => borrow::borrow(instance, server, running.pid, SETTING, "no").await.map_err(|fault| fault.to_string()),
    };
    match kept {
        Ok(true) => true,
        // The server's own setting, or none of its settings.
        Ok(false) => false,
        Err(why) => {
            info!(instance = %instance.name(), "the save keeps the server's compression: {why}");
            false
        }
    }
}

/// The largest that a plain dump can be: a data set has less to write than it has in memory, where each value has its
/// overhead; what is packed in memory, as in lists, is written as it is. A last dump that is larger than the memory in use
/// was taken of other data, or shows that this does not hold here.
fn bytes_max(used_memory_bytes: u64, last_dump_bytes: u64) -> u64 {
    used_memory_bytes.max(last_dump_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_dump_is_bounded_by_memory_and_by_the_last_dump() {
        assert_eq!(bytes_max(100, 30), 100);
        assert_eq!(bytes_max(100, 300), 300);
    }
}
