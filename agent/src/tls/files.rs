//! PURE: which files a server's TLS is made of.

use std::path::{Path, PathBuf};

use crate::redis_conf::RedisConf;

/// A certificate and its key.
pub(super) type Pair = (PathBuf, PathBuf);

/// Of whom a server asks a certificate (`tls-auth-clients`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Nobody,
    /// One that is shown has to be good.
    Anybody,
    Everybody,
}

/// The files that a server's configuration names; they may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) ca_dir: Option<PathBuf>,
    /// Trusted beside them: `tls_ca` of `agent.toml`.
    pub(super) ca_of_agent: Option<PathBuf>,
    pub(super) asks: Asks,
    own: Option<Pair>,
    client: Option<Pair>,
}

impl Files {
    /// By its `redis.conf`.
    pub(crate) fn of_conf(conf: &RedisConf, ca_of_agent: Option<&Path>) -> Files {
        let files = Self::of(&conf.dir(), |name| conf.text(name).map(str::to_owned));
        Files { ca_of_agent: ca_of_agent.map(Path::to_owned), ..files }
    }

    /// By what `text` says of a setting. The server has opened the files from its data directory.
    pub(crate) fn of(dir: &Path, text: impl Fn(&str) -> Option<String>) -> Files {
        let file = |name: &str| text(name).filter(|path| !path.is_empty()).map(|path| dir.join(path));
        let pair = |cert: &str, key: &str| file(cert).zip(file(key));
        let own = pair("tls-cert-file", "tls-key-file");
        Files {
            ca_file: file("tls-ca-cert-file"),
            ca_dir: file("tls-ca-cert-dir"),
            ca_of_agent: None,
            asks: match text("tls-auth-clients").map(|word| word.to_ascii_lowercase()).as_deref() {
                Some("no") => Asks::Nobody,
                Some("optional") => Asks::Anybody,
                _ => Asks::Everybody,
            },
            // As a client it uses the same, unless it is given others.
            client: pair("tls-client-cert-file", "tls-client-key-file").or_else(|| own.clone()),
            own,
        }
    }

    /// What it shows to its clients.
    pub(super) fn own(&self) -> Option<&Pair> {
        self.own.as_ref()
    }

    /// What it shows to its primary.
    pub(super) fn client(&self) -> Option<&Pair> {
        self.client.as_ref()
    }

    pub(super) fn trust_in_words(&self) -> String {
        let all = [&self.ca_file, &self.ca_dir, &self.ca_of_agent];
        let all: Vec<String> = all.into_iter().flatten().map(|path| path.display().to_string()).collect();
        all.join(" and ")
    }

    pub(super) fn unfit(&self, pair: Option<&Pair>, error: &dyn std::fmt::Display) -> String {
        match pair {
            Some((cert, key)) => format!("{} and {} do not fit: {error}", cert.display(), key.display()),
            None => error.to_string(),
        }
    }
}
