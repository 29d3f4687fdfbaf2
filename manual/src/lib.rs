//! What people read about the programs, made from what the programs are: man pages and shell completions from the command
//! line, a commented configuration and its reference from a table of options. A table is compared with the struct that
//! reads the file ([`fields`]), so that none can have an option that the other lacks.
//!
//! Left out: what the options mean, which each program says beside the struct.

mod fields;
mod options;

use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

pub use self::fields::fields;
pub use self::options::{File, Opt, Table};

/// Shells for which completions are made, and the directory of each below `completions`.
const SHELLS: &[(Shell, &str)] = &[(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")];

/// Writes `man/*.1`, `completions/SHELL/*` the commented configuration and its reference below `dir`.
pub fn write(dir: &Path, command: &mut Command, file: &File) -> io::Result<()> {
    let man = dir.join("man");
    std::fs::create_dir_all(&man)?;
    clap_mangen::generate_to(command.clone(), &man)?;
    let name = command.get_name().to_owned();
    for (shell, below) in SHELLS {
        let completions = dir.join("completions").join(below);
        std::fs::create_dir_all(&completions)?;
        clap_complete::generate_to(*shell, command, &name, &completions)?;
    }
    std::fs::write(dir.join(file.name), file.commented())?;
    std::fs::write(dir.join(format!("{}.md", file.name)), file.reference())
}
