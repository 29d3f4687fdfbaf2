//! PURE: the lines of a `redis.conf`, with `include` resolved by the caller.

use std::path::{Path, PathBuf};

use super::RedisConf;
use super::words::split;

/// Deepest nesting of includes; a file that includes itself meets it.
const DEPTH_MAX: usize = 16;
/// Most files read: a `conf.d` of many small ones, with room to spare.
const FILES_MAX: usize = 1000;
/// Most directives taken: tens of thousands of ACL users, and no more.
const DIRECTIVES_MAX: usize = 100_000;

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

/// What is wrong with a `redis.conf`, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {mistake}", path.display())]
pub struct ConfError {
    pub path: PathBuf,
    pub line: usize,
    pub mistake: Mistake,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    #[error("unbalanced quotes")]
    Quotes,
    #[error("include {}: {reason}", path.display())]
    Include { path: PathBuf, reason: String },
    #[error("includes are nested more than {DEPTH_MAX} deep; does a file include itself?")]
    Depth,
    #[error("more than {FILES_MAX} files are included")]
    Files,
    #[error("more than {DIRECTIVES_MAX} directives")]
    Directives,
}

/// Reads a file and what it includes. `cwd` is the server's working directory at its start; `include` reads the files
/// that a path names, several if it is a pattern.
pub fn parse(
    main: &Source,
    cwd: &Path,
    include: &mut dyn FnMut(&Path) -> Result<Vec<Source>, String>,
) -> Result<RedisConf, ConfError> {
    let mut reader = Reader { conf: RedisConf::empty(cwd), files: 0, include };
    reader.file(main, 0)?;
    Ok(reader.conf)
}

struct Reader<'a> {
    conf: RedisConf,
    files: usize,
    include: &'a mut dyn FnMut(&Path) -> Result<Vec<Source>, String>,
}

impl Reader<'_> {
    fn file(&mut self, source: &Source, depth: usize) -> Result<(), ConfError> {
        for (number, line) in (1..).zip(source.text.split('\n')) {
            let failed = |mistake| ConfError { path: source.path.clone(), line: number, mistake };
            let line = line.trim_matches([' ', '\t', '\r']);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = split(line).ok_or_else(|| failed(Mistake::Quotes))?.into_iter();
            let Some(name) = words.next() else { continue };
            let arguments: Vec<String> = words.collect();
            match arguments.as_slice() {
                [pattern] if name.eq_ignore_ascii_case("include") => {
                    if depth == DEPTH_MAX {
                        return Err(failed(Mistake::Depth));
                    }
                    // Relative to where the server is by then, not to the including file.
                    let path = self.conf.dir.join(pattern);
                    let sources = (self.include)(&path);
                    let sources = sources.map_err(|reason| failed(Mistake::Include { path, reason }))?;
                    for source in sources {
                        self.files += 1;
                        if self.files > FILES_MAX {
                            return Err(failed(Mistake::Files));
                        }
                        self.file(&source, depth + 1)?;
                    }
                }
                _ if self.conf.directives.len() == DIRECTIVES_MAX => return Err(failed(Mistake::Directives)),
                _ => self.conf.push(&name, arguments),
            }
        }
        Ok(())
    }
}
