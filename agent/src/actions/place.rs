//! Puts a pulled snapshot in the place of the dump, and takes it back: files only, no server.
//!
//! ```text
//!             note written   old files aside    part is the dump          server runs, saves
//!   pulled ──> noted ───────> cleared ─────────> placed ──────────────────> (dump is the server's)
//!      <─────────────────────── restore, from any of these ──────────────────────┘
//! ```
//!
//! The note is durable before the first file moves. It holds which files stood there and which file was placed, by
//! inode, so that whoever finds the directory after a crash between any two steps knows what each file is, and repeats
//! or undoes the rest. The old files' new names are synced before the part gets the dump's name: no crash loses the old
//! dump. Nothing that the run did not bring itself is deleted here but by `release`, at the end of a run.

mod live;
pub(super) mod pulled;
mod undo;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use baton_proto::{Fault, FaultKind, RunId};
use serde::{Deserialize, Serialize};
use tracing::info;

pub(super) use self::live::{drop_servers_copy, dump_stands, set_aof_aside, take_back};
pub(super) use self::undo::{restore, set_aside_later};
use super::stamp::Stamp;
use crate::{durable, names};

/// Mode of a dump where none stood before: for its owner and group, as it holds everybody's data.
const DUMP_MODE: u32 = 0o640;
/// Largest note that is read: three names and their stamps are a few hundred bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// The directory in which a run places files, and their names.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) run: RunId,
    pub(super) dir: PathBuf,
    pub(super) dump: String,
    /// Names under which an append-only file or directory may stand.
    pub(super) aof: Vec<String>,
    /// Where the note of the installation is kept, and that of the pull before it.
    pub(super) note: PathBuf,
    pub(super) pulled: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    dir: PathBuf,
    /// Names that the installation looked after; the dump's is the first.
    names: Vec<String>,
    placed: Stamp,
    /// What stood at these names.
    old: Vec<Old>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Old {
    name: String,
    stamp: Stamp,
}

impl Site {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn part(&self) -> PathBuf {
        self.at(&names::part(&self.run))
    }

    pub(super) fn map(&self) -> PathBuf {
        self.at(&names::map(&self.run))
    }

    pub(super) fn pin(&self) -> PathBuf {
        self.at(&names::pin(&self.run))
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.at(&names::kept(name, &self.run))
    }

    /// Where a file goes that the run's server wrote over a name and that is in the way of the old one.
    fn later(&self, name: &str) -> PathBuf {
        self.at(&names::later(name, &self.run))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.dump.as_str()).chain(self.aof.iter().map(String::as_str))
    }

    /// The site as it was when the installation began, should the configuration have changed since.
    fn as_noted(&self, note: Option<&Note>) -> Site {
        match note.map(|note| (note, note.names.split_first())) {
            Some((note, Some((dump, aof)))) => {
                Site { dir: note.dir.clone(), dump: dump.clone(), aof: aof.to_vec(), ..self.clone() }
            }
            _ => self.clone(),
        }
    }
}

/// Says which file could not be worked on.
fn on<'a>(doing: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Fault + 'a {
    move |error| {
        let fault = Fault::new(FaultKind::Host, format!("{doing} {}", path.display())).because(&error);
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                fault.hint("let baton-agent run as root or as the server's user, or give its group write access there")
            }
            _ => fault,
        }
    }
}

/// Changes one thing. Tests stop here, before any of the changes, as a crash would.
fn step<T>(name: &str, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    baton_hold::at_blocking(|| format!("place-{name}"));
    #[cfg(test)]
    tests::crash_point()?;
    change()
}

fn stamp(path: &Path) -> Result<Option<Stamp>, Fault> {
    Stamp::at(path).map_err(on("look at", path))
}

fn sync(dir: &Path) -> Result<(), Fault> {
    durable::fsync_dir(dir).map_err(on("sync", dir))
}

