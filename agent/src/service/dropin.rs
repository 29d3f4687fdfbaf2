//! The text of a systemd drop-in that starts a unit's own program with arguments added. Pure.
//!
//! `systemctl show -p ExecStart` prints the unit's command as systemd holds it: specifiers expanded, quotes gone, words
//! joined by blanks, variables not yet replaced. A drop-in gets it back in a form that means the same: `%` doubled, words
//! quoted, `$` left as it is.

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

/// Writes the drop-in: the unit's own command and the arguments, without a limit on the start's time, and without
/// restarts: a server that cannot load would otherwise be started again and again.
pub(super) fn drop_in(exec: &ExecStart, args: &[String]) -> String {
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
        "# Written by baton-agent for one start, and removed after it.\n[Service]\nExecStart=\nExecStart={command}\n\
         TimeoutStartSec=infinity\nRestart=no\n"
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
        let text = drop_in(&exec, &args(&["--appendonly", "no", "--replicaof", "10.0.0.2", "6379"]));
        assert_eq!(
            text,
            "# Written by baton-agent for one start, and removed after it.\n[Service]\nExecStart=\nExecStart=\
             /usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no --appendonly no \
             --replicaof 10.0.0.2 6379\nTimeoutStartSec=infinity\nRestart=no\n"
        );
    }

    #[test]
    fn a_program_under_another_name_and_ignored_errors_are_kept() {
        let shown =
            DEBIAN.replace("argv[]=/usr/bin/redis-server", "argv[]=cache-server").replace("errors=no", "errors=yes");
        let text = drop_in(&parse_exec_start(&shown).unwrap(), &[]);
        assert!(text.contains("ExecStart=-@/usr/bin/redis-server cache-server /etc/redis/redis.conf"), "{text}");
    }

    #[test]
    fn blanks_percent_signs_and_quotes_keep_their_meaning() {
        let exec = ExecStart {
            path: "/usr/bin/redis-server".into(),
            argv: args(&["/usr/bin/redis-server"]),
            ignore_errors: false,
        };
        let text =
            drop_in(&exec, &args(&["/etc/my redis/a.conf", "fe80::1%eth0", "say \"hi\"\\", "$OPTIONS", "", "a\nb"]));
        assert!(
            text.contains(r#"redis-server "/etc/my redis/a.conf" "fe80::1%%eth0" "say \"hi\"\\" $OPTIONS "" "a\nb""#),
            "{text}"
        );
        assert_eq!(text.lines().count(), 6, "no argument breaks a line");
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
