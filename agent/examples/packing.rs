//! Measures every way of packing on a snapshot, one thread at each side: what the table of levels is made of.
//!
//!     cargo run --release -p baton-agent --example packing -- FILE [CHUNKS]

use std::time::{Duration, Instant};

use anyhow::Context;
use baton_agent::transfer::packing::{Packer, Unpacker};
use baton_agent::transfer::sender::levels::Level;
use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, Chunking};
use baton_proto::data::{FrameHead, Packing};

const LEVELS: [i8; 9] = [-5, -1, 1, 2, 3, 4, 6, 7, 9];

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let path = words.next().context("which file?")?;
    let most = words.next().map_or(Ok(usize::MAX), |most| most.parse())?;
    let file = std::fs::read(&path).with_context(|| format!("read {path}"))?;
    let chunking = Chunking::new(file.len() as u64)?;
    let chunks: Vec<&[u8]> = file.chunks(CHUNK_BYTES as usize).take(most).collect();
    println!("{:>10} {:>10} {:>8} {:>12}", "level", "pack MB/s", "share", "unpack MB/s");
    for level in LEVELS.map(Level::Zstd).into_iter().chain(LEVELS.map(Level::Plain)) {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        let (mut out, mut room) = (vec![0; CHUNK_BYTES as usize], vec![0; CHUNK_BYTES as usize]);
        let (mut packing, mut unpacking) = (Duration::ZERO, Duration::ZERO);
        let (mut raw_bytes, mut wire_bytes) = (0, 0);
        for (index, raw) in (0..).zip(&chunks) {
            let began = Instant::now();
            let form = packer.pack(raw, level, &mut out);
            packing += began.elapsed();
            let wire = if form.packing == Packing::Store { *raw } else { out.get(..form.bytes).unwrap_or_default() };
            let digest = chunking.digest(ChunkIndex(index), raw);
            let (raw_len, wire_len) = (raw.len() as u32, wire.len() as u32);
            let head = FrameHead { packing: form.packing, index, raw_bytes: raw_len, wire_bytes: wire_len, digest };
            let began = Instant::now();
            unpacker.unpack(&chunking, ChunkIndex(index), &head, wire, &mut room)?;
            unpacking += began.elapsed();
            raw_bytes += raw.len();
            wire_bytes += wire.len();
        }
        let rate = |took: Duration| raw_bytes as f64 / 1e6 / took.as_secs_f64();
        let share = wire_bytes as f64 / raw_bytes as f64;
        println!("{:>10} {:>10.0} {share:>8.3} {:>12.0}", format!("{level:?}"), rate(packing), rate(unpacking));
    }
    Ok(())
}
