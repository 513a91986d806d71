//! The CXI operator.

use std::process::ExitCode;

use clap::Parser;
use cxi_operator::{flags::Flags, logs, run};
use tracing::error;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    logs::install(flags.log_format);
    // kube's TLS has its provider built in; this one is for nobody else to choose another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run::run(flags).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
