//! The node agent: one program, one subcommand per task on a node.

mod module_name;
mod removal_plan;
mod remove_modules;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Node agent of the CXI operator.
#[derive(Debug, Parser)]
#[command(name = "cxi-agent", version)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    RemoveModules(remove_modules::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::RemoveModules(args) => args.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
