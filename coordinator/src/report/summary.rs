//! What a run came to: the last words of a command, made from the run alone, so that `coord show` can say them again.

mod compared;

use std::collections::BTreeMap;
use std::io::{self, Write};

use baton_proto::control::{SaveMethod, TransferFacts};
use baton_proto::data::PackingFacts;
use baton_proto::report::total_keys;
use serde_json::{Value, json};

use crate::plan::Resync;
use crate::plan::{Goal, Mode, Way};
use crate::report::units::{Bytes, Count, Seconds};
use crate::run::{End, Run};

/// The parts whose seconds are told. Save, transfer and a live load have clocks of their own, since they run at the same time;
/// the others are steps.
const TOLD: [&str; 4] = ["snapshot", "transfer", "load", "attach"];

/// The steps that bring the snapshot into the target's server.
const LANDS: [&str; 6] = ["boot", "snapshot", "transfer", "stop", "install", "load"];

/// The outcome as a program reads it.
pub fn event(run: &Run, end: End) -> Value {
    let (primary, replicas) = run.plan.outcome();
    let stands = matches!(end, End::Done | End::Degraded);
    let transfer = run.ledger.transfer();
    json!({
        "event": "result",
        "run": run.plan.run,
        "outcome": end,
        "primary": primary.filter(|_| stands).map(ToString::to_string),
        "replicas": found_following(run).into_iter().chain(joined(run).into_iter().map(|(replica, _)| replica)).collect::<Vec<_>>(),
        "planned_replicas": replicas.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "resync": resync(run).map_or("none".into(), |resync| resync.to_string()),
        "resyncs": joined(run).into_iter().map(|(name, resync)| (name, resync.to_string())).collect::<BTreeMap<_, _>>(),
        "keys": keys(run),
        "bytes_raw": transfer.map(|facts| facts.bytes_raw),
        "bytes_wire": transfer.map(|facts| facts.bytes_wire),
        "ratio": transfer.map(ratio),
        "plain_chunks": transfer.map(|facts| facts.packing.plain),
        "mean_level": transfer.and_then(|facts| facts.packing.mean_level),
        "stored_chunks": transfer.map(|facts| facts.packing.stored),
        "packing": transfer.map(|facts| facts.packing.why.as_str()),
        "landing": landing(run),
        "expected": run.plan.expected.map(|expected| json!({
            "seconds": expected.seconds(),
            "taken": landed_seconds(run),
            "save": expected.save,
            "transfer": expected.transfer,
            "load": expected.load,
        })),
        "spooled_bytes": run.ledger.feed().and_then(|feed| feed.spooled.as_ref()).map(|spooled| spooled.bytes),
        "aside": run.ledger.aside().map(|(on, facts)| json!({
            "on": on.to_string(),
            "file": facts.file,
            "bytes": facts.bytes,
            "past_fork_bytes": facts.past_fork_bytes,
            "keys": total_keys(&facts.keyspace),
            "keyspace": facts.keyspace,
            "compared": facts.compared.as_ref().map(compared::event),
        })),
        "blake3": transfer.map(|facts| facts.digest.to_string()),
        "blocked_ms": blocked_ms(run),
        "missing": missing(run),
        "open": !run.is_over(),
        "kept": run.ledger.kept(),
        "error": run.failure.as_ref().map(|failure| failure.fault.to_string()),
        "seconds": seconds(run),
    })
}

