//! An SSH server of our own on a host, with keys of its own: for the benchmark's peers, and for `coord install`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::host::Host;
use crate::process::{Process, tail};
use crate::wait::wait_for;

const PORT: u16 = 2022;
const PROGRAM: &str = "/usr/sbin/sshd";
/// Where sshd locks up the part of it that talks to strangers; made at boot where the service is enabled.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// Whether this machine has the program, and a user who may start it as a host's own.
pub fn is_possible() -> bool {
    Path::new(PROGRAM).exists() && rustix::process::geteuid().is_root()
}

/// An SSH server, until it is dropped.
#[derive(Debug)]
pub struct Sshd {
    key: PathBuf,
    _process: Process,
}

impl Sshd {
    /// Starts it on a host, below the directory of that host.
    pub fn start(host: &Host) -> anyhow::Result<Self> {
        Self::start_by(host, host.command(Path::new(PROGRAM)))
    }

    /// The same by a command that ends in its becoming the words that follow, in surroundings that it makes.
    pub fn start_in(host: &Host, mut surroundings: Command) -> anyhow::Result<Self> {
        surroundings.arg(PROGRAM);
        Self::start_by(host, surroundings)
    }

    fn start_by(host: &Host, mut command: Command) -> anyhow::Result<Self> {
        let (key, host_key) = (host.dir.join("ssh-key"), host.dir.join("ssh-host-key"));
        for path in [&key, &host_key] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).output()?;
            ensure!(made.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        fs::create_dir_all(PRIVILEGE_SEPARATION)?;
        fs::set_permissions(PRIVILEGE_SEPARATION, fs::Permissions::from_mode(0o755))?;
        let conf = host.dir.join("sshd_config");
        // Ciphers and all else that matters for speed are left as they come.
        let text = format!(
            "ListenAddress {}\nPort {PORT}\nHostKey {}\nAuthorizedKeysFile {}.pub\nPidFile none\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nStrictModes no\nSubsystem sftp internal-sftp\n",
            host.ip,
            host_key.display(),
            key.display()
        );
        fs::write(&conf, text)?;
        command.args(["-D", "-e", "-f"]).arg(&conf);
        let log = host.dir.join("sshd.log");
        let process = Process::start(command, &log);
        wait_for("the SSH server listens", || {
            let said = tail(&log, 5);
            if said.contains("Server listening") { Ok(()) } else { Err(said) }
        });
        Ok(Self { key, _process: process })
    }

    /// The options with which `ssh` and `scp` reach it.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "none".to_owned(), "-i".to_owned(), self.key.display().to_string()];
        let settings = [
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ];
        let port = format!("Port={PORT}");
        for setting in settings.into_iter().chain([port.as_str()]) {
            options.extend(["-o".to_owned(), setting.to_owned()]);
        }
        options
    }
}

/// What `ssh` says its version is.
pub fn version() -> anyhow::Result<String> {
    let output = Command::new("ssh").arg("-V").output().context("start ssh")?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(said.split(',').next().unwrap_or_default().trim().to_owned())
}
