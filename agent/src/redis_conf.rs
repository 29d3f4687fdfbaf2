//! PURE: `redis.conf` as the server reads it, and the defaults of what it leaves out.
//!
//! Directives are kept in the order in which the server takes them, those of included files in the place of their
//! `include`. Where a directive may stand once, the last one wins; `rename-command`, `loadmodule` and `user` add up.
//! `slaveof` and `primaryauth` are found under `replicaof` and `masterauth`. Not here: whether the server would accept
//! a value; one that it would refuse reads as the default, and the server will say so itself when it is started.

mod parse;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use baton_proto::HostPort;

pub use parse::{ConfError, Mistake, Source, parse};

const PORT: u16 = 6379;

/// The directives of a `redis.conf` and the files that it includes.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConf {
    directives: Vec<Directive>,
    /// The server's working directory: where it starts, moved by every `dir`.
    dir: PathBuf,
}

#[derive(Clone, PartialEq, Eq)]
struct Directive {
    name: String,
    arguments: Vec<String>,
}

/// The name under which a directive is kept: lower case, and today's word for it.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "slaveof" => "replicaof".to_owned(),
        "primaryauth" => "masterauth".to_owned(),
        "primaryuser" => "masteruser".to_owned(),
        _ => match name.strip_prefix("slave-") {
            Some(rest) => format!("replica-{rest}"),
            None => name,
        },
    }
}

impl RedisConf {
    /// A file that says nothing.
    pub fn empty(cwd: &Path) -> Self {
        Self { directives: Vec::new(), dir: cwd.to_owned() }
    }

    fn push(&mut self, name: &str, arguments: Vec<String>) {
        let name = canonical(name);
        // The server changes its directory as soon as it reads the line: what follows is relative to it.
        if let ("dir", [dir]) = (name.as_str(), arguments.as_slice()) {
            // `components` drops the `.` of `dir ./`.
            self.dir = self.dir.join(dir).components().collect();
        }
        self.directives.push(Directive { name, arguments });
    }

    /// Adds what stands after the file's name on the server's command line: `--port 7000 --dir /data`. It comes last,
    /// so it wins.
    pub fn push_arguments(&mut self, arguments: &[String]) {
        let mut words = arguments.iter().skip_while(|word| !word.starts_with("--")).peekable();
        while let Some(name) = words.next() {
            let mut values = Vec::new();
            while let Some(value) = words.next_if(|word| !word.starts_with("--")) {
                values.push(value.clone());
            }
            self.push(name.trim_start_matches("--"), values);
        }
    }

    /// The arguments of a directive's last occurrence.
    pub fn last(&self, name: &str) -> Option<&[String]> {
        self.all(name).last()
    }

