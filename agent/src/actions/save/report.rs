//! What the task of a save says of itself.

use baton_proto::control::Progress;

use crate::tasks::ProgressSink;

/// How far a save is. What was ready stays so.
pub(super) struct Report<'a> {
    progress: &'a ProgressSink,
    said: Option<Progress>,
    pub(super) bytes: u64,
    pub(super) expected: Option<u64>,
    pub(super) ready: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(progress: &'a ProgressSink) -> Self {
        Self { progress, said: None, bytes: 0, expected: None, ready: false }
    }

    pub(super) fn grew(&mut self, bytes: u64) {
        self.bytes = self.bytes.max(bytes);
    }

    /// Reports how far it is, if that is news.
    pub(super) fn say(&mut self, doing: &str) {
        let (bytes_done, ready) = (self.bytes, self.ready);
        // The guess is dropped once it is passed.
        let bytes_total = self.expected.filter(|expected| *expected >= bytes_done);
        let progress = Progress { doing: doing.to_owned(), bytes_done, bytes_total, bytes_wire: 0, ready };
        if self.said.as_ref() != Some(&progress) {
            self.progress.report(progress.clone());
            self.said = Some(progress);
        }
    }
}
