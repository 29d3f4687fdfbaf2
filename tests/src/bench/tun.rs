//! A TUN device: the end of a network that a program reads and writes packet by packet. It takes over from the kernel
//! what network cards do, cutting and checksums, so that many segments pass as one packet; see `link/segments.rs`. The only
//! unsafe calls of the harness are here, since no safe interface for these requests to the kernel exists.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use rustix::fs::OFlags;
use rustix::ioctl::{IntegerSetter, Setter, ioctl, opcode};

use crate::namespace::Namespace;

/// `TUNSETIFF`: makes the opened file the other end of a device.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);
/// `TUNSETOFFLOAD`: what the program does in the kernel's place.
const TUNSETOFFLOAD: rustix::ioctl::Opcode = opcode::write::<u32>(b'T', 208);
/// `struct ifreq`: 16 bytes of name, then a union of 24 bytes whose first two are the flags.
const IFREQ_BYTES: usize = 40;
const NAME_BYTES: usize = 16;
/// `IFF_TUN | IFF_NO_PI | IFF_VNET_HDR`: bare IP packets, each behind a `struct virtio_net_hdr`.
const FLAGS: i16 = 0x0001 | 0x1000 | 0x4000;
/// `TUN_F_CSUM | TUN_F_TSO4`: checksums, and the segments of TCP.
const CUTS_TCP: usize = 0x01 | 0x02;
/// `TUN_F_USO4 | TUN_F_USO6`: batches of datagrams. Linux has them from 6.2 on, and takes both or none.
const CUTS_UDP: usize = 0x20 | 0x40;

/// Makes a device called `device` in a namespace. Reads and writes of the file do not block.
pub fn open(namespace: &Namespace, device: &str) -> anyhow::Result<File> {
    let file = namespace.within(|| attach(device))??;
    // What is refused the kernel does itself, before the packets are read: slower, and the same on the wire.
    let _ = take_over(&file, CUTS_TCP | CUTS_UDP).or_else(|_| take_over(&file, CUTS_TCP));
    Ok(file)
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

#[allow(unsafe_code)]
fn take_over(file: &File, work: usize) -> rustix::io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its flags by value, no pointer.
    unsafe { ioctl(file, IntegerSetter::<TUNSETOFFLOAD>::new_usize(work)) }
}
