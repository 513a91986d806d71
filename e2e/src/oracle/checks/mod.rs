//! One file per invariant, or per pair that looks at the same thing.

mod advertise;
mod budget;
mod cancel;
mod counters;
mod foreign;
mod halt;
mod liveness;
mod once;
mod one_driver;
mod pods;
mod pull;

#[cfg(test)]
pub(crate) mod story;

use super::judge::Check;

/// Every check.
pub(crate) fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::<budget::Budget>::default(),
        Box::<pull::Pull>::default(),
        Box::<advertise::Advertise>::default(),
        Box::<one_driver::OneDriver>::default(),
        Box::<once::Once>::default(),
        Box::<pods::Pods>::default(),
        Box::<halt::Halt>::default(),
        Box::<cancel::Cancel>::default(),
        Box::<foreign::Foreign>::default(),
        Box::<liveness::Liveness>::default(),
        Box::<counters::Counters>::default(),
    ]
}
