//! What placing needs more where the server runs: it was fed the snapshot, and may have written files of its own.

use std::fs;

use baton_proto::{Fault, FaultKind};

use super::undo::put_all_back;
use super::{Site, on, read_note, stamp, step, sync};
use crate::durable;

/// Undoes `install`, and keeps the snapshot as the part that it was: a further pull has nothing left to fetch.
pub(in crate::actions) fn take_back(site: &Site) -> Result<(), Fault> {
    let note = read_note(site)?;
    let noted = site.as_noted(note.as_ref());
    let (part, dump) = (noted.part(), noted.at(&noted.dump));
    if let Some(note) = &note
        && stamp(&part)?.is_none()
        && stamp(&dump)?.as_ref() == Some(&note.placed)
    {
        step("take-back", || fs::hard_link(&dump, &part)).map_err(on("take back", &dump))?;
        sync(&noted.dir)?;
    }
    put_all_back(site).map(drop)
}

/// Sets an append-only file aside that a server wrote since the installation.
pub(in crate::actions) fn set_aof_aside(site: &Site) -> Result<(), Fault> {
    for name in &site.aof {
        let (standing, later) = (site.at(name), site.later(name));
        if stamp(&standing)?.is_some() && stamp(&later)?.is_none() {
            step("later", || fs::rename(&standing, &later)).map_err(on("move aside", &standing))?;
        }
    }
    sync(&site.dir)
}

/// Removes the copy that a server has written of what it was fed, where no dump stood before.
pub(in crate::actions) fn drop_servers_copy(site: &Site, bytes: u64) -> Result<(), Fault> {
    let dump = site.at(&site.dump);
    match stamp(&dump)? {
        Some(found) if found.bytes == bytes => {
            step("copy", || durable::remove_file(&dump)).map(drop).map_err(on("remove", &dump))
        }
        Some(_) => Err(Fault::new(FaultKind::Refused, format!("{} appeared during the feed", dump.display()))
            .because("it is not what the server was fed")
            .hint("see who saved there, and move it away")),
        None => Ok(()),
    }
}

pub(in crate::actions) fn dump_stands(site: &Site) -> Result<bool, Fault> {
    Ok(stamp(&site.at(&site.dump))?.is_some())
}
