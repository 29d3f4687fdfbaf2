//! `coord install [USER@]HOST`: from a host with ssh to a host with an agent, and a row in `coord status`.
//!
//! Each act sees what is there and does what is missing, so that the same command again upgrades or repairs. What the operator
//! or somebody else wrote (an agent.toml with instances, a host of coord.toml) is kept. No firewall is opened: what would
//! open it is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_proto::HostName;

use crate::cli::context::Context;
use crate::cli::status::{self, StatusArgs};
use crate::error::{CoordError, Exit};
use crate::install::authority::Authority;
use crate::install::ssh::Ssh;
use crate::install::{self, Found, Packages};
use crate::inventory::{Inventory, Places};
use crate::pki::{self, ledger};
use crate::report::console::Console;

/// The agent's configuration on its host.
const AGENT_TOML: &str = "/etc/baton/agent.toml";
const IDENTITY: &str = "/etc/baton/identity.pem";
const DROP_IN: &str = "/etc/systemd/system/baton-agent.service.d/10-data.conf";
/// What packages bring, for a host that takes none.
const UNIT: &str = include_str!("../../../packaging/agent/baton-agent.service");
const RULES: &str = include_str!("../../../packaging/agent/50-baton-agent.rules");
const SETUP: &str = include_str!("../../../packaging/agent/setup");
/// Removes what was put on the host without a package, once there is one: its unit would come before the package's.
const REPLACES: &str = "\n\
    if grep -qs '^ExecStart=/usr/local/bin/baton-agent ' /etc/systemd/system/baton-agent.service; then\n\
    systemctl disable -q baton-agent\n\
    rm -f /etc/systemd/system/baton-agent.service /etc/polkit-1/rules.d/50-baton-agent.rules /usr/local/bin/baton-agent\n\
    fi";
