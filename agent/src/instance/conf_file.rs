//! `redis.conf` from disk, with the files that it includes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::redis_conf::{RedisConf, Source, parse};

/// Largest file read: an ACL of a hundred thousand users.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads and parses a file; `cwd` is where the server is started.
pub(crate) fn read(path: &Path, cwd: &Path) -> Result<RedisConf, String> {
    let main = source(path)?;
    parse(&main, cwd, &mut included).map_err(|error| error.to_string())
}

fn source(path: &Path) -> Result<Source, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display()));
    }
    Ok(Source { path: path.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() })
}

/// Reads the file of an `include`, or those that its pattern matches, in the order of their names. A pattern that
/// matches nothing is no mistake, as with the server.
fn included(path: &Path) -> Result<Vec<Source>, String> {
    let is_pattern = |part: &Path| part.to_string_lossy().contains(['*', '?', '[']);
    if !is_pattern(path) {
        return Ok(vec![source(path)?]);
    }
    let (Some(dir), Some(pattern)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    if is_pattern(dir) {
        return Err("a pattern in the directory part is not supported here".to_owned());
    }
    let pattern: Vec<char> = pattern.to_string_lossy().chars().collect();
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(Vec::new()) };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let fits = |name: &String| {
        let hidden = name.starts_with('.') && pattern.first() != Some(&'.');
        !hidden && matches(&pattern, &name.chars().collect::<Vec<_>>())
    };
    let mut found: Vec<PathBuf> = names.filter(fits).map(|name| dir.join(name)).collect();
    found.sort();
    found.iter().map(|path| source(path)).collect()
}

/// Whether a name fits a pattern of `*`, `?` and `[a-z]`, as in the shell. Only the last `*` met is ever taken back, so
/// the work is bounded by the product of the lengths.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut pattern, mut name) = (pattern, name);
    let mut retry: Option<(&[char], &[char])> = None;
    loop {
        let step = match (pattern, name) {
            ([], []) => return true,
            (['*', rest @ ..], _) => {
                retry = Some((rest, name));
                Some((rest, name))
            }
            (['?', rest @ ..], [_, behind @ ..]) => Some((rest, behind)),
            (['[', rest @ ..], [first, behind @ ..]) => match class(rest, *first) {
                Some((true, rest)) => Some((rest, behind)),
                Some((false, _)) => None,
                // Without its closing bracket it stands for itself.
                None => (*first == '[').then_some((rest, behind)),
            },
            ([wanted, rest @ ..], [first, behind @ ..]) if wanted == first => Some((rest, behind)),
            _ => None,
        };
        (pattern, name) = match (step, retry) {
            (Some(step), _) => step,
            (None, Some((rest, [_, behind @ ..]))) => {
                retry = Some((rest, behind));
                (rest, behind)
            }
            (None, _) => return false,
        };
    }
}

/// Judges a character by a bracket expression, and yields what follows it.
fn class(inside: &[char], wanted: char) -> Option<(bool, &[char])> {
    let (negated, inside) = match inside {
        ['!' | '^', rest @ ..] => (true, rest),
        _ => (false, inside),
    };
    // A bracket that comes first stands for itself.
    let end = inside.iter().skip(1).position(|c| *c == ']')? + 1;
    let (mut members, rest) = (inside.get(..end)?, inside.get(end + 1..)?);
    let mut found = false;
    while let Some((low, behind)) = members.split_first() {
        (found, members) = match behind {
            ['-', high, behind @ ..] => (found || (*low..=*high).contains(&wanted), behind),
            _ => (found || *low == wanted, behind),
        };
    }
    Some((found != negated, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    }

    #[test]
    fn patterns_match_as_in_the_shell() {
        for (pattern, name) in [
            ("*.conf", "a.conf"),
            ("*", ""),
            ("a?c", "abc"),
            ("[0-9]*", "10-x"),
            ("*a*b*", "xxaxxb"),
            ("[!a]", "b"),
            ("[", "["),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.conf", "a.conf~"), ("a?c", "ac"), ("[0-9]*", "x"), ("[^a]", "a"), ("*ab", "aab_")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn included_files_are_read_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        write("redis.conf", "port 1\ninclude conf.d/*.conf\ninclude none.d/*.conf\n");
        write("conf.d/20.conf", "port 20\n");
        write("conf.d/10.conf", "port 10\nmaxmemory 10\n");
        write("conf.d/30.conf~", "port 30\n");
        let conf = read(&dir.path().join("redis.conf"), dir.path()).unwrap();
        assert_eq!((conf.port(), conf.maxmemory_bytes(), conf.dir()), (20, 10, dir.path().to_owned()));
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.conf");
        let error = read(&path, dir.path()).unwrap_err();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        std::fs::write(&path, "\ninclude none.conf\n").unwrap();
        let error = read(&path, dir.path()).unwrap_err();
        assert!(error.contains("redis.conf:2: include") && error.contains("none.conf"), "{error}");
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic_or_hang(pattern in "[]*?\\[!^a-c-]{0,30}", name in "[]*?\\[a-c-]{0,60}") {
            let _ = fits(&pattern, &name);
        }

        #[test]
        fn every_name_fits_itself_with_stars_anywhere(name in "[a-z.]{0,20}", at in 0usize..20) {
            let at = at.min(name.len());
            let starred = format!("{}*{}", &name[..at], &name[at..]);
            prop_assert!(fits(&starred, &name));
        }
    }
}
