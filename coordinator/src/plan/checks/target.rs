//! Checks on the target: it is free, understands the snapshot, and has room for it.

use baton_proto::report::{Role, ServerState, total_keys};
use baton_proto::{HostPort, InstanceRef};

use super::{danger, ok, refuse, warn};
use crate::plan::landing::{self, Way};
use crate::plan::{Check, Goal, Mode, Scene, pace};
use crate::report::units::{Bytes, Count};

/// Nobody uses the target, and it holds nothing; or the operator has said that what it holds is to be replaced.
pub(super) fn is_free(scene: &Scene) -> Vec<Check> {
    const ID: &str = "target-free";
    let (name, report) = (scene.target.name, scene.target.report);
    let settings = &report.settings;
    if let Some(error) = &settings.error {
        let text = format!("the configuration of {name} cannot be read: {error}");
        return vec![refuse(ID, text, "mend `config` in its agent.toml")];
    }
    match &report.server {
        ServerState::Silent { error } => vec![refuse(
            ID,
            format!("something holds the port of {name} at {} and does not answer: {error}", report.address),
            format!("see on {} who listens on port {}", name.host, settings.port),
        )],
        ServerState::Denied { user, error } => vec![refuse(
            ID,
            format!("the server of {name} at {} refuses its agent, user `{user}`: {error}", report.address),
            format!("mend requirepass in {}, or user and password_file in its agent.toml", settings.config_file),
        )],
        ServerState::Strange { error } => vec![refuse(
            ID,
            format!("the server of {name} at {} is not understood: {error}", report.address),
            "upgrade coord, or take another target",
        )],
        ServerState::Stopped => match report.files.dump_bytes {
            Some(bytes) => {
                vec![ok(ID, format!("{name} is stopped; its {} ({}) is kept aside", settings.dbfilename, Bytes(bytes)))]
            }
            None => vec![ok(ID, format!("{name} is stopped, and has no dump"))],
        },
        ServerState::Running(running) => {
            let keys = total_keys(&running.keyspace);
            if let Role::Replica { primary, .. } = &running.role {
                let text = format!("{name} is a replica of {primary}");
                return vec![danger(ID, text, "choose a target that belongs to no group")];
            }
            if let Role::Primary { replicas } = &running.role
                && !replicas.is_empty()
            {
                let text = format!("{name} is a primary with {} replicas", replicas.len());
                return vec![danger(ID, text, "choose a target that belongs to no group")];
            }
            match (keys, scene.intent.replace_target_data) {
                (0, _) if landing::of(scene) == Way::Live => vec![ok(ID, format!("{name} runs empty"))],
                (0, _) => vec![ok(ID, format!("{name} runs empty; it is stopped and started again"))],
                (keys, true) => vec![warn(
                    ID,
                    format!("{name} runs with {} keys, which are replaced as asked", Count(keys)),
                    "its old dump is saved first and kept aside",
                )],
                (keys, false) if holds_the_groups_data(scene) => vec![danger(
                    ID,
                    format!(
                        "{name} runs with {} keys of this very group: an earlier run may have got so far",
                        Count(keys)
                    ),
                    "see `coord runs` and `coord show RUN`; it may hold newer writes than the source",
                )],
                (keys, false) => vec![danger(
                    ID,
                    format!("{name} runs with {} keys", Count(keys)),
                    "choose an empty target, or say --replace-target-data; its old dump is then kept aside",
                )],
            }
        }
    }
}

/// Whether the target has loaded a snapshot of the source's history.
fn holds_the_groups_data(scene: &Scene) -> bool {
    let (Some(source), Some(target)) = (scene.source.running(), scene.target.running()) else { return false };
    target.replication.second.as_ref().is_some_and(|second| second.id == source.replication.lineage.id)
}

