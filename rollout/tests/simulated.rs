//! The engine against a simulated cluster: API objects, KMM, kubelets, kernels, agents and workloads in memory, in virtual
//! time. `sim` is that cluster with an oracle that checks the invariants after each write; `scenarios` read as a
//! specification; `properties` throw dice; `mutants` shows that the oracle sees what it should.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what cannot be ends there"
)]

mod sim;

mod mutants;
mod properties;
mod scenarios;
