//! PURE: how a rehearsal answers: as the server that it stands for would answer a replica, but for `PONG`.

use std::net::IpAddr;

use baton_proto::version::ServerVersion;

use crate::redis_conf::RedisConf;
use crate::server::greeting::REHEARSAL;

/// The manners of a server that does not run yet.
pub(super) struct Doorman {
    /// Shown to whoever gets in.
    name: String,
    /// Protected mode: only this host gets in.
    locals_only: bool,
    /// Whether all of 127.0.0.0/8 is this host, in protected mode.
    every_loopback: bool,
    /// Whether the default user must log in.
    locked: bool,
    /// Users, and the rules of their passwords.
    users: Vec<(String, Vec<String>)>,
    /// There are users that the file does not name.
    has_more_users: bool,
}

/// What one visitor has shown.
#[derive(Default)]
pub(super) struct Visitor {
    logged_in: bool,
}

impl Doorman {
    /// Reads from the file how the server will treat strangers; without a version it is taken for a new one.
    pub(super) fn of_conf(conf: &RedisConf, version: Option<ServerVersion>, name: String) -> Doorman {
        let despite_bind = version.is_none_or(|version| version.protects_despite_bind());
        let locked = conf.requires_password();
        let default = conf.requirepass().map(|password| ("default".to_owned(), vec![format!(">{password}")]));
        let others =
            conf.all("user").filter_map(|line| line.split_first()).map(|(user, rules)| (user.clone(), rules.to_vec()));
        let users = default.into_iter().chain(others).collect();
        Doorman {
            name,
            locals_only: conf.protected_mode() && !locked && (despite_bind || conf.bind().is_empty()),
            every_loopback: version.is_some_and(|version| version.trusts_every_loopback()),
            locked,
            users,
            has_more_users: conf.text("aclfile").is_some(),
        }
    }

    /// What a visitor hears unasked before the connection is closed, if it may not come in at all.
    pub(super) fn turns_away(&self, from: IpAddr) -> Option<String> {
        let local =
            if self.every_loopback { from.is_loopback() } else { ["127.0.0.1", "::1"].contains(&&*from.to_string()) };
        let refusal = || {
            format!(
                "-DENIED {} would run in protected mode: no password is set, so it would talk to its own host only\r\n",
                self.name
            )
        };
        (self.locals_only && !local).then(refusal)
    }

    /// Answers one command.
    pub(super) fn answer(&self, visitor: &mut Visitor, words: &[String]) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [auth, login @ ..] if auth.eq_ignore_ascii_case("auth") => {
                let (user, password) = match login {
                    [_] if !self.locked => {
                        return "-ERR AUTH <password> called without any password configured for the default user\r\n"
                            .to_owned();
                    }
                    [password] => ("default", *password),
                    [user, password] => (*user, *password),
                    _ => return "-ERR wrong number of arguments for 'auth' command\r\n".to_owned(),
                };
                if !self.knows(user, password) {
                    return "-WRONGPASS invalid username-password pair or user is disabled.\r\n".to_owned();
                }
                visitor.logged_in = true;
                "+OK\r\n".to_owned()
            }
            _ if self.locked && !visitor.logged_in => "-NOAUTH Authentication required.\r\n".to_owned(),
            _ => format!("+{REHEARSAL} {}\r\n", self.name),
        }
    }

    /// Whether the server would let this user in. What cannot be told from here is left to the server: users of an
    /// `aclfile`, and passwords that are written as hashes.
    fn knows(&self, user: &str, password: &str) -> bool {
        let mine = self.users.iter().filter(|(name, _)| name == user);
        let (mut named, mut known, mut off) = (false, false, false);
        for rule in mine.flat_map(|(_, rules)| rules) {
            named = true;
            match rule.as_str() {
                "on" => off = false,
                "off" => off = true,
                "nopass" => known = true,
                "reset" | "resetpass" => known = false,
                _ => known |= rule.starts_with('#') || rule.strip_prefix('>') == Some(password),
            }
        }
        known && !off || self.has_more_users && !named
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use baton_proto::version::Product;

    use super::*;
    use crate::redis_conf::{Source, parse};

    fn doorman(text: &str, version: &str) -> Doorman {
        let source = Source { path: "redis.conf".into(), text: text.into() };
        let conf = parse(&source, Path::new("/"), &mut |_| Ok(Vec::new())).unwrap();
        let version = ServerVersion::new(Product::Redis, version).unwrap();
        Doorman::of_conf(&conf, Some(version), "c".into())
    }

    /// The first words of the answers to a visit.
    fn visit(doorman: &Doorman, commands: &[&str]) -> Vec<String> {
        let mut visitor = Visitor::default();
        let words = |command: &str| command.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let answers = commands.iter().map(|command| doorman.answer(&mut visitor, &words(command)));
        answers.map(|answer| answer.split_whitespace().next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn an_open_server_rehearses_at_once_and_wants_no_password() {
        let doorman = doorman("protected-mode no", "7.0.15");
        assert_eq!(doorman.turns_away([10, 0, 0, 2].into()), None);
        assert_eq!(visit(&doorman, &["PING", "AUTH x", "PING"]), ["+BATON", "-ERR", "+BATON"]);
    }

    #[test]
    fn a_locked_server_rehearses_after_the_right_password() {
        let doorman = doorman("requirepass secret\nuser repl on >other +psync\nuser old off >other", "7.0.15");
        assert_eq!(doorman.turns_away([10, 0, 0, 2].into()), None, "a password lifts protected mode");
        assert_eq!(
            visit(&doorman, &["PING", "AUTH wrong", "AUTH secret", "PING"]),
            ["-NOAUTH", "-WRONGPASS", "+OK", "+BATON"]
        );
        assert_eq!(visit(&doorman, &["AUTH repl other", "PING"]), ["+OK", "+BATON"]);
        assert_eq!(visit(&doorman, &["AUTH nobody other", "auth default secret"]), ["-WRONGPASS", "+OK"]);
        assert_eq!(visit(&doorman, &["AUTH a b c", ""]), ["-ERR", "-NOAUTH"]);
    }

    #[test]
    fn protected_mode_turns_strangers_away_as_each_version_does() {
        let away = |text: &str, version: &str, from: [u8; 4]| doorman(text, version).turns_away(from.into()).is_some();
        let (stranger, here, beside) = ([10, 0, 0, 2], [127, 0, 0, 1], [127, 0, 0, 77]);
        assert!(away("", "7.0.15", stranger) && away("bind 10.0.0.3", "7.0.15", stranger));
        assert!(away("", "6.2.14", stranger) && !away("bind 10.0.0.3", "6.2.14", stranger));
        assert!(!away("", "7.0.15", here) && away("", "7.0.15", beside) && !away("", "7.2.6", beside));
        assert!(!away("protected-mode no", "7.0.15", stranger) && !away("requirepass x", "7.0.15", stranger));
    }
}
