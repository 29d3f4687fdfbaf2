//! `baton-agent discover`: prints what is found, or adds it to a file.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use super::{Findings, find, host, merge, tables};
use crate::durable;

/// Nothing was found, or the file was not written.
const EXIT_FAILED: u8 = 1;
/// Who may read a file that is made here: it holds no secret.
const MODE: u32 = 0o644;

pub fn run(write: Option<&Path>) -> ExitCode {
    match write.map_or_else(print, add) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn print() -> Result<ExitCode, String> {
    let findings = find(&host::look(), &BTreeMap::new());
    // Whoever reads may have read enough.
    let _ = std::io::stdout().write_all(tables(&findings).trim_start().as_bytes());
    Ok(verdict(&findings))
}

fn verdict(findings: &Findings) -> ExitCode {
    if findings.instances.is_empty() {
        eprintln!("no server was found; name it in agent.toml by hand, or start it and look again as root");
        return ExitCode::from(EXIT_FAILED);
    }
    ExitCode::SUCCESS
}

fn add(path: &Path) -> Result<ExitCode, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let absolute = std::path::absolute(path).map_err(failed)?;
    let base = absolute.parent().unwrap_or(&absolute);
    let said = |error: String| format!("{} is left as it is: {error}", path.display());
    let known = merge::known(text.as_deref().unwrap_or_default(), base).map_err(said)?;
    let findings = find(&host::look(), &known);
    for unclear in &findings.unclear {
        eprintln!("not listed: {unclear}");
    }
    if findings.instances.is_empty() {
        if known.is_empty() {
            return Ok(verdict(&findings));
        }
        println!("{} names every server that was found", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    // What is unclear was told; it would be added anew each time.
    let findings = Findings { unclear: Vec::new(), ..findings };
    let merged = merge::merged(text.as_deref(), &findings, base).map_err(said)?;
    let mode = std::fs::metadata(path).map_or(MODE, |metadata| metadata.permissions().mode() & 0o7777);
    durable::replace_file(path, merged.as_bytes(), mode).map_err(failed)?;
    for found in &findings.instances {
        println!("added {}: {} ({})", found.name, found.config.display(), found.because);
    }
    Ok(ExitCode::SUCCESS)
}
