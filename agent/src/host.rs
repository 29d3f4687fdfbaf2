//! The host: its clock, cores, memory, and free space.
//!
//! Memory is what a new process could have: `MemAvailable`, or less where a control group (a container, a systemd slice)
//! sets a lower limit. The limit counted is that of the agent's own group and of all above it; a server that a service
//! manager starts may have another.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the hierarchy of control groups (version 2) is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What the names of servers' processes contain.
const SERVERS: [&str; 3] = ["redis", "valkey", "keydb"];
/// In what the kernel counts the time of processes, to whoever asks: on every architecture that this runs on.
const TICKS_PER_SECOND: u64 = 100;
/// Deepest group looked at.
const CGROUP_DEPTH_MAX: usize = 64;

/// Memory of the host, as far as this process may have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostMemory {
    pub total_bytes: u64,
    pub available_bytes: u64,
}

/// Reads the memory of this host; zeros where the system does not tell.
pub fn memory() -> HostMemory {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo(&text)).unwrap_or_default();
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| own_group(&text));
    limits(&group.unwrap_or_default()).fold(host, HostMemory::within)
}

/// Memory that the control groups of another process still have for it; none where none sets a limit, or none is seen.
pub(crate) fn memory_left_of(pid: u32) -> Option<u64> {
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok().and_then(|text| own_group(&text))?;
    limits(&group).map(|limit| limit.available_bytes).min()
}

/// The limits that a group and those above it set.
fn limits(group: &Path) -> impl Iterator<Item = HostMemory> {
    groups_upwards(group).filter_map(|dir| {
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        group_limit(&read("memory.max"), &read("memory.current"), &read("memory.stat"))
    })
}

/// All swap and what is free of it, from `/proc/meminfo`.
pub(crate) fn swap(text: &str) -> (u64, u64) {
    let field = |name: &str| kilobytes(text, name).unwrap_or(0);
    (field("SwapTotal"), field("SwapFree"))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

impl HostMemory {
    fn within(self, limit: HostMemory) -> HostMemory {
        HostMemory {
            total_bytes: self.total_bytes.min(limit.total_bytes),
            available_bytes: self.available_bytes.min(limit.available_bytes),
        }
    }
}

/// Reads `/proc/meminfo`.
fn meminfo(text: &str) -> Option<HostMemory> {
    let (total, available) = (kilobytes(text, "MemTotal")?, kilobytes(text, "MemAvailable")?);
    Some(HostMemory { total_bytes: total, available_bytes: available })
}

/// Reads `/proc/self/cgroup`: the line of version 2 is `0::/path`.
fn own_group(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // A path that leads out of the mount is one of another namespace.
    Some(PathBuf::from(path))
        .filter(|path| path.components().all(|part| matches!(part, std::path::Component::Normal(_))))
}

/// The directories of a group and of those above it.
fn groups_upwards(group: &Path) -> impl Iterator<Item = PathBuf> {
    group.ancestors().take(CGROUP_DEPTH_MAX).map(|path| Path::new(CGROUPS).join(path))
}

/// Reads a group's `memory.max`, `memory.current` and `memory.stat`. Its page cache is given back on demand, as
/// `MemAvailable` counts it for the host. None: no limit.
fn group_limit(max: &str, current: &str, stat: &str) -> Option<HostMemory> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let cache = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok());
    let used = current.saturating_sub(cache.unwrap_or(0));
    Some(HostMemory { total_bytes: max, available_bytes: max.saturating_sub(used) })
}

/// Time for which a core worked for a process, and for its children that have ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worked {
    pub(crate) own_seconds: f64,
    pub(crate) children_seconds: f64,
}

/// How long was worked for a server's process so far. None where it cannot be told, and where that process is no server:
/// the number is that of another in a container of its own.
pub(crate) fn worked_by(pid: u32) -> Option<Worked> {
    worked(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, TICKS_PER_SECOND)
}

