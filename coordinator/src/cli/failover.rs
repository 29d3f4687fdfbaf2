//! `coord failover FAILED [--to TARGET]`: replaces a lost primary, by a survivor of its group or by another server.

use baton_proto::{HostName, HostPort};
use clap::{Args, ValueEnum};

use crate::batch::row::Row;
use crate::batch::{JOBS_DEFAULT, JOBS_MAX};
use crate::cli::context::Context;
use crate::cli::execute::{self, Consent};
use crate::cli::moving::Moving;
use crate::cli::signals::Signals;
use crate::cli::{batch, trials};
use crate::error::{CoordError, Exit};
use crate::inventory::Word;
use crate::observe;
use crate::plan::cast::{self, Cast, CastError};
use crate::plan::{Goal, Intent, Mode, Plan};
use crate::topology::stand::Seen;
use crate::topology::{Group, World};

/// What the manual tells of many groups at once.
const AFTER_HELP: &str = "\
A host that led several groups is failed over as a whole: `coord failover HOST --to HOST`. Each lost primary is paired \
with a free server of the target host: by the same port, else the same name, else in order. All groups are fenced at \
once, and in mode promote served at once; then --jobs of them at a time move their data, within one --max-rate that \
they share alike: the rate in a run's own plan is its share when all send, and one that is taken up alone keeps to it. \
Each group has a run of its own, which `coord show`, `rate`, `resume` and `abort` know. Interrupted once, every run \
stops at its next safe point, and none begins to move data. Given again, the command takes the groups that still have \
their primary on that host; the target of a last one is named.

The exit code is the worst of all groups, from the worst: 1, 7, 130, 8, 6, 4, 3, 2, 5, 0.";

/// What names of failovers begin with.
pub(super) const RUN_NAME: &str = "fo";

#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct FailoverArgs {
    /// The host, or host/instance, or host:port, of the lost primary; of a host that led several groups, all of them
    pub(super) failed: String,
    /// The host, or host/instance, that takes its place: a replica of the group, in place, or a server of none, to which the
    /// data is moved; for several groups the host alone [default: the freshest replica, in place]
    #[arg(long, value_name = "TARGET")]
    pub(super) to: Option<String>,
    /// Take this survivor as the source instead of the freshest
    #[arg(long, value_name = "HOST")]
    source: Option<String>,
    /// For a target of no group. replace: it becomes the primary; promote: the source does, and the target becomes its
    /// replica [default: replace]
    #[arg(long, value_enum, requires = "to")]
    mode: Option<ModeChoice>,
    #[command(flatten)]
    pub(super) moving: Moving,
    /// Refuse if the group's primary is another than this
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) expect_primary: Option<HostPort>,
    /// Refuse if the group's data stands elsewhere than this, as `coord status -v` prints it
    #[arg(long, value_name = "ID:OFFSET")]
    pub(super) expect_lineage: Option<Seen>,
    /// Replace a primary that accepts connections and answers nothing; it must not wake up afterwards
    #[arg(long)]
    hung_is_dead: bool,
    /// Refuse if the source lost its primary longer ago than this, such as 1h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_data_age: Option<std::time::Duration>,
    /// Of a host with several groups: go on with those that are not refused
    #[arg(long)]
    pub(super) skip_refused: bool,
    /// Of a host with several groups: move the data of so many at a time
    #[arg(long, value_name = "N", default_value_t = JOBS_DEFAULT, value_parser = jobs)]
    pub(super) jobs: usize,
    #[command(flatten)]
    pub(super) consent: Consent,
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(jobs @ 1..=JOBS_MAX) => Ok(jobs),
        Ok(_) => Err(format!("1 to {JOBS_MAX} runs can have their turn at a time")),
        Err(error) => Err(format!("{error}")),
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeChoice {
    Replace,
    Promote,
}

/// What is to be carried out.
enum Planned {
    One(Box<Plan>),
    /// All groups of a host.
    Many(Vec<Row>),
}

