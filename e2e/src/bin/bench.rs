//! `cargo xtask bench`.

use clap::Parser;
use cxi_e2e::bench::{Arguments, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(Arguments::parse()).await
}