/// How often the new agent is asked whether it is there.
const POLL: Duration = Duration::from_millis(300);
/// How often in all: half a minute, since a small machine may still be starting.
const POLLS_MAX: u32 = 100;
/// Largest package: a static program with its papers has some ten megabytes, and a debug build some hundred.
const PACKAGE_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub struct InstallArgs {
    /// The host, as ssh knows it; the user must be root or be allowed `sudo` without a password
    #[arg(value_name = "[USER@]HOST")]
    destination: String,
    /// The host's name in coord.toml and in its identity [default: the host's own]
    #[arg(long)]
    name: Option<HostName>,
    /// The package or program to install, or a directory of them [default: beside coord, then ./target/packages]
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// Where the agent is to listen [default: the address that ssh reached, so that no other is opened]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::IpAddr>,
    /// The agent's UDP port
    #[arg(long, default_value_t = 7400)]
    port: u16,
    /// Where other hosts and coord reach the agent [default: the address that ssh dials]
    #[arg(long, value_name = "HOST")]
    address: Option<String>,
    /// How to call ssh
    #[arg(long, default_value = "ssh", value_name = "COMMAND")]
    ssh: String,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// All that is known before anything is changed.
struct Plan {
    found: Found,
    name: HostName,
    config: PathBuf,
    is_new_config: bool,
    pki: PathBuf,
    /// Whether the host has an identity of this authority that is still believed.
    is_identified: bool,
    package: Option<PathBuf>,
    listen: String,
    port: u16,
    agent: String,
    is_listed: bool,
}

pub fn run(config: Option<&Path>, args: &InstallArgs, console: Console) -> Result<Exit, CoordError> {
    let ssh = Ssh::new(&args.ssh, &args.destination)?;
    let plan = plan(config, args, &ssh)?;
    show(&plan, args, console);
    if args.dry_run {
        console.result(|out| writeln!(out, "nothing was done: --dry-run"));
        return Ok(Exit::Done);
    }
    let act = |what: &str| console.note(|out| writeln!(out, "{}: {what}", plan.name));
    if plan.is_new_config {
        let parent = plan.pki.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(parent)
            .map_err(|error| CoordError::usage(format!("make directory {}: {error}", parent.display())))?;
        let made = pki::init(&plan.pki, &std::env::var("USER").unwrap_or_else(|_| pki::OPERATOR_DEFAULT.into()))?;
        act(&format!("made the authority {}", made.authority.display()));
    }
    if let Some(package) = &plan.package {
        put_program(&ssh, &plan.found, package)?;
        act("installed the agent");
    }
    if !plan.is_identified {
        put_identity(&ssh, &plan)?;
        act("issued its identity");
    }
    let tables = put_config(&ssh, &plan)?;
    act(if plan.found.is_configured { "kept its agent.toml" } else { "wrote its agent.toml" });
    let configs = install::configs(&tables);
    let configs: Vec<&str> = configs.iter().map(String::as_str).collect();
    let dirs = ssh.run(install::PLACES, &configs)?;
    if let Some(text) = install::drop_in(&install::values(&dirs, "dir")) {
        ssh.put(text.as_bytes(), DROP_IN, "644", "root:root")?;
        act("opened the data directories to it");
    }
    ssh.run("set -e; systemctl daemon-reload; systemctl enable -q baton-agent; systemctl restart baton-agent", &[])?;
    act("started baton-agent.service");
    list(&plan)?;
    console.event(&serde_json::json!({ "event": "installed", "host": plan.name, "agent": plan.agent }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CoordError::new(Exit::Defect, "start the runtime").because(error))?;
    runtime.block_on(answered(&plan, &ssh, console))
}

fn plan(config: Option<&Path>, args: &InstallArgs, ssh: &Ssh) -> Result<Plan, CoordError> {
    let places = Places::of_environment();
    let known = match config {
        Some(path) => Some(path.to_owned()).filter(|path| path.exists()),
        None => places.config_files().into_iter().find(|path| path.exists()),
    };
    let new = || config.map(Path::to_owned).or_else(|| places.new_config());
    let path = known.clone().or_else(new).ok_or_else(|| CoordError::usage("HOME is not set; name `--config FILE`"))?;
    let inventory = known.as_deref().map(|path| Inventory::load(path, &places)).transpose()?;
    let authority = match &inventory {
        Some(inventory) => Authority::of_operator(&inventory.identity, &path, &places)?,
        None => Authority::beside(&path)?,
    };

    let connection = ssh.connection()?;
    let found = Found::read(&ssh.run(install::PROBE, &[&connection])?);
    if !found.has_systemd {
        return Err(CoordError::new(Exit::Preflight, format!("{} does not run systemd", args.destination))
            .hint("install by hand: `coord pki issue HOST --dir DIR --out FILE`, an agent.toml, and `baton-agent run`; see README"));
    }
    let name = match &args.name {
        Some(name) => name.clone(),
        None => HostName::new(&found.name).map_err(|error| {
            CoordError::usage(format!("the host calls itself `{}`: {error}", found.name)).hint("give it a `--name`")
        })?,
    };
    let package = package(&found, args)?;
    let is_new_config = inventory.is_none() && !authority.is_there;
    let is_identified = found.identities.iter().any(|identity| authority.believes(identity, pki::unix_now()));
    if !is_identified && !is_new_config {
        authority.signs_for(&name)?;
    }
    let listen = match (args.listen, &found.listen) {
        (Some(ip), _) => std::net::SocketAddr::new(ip, args.port).to_string(),
        (None, Some(listen)) if found.is_configured => listen.clone(),
        (None, _) => {
            let ip = found.address.parse().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
            std::net::SocketAddr::new(ip, args.port).to_string()
        }
    };
    // What an agent.toml says that stays.
    let port = listen.parse().map_or(args.port, |listen: std::net::SocketAddr| listen.port());
    let dialled = args.address.clone().or_else(|| ssh.address()).unwrap_or_else(|| found.address.clone());
    let agent = match dialled.parse::<std::net::IpAddr>() {
        Ok(ip) => std::net::SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{dialled}:{port}"),
    };
    let is_listed = inventory.as_ref().is_some_and(|inventory| inventory.hosts.contains_key(&name));
    let pki = authority.dir;
    Ok(Plan { found, name, config: path, is_new_config, pki, is_identified, package, listen, port, agent, is_listed })
}

/// Finds the newest package that the host takes.
fn package(found: &Found, args: &InstallArgs) -> Result<Option<PathBuf>, CoordError> {
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let places = match &args.from {
        Some(path) if path.is_file() => return Ok(Some(path.clone())),
        Some(path) => vec![path.clone()],
        None => beside.into_iter().chain(["target/packages".into()]).collect(),
    };
    let mut newest = None;
    for entry in places.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| found.takes(name)) {
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            newest = newest.max(Some((changed, entry.path())));
        }
    }
    if newest.is_none() && (found.agent.is_none() || args.from.is_some()) {
        let looked: Vec<String> = places.iter().map(|place| format!("`{}`", place.display())).collect();
        return Err(CoordError::usage(format!("no package of the agent for {} in {}", found.arch, looked.join(", ")))
            .hint("name it with `--from PATH`; `packaging/build` makes it"));
    }
    Ok(newest.map(|(_, path)| path))
}

