//! `coord status`: asks all hosts, judges, and shows.

mod lines;
mod watch;

use std::io::{self, Write};
use std::time::Duration;

use baton_proto::{HostName, InstanceRef};

use crate::client::Agents;
use crate::error::CoordError;
use crate::inventory::{Inventory, Word};
use crate::observe;
use crate::report::console::Console;
use crate::report::table;
use crate::topology::fed::Fed;
use crate::topology::{Group, Host, HostView, Topology, World};

#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// Show only this group, or what is on this host
    #[arg(value_name = "GROUP|HOST")]
    pub only: Option<String>,
    /// Show it again every so many seconds, until Ctrl-C: in place on a terminal, else what changed with the time
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub watch: Option<u16>,
}

/// Shows how things stand. It fails only if they cannot be shown at all.
pub async fn run(
    args: &StatusArgs,
    inventory: &Inventory,
    agents: &Agents,
    console: Console,
) -> Result<(), CoordError> {
    if let Some(seconds) = args.watch {
        return watch::run(args, Duration::from_secs(seconds.into()), inventory, agents, console).await;
    }
    let (mut world, topology) = observe::survey(inventory, agents).await;
    if console.verbose {
        observe::look_all_ways(agents, &mut world).await;
    }
    let selection = Selection::of(args, &world, &topology, inventory)?;
    for line in lines::lines(&selection, &topology, &world) {
        console.event(&line);
    }
    console.result(|out| {
        write(out, &selection, &topology, &world)?;
        if console.verbose {
            writeln!(out)?;
            selection.groups.iter().try_for_each(|group| table::sights::primary(out, group, &world))?;
            writeln!(out)?;
            table::sights::agents(out, &world)?;
        }
        Ok(())
    });
    Ok(())
}

/// What is shown.
struct Selection<'a> {
    hosts: Vec<(&'a HostName, &'a Host)>,
    groups: Vec<&'a Group>,
    spares: Vec<InstanceRef>,
    fed: Vec<&'a Fed>,
}

impl<'a> Selection<'a> {
    fn of(
        args: &StatusArgs,
        world: &'a World,
        topology: &'a Topology,
        inventory: &Inventory,
    ) -> Result<Self, CoordError> {
        match &args.only {
            None => Ok(Self::all(world, topology)),
            Some(word) => Self::only(word, world, topology, inventory),
        }
    }

    fn all(world: &'a World, topology: &'a Topology) -> Self {
        Self {
            hosts: world.hosts.iter().collect(),
            groups: topology.groups.iter().collect(),
            spares: topology.spares.clone(),
            fed: topology.fed.iter().collect(),
        }
    }

    /// What a word names: a group, or whatever is on a host, or an instance and its group.
    fn only(word: &str, world: &'a World, topology: &'a Topology, inventory: &Inventory) -> Result<Self, CoordError> {
        if let Some(group) = topology.group(word)
            && inventory.word(word).is_err()
        {
            return Ok(Self { hosts: Vec::new(), groups: vec![group], spares: Vec::new(), fed: Vec::new() });
        }
        let names = topology.groups.iter().map(|group| format!("`{}`", group.name)).collect::<Vec<_>>().join(", ");
        let known = |error| {
            let error = CoordError::from(error);
            if names.is_empty() { error } else { error.because(format!("the groups are {names}")) }
        };
        let Word { host, instance } = inventory.word(word).map_err(known)?;
        let hosts = world.hosts.get_key_value(&host).into_iter().collect();
        let on_host = topology.spares.iter().filter(|spare| spare.host == host);
        let fed = topology.fed.iter().filter(|fed| fed.instance.host == host);
        let Some(instance) = instance else {
            let spares = on_host.cloned().collect();
            return Ok(Self { hosts, groups: topology.on_host(&host).collect(), spares, fed: fed.collect() });
        };
        let name = match world.named(&host, Some(&instance)) {
            Ok(name) => name,
            // A group can be named by a lost primary of which no agent tells.
            Err(_) if topology.group(word).is_some() => InstanceRef { host: host.clone(), instance },
            Err(error) => return Err(CoordError::usage(error)),
        };
        let groups = topology.group(word).or_else(|| topology.group_of(&name)).into_iter().collect();
        let fed = fed.filter(|fed| fed.instance == name).collect();
        Ok(Self { hosts, groups, spares: on_host.filter(|spare| **spare == name).cloned().collect(), fed })
    }

    fn unreachable(&self) -> Vec<(&'a HostName, &'a Host, &'a str)> {
        let error = |host: &'a Host| match &host.view {
            HostView::Unreachable { error } => Some(error.as_str()),
            HostView::Answered { .. } => None,
        };
        self.hosts.iter().filter_map(|(name, host)| Some((*name, *host, error(host)?))).collect()
    }
}

fn write(out: &mut dyn Write, selection: &Selection, topology: &Topology, world: &World) -> io::Result<()> {
    let mut gap = "";
    for group in &selection.groups {
        write!(out, "{gap}")?;
        table::group(out, group, topology, world)?;
        gap = "\n";
    }
    if !selection.fed.is_empty() {
        write!(out, "{gap}")?;
        table::fed(out, &selection.fed, world)?;
        gap = "\n";
    }
    if !selection.spares.is_empty() {
        write!(out, "{gap}")?;
        table::spares(out, &selection.spares, world)?;
        gap = "\n";
    }
    let unreachable = selection.unreachable();
    if !unreachable.is_empty() {
        write!(out, "{gap}")?;
        table::unreachable(out, &unreachable)?;
        gap = "\n";
    }
    let hosts: Vec<&HostName> = selection.hosts.iter().map(|(name, _)| *name).collect();
    let notes = table::hosts::notes(&hosts, world, crate::pki::unix_now());
    if !notes.is_empty() {
        write!(out, "{gap}")?;
        table::notes(out, &notes)?;
    }
    if gap.is_empty() {
        writeln!(out, "no instance: the agents that answered have none in their agent.toml")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
