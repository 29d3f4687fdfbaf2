//! `coord failover HOST --to HOST` of a host that led several groups: one plan and one run a group, shown, confirmed and
//! carried out together.

use std::time::Instant;

use baton_proto::RunId;
use baton_proto::data::RATE_MIN;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::batch::pairing::{self, By, Free, Lost};
use crate::batch::row::{Outcome, Outlook, Prospect, Row, exit_of};
use crate::batch::turns::{MemberHands, Purse};
use crate::cli::context::Context;
use crate::cli::ended::{self, failure};
use crate::cli::execute::{self, begin, drive_to_end};
use crate::cli::failover::{FailoverArgs, RUN_NAME, no_cast, no_scene};
use crate::cli::signals::Signals;
use crate::cli::trials;
use crate::client::Seat;
use crate::drive::hands::AgentHands;
use crate::error::{CoordError, Exit};
use crate::inventory::Word;
use crate::observe::together;
use crate::plan::cast::Cast;
use crate::plan::checks::batch::{self as checks, Demand};
use crate::plan::{Check, Goal, Intent, Mode, Plan, landing, pace};
use crate::rate::Limit;
use crate::report::batch::{self as report, Batch};
use crate::report::progress::{Display, Displays};
use crate::report::summary::seconds_after_service;
use crate::run::{End, Run};
use crate::topology::{Group, Topology, WordError, World};

/// Whether the operator means all groups of a host, and the host that is to take them. Of a host that led one, the target is
/// named as ever.
pub(super) fn is_meant(failed: &Word, to: Option<&Word>, topology: &Topology) -> bool {
    failed.instance.is_none() && to.is_none_or(|to| to.instance.is_none()) && topology.led_by(&failed.host).count() > 1
}

/// Shows the plans and, if they may be, carries them out.
pub(super) async fn go_on(
    context: &Context,
    args: &FailoverArgs,
    rows: Vec<Row>,
    signals: &mut Signals,
) -> Result<Exit, CoordError> {
    let console = context.console;
    let (jobs, max_rate) = (jobs(args, rows.len()), args.moving.budget().max_rate);
    let batch = Batch { failed: &args.failed, to: args.to.as_deref(), mode: args.mode(), jobs, max_rate };
    console.result(|out| batch.write_plans(&rows, console.verbose, out));
    batch.plan_events(&rows).iter().for_each(|event| console.event(event));
    let refused = rows.iter().filter(|row| row.refusal().is_some()).count();
    if refused == rows.len() || (refused > 0 && !args.skip_refused) {
        return Err(all_refused(&batch, &rows, refused));
    }
    if args.consent.dry_run {
        return Ok(Exit::worst(rows.iter().filter_map(Row::refusal)));
    }
    args.consent.obtain(console, signals).await?;
    let begun = Instant::now();
    let outcomes = carry_out(context, rows, jobs, max_rate.map(Purse::new)).await;
    let seconds = begun.elapsed().as_secs_f64();
    console.result(|out| report::write_results(&outcomes, seconds, out));
    console.event(&report::result_event(&outcomes, seconds));
    let stopped: Vec<_> = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.end, Some(End::Interrupted)))
        .filter_map(|outcome| outcome.run.as_ref().map(RunId::as_str))
        .collect();
    if !stopped.is_empty() {
        let runs = stopped.join(" ");
        console.note(|out| writeln!(out, "hint: to go on: for run in {runs}; do coord resume $run; done"));
    }
    Ok(exit_of(&outcomes))
}

/// How many of so many groups move their data at a time.
fn jobs(args: &FailoverArgs, groups: usize) -> usize {
    args.jobs.min(groups).max(1)
}

/// What is wanted of each group: the rate is the share that each has if all that may have their turn send.
fn shared_intent(args: &FailoverArgs, mode: Mode, jobs: usize, lost: usize) -> Result<Intent, CoordError> {
    if args.expect_primary.is_some() || args.expect_lineage.is_some() {
        let message = format!("--expect-primary and --expect-lineage are about one group, and {lost} are meant");
        return Err(CoordError::usage(message).hint("name one group, as `coord status` does"));
    }
    let mut intent = args.intent(mode);
    let max_rate = intent.budget.max_rate;
    if let Some(whole) = max_rate {
        let share = whole / jobs as u64;
        if share < RATE_MIN {
            let message = format!("{} is too slow to be shared by {jobs}", Limit(max_rate));
            return Err(CoordError::usage(message).hint("raise --max-rate, or lower --jobs"));
        }
        intent.budget.max_rate = Some(share);
    }
    Ok(intent)
}

