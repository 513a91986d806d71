//! A look at a node without a cache: what is to be relied on when a driver is taken out.

use std::collections::BTreeSet;

use cxi_api::{Timestamp, names::Role};
use cxi_rollout::world::{Holder, Look};
use kube::api::ListParams;

use crate::{
    act::{Error, Parts},
    endpoint::Endpoint,
    observe::{
        Snapshot, pod,
        seen::{Kind, Node, OnNode, Reading, Record, Unreadable},
    },
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
        let nodes: Endpoint<Node> = Endpoint::all(&self.client);
        let pods: Endpoint<OnNode> = Endpoint::all(&self.client);
        let records: Endpoint<Record> = Endpoint::all(&self.client);
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let (found, pods, record) = tokio::try_join!(nodes.get(node), pods.list(&on_node), records.get(node))?;
        if seen.node(node).map(|node| &node.id.uid) != Some(&found.id.uid) {
            return Err(Error::stale("the node was replaced"));
        }
        let resources: BTreeSet<String> = resources.iter().cloned().collect();
        let namespace = self.identity.namespace.as_str();
        let of_role = |role: Role| pods.items.iter().filter(|pod| may_be(pod, role, namespace)).count();
        let look = Look {
            step,
            at,
            allocatable: content(&found)?.offers(&resources),
            plugin_pods: of_role(Role::DevicePlugin),
            retry_handler_pods: of_role(Role::RetryHandler),
            holders: pods.items.iter().filter_map(|pod| holder(pod, &resources)).collect(),
            report: content(&record)?.report.as_deref().cloned(),
        };
        self.caches.records.wrote(record);
        self.caches.nodes.wrote(found);
        self.memory.with(|memory| {
            memory.looks.add(node, since, look);
            // This one, too, if it took place before the step.
            memory.clock_stepped(self.clock.steps());
        });
        Ok(())
    }
}

/// What an object says. Of one that cannot be read nothing is known, and a look that did not see everything is none.
fn content<K: Kind>(reading: &Reading<K>) -> Result<&K, Error> {
    match &reading.content {
        Some(Ok(content)) => Ok(content),
        Some(Err(Unreadable { why, .. })) => Err(Error::Unreadable(K::kind(), why.to_string())),
        None => Err(Error::stale("nothing is known of it")),
    }
}

/// Whether a pod is one of ours with this role. One of our namespace that cannot be read may be any.
fn may_be(pod: &Reading<OnNode>, role: Role, namespace: &str) -> bool {
    pod.id.namespace() == namespace
        && match &pod.content {
            Some(Ok(OnNode { role: labelled, .. })) => *labelled == Some(role),
            Some(Err(_)) => true,
            None => false,
        }
}

/// The pod as a holder of one of `resources`. One that cannot be read holds all of them.
fn holder(pod: &Reading<OnNode>, resources: &BTreeSet<String>) -> Option<Holder> {
    match pod.content.as_ref()? {
        Ok(OnNode { pod: seen, .. }) => pod::holder(&pod.id, seen.as_ref()?, resources),
        Err(_) => Some(pod::unreadable(&pod.id, resources)),
    }
}

/// Since when looks count for the node's present phase.
pub fn since(seen: &Snapshot, node: &str) -> Option<Timestamp> {
    Some(seen.record(node)?.readable()?.place()?.evidence_from())
}