fn show(plan: &Plan, args: &InstallArgs, console: Console) {
    console.result(|out| {
        let found = &plan.found;
        writeln!(out, "host        {} ({}, {})", plan.name, args.destination, found.arch)?;
        writeln!(
            out,
            "agent       {}",
            match (&plan.package, &found.agent) {
                (Some(package), Some(was)) => format!("install {} over {was}", package.display()),
                (Some(package), None) => format!("install {}", package.display()),
                (None, was) => format!("{} stays", was.as_deref().unwrap_or("it")),
            }
        )?;
        writeln!(
            out,
            "identity    {}",
            if plan.is_identified {
                "stays".into()
            } else {
                format!("issue, with the authority in {}", plan.pki.display())
            }
        )?;
        writeln!(
            out,
            "agent.toml  {}",
            if found.is_configured { "stays: it lists instances" } else { "write, from the servers that are found" }
        )?;
        writeln!(out, "listens     {} (UDP)", plan.listen)?;
        writeln!(out, "coord.toml  {}{}", plan.config.display(), if plan.is_listed { " (has it)" } else { "" })?;
        writeln!(out, "firewall    not touched; {}", found.firewall_line(plan.port))
    });
}

fn put_program(ssh: &Ssh, found: &Found, package: &Path) -> Result<(), CoordError> {
    let failed = |error| CoordError::usage(format!("read {}: {error}", package.display()));
    let size = std::fs::metadata(package).map_err(failed)?.len();
    if size > PACKAGE_BYTES_MAX {
        return Err(CoordError::usage(format!("{} is larger than {PACKAGE_BYTES_MAX} bytes", package.display())));
    }
    let content = std::fs::read(package).map_err(failed)?;
    let is = |suffix: &str| package.extension().is_some_and(|found| found == suffix);
    match found.packages {
        Packages::Deb if is("deb") => {
            ssh.put(&content, "/var/cache/baton/agent.deb", "644", "root:root")?;
            // Configuration that was changed stays; what the package lacks comes from the host's own sources.
            let script = "set -e; export DEBIAN_FRONTEND=noninteractive\n\
                          trap 'rm -rf /var/cache/baton' EXIT; cd /var/cache/baton\n\
                          dpkg --force-confold -i agent.deb >&2 || apt-get install -fqy >&2";
            ssh.run(&[script, REPLACES].concat(), &[]).map(drop)
        }
        Packages::Rpm if is("rpm") => {
            ssh.put(&content, "/var/cache/baton/agent.rpm", "644", "root:root")?;
            let script = "set -e; trap 'rm -rf /var/cache/baton' EXIT\n\
                          rpm -U --replacepkgs --oldpackage /var/cache/baton/agent.rpm >&2";
            ssh.run(&[script, REPLACES].concat(), &[]).map(drop)
        }
        _ if is("deb") || is("rpm") => {
            Err(CoordError::usage(format!("the host takes no such package as {}", package.display())))
        }
        _ => {
            ssh.put(&content, "/usr/local/bin/baton-agent", "755", "root:root")?;
            let unit = UNIT.replace("ExecStart=/usr/bin/", "ExecStart=/usr/local/bin/");
            ssh.put(unit.as_bytes(), "/etc/systemd/system/baton-agent.service", "644", "root:root")?;
            ssh.put(RULES.as_bytes(), "/etc/polkit-1/rules.d/50-baton-agent.rules", "644", "root:root")?;
            ssh.run(SETUP, &[]).map(drop)
        }
    }
}

