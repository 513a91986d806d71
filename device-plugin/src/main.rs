//! The device plugin's process.

use std::process::ExitCode;

use clap::Parser as _;
use cxi_device_plugin::cli::Args;
use cxi_node::log;
use tracing::error;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    log::init(args.log_format());
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        error!("another TLS provider was installed before");
        return ExitCode::FAILURE;
    }
    match args.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = log::chain(error.as_ref());
            error!(error, "the device plugin ends");
            ExitCode::FAILURE
        }
    }
}