/// The outcome as a person reads it; `verbose` tells how the snapshot was packed, and why so.
pub fn write(run: &Run, end: End, verbose: bool, out: &mut dyn Write) -> io::Result<()> {
    let plan = &run.plan;
    if matches!(end, End::Done | End::Degraded) {
        let word = if end == End::Done { "done" } else { "done, but degraded" };
        match plan.goal {
            Goal::Copy { start: false } => {
                writeln!(out, "{word}: the snapshot of {} is on {}", plan.source, plan.target)?
            }
            Goal::Copy { start: true } => {
                writeln!(out, "{word}: {} runs on the snapshot of {}", plan.target, plan.source)?
            }
            Goal::Clone | Goal::Rejoin => {
                let resync = resync(run).map(|resync| format!(" ({resync} resync)")).unwrap_or_default();
                writeln!(out, "{word}: {} follows {}{resync}", plan.target, plan.source)?;
            }
            Goal::Failover(_) | Goal::Switchover { .. } => {
                let primary = plan.outcome().0.unwrap_or(&plan.target);
                writeln!(out, "{word}: {primary} is primary, {}", followers(run))?;
            }
        }
    }
    match (blocked_ms(run), run.ledger.handed_over()) {
        (Some(blocked), _) => writeln!(out, "  writes    were blocked for {blocked:.0} ms")?,
        (None, Some((_, facts))) if facts.found => writeln!(out, "  writes    not blocked: it had taken over before")?,
        (None, Some(_)) => writeln!(out, "  writes    were blocked, for how long was not seen")?,
        (None, None) => {}
    }
    if let Some((on, facts)) = run.ledger.aside() {
        let keys = Count(total_keys(&facts.keyspace));
        let past = match facts.past_fork_bytes {
            Some(0) => "nothing was past the fork, so nothing was lost".into(),
            Some(bytes) => format!("{} past the fork, which its successor has not", Bytes(bytes)),
            None => "its history is forgotten: it may hold what its successor has not".into(),
        };
        writeln!(out, "  diverged  {past}")?;
        if let Some(compared) = &facts.compared {
            compared::write(compared, (on, &plan.source), out)?;
        }
        writeln!(out, "  aside     {} on {on}: {keys} keys, {}; it is never removed", facts.file, Bytes(facts.bytes))?;
    }
    for shortfall in missing(run) {
        writeln!(out, "  missing   {shortfall}")?;
    }
    if end == End::Degraded && !run.is_over() {
        let id = &plan.run;
        writeln!(out, "  next      once all agents answer: `coord resume {id}` clears away what is left of it, and")?;
        writeln!(
            out,
            "            frees its servers; `coord abort {id} --without HOST` gives up a host that is gone for good"
        )?;
    }
    if let Some(facts) = run.ledger.transfer() {
        let level = match facts.packing.mean_level {
            Some(level) => format!(", zstd level {level:.1} at the mean"),
            None if facts.packing.chunks > 0 => ", stored as it is".into(),
            None => String::new(),
        };
        let keys = keys(run).map(|keys| format!("{} keys, ", Count(keys))).unwrap_or_default();
        writeln!(
            out,
            "  data      {keys}snapshot {}, {} on the wire (ratio {:.2}{level})",
            Bytes(facts.bytes_raw),
            Bytes(facts.bytes_wire),
            ratio(facts),
        )?;
        if verbose {
            writeln!(out, "  packing   {}", packing(&facts.packing))?;
        }
        if let Some(feed) = run.ledger.feed() {
            let behind = Seconds(feed.behind_seconds);
            let how = if feed.overlapped { "loaded while it arrived" } else { "loaded by its server from a file" };
            writeln!(out, "  landing   live: {how}, done {behind} after the last byte")?;
            if let Some(spooled) = &feed.spooled {
                let (bytes, took) = (Bytes(spooled.bytes), Seconds(spooled.seconds));
                let wire = Bytes(spooled.bytes_wire);
                writeln!(out, "  spool     {bytes} written since, {wire} on the wire, caught up with in {took}")?;
            }
        }
        writeln!(out, "  blake3    {}", facts.digest)?;
    }
    for kept in run.ledger.kept() {
        writeln!(out, "  kept      {kept} on {}", plan.target)?;
    }
    let seconds = seconds(run);
    let told: Vec<_> = TOLD
        .iter()
        .chain(&["service", "total"])
        .filter_map(|name| Some(format!("{name} {}", Seconds(*seconds.get(*name)?))))
        .collect();
    writeln!(out, "  time      {}", told.join(", "))?;
    if let (Some(expected), Some(taken)) = (&plan.expected, landed_seconds(run)) {
        let (seconds, taken) = (Seconds(expected.seconds()), Seconds(taken));
        writeln!(out, "  expected  {seconds} until {} had loaded, {taken} taken", plan.target)?;
    }
    writeln!(out, "  run       {} (`coord show {}`)", plan.run, plan.run)
}

/// How the snapshot came to its server; none where no server was to have it, or it has not come so far.
fn landing(run: &Run) -> Option<Way> {
    let loaded = || run.ledger.load_seconds().map(|_| Way::File);
    run.ledger.feed().map(|_| Way::Live).or_else(loaded)
}

/// Seconds of the steps from the snapshot until the target had loaded; none where it has not, or some were begun before and
/// left.
fn landed_seconds(run: &Run) -> Option<f64> {
    landing(run).filter(|_| !run.taken_up)?;
    let times = run.times.iter().filter(|(step, _)| LANDS.contains(&step.as_str()));
    Some(times.map(|(_, seconds)| seconds).sum())
}

/// How a transfer was packed, and why so.
pub fn packing(facts: &PackingFacts) -> String {
    let level = facts.mean_level.map(|level| format!("zstd level {level:.1} at the mean, ")).unwrap_or_default();
    let why = if facts.why.is_empty() { String::new() } else { format!(": {}", facts.why) };
    let plain = if facts.plain > 0 { format!(", {} with strings made plain", facts.plain) } else { String::new() };
    format!("{level}{} of {} chunks stored as they are{plain}{why}", facts.stored, facts.chunks)
}