    /// The arguments of each occurrence of a directive.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[String]> {
        let name = canonical(name);
        self.directives.iter().filter(move |d| d.name == name).map(|d| d.arguments.as_slice())
    }

    /// The one argument of a directive, unless it is empty: an empty text takes back what was set before.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.last(name)?.first().map(String::as_str).filter(|text| !text.is_empty())
    }

    fn yes(&self, name: &str, default: bool) -> bool {
        match self.text(name) {
            Some(text) if text.eq_ignore_ascii_case("yes") => true,
            Some(text) if text.eq_ignore_ascii_case("no") => false,
            _ => default,
        }
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// Zero: the server does not listen on TCP.
    pub fn port(&self) -> u16 {
        self.number("port").unwrap_or(PORT)
    }

    /// The port on which it speaks TLS, if it does.
    pub fn tls_port(&self) -> Option<u16> {
        self.number("tls-port").filter(|port| *port != 0)
    }

    /// Addresses as written, also with the `-` of an optional one. Empty: all interfaces.
    pub fn bind(&self) -> Vec<String> {
        self.last("bind").unwrap_or_default().iter().filter(|address| !address.is_empty()).cloned().collect()
    }

    pub fn unix_socket(&self) -> Option<PathBuf> {
        self.text("unixsocket").map(|path| self.dir.join(path))
    }

    pub fn protected_mode(&self) -> bool {
        self.yes("protected-mode", true)
    }

    /// The data directory; absolute if the working directory was.
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    pub fn dbfilename(&self) -> String {
        self.text("dbfilename").unwrap_or("dump.rdb").to_owned()
    }

    pub fn appendonly(&self) -> bool {
        self.yes("appendonly", false)
    }

    pub fn appendfilename(&self) -> String {
        self.text("appendfilename").unwrap_or("appendonly.aof").to_owned()
    }

    pub fn appenddirname(&self) -> String {
        self.text("appenddirname").unwrap_or("appendonlydir").to_owned()
    }

    /// Where the server writes its log, if not to its standard output.
    pub fn logfile(&self) -> Option<PathBuf> {
        self.text("logfile").map(|path| self.dir.join(path))
    }

    /// Zero: no limit.
    pub fn maxmemory_bytes(&self) -> u64 {
        self.text("maxmemory").and_then(memory).unwrap_or(0)
    }

    pub fn maxmemory_policy(&self) -> String {
        self.text("maxmemory-policy").unwrap_or("noeviction").to_owned()
    }

    pub fn serve_stale_data(&self) -> bool {
        self.yes("replica-serve-stale-data", true)
    }

    pub fn requirepass(&self) -> Option<&str> {
        self.text("requirepass")
    }

    /// Whether the default user must log in: by its `user default` lines, else by `requirepass`. What an `aclfile`
    /// says is not known here.
    pub fn requires_password(&self) -> bool {
        self.default_user_needs_password().unwrap_or(self.requirepass().is_some())
    }

    /// What the `user default` lines say about a password, if there are such lines.
    pub fn default_user_needs_password(&self) -> Option<bool> {
        let rules = self.all("user").filter(|rules| rules.first().is_some_and(|user| user == "default"));
        let verdict = |rule: &String| match rule.as_str() {
            "nopass" => Some(false),
            "off" | "reset" | "resetpass" => Some(true),
            _ => rule.starts_with(['>', '#']).then_some(true),
        };
        rules.flat_map(|rules| rules.iter().skip(1)).filter_map(verdict).last()
    }

    /// With what this server logs in to its primary.
    pub fn masterauth(&self) -> Option<&str> {
        self.text("masterauth")
    }

    pub fn masteruser(&self) -> Option<&str> {
        self.text("masteruser")
    }

    pub fn tls_replication(&self) -> bool {
        self.yes("tls-replication", false)
    }

    /// The primary that the file names; `replicaof no one` names none.
    pub fn replica_of(&self) -> Option<HostPort> {
        let [host, port] = self.last("replicaof")? else { return None };
        // By way of its text: only a valid address may cross the wire later.
        HostPort::new(host, port.parse().ok()?).to_string().parse().ok()
    }

    /// Under which address and port the server announces itself to its primary, as far as it is told to.
    pub fn announced(&self) -> (Option<&str>, Option<u16>) {
        (self.text("replica-announce-ip"), self.number("replica-announce-port").filter(|port| *port != 0))
    }

    /// The address from which the server connects to its primary, where it is told one (Redis 7.0 and later).
    pub fn bind_source(&self) -> Option<&str> {
        self.text("bind-source-addr")
    }

    /// Paths of the modules that the server loads.
    pub fn load_modules(&self) -> Vec<String> {
        self.all("loadmodule").filter_map(|arguments| arguments.first()).cloned().collect()
    }

    /// New names of commands, in upper case; an empty one disables the command.
    pub fn renames(&self) -> BTreeMap<String, String> {
        let pairs = self.all("rename-command").filter_map(|arguments| match arguments {
            [old, new] => Some((old.to_ascii_uppercase(), new.clone())),
            _ => None,
        });
        pairs.collect()
    }
}

/// Reads `100mb` as the server does: `k` is a thousand, `kb` is 1024.
fn memory(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl std::fmt::Debug for RedisConf {
    /// Names only: values may be passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.directives.iter().map(|d| d.name.as_str()).collect();
        f.debug_struct("RedisConf").field("dir", &self.dir).field("directives", &names).finish()
    }
}

#[cfg(test)]
mod tests;
