//! Saves as servers make them, in real files: what is written, renamed and removed here is what a server would.

use std::fs;
use std::io::Write;
use std::process::Child;

use baton_proto::{InstanceName, RunId};

use super::super::candidates::Candidate;
use super::super::unfinished::Note;
use super::*;

/// A server's directory and a follower's goal in it.
struct Site {
    root: tempfile::TempDir,
    pin: Pin,
    offers: Offers,
    progress: ProgressSink,
}

impl Site {
    fn new() -> Site {
        let root = tempfile::tempdir().unwrap();
        let (dir, state) = (root.path().join("data"), root.path().join("state"));
        [&dir, &state].iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let (instance, run) = (InstanceName::new("default").unwrap(), RunId::new("r1").unwrap());
        let note = Note::of(&state, &instance, &run);
        let pin = Pin { instance, run, path: dir.join("baton-r1.pin.rdb"), dir, note };
        fs::write(pin.dir.join("dump.rdb"), "the last dump").unwrap();
        Site { root, pin, offers: Offers::start().unwrap(), progress: ProgressSink::detached() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.pin.dir.join(name)
    }

    fn temp(&self) -> PathBuf {
        self.at(&format!("temp-{}.rdb", std::process::id()))
    }

    async fn follower(&self) -> Follower<'_> {
        let mut follower = Follower::new(self.at("dump.rdb"), self.pin.clone(), &self.offers, &self.progress);
        follower.prepare(Writer::Server(std::process::id()), Some(13)).await;
        follower
    }

    fn now(&self) -> Result<(u64, bool), FaultKind> {
        let growth = self.offers.growth(&self.pin.run).ok_or(FaultKind::Internal)?;
        growth.now().map(|extent| (extent.bytes, extent.whole)).map_err(|fault| fault.kind)
    }

    /// Names that are left beside the dump, and notes.
    fn left(&self) -> Vec<String> {
        let names =
            |dir: PathBuf| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<_> = names(self.pin.dir.clone()).chain(names(self.root.path().join("state"))).collect();
        left.sort();
        left
    }
}

fn append(path: &Path, bytes: usize) {
    fs::OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(&vec![b'x'; bytes]).unwrap();
}

#[tokio::test]
async fn a_save_is_followed_from_its_first_bytes_to_the_dump() {
    let site = Site::new();
    let mut follower = site.follower().await;
    follower.look().await;
    assert_eq!((site.now(), follower.report.ready), (Err(FaultKind::Internal), false), "nothing is there yet");
    append(&site.temp(), 4096);
    follower.look().await;
    assert_eq!((site.now(), follower.report.ready), (Ok((4096, false)), false));
    assert_eq!(site.pin.note.pin().unwrap(), Some(site.pin.path.clone()), "it is known to be half of it");
    append(&site.temp(), READY_BYTES as usize);
    follower.look().await;
    let bytes = 4096 + READY_BYTES;
    assert_eq!((site.now(), follower.report.ready, follower.report.bytes), (Ok((bytes, false)), true, bytes));
    assert!(!follower.has_landed());
    append(&site.temp(), 1);
    fs::rename(site.temp(), site.at("dump.rdb")).unwrap();
    follower.conclude().await;
    assert!(follower.landed().unwrap().same_inode(&Stamp::at(&site.at("dump.rdb")).unwrap().unwrap()));
    assert_eq!(site.now(), Ok((bytes + 1, false)), "whole is only what was checked");
    let growth = site.offers.growth(&site.pin.run).unwrap();
    follower.finish(bytes + 1).await.unwrap();
    assert_eq!(growth.now().map(|extent| (extent.bytes, extent.whole)), Ok((bytes + 1, true)));
    assert_eq!(site.left(), ["baton-r1.pin.rdb", "dump.rdb"]);
    assert_eq!(fs::metadata(&site.pin.path).unwrap().len(), bytes + 1);
}

#[tokio::test]
async fn a_save_that_was_over_before_it_was_seen_is_not_followed() {
    let site = Site::new();
    let mut follower = site.follower().await;
    append(&site.temp(), 10);
    fs::rename(site.temp(), site.at("dump.rdb")).unwrap();
    follower.conclude().await;
    assert_eq!((follower.landed(), site.now()), (None, Err(FaultKind::Internal)));
    follower.finish(10).await.unwrap();
    assert_eq!(site.left(), ["dump.rdb"]);
}

#[tokio::test]
async fn a_save_whose_file_is_removed_is_given_up_at_once_and_leaves_nothing() {
    let site = Site::new();
    let mut follower = site.follower().await;
    append(&site.temp(), 10);
    follower.look().await;
    let growth = site.offers.growth(&site.pin.run).unwrap();
    fs::remove_file(site.temp()).unwrap();
    follower.look().await;
    let fault = growth.now().unwrap_err();
    assert_eq!((fault.kind, fault.hint.is_some()), (FaultKind::NotFound, true));
    assert!(site.offers.growth(&site.pin.run).is_none(), "the next offer is of what is pinned then");
    assert_eq!(site.left(), ["dump.rdb"]);
    follower.fail(&Fault::new(FaultKind::Server, "SAVE failed")).await;
}

#[tokio::test]
async fn a_save_that_failed_says_why_and_leaves_nothing() {
    let site = Site::new();
    let mut follower = site.follower().await;
    append(&site.temp(), 10);
    follower.look().await;
    let growth = site.offers.growth(&site.pin.run).unwrap();
    follower.fail(&Fault::new(FaultKind::Server, "SAVE failed").because("No space left").hint("free disk space")).await;
    let fault = growth.now().unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert!(fault.to_string().ends_with("SAVE failed: No space left"), "{fault}");
    assert_eq!(fault.hint.as_deref(), Some("free disk space"));
    fs::remove_file(site.temp()).unwrap();
    assert_eq!(site.left(), ["dump.rdb"]);
}

