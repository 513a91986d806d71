//! The command line.

use clap::{Parser, Subcommand};

use crate::{exporter, install, modules, report, retry_handler};

/// Node agent of the CXI operator.
#[derive(Debug, Parser)]
#[command(name = "cxi-agent", version)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Report(report::Args),
    RetryHandler(retry_handler::Args),
    Install(install::Args),
    Exporter(exporter::Args),
    RemoveModules(modules::remove::Args),
    LoadModules(modules::load::Args),
}

impl Args {
    /// Does what was asked for.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn run(self) -> anyhow::Result<()> {
        match self.task {
            Task::Report(args) => args.run(),
            Task::RetryHandler(args) => args.run(),
            Task::Install(args) => args.run(),
            Task::Exporter(args) => args.run(),
            Task::RemoveModules(args) => args.run(),
            Task::LoadModules(args) => args.run(),
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
