//! `cargo xtask rights`.

use clap::Parser;
use cxi_e2e::rights::{Arguments, run};

fn main() -> anyhow::Result<()> {
    run(&Arguments::parse())
}
