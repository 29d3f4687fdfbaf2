//! A host that is reached by SSH, and on which nothing of Baton is yet: for `coord install`.
//!
//! ```text
//!   coord ── ssh ──> sshd in a mount namespace: /etc and /run of its own, /etc/baton is the host's directory,
//!                    /usr/local/bin holds the programs that stand in for systemd, and what is installed
//!   coord ── QUIC ─> the agent that was started there, as the unit's user with the unit's capabilities
//! ```
//!
//! What is not real is systemd alone: a script starts the agent in its place. `tests/machines` has real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::address;
use crate::host::{Host, quoted};
use crate::process::kill_and_wait;
use crate::servers::ServerProgram;
use crate::sshd::{self, Sshd};
use crate::world::World;

/// Makes the namespace's own places, then becomes what follows. `$1` is a directory to mount below, `$2` the host's.
const SURROUNDINGS: &str = "set -e; top=$1 host=$2; shift 2\n\
    mount -t tmpfs none $top/memory; mkdir $top/memory/etc $top/memory/work\n\
    mount -t overlay none -o lowerdir=/etc,upperdir=$top/memory/etc,workdir=$top/memory/work /etc\n\
    mkdir -p /etc/baton; mount --bind $host /etc/baton; mount --bind $top/bin /usr/local/bin\n\
    mount -t tmpfs none /run; mkdir -p /run/sshd /run/systemd/system\n\
    exec \"$@\"\n";
/// Whether such places can be made: root in a container often may not mount.
const TRIAL: &str = "mount -t tmpfs none /run && mkdir /run/etc /run/work &&\
    mount -t overlay none -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work /etc";
/// Starts the agent as its unit does; all else that is asked of systemd is no act.
const SYSTEMCTL: &str = "#!/bin/sh\n\
    [ \"$1\" = restart ] || exit 0\n\
    cd HOST\n\
    if [ -e agent.pid ]; then\n\
      kill \"$(cat agent.pid)\" 2>/dev/null && while kill -0 \"$(cat agent.pid)\" 2>/dev/null; do sleep 0.05; done\n\
    fi\n\
    has=-all,+dac_override,+chown,+fowner\n\
    setsid setpriv --reuid=baton --regid=baton --clear-groups --inh-caps=$has --ambient-caps=$has --no-new-privs \\\n\
      /usr/local/bin/baton-agent run --config /etc/baton/agent.toml >>agent.log 2>&1 </dev/null &\n\
    echo $! >agent.pid\n";

/// Such a host; what runs there ends with the world that it is made in.
#[derive(Debug)]
pub struct Machine {
    pub host: Host,
    sshd: Sshd,
}

impl Machine {
    /// Whether there can be one here.
    pub fn is_possible() -> bool {
        let mounts =
            || Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-c", TRIAL]).output();
        sshd::is_possible() && mounts().is_ok_and(|tried| tried.status.success())
    }

    /// Lays it out, with a configuration that names its server, and has it answer to SSH.
    pub fn new(world: &World, name: &str, program: &ServerProgram) -> anyhow::Result<Self> {
        let host = Host::new(world.dir(), name, address::fresh(), program.clone());
        host.configure_agent(|toml| {
            toml.top.set("identity", quoted("identity.pem"));
        });
        let top = host.dir.join("machine");
        fs::create_dir_all(top.join("memory"))?;
        fs::create_dir_all(top.join("bin"))?;
        let systemctl = top.join("bin/systemctl");
        fs::write(&systemctl, SYSTEMCTL.replace("HOST", &host.dir.display().to_string()))?;
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755))?;
        let mut surroundings = host.command(Path::new("/usr/bin/unshare"));
        surroundings.args(["--mount", "--propagation", "private", "sh", "-c", SURROUNDINGS, "sh"]);
        surroundings.args([&top, &host.dir]);
        let sshd = Sshd::start_in(&host, surroundings)?;
        Ok(Self { host, sshd })
    }

    /// The arguments of `coord` that install an agent there.
    pub fn install(&self, agent: &Path) -> Vec<String> {
        let ssh = [&["ssh".to_owned()], &self.sshd.options()[..]].concat().join(" ");
        let whom = format!("root@{}", self.host.ip);
        let args = ["install", "--ssh", &ssh, "--name", &self.host.name, "--from", &agent.display().to_string(), &whom];
        args.map(str::to_owned).to_vec()
    }

    /// The identity that the installed agent was given.
    pub fn identity(&self) -> PathBuf {
        self.host.dir.join("identity.pem")
    }

    /// Kills the agent that runs there.
    pub fn kill_agent(&self) -> anyhow::Result<()> {
        kill_and_wait(fs::read_to_string(self.host.dir.join("agent.pid"))?.trim().parse()?);
        Ok(())
    }
}