#[tokio::test]
async fn a_second_save_that_comes_unseen_between_two_looks_overtakes_the_first() {
    let site = Site::new();
    let mut follower = site.follower().await;
    append(&site.temp(), 10);
    follower.look().await;
    let growth = site.offers.growth(&site.pin.run).unwrap();
    // One more link hides that the file has lost its name.
    fs::hard_link(site.temp(), site.at("somebody-elses-link")).unwrap();
    fs::rename(site.temp(), site.at("dump.rdb")).unwrap();
    append(&site.temp(), 20);
    fs::rename(site.temp(), site.at("dump.rdb")).unwrap();
    follower.conclude().await;
    assert_eq!(follower.landed(), None);
    follower.finish(20).await.unwrap();
    assert_eq!(growth.now().unwrap_err().kind, FaultKind::Verification);
    assert_eq!(site.pin.note.pin().unwrap(), None, "the pin is made anew, of the dump");
}

#[tokio::test]
async fn what_has_landed_stays_so_when_the_next_save_takes_the_name() {
    let site = Site::new();
    let mut follower = site.follower().await;
    append(&site.temp(), 10);
    follower.look().await;
    fs::rename(site.temp(), site.at("dump.rdb")).unwrap();
    follower.look().await;
    append(&site.temp(), 20);
    fs::rename(site.temp(), site.at("dump.rdb")).unwrap();
    follower.conclude().await;
    assert!(follower.has_landed());
    follower.finish(10).await.unwrap();
    assert_eq!(fs::metadata(&site.pin.path).unwrap().len(), 10);
}

#[tokio::test]
async fn a_follower_that_is_dropped_has_given_up() {
    let site = Site::new();
    let mut follower = site.follower().await;
    append(&site.temp(), 10);
    follower.look().await;
    let growth = site.offers.growth(&site.pin.run).unwrap();
    drop(follower);
    assert!(growth.now().is_err());
    assert_eq!(site.pin.note.pin().unwrap(), Some(site.pin.path.clone()), "what is left is known to be half of it");
}

#[tokio::test]
async fn a_file_that_cannot_be_linked_is_still_looked_at() {
    let site = Site::new();
    // A directory in the place of the pin cannot be replaced by a link, as root could replace all else.
    fs::create_dir(&site.pin.path).unwrap();
    let mut follower = site.follower().await;
    append(&site.temp(), 10);
    follower.look().await;
    append(&site.temp(), 10);
    follower.look().await;
    assert_eq!((site.now(), follower.report.bytes, follower.report.ready), (Err(FaultKind::Internal), 20, false));
    fs::rename(site.temp(), site.at("dump.rdb")).unwrap();
    follower.conclude().await;
    assert_eq!(follower.landed(), None);
}

#[tokio::test]
async fn a_symbolic_link_is_never_followed() {
    let site = Site::new();
    let mut follower = site.follower().await;
    std::os::unix::fs::symlink("/etc/passwd", site.temp()).unwrap();
    follower.look().await;
    assert_eq!((site.now(), follower.report.bytes), (Err(FaultKind::Internal), 0));
    // Should it take the name's place between the look and the link, the link is seen through.
    let pin = &site.pin;
    fs::write(site.at("temp-1.rdb"), "x").unwrap();
    let stamp = Stamp::at(&site.at("temp-1.rdb")).unwrap().unwrap();
    let found = Candidate { path: site.temp(), pid: 1, parent: None, stamp };
    assert!(!matches!(pin.link(&found), Ok(Some(_))));
    let moved = Candidate { path: site.at("dump.rdb"), ..found.clone() };
    assert!(matches!(pin.link(&moved), Ok(None)), "another file");
    let gone = Candidate { path: site.at("temp-2.rdb"), ..found };
    assert!(matches!(pin.link(&gone), Ok(None)), "gone");
    assert!(!pin.path.exists() && pin.note.pin().unwrap().is_none());
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test]
async fn a_background_save_is_told_from_what_lies_about() {
    let site = Site::new();
    fs::write(site.at("temp-77.rdb"), "left by a server that was killed").unwrap();
    let mut follower = Follower::new(site.at("dump.rdb"), site.pin.clone(), &site.offers, &site.progress);
    follower.prepare(Writer::ChildOf(std::process::id()), None).await;
    append(&site.at("temp-77.rdb"), 1000);
    fs::write(site.at("temp-rewriteaof-bg-5.aof"), "another child's").unwrap();
    follower.look().await;
    assert_eq!(site.now(), Err(FaultKind::Internal));
    let child = Killed(std::process::Command::new("sleep").arg("60").spawn().unwrap());
    let temp = site.at(&format!("temp-{}.rdb", child.0.id()));
    append(&temp, 5);
    follower.look().await;
    assert_eq!(site.now(), Ok((5, false)));
    fs::rename(temp, site.at("dump.rdb")).unwrap();
    follower.look().await;
    assert!(follower.has_landed());
}

#[tokio::test]
async fn the_child_of_another_namespace_is_followed_once_nothing_else_has_come() {
    let site = Site::new();
    let mut follower = Follower::new(site.at("dump.rdb"), site.pin.clone(), &site.offers, &site.progress);
    follower.prepare(Writer::ChildOf(u32::MAX), None).await;
    append(&site.at("temp-77.rdb"), 5);
    follower.look().await;
    assert_eq!(site.now(), Err(FaultKind::Internal), "another may come");
    let until_found = async {
        while site.offers.growth(&site.pin.run).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    follower.during(until_found).await;
    assert_eq!(site.now(), Ok((5, false)));
}
