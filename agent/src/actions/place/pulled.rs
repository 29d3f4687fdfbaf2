//! The note of a finished pull: which file it left, and what was verified of it. It ties the part that is installed to the
//! pull that verified it: one that was changed since, or that another pull began and never finished, is not placed.
//!
//! It is removed before a pull touches the part, and written once the part is verified and synced.

use std::fs;

use baton_proto::digest::FileDigest;
use baton_proto::{Fault, FaultKind};
use serde::{Deserialize, Serialize};

use super::{NOTE_BYTES_MAX, Site, on, stamp};
use crate::actions::stamp::Stamp;
use crate::durable;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pulled {
    part: Stamp,
    digest: FileDigest,
}

/// Notes that the part is being written.
pub(in crate::actions) fn begin(site: &Site) -> Result<(), Fault> {
    durable::remove_file(&site.pulled).map(drop).map_err(on("remove", &site.pulled))
}

/// Notes that the part is whole and verified.
pub(in crate::actions) fn finish(site: &Site, digest: FileDigest) -> Result<(), Fault> {
    let Some(part) = stamp(&site.part())? else {
        return Err(Fault::new(FaultKind::Host, format!("{} is gone", site.part().display()))
            .hint("see what removes files in the server's data directory, and pull the snapshot again"));
    };
    let text = serde_json::to_vec(&Pulled { part, digest })
        .map_err(|error| Fault::new(FaultKind::Internal, "encode note").because(error))?;
    durable::replace_file(&site.pulled, &text, 0o600).map_err(on("write", &site.pulled))
}

/// Sees that a part is what a pull of this run has left, and yields its digest.
pub(super) fn check(site: &Site, part: &Stamp) -> Result<FileDigest, Fault> {
    let refused = |why: &str| {
        Fault::new(FaultKind::Verification, format!("{} is not a verified snapshot", site.part().display()))
            .because(why)
            .hint("pull the snapshot again: what is here is verified, and only what is missing is sent")
    };
    match stamp(&site.pulled)? {
        None => return Err(refused("no pull of it was finished")),
        Some(note) if note.bytes > NOTE_BYTES_MAX => return Err(refused("the note of its pull is no note")),
        Some(_) => {}
    }
    let text = fs::read(&site.pulled).map_err(on("read", &site.pulled))?;
    let note: Pulled = serde_json::from_slice(&text).map_err(|_| refused("the note of its pull is no note"))?;
    if note.part != *part {
        return Err(refused("it was changed or replaced since it was pulled"));
    }
    Ok(note.digest)
}
