use std::process::ExitCode;

fn main() -> ExitCode {
    baton_agent::cli::main()
}
