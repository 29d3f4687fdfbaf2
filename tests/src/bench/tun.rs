//! A TUN device: the end of a network that a program reads and writes packet by packet. The only unsafe call of the
//! harness is here, since no safe interface for this one request to the kernel exists.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use rustix::fs::OFlags;
use rustix::ioctl::{Setter, ioctl, opcode};

use crate::namespace::Namespace;

/// `TUNSETIFF`: makes the opened file the other end of a device.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);
/// `struct ifreq`: 16 bytes of name, then a union of 24 bytes whose first two are the flags.
const IFREQ_BYTES: usize = 40;
const NAME_BYTES: usize = 16;
/// `IFF_TUN | IFF_NO_PI`: bare IP packets.
const FLAGS: i16 = 0x0001 | 0x1000;

/// Makes a device called `device` in a namespace. Reads and writes of the file do not block.
pub fn open(namespace: &Namespace, device: &str) -> anyhow::Result<File> {
    namespace.within(|| attach(device))?
}

#[allow(unsafe_code)]
fn attach(device: &str) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let file = options.open("/dev/net/tun").context("open /dev/net/tun")?;
    let mut request = [0_u8; IFREQ_BYTES];
    anyhow::ensure!(device.len() < NAME_BYTES, "`{device}` is too long for the name of a device");
    request[..device.len()].copy_from_slice(device.as_bytes());
    request[NAME_BYTES..NAME_BYTES + 2].copy_from_slice(&FLAGS.to_ne_bytes());
    // SAFETY: TUNSETIFF takes a pointer to a `struct ifreq`, which `request` is laid out as, byte by byte; the kernel reads
    // it, and keeps nothing of it after the call.
    let attached = unsafe { ioctl(&file, Setter::<TUNSETIFF, [u8; IFREQ_BYTES]>::new(request)) };
    attached.with_context(|| format!("attach to the device {device}"))?;
    Ok(file)
}