/// Nobody follows the target's address, or would after a restart: such a replica takes over whatever comes up there.
pub(super) fn has_no_followers(scene: &Scene) -> Vec<Check> {
    const ID: &str = "target-followed";
    let target = scene.target.name;
    let followers = scene.world.instances().filter_map(|(name, report)| {
        let followed = match report.server.running().map(|running| &running.role) {
            Some(Role::Replica { primary, .. }) => vec![primary],
            Some(Role::Primary { .. }) => Vec::new(),
            None => report.settings.replica_of.iter().collect(),
        };
        let of_target = |address: &&HostPort| scene.world.place(address, &name.host).instance() == Some(target);
        (name != *target && followed.iter().any(of_target)).then_some(name)
    });
    let danger_of = |name: InstanceRef| {
        let text = format!("{name} follows {target}, and would take over what comes up there instead of its own data");
        danger(
            ID,
            text,
            format!("promote {name} or let it follow another, or use `coord failover` to replace a primary"),
        )
    };
    followers.map(danger_of).collect()
}

/// The snapshot can land as it was asked for.
pub(super) fn can_land(scene: &Scene) -> Vec<Check> {
    const ID: &str = "target-landing";
    let Some(choice) = landing::choose(scene) else { return Vec::new() };
    let obstacles = match choice.way {
        Way::Live => choice.obstacles.as_slice(),
        Way::File => &[],
    };
    if obstacles.is_empty() {
        let expected = pace::expected(scene).map(|expected| ok("expected-time", expected));
        return [ok(ID, choice.says())].into_iter().chain(expected).collect();
    }
    obstacles
        .iter()
        .map(|obstacle| refuse(ID, format!("it cannot land live: {}", obstacle.says), &obstacle.remedy))
        .collect()
}

/// The service can start the server with the append-only file off, and as a replica where that is needed.
pub(super) fn takes_arguments(scene: &Scene) -> Vec<Check> {
    const ID: &str = "target-start";
    let (name, report) = (scene.target.name, scene.target.report);
    let starts = !matches!(scene.intent.goal, Goal::Copy { start: false });
    if !starts {
        let aof = report.settings.appendonly;
        let trap = || {
            let text = format!("{name} has appendonly yes: started by hand it ignores the dump and comes up empty");
            warn("target-aof", text, "start it with --start, or with `--appendonly no` and turn it on afterwards")
        };
        return aof.then(trap).into_iter().collect();
    }
    // One that runs and is fed is not started.
    if landing::of(scene) == Way::Live && !landing::boots(scene) {
        return Vec::new();
    }
    let kind = &report.service.kind;
    if !report.service.takes_arguments {
        return vec![refuse(
            ID,
            format!("the start command of {name} takes no arguments, and `--appendonly no` is needed"),
            "put the word {args} into `service.command.start` of its agent.toml",
        )];
    }
    let mut checks = vec![ok(ID, format!("{name} is started by {kind}"))];
    if report.settings.appendonly {
        let text = format!("{name} has appendonly yes: it is started with it off, and it is turned on after the load");
        checks.push(ok("target-aof", text));
    }
    if let (Goal::Failover(Mode::Replace) | Goal::Copy { .. }, Some(primary)) =
        (scene.intent.goal, &report.settings.replica_of)
        && !scene.target.running().is_some_and(|running| matches!(running.role, Role::Primary { .. }))
    {
        checks.push(refuse(
            "target-role",
            format!("the configuration of {name} makes it a replica of {primary}"),
            format!("remove `replicaof` from {}", report.settings.config_file),
        ));
    }
    checks
}

/// The target's version loads the format that the source's version writes.
pub(super) fn reads_snapshot(scene: &Scene) -> Vec<Check> {
    const ID: &str = "target-version";
    let (name, report) = (scene.target.name, scene.target.report);
    let Some(target) = report.binary else {
        let error = report.binary_error.as_deref().unwrap_or("it did not say");
        let text = format!("the version of the server on {name} cannot be told: {error}");
        return vec![refuse(ID, text, "mend `service` in its agent.toml")];
    };
    // A stopped source's dump says what it is only when it is opened; the transfer checks it before the first byte.
    let Some(source) = scene.source.running().map(|running| running.version) else { return Vec::new() };
    let format = source.writes();
    if target.reads(format) {
        return vec![ok(ID, format!("{name} runs {target} and reads {format} of {source}"))];
    }
    let text = format!("{name} runs {target}, which cannot read {format} of {source}");
    vec![refuse(ID, text, format!("install a server on {} that is as new as the source's", name.host))]
}

