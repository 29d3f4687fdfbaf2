//! A network namespace: a host's own network stack on this machine. Programs are started in it, and threads of the
//! benchmark itself can work in it for a moment. Needs root.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::hermetic;

/// Where `ip netns` keeps its namespaces.
const DIR: &str = "/run/netns";

/// A namespace that is removed when it is dropped; what still runs in it is ended first.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new(name: String) -> anyhow::Result<Self> {
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    pub fn path(&self) -> PathBuf {
        Path::new(DIR).join(&self.name)
    }

    /// Runs `ip` on this namespace.
    pub fn ip(&self, args: &[&str]) -> anyhow::Result<String> {
        ip(&[&["-n", self.name.as_str()], args].concat())
    }

    /// A command that will run in here, with `home` as its directory. The process is the program itself: `nsenter` becomes
    /// it.
    pub fn command(&self, program: &Path, home: &Path) -> Command {
        enter(&self.path(), program, home)
    }

    /// Does something in here: sockets that it makes stay here. A thread of its own moves, and ends afterwards.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        within(&self.path(), work)
    }

    /// Chooses how TCP controls congestion in here.
    pub fn use_tcp(&self, name: &str) -> anyhow::Result<()> {
        // A thread's own view of /proc/sys/net is that of its namespace.
        self.within(|| std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", name))?
            .with_context(|| format!("this kernel has no TCP congestion control `{name}`"))
    }

    pub fn tcp(&self) -> anyhow::Result<String> {
        let read = self.within(|| std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control"))?;
        Ok(read?.trim().to_owned())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Ok(pids) = ip(&["netns", "pids", &self.name]) {
            let pids = pids.lines().filter_map(|line| line.trim().parse().ok());
            pids.filter(|pid| *pid != std::process::id()).for_each(crate::process::kill_and_wait);
        }
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("warning: {error:#}");
        }
    }
}

/// A command that will run in the namespace at `path`.
pub fn enter(path: &Path, program: &Path, home: &Path) -> Command {
    let mut command = hermetic(Path::new("/usr/bin/nsenter"), home);
    command.arg(format!("--net={}", path.display())).arg("--").arg(program);
    command
}

/// Does something in the namespace at `path`.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("enter the namespace")?;
            Ok(work())
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ip` and returns what it says.
pub fn ip(args: &[&str]) -> anyhow::Result<String> {
    let command = format!("ip {}", args.join(" "));
    let output = Command::new("ip").args(args).output().with_context(|| format!("start `{command}`"))?;
    if !output.status.success() {
        bail!("`{command}`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
