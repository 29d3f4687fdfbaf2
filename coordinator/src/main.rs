use std::process::ExitCode;

fn main() -> ExitCode {
    baton_coord::cli::main()
}
