//! Takes an installation back: the old files stand again, and what a server wrote meanwhile is kept.

use std::fs;

use baton_proto::{Fault, FaultKind};
use tracing::warn;

use super::{Note, Old, Site, drop_parts, on, read_note, stamp, step, sync};
use crate::{durable, names};

/// Undoes `install`, and removes the part. Yields the names that were put back.
pub(in crate::actions) fn restore(site: &Site) -> Result<Vec<String>, Fault> {
    // Where the parts are, the note knows, which goes when all is put back.
    let noted = site.as_noted(read_note(site)?.as_ref());
    let put_back = put_all_back(site)?;
    drop_parts(&noted)?;
    Ok(put_back)
}

pub(super) fn put_all_back(site: &Site) -> Result<Vec<String>, Fault> {
    let note = read_note(site)?;
    let site = &site.as_noted(note.as_ref());
    let mut put_back = Vec::new();
    if let Some(note) = &note {
        let at_dump = stamp(&site.at(&site.dump))?;
        // Until then nothing at a name without an old file is the run's.
        let complete = at_dump.as_ref() == Some(&note.placed) || stamp(&site.part())?.is_none();
        let others = site.names().filter(|name| note.old.iter().all(|old| old.name != *name));
        for name in others.filter(|_| complete) {
            clear(site, note, name)?;
        }
        for old in &note.old {
            if put_back_one(site, note, old)? {
                put_back.push(old.name.clone());
            }
        }
        sync(&site.dir)?;
        step("end", || durable::remove_file(&site.note)).map_err(on("remove", &site.note))?;
    }
    Ok(put_back)
}

/// Names of what a server wrote between installation and restoration, and which was kept.
pub(in crate::actions) fn set_aside_later(site: &Site) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    for name in site.names() {
        if stamp(&site.later(name))?.is_some() {
            names.push(names::later(name, &site.run));
        }
    }
    Ok(names)
}

/// Puts one old file back. Tells whether it had been moved.
fn put_back_one(site: &Site, note: &Note, old: &Old) -> Result<bool, Fault> {
    let (standing, kept) = (site.at(&old.name), site.kept(&old.name));
    if stamp(&standing)?.is_some_and(|found| found.same_inode(&old.stamp)) {
        return Ok(false);
    }
    if !stamp(&kept)?.is_some_and(|found| found.same_inode(&old.stamp)) {
        return Err(Fault::new(FaultKind::Host, format!("{} is gone and cannot be put back", kept.display()))
            .because(format!("it was moved there from {} by run {}", standing.display(), site.run)));
    }
    clear(site, note, &old.name)?;
    step("back", || fs::rename(&kept, &standing)).map_err(on("put back", &standing))?;
    Ok(true)
}

/// Takes away what stands at a name since the installation: the snapshot, or what a server wrote in its place.
fn clear(site: &Site, note: &Note, name: &str) -> Result<(), Fault> {
    let standing = site.at(name);
    match stamp(&standing)? {
        None => Ok(()),
        Some(found) if found == note.placed => {
            step("clear", || fs::remove_file(&standing)).map_err(on("remove", &standing))
        }
        Some(_) => {
            let later = site.later(name);
            if stamp(&later)?.is_some() {
                return Err(Fault::new(FaultKind::Refused, format!("{} exists already", later.display()))
                    .hint("look at it, and move it away"));
            }
            warn!(from = %standing.display(), to = %later.display(), "kept what the server wrote during the run");
            step("later", || fs::rename(&standing, &later)).map_err(on("move aside", &standing))
        }
    }
}