/// Puts the part in the place of the dump, and yields the names under which the old files are kept.
pub(super) fn install(site: &Site) -> Result<Vec<String>, Fault> {
    let note = match read_note(site)? {
        Some(note) if note.dir == site.dir && note.names.first() == Some(&site.dump) => note,
        Some(note) => {
            return Err(Fault::new(
                FaultKind::Refused,
                format!("run {} began to install {} in {}", site.run, note.names.join(", "), note.dir.display()),
            )
            .because(format!("the server's dump is now {} in {}", site.dump, site.dir.display()))
            .hint("`dir` or `dbfilename` changed meanwhile: start a new run"));
        }
        None => begin(site)?,
    };
    for old in &note.old {
        set_aside(site, old)?;
    }
    // The old names are safe before the dump's name is used again.
    sync(&site.dir)?;
    put(site, &note)?;
    sync(&site.dir)?;
    Ok(note.old.iter().map(|old| names::kept(&old.name, &site.run)).collect())
}

/// Makes the part ready and writes the note. Nothing has moved yet.
fn begin(site: &Site) -> Result<Note, Fault> {
    let part = site.part();
    let Some(placed) = stamp(&part)? else {
        return Err(Fault::new(
            FaultKind::NotFound,
            format!("no pulled snapshot of run {} in {}", site.run, site.dir.display()),
        )
        .hint("the snapshot must be pulled before it is installed"));
    };
    let mut old = Vec::new();
    let names: Vec<String> = site.names().map(str::to_owned).collect();
    for name in &names {
        let kept = site.kept(name);
        if stamp(&kept)?.is_some() {
            return Err(Fault::new(FaultKind::Refused, format!("{} exists already", kept.display()))
                .because(format!("run {} left no note of having put it there", site.run))
                .hint("look at it, and move it away"));
        }
        old.extend(stamp(&site.at(name))?.map(|stamp| Old { name: name.clone(), stamp }));
    }
    let digest = pulled::check(site, &placed)?;
    info!(part = %part.display(), %digest, "installing");
    like_the_servers(site, &part)?;
    let note = Note { dir: site.dir.clone(), names, placed, old };
    let text =
        serde_json::to_vec(&note).map_err(|error| Fault::new(FaultKind::Internal, "encode note").because(error))?;
    step("note", || durable::replace_file(&site.note, &text, 0o600)).map_err(on("write", &site.note))?;
    Ok(note)
}

fn set_aside(site: &Site, old: &Old) -> Result<(), Fault> {
    let (standing, kept) = (site.at(&old.name), site.kept(&old.name));
    let is_old = |found: &Stamp| found.same_inode(&old.stamp);
    match (stamp(&standing)?, stamp(&kept)?) {
        (_, Some(kept)) if is_old(&kept) => Ok(()),
        (Some(found), None) if is_old(&found) => {
            step("aside", || fs::rename(&standing, &kept)).map_err(on("move aside", &standing))
        }
        _ => Err(Fault::new(FaultKind::Refused, format!("{} is not the file that stood there", standing.display()))
            .because(format!("it changed while run {} was installing", site.run))
            .hint("something else writes to the data directory: see what it is, and start a new run")),
    }
}

fn put(site: &Site, note: &Note) -> Result<(), Fault> {
    let (part, dump) = (site.part(), site.at(&site.dump));
    match (stamp(&part)?, stamp(&dump)?) {
        // Linked and removed rather than renamed: a rename would silently replace a dump that appeared meanwhile.
        (Some(found), None) if found == note.placed => {
            step("link", || fs::hard_link(&part, &dump)).map_err(on("place", &dump))?;
            sync(&site.dir)?;
            step("unlink", || fs::remove_file(&part)).map_err(on("remove", &part))
        }
        (left, Some(found)) if found == note.placed => match left {
            Some(_) => step("unlink", || fs::remove_file(&part)).map_err(on("remove", &part)),
            None => Ok(()),
        },
        (None, _) => {
            Err(Fault::new(FaultKind::Refused, format!("{} is not the snapshot of run {}", dump.display(), site.run))
                .because("the snapshot was installed before, and another file has taken its place")
                .hint("a server has saved there since: do not install again"))
        }
        (Some(_), Some(_)) => {
            Err(Fault::new(FaultKind::Refused, format!("{} appeared during the installation", dump.display()))
                .hint("a server started meanwhile: stop it, and see what it wrote"))
        }
        (Some(_), None) => {
            Err(Fault::new(FaultKind::Verification, format!("{} changed since it was verified", part.display()))
                .hint("remove it, and pull the snapshot again"))
        }
    }
}

