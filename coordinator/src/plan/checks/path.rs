//! Checks on the way between replicas and their primary to be: addresses, passwords, clocks.

use baton_proto::control::ReachVerdict;
use baton_proto::report::ServerState;

use super::{ok, refuse, warn};
use crate::plan::resync::{self, Resync};
use crate::plan::{Check, Goal, Member, Mode, Scene};
use crate::topology::HostView;

/// The replicas to be, and the primary to be.
fn parts<'a>(scene: &Scene<'a>) -> (Vec<Member<'a>>, Member<'a>) {
    let siblings = scene.siblings.iter().copied();
    match scene.intent.goal {
        Goal::Failover(Mode::InPlace) => (siblings.collect(), scene.source),
        Goal::Failover(Mode::Promote) | Goal::Clone | Goal::Rejoin => {
            (siblings.chain([scene.target]).collect(), scene.source)
        }
        _ => ([scene.source].into_iter().chain(siblings).collect(), scene.target),
    }
}

/// A full resync is written in the primary's format; a replica that cannot read it is emptied and never linked again.
pub(super) fn formats_fit(scene: &Scene) -> Vec<Check> {
    const ID: &str = "path-format";
    let (replicas, primary) = parts(scene);
    let Some(format) = primary.report.binary.map(|version| version.writes()) else { return Vec::new() };
    let forecasts = resync::forecasts(scene);
    let too_old = replicas.into_iter().filter(|replica| replica.report.binary.is_some_and(|own| !own.reads(format)));
    too_old
        .map(|replica| {
            let name = replica.name;
            let full = forecasts.iter().any(|f| f.replica == *name && f.resync == Resync::Full);
            let text = format!("{name} cannot read {format} of {}, which a full resync brings", primary.name);
            let remedy = format!("upgrade the server on {}", name.host);
            if full { refuse(ID, text, remedy) } else { warn(ID, text, remedy) }
        })
        .collect()
}

/// A password on one side only keeps a replica out for ever, and says so in its log alone.
pub(super) fn passwords_fit(scene: &Scene) -> Vec<Check> {
    const ID: &str = "path-password";
    let (replicas, primary) = parts(scene);
    let wants = primary.report.settings.requires_password;
    let mut checks = Vec::new();
    for replica in replicas {
        let (from, to) = (replica.name, primary.name);
        let settings = &replica.report.settings;
        match (wants, settings.has_primary_password) {
            (true, false) => checks.push(refuse(
                ID,
                format!("{to} requires a password, and {from} has no masterauth"),
                format!("set masterauth in {}", settings.config_file),
            )),
            (false, true) if settings.primary_user.is_none() => checks.push(refuse(
                ID,
                format!("{from} has masterauth, and {to} requires no password: it would refuse {from}"),
                format!("set requirepass in {}", primary.report.settings.config_file),
            )),
            _ => {}
        }
    }
    checks
}

/// Each replica to be has tried its primary to be: the server itself, or the rehearsal in its place.
pub(super) fn is_open(scene: &Scene) -> Vec<Check> {
    const ID: &str = "path-open";
    let (replicas, primary) = parts(scene);
    let settings = &primary.report.settings;
    if let Some(Err(fault)) = scene.rehearsals.get(primary.name) {
        let remedy =
            fault.hint.clone().unwrap_or_else(|| format!("free port {} on {}", settings.port, primary.name.host));
        return vec![refuse("target-port", format!("{} cannot listen: {fault}", primary.name), remedy)];
    }
    let mut checks: Vec<Check> = protected(primary).into_iter().collect();
    for replica in replicas {
        let (from, to, address) = (replica.name, primary.name, &primary.report.address);
        let probe = scene.world.probes.iter().find(|probe| probe.from == *from && probe.to == *address);
        checks.push(match probe.map(|probe| &probe.answer) {
            Some(Ok(reach)) if reach.tls => refuse(
                ID,
                format!("TLS from {from} to {to} at {address} fails: {}", reach.detail),
                format!(
                    "see `tls-replication`, `tls-ca-cert-file` and `tls-cert-file` in {} of {from}, and in {} of {to}",
                    replica.report.settings.config_file, settings.config_file
                ),
            ),
            Some(Ok(reach)) => match reach.verdict {
                ReachVerdict::Open | ReachVerdict::Rehearsal | ReachVerdict::Busy => {
                    ok(ID, format!("{from} reaches {to} at {address}"))
                }
                ReachVerdict::Refused | ReachVerdict::Silent | ReachVerdict::Unreachable => refuse(
                    ID,
                    format!("{from} does not reach {to} at {address}: {}", reach.detail),
                    format!("look at `bind {}` in {}, and at firewalls", settings.bind.join(" "), settings.config_file),
                ),
                ReachVerdict::Denied => refuse(
                    ID,
                    format!("{to} at {address} refuses {from}: {}", reach.detail),
                    format!("set protected-mode no or requirepass in {}", settings.config_file),
                ),
                ReachVerdict::Unauthorised => refuse(
                    ID,
                    format!("{to} at {address} refuses the password of {from}: {}", reach.detail),
                    format!("make masterauth in {} fit", replica.report.settings.config_file),
                ),
            },
            Some(Err(fault)) => refuse(ID, format!("{from} could not try {to}: {fault}"), "see the log of its agent"),
            None => refuse(ID, format!("{from} has not tried {to} at {address}"), "run this again"),
        });
    }
    checks
}

/// A stopped server cannot be asked, but its configuration tells whether protected mode will refuse other hosts.
fn protected(primary: Member) -> Option<Check> {
    let settings = &primary.report.settings;
    let stopped = matches!(primary.report.server, ServerState::Stopped);
    let despite_bind = primary.report.binary.is_some_and(|version| version.protects_despite_bind());
    let refuses = settings.protected_mode && !settings.requires_password && (despite_bind || settings.bind.is_empty());
    let is_loopback = primary.report.address.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    (stopped && refuses && !is_loopback).then(|| {
        refuse(
            "path-protected",
            format!("protected mode of {} refuses other hosts, since it has no password", primary.name),
            format!("set requirepass, or protected-mode no, in {}", settings.config_file),
        )
    })
}

/// Clocks further apart than this expire keys too early or too late by that much.
const CLOCK_APART_MS: i64 = 1000;
/// Clocks further apart than this are wrong, not merely unsteady.
const CLOCK_APART_MS_MAX: i64 = 60_000;

/// Keys expire by the clock of the server that loads them.
pub(super) fn clocks_agree(scene: &Scene) -> Vec<Check> {
    const ID: &str = "path-clock";
    let offset = |member: Member| match &scene.world.hosts.get(&member.name.host)?.view {
        HostView::Answered { clock, .. } => Some(clock.offset_ms),
        HostView::Unreachable { .. } => None,
    };
    let (Some(source), Some(target)) = (offset(scene.source), offset(scene.target)) else { return Vec::new() };
    let apart = target.saturating_sub(source);
    if apart.abs() <= CLOCK_APART_MS {
        return Vec::new();
    }
    let expires = scene.source.running().is_some_and(|running| running.keyspace.values().any(|keys| keys.expires > 0));
    if expires && apart.abs() > CLOCK_APART_MS_MAX {
        let text = format!(
            "the clock of {} is {apart} ms off that of {}, and keys there have a time to live",
            scene.target.name, scene.source.name
        );
        return vec![refuse(ID, text, "set the clocks first: keys would be dropped too early, or live too long")];
    }
    let text = format!("the clock of {} is {apart} ms off that of {}", scene.target.name, scene.source.name);
    vec![warn(ID, text, "set the clocks; keys with a time to live run out by the target's")]
}
