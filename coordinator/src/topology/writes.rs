//! How much is written on a server, by two looks at it.

use baton_proto::report::Running;

/// What was written on a server while it was looked at twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writes {
    pub bytes_per_second: u64,
    pub seen: Seen,
}

/// What tells how much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The stream to replicas.
    Stream,
    /// All that clients sent: the offset of a server without a backlog stands still.
    Input,
    /// Nothing yet.
    Nothing,
}

impl Writes {
    /// What was written between two looks at one server. None: it was restarted, or its history changed.
    pub fn between(before: &Running, after: &Running, seconds: f64) -> Option<Writes> {
        if before.pid != after.pid || seconds <= 0.0 {
            return None;
        }
        let (before, after) = (&before.replication, &after.replication);
        let (seen, bytes) = match (&before.backlog, &after.backlog) {
            (Some(_), Some(_)) if before.lineage.id == after.lineage.id => {
                (Seen::Stream, after.lineage.offset.checked_sub(before.lineage.offset)?)
            }
            (Some(_), Some(_)) => return None,
            _ => (Seen::Input, after.input_bytes.checked_sub(before.input_bytes)?),
        };
        Some(Writes { bytes_per_second: (bytes as f64 / seconds).ceil() as u64, seen })
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::report::Backlog;

    use super::*;
    use crate::topology::fixture::{Shape, instance, lineage};

    #[test]
    fn writes_are_told_by_the_stream_or_where_there_is_none_by_what_clients_sent() {
        let look = |offset, input_bytes, backlog: bool| {
            let report = instance("default", "10.0.0.1:6379").primary(lineage('a', offset), 1);
            let mut running = report.server.running().unwrap().clone();
            running.replication.input_bytes = input_bytes;
            running.replication.backlog = backlog.then_some(Backlog { first_offset: 1, held_bytes: offset });
            running
        };
        let stream = Writes::between(&look(100, 0, true), &look(400, 9000, true), 2.0);
        assert_eq!(stream, Some(Writes { bytes_per_second: 150, seen: Seen::Stream }));
        let input = Writes::between(&look(0, 1000, false), &look(0, 9000, false), 2.0);
        assert_eq!(input, Some(Writes { bytes_per_second: 4000, seen: Seen::Input }));
        let mut other = look(400, 0, true);
        other.pid += 1;
        assert_eq!(Writes::between(&look(100, 0, true), &other, 1.0), None, "it was restarted");
        assert_eq!(Writes::between(&look(400, 0, true), &look(100, 0, true), 1.0), None);
    }
}
