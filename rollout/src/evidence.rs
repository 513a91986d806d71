//! What counts as evidence, and the proofs that are made of it. A proof rests on order and identity, never on a clock.

pub mod clock;
pub mod labels;
pub mod looks;
pub mod proof;