/// Every module of the source is there: a server without it exits when it meets the module's data.
pub(super) fn has_modules(scene: &Scene) -> Vec<Check> {
    const ID: &str = "target-modules";
    let Some(source) = scene.source.running() else { return Vec::new() };
    let wanted: Vec<_> = source.modules.iter().filter(|module| !source.version.brings_module(module)).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let (name, report) = (scene.target.name, scene.target.report);
    let loaded = scene.target.running().map(|running| running.modules.as_slice()).unwrap_or_default();
    let configured = &report.settings.load_modules;
    let has = |module: &String| {
        loaded.contains(module)
            || configured.iter().any(|path| file_name(path).contains(&bare(module)))
            || only_module_files(scene, wanted.len()).any(|file| configured.iter().any(|path| file_name(path) == file))
    };
    let list = |modules: &[&String]| modules.iter().map(|module| module.as_str()).collect::<Vec<_>>().join(", ");
    let missing: Vec<_> = wanted.iter().filter(|module| !has(module)).copied().collect();
    if missing.is_empty() {
        return vec![ok(ID, format!("{name} loads the modules {}", list(&wanted)))];
    }
    let text = format!("the source has modules that {name} lacks: {}", list(&missing));
    vec![refuse(ID, text, format!("install them and add `loadmodule` to {}", report.settings.config_file))]
}

/// Files from which the source loads its module, where it has one alone and that makes them plain.
fn only_module_files<'a>(scene: &'a Scene, modules: usize) -> impl Iterator<Item = String> + use<'a> {
    let files = scene.source.report.settings.load_modules.iter();
    files.filter(move |_| modules == 1).map(|path| file_name(path))
}

fn file_name(path: &str) -> String {
    bare(path.rsplit('/').next().unwrap_or(path))
}

fn bare(name: &str) -> String {
    name.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The data set fits into the target's memory and under its limit.
pub(super) fn has_memory(scene: &Scene) -> Vec<Check> {
    const ID: &str = "target-memory";
    let (name, settings) = (scene.target.name, &scene.target.report.settings);
    let Some(wanted) = scene.source.running().map(|running| running.memory.used_bytes) else { return Vec::new() };
    let mut checks = Vec::new();
    let available = scene.world.report(&name.host).map_or(0, |host| host.memory_available_bytes);
    if available < wanted {
        checks.push(refuse(
            ID,
            format!("{name} has {} of memory available, the data set takes {}", Bytes(available), Bytes(wanted)),
            "choose a larger host, or lower memory_reserve in its agent.toml",
        ));
    }
    if settings.maxmemory_bytes > 0 && settings.maxmemory_bytes < wanted {
        checks.push(refuse(
            "target-maxmemory",
            format!(
                "{name} has maxmemory {} ({}), the data set takes {}",
                Bytes(settings.maxmemory_bytes),
                settings.maxmemory_policy,
                Bytes(wanted)
            ),
            format!("raise maxmemory in {}", settings.config_file),
        ));
    }
    if checks.is_empty() {
        checks.push(ok(ID, format!("{name} has {} of memory for {}", Bytes(available), Bytes(wanted))));
    }
    checks
}

/// What the snapshot takes on the target's disk, with the append-only file that may follow it.
pub(super) fn disk_wanted(scene: &Scene) -> u64 {
    let snapshot = scene.data_bytes();
    if scene.target.report.settings.appendonly { snapshot.saturating_mul(2) } else { snapshot }
}

/// The snapshot fits beside what is there, and the append-only file that may follow it.
pub(super) fn has_disk(scene: &Scene) -> Vec<Check> {
    const ID: &str = "target-disk";
    let (name, report) = (scene.target.name, scene.target.report);
    let (dir, files) = (&report.settings.dir, &report.files);
    if let Some(error) = &files.write_error {
        let text = format!("the agent of {name} cannot write into {dir}: {error}");
        return vec![refuse("target-dir", text, "mend owner and rights of the directory")];
    }
    let wanted = disk_wanted(scene);
    if files.free_bytes < wanted {
        return vec![refuse(
            ID,
            format!("{name} has {} free in {dir}, {} are needed", Bytes(files.free_bytes), Bytes(wanted)),
            "make room there, or lower disk_reserve in its agent.toml",
        )];
    }
    vec![ok(ID, format!("{name} has {} free in {dir} for {}", Bytes(files.free_bytes), Bytes(wanted)))]
}
