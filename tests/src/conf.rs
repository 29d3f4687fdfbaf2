//! A host's redis.conf: directives by name, in order. The same name may stand several times, as `save` does. The lines of
//! an agent.toml are put together in the same way.

use std::fs;
use std::path::Path;

/// The directives of a redis.conf that a test puts together.
#[derive(Debug, Clone, Default)]
pub struct Conf(Vec<(String, String)>);

impl Conf {
    /// Sets a directive in the place of all that have this name.
    pub fn set(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.remove(name).add(name, value)
    }

    /// Adds a directive beside those that have this name.
    pub fn add(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// One directive a line.
    pub fn render(&self, between: &str) -> String {
        self.0.iter().map(|(name, value)| format!("{name}{between}{value}\n")).collect()
    }

    pub fn write(&self, path: &Path) {
        fs::write(path, self.render(" ")).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}

/// The directives of a redis.conf on disk, in order, as a server's rewrite left them.
pub fn directives(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap_or((line, ""))).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}
