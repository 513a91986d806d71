//! The CXI operator with `--fault-write`, for tests of restarts.

use std::process::ExitCode;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    cxi_operator::program().await
}
