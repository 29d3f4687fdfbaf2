//! Processes that end with their owner. Each has its output in a log file, and an environment that holds nothing of the
//! person who runs the tests.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

/// A command with an empty environment but for what programs cannot do without.
pub fn hermetic(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("LANG", "C.UTF-8").env("RUST_BACKTRACE", "1");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.env(baton_hold::VARIABLE, crate::hold::dir(home));
    // What a developer wants to know of the agents' work.
    if let Some(filter) = std::env::var_os("BATON_LOG") {
        command.env("BATON_LOG", filter);
    }
    command.current_dir(home).stdin(Stdio::null());
    command
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a command with its output appended to `log`.
    pub fn start(command: Command, log: &Path) -> Self {
        Self::start_split(command, log, log)
    }

    /// Starts a command with its two outputs appended to files.
    pub fn start_split(mut command: Command, stdout: &Path, stderr: &Path) -> Self {
        let open =
            |path| OpenOptions::new().create(true).append(true).open(path).expect("an output file can be opened");
        let child = command.stdout(open(stdout)).stderr(open(stderr)).spawn();
        let child = child.unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        Self { child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Ends it the hard way, as a power loss would.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        wait_for("the process ends on SIGTERM", || self.ended().ok_or_else(|| "it runs".to_owned()))
    }

    fn kill_now(&mut self) {
        end_idleness(self.pid());
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_now();
    }
}

/// Gives the threads of a process that is to be killed the usual priority. One that runs only where a core is idle, as an
/// agent's packers do, also dies only there; and meanwhile Linux (seen on 6.18) has whoever waits for the process spin in
/// the kernel, in `proc_invalidate_siblings_dcache`: two of them keep both cores busy, and nothing is idle any more.
fn end_idleness(pid: u32) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let is_idle = |stat: &str| stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(POLICY)) == Some(IDLE);
    let idle = tasks.filter(|task| is_idle(&fs::read_to_string(task.path().join("stat")).unwrap_or_default()));
    for task in idle {
        // Where it cannot be done, the process only dies more slowly.
        let _ = Command::new("chrt").args(["--other", "--pid", "0"]).arg(task.file_name()).status();
    }
}

/// The policy's place in `/proc/PID/task/TID/stat` after the name, and the number of `SCHED_IDLE`: proc(5), sched(7).
const POLICY: usize = 39;
const IDLE: &str = "5";

/// Sends a signal; a process that is gone has no need of it.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Kills a process that is no child of ours, and waits until it is gone.
pub fn kill_and_wait(pid: u32) {
    end_idleness(pid);
    signal(pid, Signal::KILL);
    wait_for(&format!("process {pid} ends"), || if is_running(pid) { Err("it runs".to_owned()) } else { Ok(()) });
}

/// Whether a process runs. One that ended and was not waited for does not.
pub fn is_running(pid: u32) -> bool {
    // The first thread of a process may be gone while others still hold its sockets, so all of them count.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default()).any(|stat| {
        // The state follows the name, which stands in parentheses and may hold anything.
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    })
}

/// The processes that work below a directory: all that a world started, also those that an agent started for it.
pub fn working_below(dir: &Path) -> Vec<u32> {
    // One at a time: while somebody looks at all processes, the kernel keeps who waits for the end of one of them waiting too.
    static LOOKING: Mutex<()> = Mutex::new(());
    let _looking = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = std::process::id();
    let works_below = |pid: &u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
    pids.filter(|pid| *pid != own && works_below(pid) && is_running(*pid)).collect()
}

/// Kills everything that works below a directory, until nothing does.
pub fn end_all_below(dir: &Path) {
    // A server that is killed may leave a saving child behind, so one look is not enough; more than a few would mean that
    // something starts processes faster than they are ended.
    for _ in 0..100 {
        let pids = working_below(dir);
        if pids.is_empty() {
            return;
        }
        pids.iter().for_each(|pid| end_idleness(*pid));
        pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    eprintln!("these processes could not be ended: {:?}", working_below(dir));
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
