//! The texts of the drop-ins by which a unit is held, or starts its own program with arguments added. Pure.
//!
//! `systemctl show -p ExecStart` prints the unit's command as systemd holds it: specifiers expanded, quotes gone, words
//! joined by blanks, variables not yet replaced. A drop-in gets it back in a form that means the same: `%` doubled, words
//! quoted, `$` left as it is.

/// Keeps a unit from being started by whomever: `Restart=`, a package's upgrade, a person. `systemctl start` says that an
/// assertion failed, and `systemctl status` shows which, and so the reason. Not a mask: in `/run` that has no effect on
/// units of `/etc`, and systemd forgets how a masked unit is to be stopped. What was refused must not count as a failed start.
pub(super) const HOLD: &str = "# Written by baton-agent while a run replaces the data of this unit's server, and removed by the run's end.\n\
     # A run that is gone for good leaves it until the next boot: remove this file, then `systemctl daemon-reload`.\n\
     [Unit]\nAssertPathExists=/held-by-baton-while-its-data-is-replaced\nStartLimitIntervalSec=0\n";

/// The slowest a server is taken to load its dump: a disk of a small cloud machine, and a tenth of a core.
const LOAD_BYTES_PER_SECOND_MIN: u64 = 4 << 20;
/// How long a start may take beside the load, on a machine that does much else: systemd's own default.
const BOOT_SECONDS: u64 = 90;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DropInError {
    #[error("the unit has no ExecStart")]
    None,
    #[error("the unit has {0} ExecStart lines, and arguments can be added to one only")]
    Several(usize),
    #[error("ExecStart is not understood: `{0}`")]
    Unknown(String),
}

/// A unit's start command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExecStart {
    /// The file that is executed.
    pub(super) path: String,
    /// The words of the command; the first is the name under which the program runs.
    pub(super) argv: Vec<String>,
    /// Whether the unit ignores how the command ends.
    pub(super) ignore_errors: bool,
}

/// Longest command that is understood; systemd's own limit on a line is 1 MiB.
const LINE_CHARS_MAX: usize = 64 * 1024;

/// Reads what `systemctl show -p ExecStart UNIT` prints.
pub(super) fn parse_exec_start(shown: &str) -> Result<ExecStart, DropInError> {
    let lines: Vec<&str> = shown.lines().filter_map(|line| line.trim().strip_prefix("ExecStart=")).collect();
    match lines.as_slice() {
        [] | [""] => Err(DropInError::None),
        [line] => parse_line(line).ok_or_else(|| DropInError::Unknown(line.chars().take(200).collect())),
        several => Err(DropInError::Several(several.len())),
    }
}

fn parse_line(line: &str) -> Option<ExecStart> {
    if line.len() > LINE_CHARS_MAX {
        return None;
    }
    let inner = line.strip_prefix('{')?.strip_suffix('}')?.trim();
    let (path, rest) = inner.strip_prefix("path=")?.split_once(" ; argv[]=")?;
    // A word of the command may itself be `;`; the field that follows the command may not.
    let (argv, rest) = rest.split_once(" ; ignore_errors=")?;
    let ignore_errors = match rest.split(" ;").next()?.trim() {
        "yes" => true,
        "no" => false,
        _ => return None,
    };
    let argv = words(argv)?;
    let known = path.starts_with('/') && !argv.is_empty() && argv.iter().all(|word| word != ";");
    known.then(|| ExecStart { path: path.to_owned(), argv, ignore_errors })
}

/// Splits at blanks. Newer versions of systemd quote words that need it, older ones quote none.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// How long a start may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartLimit {
    Seconds(u64),
    Infinite,
}

impl StartLimit {
    /// Time enough to load a dump of so many bytes, and not less than the unit itself grants; `own` is what
    /// `systemctl show -p TimeoutStartUSec --value` prints.
    pub(super) fn fitting(own: &str, dump_bytes: u64) -> StartLimit {
        let load = BOOT_SECONDS.saturating_add(dump_bytes.div_ceil(LOAD_BYTES_PER_SECOND_MIN));
        match own.trim() {
            "infinity" => StartLimit::Infinite,
            own => StartLimit::Seconds(whole_seconds(own).unwrap_or(0).max(load)),
        }
    }
}

impl std::fmt::Display for StartLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartLimit::Seconds(seconds) => write!(f, "{seconds}"),
            StartLimit::Infinite => f.write_str("infinity"),
        }
    }
}

/// Reads a span of time as systemd prints it (`1min 30s`), in whole seconds.
fn whole_seconds(span: &str) -> Option<u64> {
    let mut sum: u64 = 0;
    for part in span.split_ascii_whitespace() {
        let unit = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = part.strip_suffix(unit)?;
        let whole: u64 = number.split('.').next()?.parse().ok()?;
        let seconds = match unit {
            "y" => 31_557_600,
            "month" => 2_629_800,
            "w" => 7 * 86_400,
            "d" => 86_400,
            "h" => 3_600,
            "min" => 60,
            "s" => 1,
            "ms" | "us" => 0,
            _ => return None,
        };
        sum = sum.checked_add(whole.checked_mul(seconds)?)?;
    }
    Some(sum)
}