/// Reads `/proc/PID/stat`.
fn worked(text: &str, ticks_per_second: u64) -> Option<Worked> {
    // The name may have spaces and brackets of its own.
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    if !SERVERS.iter().any(|server| name.contains(server)) {
        return None;
    }
    // Behind the name comes the third field, and from the fourteenth on the times.
    let mut ticks = rest.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let mut seconds = || Some(ticks.next()?? as f64 / ticks_per_second as f64);
    let (user, system, children_user, children_system) = (seconds()?, seconds()?, seconds()?, seconds()?);
    Some(Worked { own_seconds: user + system, children_seconds: children_user + children_system })
}

/// Processors that this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().try_into().unwrap_or(u32::MAX))
}

/// The host's clock, milliseconds since 1970.
pub fn clock_unix_ms() -> u64 {
    unix_time(SystemTime::now()).map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}

/// A moment as time since 1970; none before it.
pub(crate) fn unix_time(moment: SystemTime) -> Option<std::time::Duration> {
    moment.duration_since(UNIX_EPOCH).ok()
}

/// Bytes that this process may still write in `dir`, less `reserve_bytes`.
pub fn free_bytes(dir: &Path, reserve_bytes: u64) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(reserve_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMINFO: &str = "MemTotal:        4028532 kB\nMemFree:          151668 kB\nMemAvailable:    2901820 kB\n";

    #[test]
    fn available_memory_is_read() {
        let memory = HostMemory { total_bytes: 4_028_532 * 1024, available_bytes: 2_901_820 * 1024 };
        assert_eq!(meminfo(MEMINFO), Some(memory));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_group_without_limit_sets_none_and_its_cache_counts_as_free() {
        assert_eq!(group_limit("max\n", "4096\n", ""), None);
        assert_eq!(group_limit("", "", ""), None);
        let limit = group_limit("1000\n", "700\n", "anon 300\ninactive_file 400\n").unwrap();
        assert_eq!((limit.total_bytes, limit.available_bytes), (1000, 700));
        let over = group_limit("1000", "1200", "").unwrap();
        assert_eq!(over.available_bytes, 0);
    }

    #[test]
    fn every_group_above_counts() {
        let group = own_group("1:name=systemd:/x\n0::/system.slice/baton.service\n").unwrap();
        let dirs: Vec<_> = groups_upwards(&group).collect();
        let expected = ["/sys/fs/cgroup/system.slice/baton.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/"];
        assert_eq!(dirs, expected.map(PathBuf::from));
        assert_eq!(own_group("0::/../outside\n"), None);
        assert_eq!(groups_upwards(Path::new("")).count(), 1);
    }

    #[test]
    fn the_time_that_a_server_worked_is_told_and_that_of_others_is_not() {
        let stat = |name: &str| {
            format!(
                "7 ({name}) S 1 7 7 0 -1 4194560 900 12 0 0 250 50 400 100 20 0 5 0 99 100 200 18446744073709551615"
            )
        };
        let found = Worked { own_seconds: 3.0, children_seconds: 5.0 };
        assert_eq!(worked(&stat("redis-server"), 100), Some(found));
        assert_eq!(worked(&stat("valkey (a) 1)"), 100), Some(found));
        assert_eq!(worked(&stat("systemd"), 100), None);
        assert_eq!(worked("7 (redis-server) S 1 7", 100), None);
        assert_eq!(worked_by(u32::MAX), None);
    }

    #[test]
    fn this_host_has_memory_and_room() {
        let memory = memory();
        assert!(memory.total_bytes >= memory.available_bytes && memory.available_bytes > 0, "{memory:?}");
        assert!(free_bytes(Path::new("/"), 0).unwrap() > 0);
        assert_eq!(free_bytes(Path::new("/"), u64::MAX).unwrap(), 0);
        assert!(free_bytes(Path::new("/nonexistent"), 0).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = (meminfo(&format!("MemTotal: {text}\nMemAvailable:{text}")), own_group(&format!("0::/{text}")));
            let _ = group_limit(&text, &text, &format!("inactive_file {text}"));
            let _ = (worked(&text, 100), worked(&format!("1 (redis) {text}"), 100));
        }
    }
}
