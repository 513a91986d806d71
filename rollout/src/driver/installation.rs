//! Which installation of the operator looks after a CXIDriver. Leases, Modules and version labels are of a namespace; CXIDrivers,
//! CXINodes and nodes are of the cluster. Two installations would each take the other's drivers for lost ones.

use cxi_api::names::INSTALLATION_ANNOTATION;

use crate::{
    evidence::labels::foreign_label,
    world::{Driver, Node, World},
};

/// Why another installation looks after a CXIDriver, and what helps; nothing when it is this one.
pub fn another(world: &World, driver: &Driver) -> Option<String> {
    let ours = world.namespace.as_str();
    let stored = driver.status.installation.as_deref().filter(|stored| *stored != ours);
    match driver.installation.as_deref() {
        Some(asked) if asked == ours => None,
        Some(asked) => Some(format!(
            "annotation {INSTALLATION_ANNOTATION} leaves this CXIDriver to the operator in namespace {asked}; the operator in \
             namespace {ours} changes nothing"
        )),
        None if stored.is_some() => stored.map(|stored| {
            format!(
                "the operator in namespace {stored} looks after this CXIDriver; the operator in namespace {ours} changes nothing. \
                 To move the operator, follow docs/install.md. If the other installation is gone for good, annotate the CXIDriver \
                 with {INSTALLATION_ANNOTATION}={ours}"
            )
        }),
        None if driver.status.installation.is_some() => None,
        None => {
            let theirs = |node: &&Node| owns(driver, node) || driver.selects(node);
            let mut nodes = world.nodes.values().filter(theirs);
            let (node, label) = nodes.find_map(|node| Some((node, foreign_label(node, ours)?)))?;
            Some(format!(
                "node {} carries {label}: an operator in another namespace has loaded a driver there. The operator in namespace \
                 {ours} changes nothing. To move the operator, follow docs/install.md",
                node.name
            ))
        }
    }
}

fn owns(driver: &Driver, node: &Node) -> bool {
    node.labels.get(cxi_api::names::DRIVER_LABEL) == Some(&driver.name)
}

/// Whether this installation has still to write down that it looks after the CXIDriver.
pub fn is_unclaimed(world: &World, driver: &Driver) -> bool {
    driver.status.installation.as_deref() != Some(world.namespace.as_str())
}
