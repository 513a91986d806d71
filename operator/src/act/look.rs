//! A look at a node without a cache: what is to be relied on when a driver is taken out.

use std::collections::BTreeSet;

use cxi_api::{
    CXINode, Timestamp,
    names::{ROLE_LABEL, Role},
};
use cxi_rollout::world::Look;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    act::{Error, Parts},
    observe::{self, Snapshot, allocatable},
};

impl Parts {
    /// Looks, and remembers. All three reads go to the API server's database (no resource version is given) and all three
    /// must succeed: what could not be seen is not absent.
    pub(super) async fn look(
        &self,
        node: &str,
        resources: &[String],
        step: Timestamp,
        seen: &Snapshot,
    ) -> Result<(), Error> {
        let since = since(seen, node).ok_or_else(|| Error::stale("the node has no place in the rollout"))?;
        let at = self.clock.now();
        let nodes: Api<Node> = Api::all(self.client.clone());
        let pods: Api<Pod> = Api::all(self.client.clone());
        let records: Api<CXINode> = Api::all(self.client.clone());
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let (found, pods, record) = tokio::try_join!(nodes.get(node), pods.list(&on_node), records.get(node))?;
        let expected = seen.node(node).and_then(|node| node.uid());
        if found.uid() != expected {
            return Err(Error::stale("the node was replaced"));
        }
        let resources: BTreeSet<String> = resources.iter().cloned().collect();
        let offered = allocatable(found.status.as_ref());
        let of_role = |wanted: Role| {
            let ours = |pod: &&Pod| {
                pod.namespace().as_deref() == Some(self.identity.namespace.as_str())
                    && pod.labels().get(ROLE_LABEL).is_some_and(|role| role == wanted.as_str())
            };
            pods.items.iter().filter(ours).count()
        };
        let look = Look {
            step,
            at,
            allocatable: resources.iter().filter_map(|name| offered.get(name)).sum(),
            plugin_pods: of_role(Role::DevicePlugin),
            service_pods: of_role(Role::RetryHandler),
            holders: pods.items.iter().filter_map(|pod| observe::pod::holder(pod, &resources)).collect(),
            report: record.status.as_ref().and_then(|status| status.node.clone()),
        };
        self.caches.records.wrote(record);
        self.caches.nodes.wrote(found);
        self.memory.with(|memory| {
            memory.looked(node, since, look);
            // This one, too, if it took place before the step.
            memory.clock_stepped(self.clock.steps());
        });
        Ok(())
    }
}

/// Since when looks count for the node's present phase.
pub fn since(seen: &Snapshot, node: &str) -> Option<Timestamp> {
    Some(seen.record(node)?.status.as_ref()?.rollout.as_ref()?.evidence_from())
}
