//! `verify`: one command that proves what can be proved here, and says what was not.

fn main() -> std::process::ExitCode {
    clearway_verify::cli::main()
}