/// Writes the drop-in of a start: the unit's own command and the arguments, with time to load, and without restarts: a
/// server that cannot load would otherwise be started again and again. Earlier starts do not count against this one.
pub(super) fn drop_in(exec: &ExecStart, args: &[String], limit: StartLimit) -> String {
    let mut program = String::new();
    if exec.ignore_errors {
        program.push('-');
    }
    let named_otherwise = exec.argv.first().is_some_and(|first| *first != exec.path);
    if named_otherwise {
        program.push('@');
    }
    program.push_str(&exec.path);
    // systemd looks for the prefixes after it has taken the quotes off the first word.
    let mut command = quoted(&program);
    let words = exec.argv.iter().skip(usize::from(!named_otherwise)).chain(args);
    for word in words {
        command.push(' ');
        command.push_str(&quoted(word));
    }
    format!(
        "# Written by baton-agent for one start, and removed after it.\n[Unit]\nStartLimitIntervalSec=0\n\
         [Service]\nExecStart=\nExecStart={command}\nTimeoutStartSec={limit}\nRestart=no\n"
    )
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_-.:=,+@$".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '%' => out.push_str("%%"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEBIAN: &str = "ExecStart={ path=/usr/bin/redis-server ; argv[]=/usr/bin/redis-server \
        /etc/redis/redis.conf --supervised systemd --daemonize no ; ignore_errors=no ; start_time=[n/a] ; \
        stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }\n";

    const LIMIT: StartLimit = StartLimit::Seconds(BOOT_SECONDS);

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|&w| w.to_owned()).collect()
    }

    #[test]
    fn the_unit_of_debian_gets_its_arguments() {
        let exec = parse_exec_start(DEBIAN).unwrap();
        assert_eq!(
            exec.argv,
            args(&["/usr/bin/redis-server", "/etc/redis/redis.conf", "--supervised", "systemd", "--daemonize", "no"])
        );
        let text = drop_in(&exec, &args(&["--appendonly", "no", "--replicaof", "10.0.0.2", "6379"]), LIMIT);
        assert_eq!(
            text,
            "# Written by baton-agent for one start, and removed after it.\n[Unit]\nStartLimitIntervalSec=0\n\
             [Service]\nExecStart=\nExecStart=\
             /usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no --appendonly no \
             --replicaof 10.0.0.2 6379\nTimeoutStartSec=90\nRestart=no\n"
        );
    }

    #[test]
    fn a_program_under_another_name_and_ignored_errors_are_kept() {
        let shown =
            DEBIAN.replace("argv[]=/usr/bin/redis-server", "argv[]=cache-server").replace("errors=no", "errors=yes");
        let text = drop_in(&parse_exec_start(&shown).unwrap(), &[], LIMIT);
        assert!(text.contains("ExecStart=-@/usr/bin/redis-server cache-server /etc/redis/redis.conf"), "{text}");
    }

    #[test]
    fn blanks_percent_signs_and_quotes_keep_their_meaning() {
        let exec = ExecStart {
            path: "/usr/bin/redis-server".into(),
            argv: args(&["/usr/bin/redis-server"]),
            ignore_errors: false,
        };
        let words = args(&["/etc/my redis/a.conf", "fe80::1%eth0", "say \"hi\"\\", "$OPTIONS", "", "a\nb"]);
        let text = drop_in(&exec, &words, LIMIT);
        assert!(
            text.contains(r#"redis-server "/etc/my redis/a.conf" "fe80::1%%eth0" "say \"hi\"\\" $OPTIONS "" "a\nb""#),
            "{text}"
        );
        assert_eq!(text.lines().count(), 8, "no argument breaks a line");
    }

    #[test]
    fn a_start_has_the_time_that_its_dump_takes_and_never_less_than_its_unit_grants() {
        let fitting = |own: &str, bytes: u64| StartLimit::fitting(own, bytes).to_string();
        assert_eq!(fitting("1min 30s", 0), "90");
        assert_eq!(fitting("3s", 40 << 30), (90 + 10 * 1024).to_string());
        assert_eq!(fitting("2h 1.500s", 40 << 20), "7201");
        assert_eq!(fitting("infinity", 1), "infinity");
        assert_eq!(fitting("", 1), "91");
        assert_eq!(fitting("a while", u64::MAX), (u64::MAX.div_ceil(4 << 20) + 90).to_string());
    }

    #[test]
    fn what_is_not_one_plain_command_is_refused() {
        assert_eq!(parse_exec_start(""), Err(DropInError::None));
        assert_eq!(parse_exec_start("ExecStart=\n"), Err(DropInError::None));
        assert_eq!(parse_exec_start(&DEBIAN.repeat(2)), Err(DropInError::Several(2)));
        for bad in [
            "ExecStart={ }",
            "ExecStart=/bin/x",
            &DEBIAN.replace("--daemonize", ";"),
            &DEBIAN.replace("systemd", "\"systemd"),
        ] {
            assert!(matches!(parse_exec_start(bad), Err(DropInError::Unknown(_))), "{bad} was accepted");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,300}") {
            let _ = whole_seconds(&text);
            let _ = parse_exec_start(&format!("ExecStart={{ path=/x ; argv[]={text} ; ignore_errors=no ; }}"));
        }

        #[test]
        fn words_that_are_quoted_are_read_back(words_in in proptest::collection::vec("[ -~]{0,12}", 0..6)) {
            let text = words_in.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ");
            let back: Vec<String> = words(&text).unwrap().iter().map(|w| w.replace("%%", "%")).collect();
            prop_assert_eq!(back, words_in);
        }
    }
}
