//! Names of what a run leaves behind: files in a server's data directory, and the canary key. Each carries the run, so
//! that an operator who finds one knows where it is from, and `Release` removes exactly its own.
//!
//! A run's id is safe in a file name: [`RunId`] lets through neither `/` nor a leading dot.

use baton_proto::RunId;

/// The hard link that keeps the run's snapshot when the server saves again.
pub fn pin(run: &RunId) -> String {
    format!("baton-{run}.pin.rdb")
}

/// What a deposed primary held when it was joined to its successor. Nobody but a person removes it.
pub fn diverged(run: &RunId) -> String {
    format!("baton-{run}.diverged.rdb")
}

/// The snapshot that is being pulled.
pub fn part(run: &RunId) -> String {
    format!("baton-{run}.part.rdb")
}

/// The record of the chunks that the part already holds.
pub fn map(run: &RunId) -> String {
    format!("baton-{run}.map")
}

/// Where the run keeps what stood at `name` before: a dump, an append-only file, or the append-only directory.
pub fn kept(name: &str, run: &RunId) -> String {
    format!("{name}.before-{run}")
}

/// Where an undone run keeps what its server wrote at `name` in the meantime.
pub fn later(name: &str, run: &RunId) -> String {
    format!("{name}.after-{run}")
}

/// A file made and removed at once, to learn whether the directory can be written. The number tells apart the probes of
/// concurrent observations.
pub(crate) fn probe(pid: u32, number: u64) -> String {
    format!("baton-probe-{pid}-{number}.tmp")
}

/// The key that is written on the primary and must be seen on its replicas.
pub fn canary_key(run: &RunId) -> String {
    format!("baton:canary:{run}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_carries_the_run() {
        let run = RunId::new("fo-7k2m").unwrap();
        assert_eq!(pin(&run), "baton-fo-7k2m.pin.rdb");
        assert_eq!(diverged(&run), "baton-fo-7k2m.diverged.rdb");
        assert_eq!(part(&run), "baton-fo-7k2m.part.rdb");
        assert_eq!(map(&run), "baton-fo-7k2m.map");
        assert_eq!(kept("dump.rdb", &run), "dump.rdb.before-fo-7k2m");
        assert_eq!(later("dump.rdb", &run), "dump.rdb.after-fo-7k2m");
        assert_eq!(canary_key(&run), "baton:canary:fo-7k2m");
    }
}