/// Issues the identity, and leaves it nowhere but on its host.
fn put_identity(ssh: &Ssh, plan: &Plan) -> Result<(), CoordError> {
    let path = plan.pki.join(format!(".{}-{}.pem", plan.name, std::process::id()));
    pki::issue(&plan.name, &plan.pki, &path)?;
    let identity = std::fs::read(&path);
    let removed = std::fs::remove_file(&path);
    let failed = |error| CoordError::usage(format!("{}: {error}", path.display()));
    let identity = identity.map_err(failed)?;
    removed.map_err(failed)?;
    ssh.put(&identity, IDENTITY, "600", "baton:baton")
}

/// Sees that there is an agent.toml with the host's servers, and yields its text.
fn put_config(ssh: &Ssh, plan: &Plan) -> Result<String, CoordError> {
    if plan.found.is_configured {
        return ssh.run(&format!("cat {AGENT_TOML}"), &[]);
    }
    // The agent knows more of how servers are kept than a script does.
    let discovered = ssh.run("baton-agent discover 2>/dev/null || true", &[])?;
    let tables = match install::configs(&discovered).is_empty() {
        false => discovered,
        true => install::instances(&ssh.run(install::DETECT, &[])?),
    };
    if install::configs(&tables).is_empty() {
        return Err(CoordError::new(Exit::Preflight, format!("no Redis or Valkey server was found on {}", plan.name))
            .hint(format!("install one there, or write {AGENT_TOML}, and run this again")));
    }
    let text = install::agent_toml(&plan.listen, &tables);
    ssh.put(text.as_bytes(), AGENT_TOML, "640", "root:baton")?;
    Ok(text)
}

/// Adds the host to coord.toml, which is made if there is none.
fn list(plan: &Plan) -> Result<(), CoordError> {
    if plan.is_listed {
        return Ok(());
    }
    let failed = |error| CoordError::usage(format!("write {}: {error}", plan.config.display()));
    let mut text = match std::fs::read_to_string(&plan.config) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "identity = \"pki/operator.pem\"\n".into(),
        Err(error) => return Err(failed(error)),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&install::host_table(plan.name.as_str(), &plan.agent));
    let new = plan.config.with_extension("toml.new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &plan.config)).map_err(failed)
}

/// Waits until the agent answers, and shows what it says.
async fn answered(plan: &Plan, ssh: &Ssh, console: Console) -> Result<Exit, CoordError> {
    let context = Context::open(Some(&plan.config), console)?;
    let mut last = None;
    for _ in 0..POLLS_MAX {
        match context.agents.observe(&plan.name).await {
            Ok(_) => {
                // An identity that stays may be older than what was revoked since; one that is new brought it.
                if let Some(list) = ledger::list(&plan.pki)? {
                    let told = context.agents.revoke(&plan.name, list).await.map_err(|fault| {
                        let what = format!("{} does not take in what is revoked", plan.name);
                        CoordError::of_fault(Exit::Degraded, what, &fault)
                    })?;
                    console
                        .note(|out| writeln!(out, "{}: knows what is revoked (list {})", plan.name, told.revocations));
                }
                let args = StatusArgs { only: Some(plan.name.to_string()), watch: None };
                status::run(&args, &context.inventory, &context.agents, console).await?;
                return Ok(Exit::Done);
            }
            Err(fault) => last = Some(fault),
        }
        tokio::time::sleep(POLL).await;
    }
    let said = ssh.run("journalctl -u baton-agent -n 5 -o cat --no-pager", &[]).unwrap_or_default();
    let mut error =
        CoordError::new(Exit::Degraded, format!("the agent of {} does not answer at {}", plan.name, plan.agent));
    error.causes.extend(last.map(|fault| fault.to_string()));
    error.causes.extend(said.lines().map(str::to_owned));
    Err(error.hint(format!("{}; then run this again", plan.found.firewall_line(plan.port))))
}
