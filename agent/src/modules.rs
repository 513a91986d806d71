//! `cxi-agent load-modules` and `remove-modules`: one-shot tasks about the kernel modules of the stack.

pub mod load;
mod name;
mod removal_plan;
pub mod remove;
