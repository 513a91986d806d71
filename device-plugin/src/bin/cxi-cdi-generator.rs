//! The CDI generator's process.

use std::process::ExitCode;

use clap::Parser as _;
use cxi_device_plugin::generator;
use cxi_node::log;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match generator::Args::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", log::chain(&error));
            ExitCode::FAILURE
        }
    }
}
