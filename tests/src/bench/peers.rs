//! What moves a file from B to C: three tools that an operator has at hand, and Baton.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::bench::lab::{Guard, Lab, timed, wait_within};
use crate::bench::network::C_IP;

const SOCKET_PORT: u16 = 9000;
/// Longest that the receiver of the plain socket goes on after the sender has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// A way to move a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `scp`, with the ciphers that it chooses by itself.
    Scp,
    /// `rsync -z` with zstd, over SSH.
    Rsync,
    /// `zstd -1` whose output is a TCP socket, and `zstd -d` whose input is the other end of it: no program in between, no
    /// encryption, no check but zstd's own.
    Socket,
    /// `coord copy`: encrypted, verified by hash, CRC and end mark, synced, placed.
    Baton,
}

pub const PEERS: [Peer; 4] = [Peer::Scp, Peer::Rsync, Peer::Socket, Peer::Baton];

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scp => "scp",
            Self::Rsync => "rsync -z",
            Self::Socket => "zstd -1 | socket",
            Self::Baton => "baton",
        }
    }

    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "scp" => Ok(Self::Scp),
            "rsync" => Ok(Self::Rsync),
            "socket" => Ok(Self::Socket),
            "baton" => Ok(Self::Baton),
            _ => Err(format!("no peer `{name}`; there are scp, rsync, socket, baton")),
        }
    }

    /// Moves B's dump to C over SSH, as by hand. Only those that do so can.
    pub fn carry_by_ssh(self, lab: &Lab) -> anyhow::Result<f64> {
        ensure!(matches!(self, Self::Scp | Self::Rsync), "{} does not work over SSH", self.name());
        self.carry(lab)
    }

    /// Moves B's dump to C, and yields the seconds from the start of the first program to the end of the last.
    pub fn carry(self, lab: &Lab) -> anyhow::Result<f64> {
        let (from, to) = (lab.b().dump_path(), lab.arrived_path());
        let far = format!("root@{C_IP}:{}", to.display());
        let log = lab.b().dir.join("peer.log");
        match self {
            Self::Scp => {
                let mut command = lab.b().command(Path::new("/usr/bin/scp"));
                command.arg("-q").args(lab.sshd.options()).arg(&from).arg(far);
                timed(command, "scp", &log)
            }
            Self::Rsync => {
                let mut command = lab.b().command(Path::new("/usr/bin/rsync"));
                let shell = format!("ssh {}", lab.sshd.options().join(" "));
                command.args(["-z", "--compress-choice=zstd", "-e", &shell]).arg(&from).arg(far);
                timed(command, "rsync", &log)
            }
            Self::Socket => through_socket(lab, &from, &to),
            Self::Baton => Ok(lab.start_copy("existing")?.wait()?.seconds),
        }
    }
}

fn through_socket(lab: &Lab, from: &Path, to: &Path) -> anyhow::Result<f64> {
    let address = SocketAddr::from((C_IP, SOCKET_PORT));
    let listener = lab.network.c.within(|| TcpListener::bind(address))?.context("listen on C")?;
    let begun = Instant::now();
    let near = lab.network.b.within(|| TcpStream::connect(address))?.context("connect to C")?;
    let (far, _) = listener.accept().context("accept from B")?;
    let end = |socket: TcpStream| Stdio::from(OwnedFd::from(socket));
    let mut packs = lab.b().command(Path::new("/usr/bin/zstd"));
    packs.args(["-q", "-1", "-c"]).arg(from).stdout(end(near));
    let mut unpacks = lab.c().command(Path::new("/usr/bin/zstd"));
    unpacks.args(["-q", "-d", "-f", "-o"]).arg(to).stdin(end(far));
    let start = |command: &mut Command| command.spawn().map(Guard).context("start zstd");
    let (mut sender, mut receiver) = (start(&mut packs)?, start(&mut unpacks)?);
    // The commands hold a copy of the sockets: the receiver would not see the end before they are gone.
    drop((packs, unpacks));
    for (child, name) in [(&mut sender, "zstd -1"), (&mut receiver, "zstd -d")] {
        let status = wait_within(DRAIN_TIMEOUT, name, || child.0.try_wait().ok().flatten())?;
        ensure!(status.success(), "{name} ended with {status}");
    }
    Ok(begun.elapsed().as_secs_f64())
}
