//! Where a run that is taken up goes on, and what one that is given up leaves behind.

use baton_proto::InstanceRef;

use super::{Phase, Run, Stand};
use crate::plan::step::Step;
use crate::run::event::Aim;
use crate::run::ledger::Learnt;

impl Run {
    /// `is_open`: all is done but to clear away, so all that it did stands, whatever the run is taken up for.
    pub(super) fn take_up(&mut self, at: Stand, to: Aim, served: Option<bool>, is_open: bool) {
        self.taken_up = true;
        self.failure = None;
        self.undo_failures.clear();
        let handed = |index: &usize| matches!(self.step(*index), Some(Step::HandOver { .. }));
        let at = match (at, self.doubtful_at(at).filter(handed), served) {
            // What was to be undone has been done after all, and is not taken back.
            (Stand::Undoing { .. }, Some(index), Some(true)) => Stand::Forward { index, begun: true },
            (at, ..) => at,
        };
        if let Some(served) = served {
            self.served |= served;
            self.in_doubt = None;
        }
        self.phase = match (to, at) {
            (Aim::Resume, forward @ Stand::Forward { .. }) => Phase::At(forward),
            (Aim::Abort, Stand::Forward { index, .. }) if is_open || self.is_committed() => return self.close(index),
            (Aim::Abort, Stand::Forward { index, begun }) => {
                if self.served {
                    self.leave_behind(index);
                }
                Phase::At(Stand::Undoing { left: index + usize::from(begun) })
            }
            (_, undoing @ Stand::Undoing { .. }) => Phase::At(undoing),
        };
    }

    /// Goes on only to make last what serves, and to clear away. All that is passed over is missing.
    fn close(&mut self, index: usize) {
        let passed_over = self.plan.steps.iter().skip(index).filter(|step| !step.is_closing());
        let missing: Vec<_> = passed_over
            .map(|step| Learnt::Shortfall(format!("{}: not done, the run was aborted", step.name())))
            .collect();
        self.ledger.extend(missing);
        self.closing = true;
        self.forward(index);
    }

    /// Names what a promoted survivor goes on without, since nothing more is built behind it.
    fn leave_behind(&mut self, index: usize) {
        let source = &self.plan.source;
        let missing: Vec<String> = (self.plan.steps.iter().skip(index))
            .flat_map(|step| match step {
                Step::AttachSiblings { replicas, .. } => {
                    let left = |name: &InstanceRef| {
                        format!(
                            "siblings: {name} was left fenced, the run was aborted; to move it: `coord rejoin {name}`"
                        )
                    };
                    replicas.iter().map(left).collect()
                }
                Step::Attach { replica, .. } => {
                    vec![format!(
                        "attach: {replica} was not built, the run was aborted: `coord clone {source} {replica}`"
                    )]
                }
                _ => Vec::new(),
            })
            .collect();
        self.ledger.extend(missing.into_iter().map(Learnt::Shortfall));
    }
}
