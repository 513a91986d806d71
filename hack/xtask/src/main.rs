//! Every task of this repository: `cargo xtask --help`.

mod advisories;
mod arrows;
mod bench;
mod beside;
mod compile;
mod control_plane;
mod demo;
mod deny;
mod driver_image;
mod generate;
mod guest;
mod images;
mod lint;
mod mirror_list;
mod packages;
mod rights;
mod steps;
mod test;
mod tools;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Where built tools go, shown below every list of tasks.
const CACHE: &str = "Tools are built into a cache outside the repository: $CXI_CACHE_DIR, else \
                     $XDG_CACHE_HOME/cxi-operator, else ~/.cache/cxi-operator. It may be deleted at any time.";

/// Every task of this repository
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = CACHE, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Tools(tools::Arguments),
    ControlPlane(control_plane::Arguments),
    Demo(demo::Arguments),
    Guest(guest::Arguments),
    Test(test::Arguments),
    Gen(generate::Arguments),
    Lint(lint::Arguments),
    Bench(bench::Arguments),
    DriverImage(Box<driver_image::Arguments>),
    Images(images::Arguments),
    MirrorList(mirror_list::Arguments),
    Rights(rights::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Tools(arguments) => tools::run(&arguments),
        Task::ControlPlane(arguments) => control_plane::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Guest(arguments) => guest::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Gen(arguments) => generate::run(&arguments),
        Task::Lint(arguments) => lint::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::DriverImage(arguments) => driver_image::run(&arguments),
        Task::Images(arguments) => images::run(&arguments),
        Task::MirrorList(arguments) => mirror_list::run(&arguments),
        Task::Rights(arguments) => rights::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_task_and_option_has_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