fn ratio(facts: &TransferFacts) -> f64 {
    facts.bytes_raw as f64 / facts.bytes_wire.max(1) as f64
}

/// What a run that ended well enough could not do: what its steps told, and what made it stop short.
fn missing(run: &Run) -> Vec<String> {
    let failure = run.failure.as_ref().map(|failure| {
        let step = run.step(failure.index).map_or("step", crate::plan::Step::name);
        format!("{step}: {}", failure.fault)
    });
    run.ledger.shortfalls().map(ToOwned::to_owned).chain(failure).collect()
}

/// Who follows the new primary, and how each joined. One that was found following joined before the run.
fn followers(run: &Run) -> String {
    let found = found_following(run).map(|replica| format!("{replica} follows it already"));
    let joined = joined(run).into_iter().map(|(replica, resync)| format!("{replica} follows it ({resync} resync)"));
    let all: Vec<_> = found.into_iter().chain(joined).collect();
    if all.is_empty() { "nobody follows it".into() } else { all.join(", ") }
}

fn found_following(run: &Run) -> Option<String> {
    run.ledger.handed_over().filter(|(_, facts)| facts.found).map(|(replica, _)| replica.to_string())
}

/// Milliseconds for which writes were blocked, at most, to a tenth.
fn blocked_ms(run: &Run) -> Option<f64> {
    let seconds = run.ledger.handed_over()?.1.blocked_seconds?;
    Some((seconds * 10_000.0).round() / 10.0)
}

fn joined(run: &Run) -> Vec<(String, Resync)> {
    run.ledger.joined().map(|(replica, resync)| (replica.to_string(), resync)).collect()
}

/// How the one replica joined that the run is about: the source behind its successor, or the target behind the source. Of
/// several it is about, the dearest.
fn resync(run: &Run) -> Option<Resync> {
    let subject = match run.plan.goal {
        Goal::Failover(Mode::InPlace) => return run.ledger.joined().map(|(_, resync)| resync).max(),
        Goal::Failover(Mode::Replace) | Goal::Switchover { .. } => &run.plan.source,
        Goal::Failover(Mode::Promote) | Goal::Copy { .. } | Goal::Clone | Goal::Rejoin => &run.plan.target,
    };
    run.ledger.joined().find(|(replica, _)| *replica == subject).map(|(_, resync)| resync)
}

fn keys(run: &Run) -> Option<u64> {
    let by_gate = run.ledger.gate().map(|(_, keys)| keys);
    // Of a dump that was there already, its server's keys tell nothing.
    let saved = run.ledger.snapshot().filter(|facts| facts.method != SaveMethod::Existing);
    by_gate.or_else(|| saved.map(|facts| total_keys(&facts.keyspace)))
}

/// Seconds of the steps after a primary served again, if one does.
pub fn seconds_after_service(run: &Run) -> Option<f64> {
    let seconds = seconds(run);
    Some(seconds.get("total")? - seconds.get("service")?)
}

/// Seconds by name: of the parts that are told, of all steps, and until a primary served again. The save and the transfer
/// overlap, so together they may be more than the total.
fn seconds(run: &Run) -> BTreeMap<&'static str, f64> {
    let mut seconds: BTreeMap<&'static str, f64> = BTreeMap::new();
    let own = [
        ("snapshot", run.ledger.snapshot().map(|facts| facts.seconds)),
        ("transfer", run.ledger.transfer().map(|facts| facts.seconds)),
        ("load", run.ledger.feed().map(|facts| facts.seconds)),
    ];
    seconds.extend(own.into_iter().filter_map(|(name, seconds)| Some((name, seconds?))));
    for name in TOLD {
        if own.iter().any(|(own, seconds)| *own == name && (name != "load" || seconds.is_some())) {
            continue;
        }
        let mut times = run.times.iter().filter(|(step, _)| step == name).map(|(_, seconds)| seconds).peekable();
        if times.peek().is_some() {
            seconds.insert(name, times.sum());
        }
    }
    seconds.insert("total", run.times.iter().map(|(_, seconds)| seconds).sum());
    let serves = match run.plan.goal {
        Goal::Failover(Mode::Replace) => "gate",
        Goal::Failover(Mode::Promote | Mode::InPlace) => "promote",
        Goal::Switchover { .. } => "hand-over",
        Goal::Copy { .. } | Goal::Clone | Goal::Rejoin => return seconds,
    };
    if let Some(at) = run.times.iter().position(|(step, _)| step == serves) {
        seconds.insert("service", run.times.iter().take(at + 1).map(|(_, seconds)| seconds).sum());
    }
    seconds
}

#[cfg(test)]
mod tests;