/// Pairs, tries what all plans need tried, and makes the plan of each group.
pub(super) async fn plan(
    context: &Context,
    args: &FailoverArgs,
    (failed, to, source): (&Word, Option<&Word>, Option<&Word>),
    (world, topology): (&mut World, &Topology),
) -> Result<Vec<Row>, CoordError> {
    match to.map(|to| (to, world.named(&to.host, None))) {
        Some((to, _)) if failed.host == to.host => {
            return Err(CoordError::usage(format!("{to} cannot take its own place")));
        }
        None | Some((_, Ok(_) | Err(WordError::Several { .. }))) => {}
        Some((_, Err(error))) => return Err(no_cast(error.into(), &topology.unreachable)),
    }
    let groups = pairing::led_by(topology, &failed.host);
    let jobs = jobs(args, groups.len());
    let in_place = shared_intent(args, Mode::InPlace, jobs, groups.len())?;
    let building = Intent { goal: Goal::Failover(args.mode()), ..in_place.clone() };
    let free = to.map(|to| pairing::free_on(world, topology, &to.host, building.replace_target_data));
    let parts = parts(args, &groups, &free.unwrap_or_default(), (to, source), world);
    let casts = parts.iter().flatten().map(|(cast, _)| cast.clone());
    let (staying, moving): (Vec<Cast>, Vec<Cast>) = casts.partition(Cast::is_in_place);
    let mut rehearsals = trials::try_paths(context, &staying, in_place.goal, world).await;
    rehearsals.extend(trials::try_paths(context, &moving, building.goal, world).await);
    let (mut rows, mut demands, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for (group, part) in groups.iter().zip(parts) {
        let group = group.name.clone();
        let (cast, by) = match part {
            Ok(part) => part,
            Err(check) => {
                rows.push(Row { group, outlook: Outlook::Without(vec![check]) });
                demands.push(None);
                continue;
            }
        };
        let run = unlike(context, &runs)?;
        let moves = !cast.is_in_place();
        let intent = if moves { &building } else { &in_place };
        let scene = cast.scene(world, intent, &rehearsals, &run).ok_or_else(no_scene)?;
        let way = moves.then(|| landing::of(&scene));
        let seconds = pace::cautious_seconds(&scene).filter(|_| moves);
        let plan = Plan::build(Some(group.clone()), &scene);
        let (bytes, demand) = (if moves { scene.data_bytes() } else { 0 }, Demand::of(&scene));
        let row = Row { group, outlook: Outlook::Planned(Box::new(Prospect { plan, by, way, bytes, seconds })) };
        demands.push((moves && row.refusal().is_none()).then_some(demand));
        rows.push(row);
        runs.push(run);
    }
    for (row, checks) in rows.iter_mut().zip(checks::fits(&demands, jobs)) {
        if let Outlook::Planned(prospect) = &mut row.outlook {
            prospect.plan.checks.extend(checks);
        }
    }
    Ok(rows)
}

/// Who plays which part in each group, and why the groups that have no plan have none.
fn parts(
    args: &FailoverArgs,
    groups: &[&Group],
    free: &[Free],
    (to, source): (Option<&Word>, Option<&Word>),
    world: &World,
) -> Vec<Result<(Cast, By), Check>> {
    let stays = |group: &Group| to.is_none_or(|to| source.is_none() && args.takes_over(group, to));
    let is_lost = |group: &&&Group| !group.primary.state.is_running() && !stays(group);
    let lost: Vec<Lost> = groups.iter().filter(is_lost).map(|group| Lost::of(group, world)).collect();
    let mut pairs = pairing::pair(&lost, free).into_iter();
    let part = |group: &&Group| {
        if group.primary.state.is_running() {
            return Err(checks::alive(group));
        }
        let (cast, by) = match to.filter(|_| !stays(group)) {
            None => (Cast::of_group(world, group, None, to.or(source)), By::Group),
            Some(to) => {
                let Some((target, by)) = pairs.next().flatten() else {
                    return Err(checks::without_target(&group.name, &to.host));
                };
                let target = Word { host: target.host, instance: Some(target.instance) };
                (Cast::of_group(world, group, Some(&target), source), by)
            }
        };
        cast.map(|cast| (cast, by)).map_err(|error| checks::without_cast(&error))
    };
    groups.iter().map(part).collect()
}

/// A run's name that is not among those drawn for the others.
fn unlike(context: &Context, others: &[RunId]) -> Result<RunId, CoordError> {
    loop {
        let run = execute::new_run(context, RUN_NAME)?;
        if !others.contains(&run) {
            return Ok(run);
        }
    }
}

fn all_refused(batch: &Batch, rows: &[Row], refused: usize) -> CoordError {
    let (groups, exit) = (report::groups(rows.len()), Exit::worst(rows.iter().filter_map(Row::refusal)));
    let what = format!("{batch}: {refused} of {groups} refused, nothing was changed");
    let mut error = CoordError::new(exit, what);
    for row in rows {
        let refusals = row.refusals().map(|check| format!("{}: {}: {}", row.group, check.id, check.says));
        error.causes.extend(refusals);
    }
    let remedy = rows.iter().flat_map(Row::refusals).find_map(|check| check.remedy.clone());
    error.hint = match (remedy, rows.len() - refused) {
        (remedy, 0) => remedy,
        (Some(remedy), ready) => Some(format!("{remedy}; or say --skip-refused to go on with the other {ready}")),
        (None, ready) => Some(format!("say --skip-refused to go on with the other {ready}")),
    };
    error
}

/// A group on its way.
enum Member {
    Planned(Box<(String, Plan, Display, Signals)>),
    Refused(Outcome),
}

/// Carries all plans out. The answers are in the order of the rows, also for those that were refused.
async fn carry_out(context: &Context, rows: Vec<Row>, jobs: usize, purse: Option<Purse>) -> Vec<Outcome> {
    let labels = rows.iter().filter(|row| row.refusal().is_none()).map(|row| row.group.as_str());
    let displays = Displays::new(context.console, labels);
    let turns = Semaphore::new(jobs);
    let (turns, purse) = (&turns, purse.as_ref());
    // Listened for before anything begins, so that none misses the word to stop.
    let members: Vec<_> = rows
        .into_iter()
        .map(|row| match (row.refusal(), row) {
            (None, Row { group, outlook: Outlook::Planned(prospect) }) => {
                let (display, signals) = (displays.add(prospect.plan.run.as_str(), &group), Signals::listen());
                Member::Planned(Box::new((group, prospect.plan, display, signals)))
            }
            (refusal, row) => {
                let why: Vec<_> = row.refusals().map(|check| format!("{}: {}", check.id, check.says)).collect();
                let (why, exit) = (Some(why.join("; ")), refusal.unwrap_or(Exit::Preflight));
                Member::Refused(Outcome {
                    group: row.group,
                    run: None,
                    end: None,
                    exit,
                    seconds: 0.0,
                    service: None,
                    why,
                    next: None,
                })
            }
        })
        .collect();
    together(members, |member| async move {
        match member {
            Member::Planned(planned) => {
                let (group, plan, display, signals) = *planned;
                one(context, (group, plan), &display, signals, (turns, purse)).await
            }
            Member::Refused(outcome) => outcome,
        }
    })
    .await
}

/// Carries one plan out, from its claims to its end.
async fn one(
    context: &Context,
    (group, plan): (String, Plan),
    display: &Display,
    mut signals: Signals,
    (turns, purse): (&Semaphore, Option<&Purse>),
) -> Outcome {
    let (console, begun) = (context.console, Instant::now());
    let seat = Seat::new(plan.run.clone(), 1);
    let (id, forecasts) = (plan.run.clone(), plan.forecasts.clone());
    let mut run = Run::new(plan.clone());
    let driven = async {
        let mut journal = begin(context, &plan, &seat).await?;
        let hands = AgentHands { agents: &context.agents, seat: &seat, taken_up: false, forecasts: &forecasts };
        let waits = || display.on_waiting();
        let hands = MemberHands::new(hands, turns, purse, &waits);
        drive_to_end(context, &mut run, &mut journal, &hands, (display, &mut signals), &seat).await
    };
    let driven = driven.await;
    let (end, exit, error) = match driven {
        Ok(end) => {
            let exit = ended::exit_of(end, &run);
            let fine = matches!(end, End::Done | End::Degraded);
            (Some(end), exit, (!fine).then(|| failure(&run, end, exit)))
        }
        Err(mut error) => {
            error.run.get_or_insert_with(|| Box::new(id.clone()));
            let mut event = error.event();
            event["group"] = json!(group);
            console.event(&event);
            (None, error.exit, Some(error))
        }
    };
    // The steps alone do not tell it: the run may have waited for its turn.
    let seconds = begun.elapsed().as_secs_f64();
    let service = seconds_after_service(&run).map(|after| seconds - after);
    let next = match end {
        Some(end) => ended::next(&run, end),
        None => error.as_ref().and_then(|error| error.hint.clone()),
    };
    let why = error.as_ref().map(|error| error.message.clone());
    let outcome = Outcome { group, run: Some(id), end, exit, seconds, service, why, next };
    display.on_end(outcome.word());
    // Interrupted by the operator, it needs no explanation.
    if let Some(error) = error.filter(|_| end != Some(End::Interrupted)) {
        display.on_error(&error);
    }
    outcome
}
