//! stub
use cxi_api::node_report::OpenFile;
use cxi_rollout::{Action, Plan, World, world::Look};
use crate::sim::Sim;

#[derive(Clone, Default)]
pub struct Oracle { pub violations: Vec<String> }
impl Oracle {
    pub fn unload_refused(&mut self, _n: &str, _f: &[OpenFile]) {}
    pub fn by_hand(&mut self, _n: &str) {}
}
impl Sim {
    pub fn oracle_after(&mut self, _a: &Action, _s: &World, _b: &World) {}
    pub fn oracle_look(&mut self, _n: &str, _l: &Look) {}
    pub fn oracle_plan(&mut self, _p: &Plan, _s: &World) {}
    pub fn oracle_state(&mut self) {}
    pub fn oracle_quiet(&mut self) {}
}
