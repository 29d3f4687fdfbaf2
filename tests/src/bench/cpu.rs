//! What processes and threads have used, as /proc tells it.

use std::fs;

/// Clock ticks of /proc in a second; Linux has had this value for user space on every machine since 2.6.
const TICKS: f64 = 100.0;

/// The largest resident memory that a process ever had, in bytes.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Seconds of a core that a process has used.
pub fn seconds(pid: u32) -> Option<f64> {
    used(&format!("/proc/{pid}/stat"))
}

/// Seconds of cores that everything on this machine has used.
pub fn machine_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields = stat.lines().next()?.strip_prefix("cpu")?.split_whitespace();
    let ticks: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    // Of user, nice, system, idle, iowait, irq, softirq: all but the fourth and the fifth.
    let busy = ticks.iter().take(7).enumerate().filter(|(at, _)| ![3, 4].contains(at)).map(|(_, ticks)| ticks);
    Some(busy.sum::<f64>() / TICKS)
}

/// Seconds of a core that the link's own thread has used.
pub fn link_seconds() -> f64 {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_link =
        |path: &std::path::PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "link");
    threads.filter(is_link).filter_map(|path| used(&path.join("stat").display().to_string())).sum()
}

fn used(path: &str) -> Option<f64> {
    let stat = fs::read_to_string(path).ok()?;
    // The name before them stands in parentheses and may hold anything. User and system time are 12th and 13th after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}