pub async fn run(context: &Context, args: &FailoverArgs) -> Result<Exit, CoordError> {
    let to = args.to.as_deref().map(|word| context.inventory.word(word)).transpose()?;
    let mut signals = Signals::listen();
    match execute::looked(plan(context, args, to.as_ref()), &mut signals).await? {
        Planned::One(plan) => execute::go_on(context, *plan, &args.consent, &mut signals).await,
        Planned::Many(rows) => batch::go_on(context, args, rows, &mut signals).await,
    }
}

async fn plan(context: &Context, args: &FailoverArgs, to: Option<&Word>) -> Result<Planned, CoordError> {
    let source = args.source.as_deref().map(|word| context.inventory.word(word)).transpose()?;
    let failed = context.inventory.word(&args.failed);
    let (mut world, topology) = observe::survey(&context.inventory, &context.agents).await;
    let group = match &failed {
        Ok(failed) if batch::is_meant(failed, to, &topology) => {
            let words = (failed, to, source.as_ref());
            return batch::plan(context, args, words, (&mut world, &topology)).await.map(Planned::Many);
        }
        Ok(failed) => cast::lost_group(&topology, failed),
        // Where the host of several primaries is gone, only its groups have names.
        Err(_) => topology.named_or_at(&args.failed).ok_or(CastError::NoSuchGroup),
    };
    let cast = match (group, failed) {
        (Err(CastError::NoSuchGroup), Err(error)) => return Err(error.into()),
        (group, _) => group.and_then(|group| args.cast(&world, group, to, source.as_ref())),
    };
    let cast = cast.map_err(|error| no_cast(error, &topology.unreachable))?;
    let intent = args.intent(if cast.is_in_place() { Mode::InPlace } else { args.mode() });
    let casts = std::slice::from_ref(&cast);
    let rehearsals = trials::try_paths(context, casts, intent.goal, &mut world).await;
    let run = execute::new_run(context, RUN_NAME)?;
    let scene = cast.scene(&world, &intent, &rehearsals, &run).ok_or_else(no_scene)?;
    Ok(Planned::One(Box::new(Plan::build(Some(args.failed.clone()), &scene))))
}

impl FailoverArgs {
    /// Finds the parts. A target that is of the group takes over in place, unless a mode was asked for, which wants another.
    fn cast(&self, world: &World, group: &Group, to: Option<&Word>, source: Option<&Word>) -> Result<Cast, CastError> {
        match to.filter(|to| source.is_none() && self.takes_over(group, to)) {
            Some(survivor) => Cast::of_group(world, group, None, Some(survivor)),
            None => Cast::of_group(world, group, to, source),
        }
    }

    /// Whether what is named is to take over in place.
    pub(super) fn takes_over(&self, group: &Group, to: &Word) -> bool {
        self.mode.is_none() && group.replicas.iter().any(|own| cast::fits(to, &own.instance))
    }

    /// The mode for a target of no group.
    pub(super) fn mode(&self) -> Mode {
        match self.mode {
            None | Some(ModeChoice::Replace) => Mode::Replace,
            Some(ModeChoice::Promote) => Mode::Promote,
        }
    }

    pub(super) fn intent(&self, mode: Mode) -> Intent {
        Intent {
            expect_primary: self.expect_primary.clone(),
            expect_lineage: self.expect_lineage.clone(),
            hung_is_dead: self.hung_is_dead,
            max_data_age_seconds: self.max_data_age.map(|age| age.as_secs()),
            ..self.moving.intent(Goal::Failover(mode))
        }
    }
}

/// Tells why there is no plan. What cannot be seen may be the reason.
pub fn no_cast(error: CastError, unreachable: &[(HostName, String)]) -> CoordError {
    let mut converted = CoordError::new(Exit::Preflight, &error).hint("see `coord status`");
    converted.causes = error.reasons().to_vec();
    let unseen = unreachable.iter().map(|(host, why)| format!("the agent of {host} does not answer: {why}"));
    converted.causes.extend(unseen);
    converted
}

/// A scene needs the reports of all who have a part.
pub fn no_scene() -> CoordError {
    CoordError::new(Exit::Preflight, "a host stopped answering while the plan was made").hint("run this again")
}