/// Gives the part the owner and mode that the server's own dump has, or would have.
fn like_the_servers(site: &Site, part: &Path) -> Result<(), Fault> {
    let dump = site.at(&site.dump);
    let (model, mode) = match fs::metadata(&dump) {
        Ok(model) => {
            let mode = model.permissions().mode() & 0o777;
            (model, mode)
        }
        Err(_) => (fs::metadata(&site.dir).map_err(on("look at", &site.dir))?, DUMP_MODE),
    };
    let own = fs::metadata(part).map_err(on("look at", part))?;
    let mut mode = mode;
    if (own.uid(), own.gid()) != (model.uid(), model.gid())
        && let Err(error) = chown(part, Some(model.uid()), Some(model.gid()))
    {
        // Only root may give a file away. The group may still be ours to give, and then the server can read it.
        let shared = own.uid() == model.uid() || chown(part, None, Some(model.gid())).is_ok();
        if shared {
            mode |= 0o040;
        } else if mode & 0o004 == 0 {
            return Err(on("change the owner of", part)(error));
        }
    }
    fs::set_permissions(part, fs::Permissions::from_mode(mode)).map_err(on("set the mode of", part))?;
    fs::File::open(part).and_then(|file| file.sync_all()).map_err(on("sync", part))
}

/// Drops everything of the run. The old files are dropped as well, unless they are to be kept; yields those that are.
pub(super) fn release(site: &Site, keep_old: bool) -> Result<Vec<String>, Fault> {
    let site = &site.as_noted(read_note(site)?.as_ref());
    let (mut kept, mut old) = (Vec::new(), Vec::new());
    for name in site.names() {
        for (name, path) in
            [(names::kept(name, &site.run), site.kept(name)), (names::later(name, &site.run), site.later(name))]
        {
            if stamp(&path)?.is_some() {
                kept.push(name);
                old.push(path);
            }
        }
    }
    if !keep_old && !old.is_empty() {
        let dump = site.at(&site.dump);
        if stamp(&dump)?.is_none() {
            return Err(Fault::new(FaultKind::Refused, format!("nothing stands at {}", dump.display()))
                .because(format!("dropping {} would leave no data at all", kept.join(", ")))
                .hint("put one of them back in its place by hand"));
        }
        for path in &old {
            step("drop", || remove_tree(path)).map_err(on("remove", path))?;
        }
        kept.clear();
    }
    drop_parts(site)?;
    let pin = site.pin();
    step("pin", || durable::remove_file(&pin)).map_err(on("remove", &pin))?;
    step("end", || durable::remove_file(&site.note)).map_err(on("remove", &site.note))?;
    Ok(kept)
}

fn drop_parts(site: &Site) -> Result<(), Fault> {
    // The note first: it speaks of the part.
    for path in [site.pulled.clone(), site.part(), site.map()] {
        step("part", || durable::remove_file(&path)).map_err(on("remove", &path))?;
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    // A link is removed, never what it points at.
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn read_note(site: &Site) -> Result<Option<Note>, Fault> {
    let path = &site.note;
    match stamp(path)? {
        None => Ok(None),
        Some(found) if found.bytes > NOTE_BYTES_MAX => {
            Err(Fault::new(FaultKind::Host, format!("note {} has {} bytes", path.display(), found.bytes)))
        }
        Some(_) => {
            let bytes = fs::read(path).map_err(on("read", path))?;
            serde_json::from_slice(&bytes).map(Some).map_err(|error| on("read", path)(error.into()))
        }
    }
}

#[cfg(test)]
mod tests;
