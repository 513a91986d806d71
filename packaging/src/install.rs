//! What is installed, in the order in which it can be.

use cxi_api::{crds::crds, names::OPERATOR};
use cxi_images::Lock;
use cxi_manifests::{operands::OPERANDS, operator, policies, rights};
use serde_json::Value;

use crate::{
    release::named,
    yaml::{Error, value},
};

/// A directory of `deploy/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// CustomResourceDefinitions.
    Crds,
    /// Namespace, accounts and rights.
    Rbac,
    /// Admission policies.
    Policy,
    /// The operator.
    Operator,
}

impl Part {
    /// All, in the order in which they are applied.
    pub const ALL: [Self; 4] = [Self::Crds, Self::Rbac, Self::Policy, Self::Operator];

    /// Name of the directory.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Crds => "crds",
            Self::Rbac => "rbac",
            Self::Policy => "policy",
            Self::Operator => "operator",
        }
    }
}

/// A file of objects.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its directory.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// What is in it.
    pub objects: Vec<Value>,
    /// Whether every installation has it. What is not is for some clusters only.
    pub everywhere: bool,
}

impl Manifest {
    fn new(part: Part, name: impl Into<String>, objects: Vec<Value>) -> Self {
        Self { part, name: name.into(), objects, everywhere: true }
    }

    fn optional(self) -> Self {
        Self { everywhere: false, ..self }
    }
}

/// Everything that can be installed.
///
/// # Errors
/// When an object cannot be written.
pub fn manifests(images: &Lock) -> Result<Vec<Manifest>, Error> {
    let mut all = Vec::new();
    for crd in crds() {
        all.push(Manifest::new(Part::Crds, format!("{}.yaml", crd.spec.names.plural), vec![value(&crd)?]));
    }
    let accounts =
        rights::accounts().iter().map(|name| value(&rights::account(name))).collect::<Result<Vec<_>, _>>()?;
    let (cluster_role, cluster_binding) = rights::cluster_role(OPERATOR, rights::OPERATOR_CLUSTER);
    let (role, binding) = rights::role(OPERATOR, rights::OPERATOR_NAMESPACED);
    let (openshift_role, openshift_binding) = rights::openshift();
    let retry_handler = policies::retry_handler();
    all.extend([
        Manifest::new(Part::Rbac, "namespace.yaml", vec![value(&rights::namespace())?]),
        Manifest::new(Part::Rbac, "serviceaccounts.yaml", accounts),
        Manifest::new(
            Part::Rbac,
            "operator.yaml",
            vec![value(&cluster_role)?, value(&cluster_binding)?, value(&role)?, value(&binding)?],
        ),
    ]);
    for operand in OPERANDS.iter().filter(|operand| !operand.rights.is_empty()) {
        let (role, binding) = rights::cluster_role(operand.account, operand.rights);
        let name = format!("{}.yaml", operand.role.as_str());
        all.push(Manifest::new(Part::Rbac, name, vec![value(&role)?, value(&binding)?]));
    }
    all.extend([
        Manifest::new(Part::Rbac, "openshift.yaml", vec![value(&openshift_role)?, value(&openshift_binding)?])
            .optional(),
        Manifest::new(Part::Policy, "agent.yaml", vec![value(&policies::agent())?, value(&policies::agent_binding())?]),
        // For Kubernetes 1.36 and newer; older API servers do not know the kind.
        Manifest::new(
            Part::Policy,
            "retry-handler.yaml",
            vec![
                value(&policies::sidecar_volumes())?,
                value(&policies::sidecar_volumes_binding())?,
                policies::policy(&retry_handler),
                policies::binding(&retry_handler),
            ],
        )
        .optional(),
        Manifest::new(
            Part::Operator,
            "networkpolicy.yaml",
            vec![value(&policies::network_policy())?, value(&policies::exporter_network_policy())?],
        ),
        Manifest::new(Part::Operator, "poddisruptionbudget.yaml", vec![value(&operator::disruption_budget())?]),
        Manifest::new(Part::Operator, "deployment.yaml", vec![value(&operator::deployment(&named(images)))?]),
    ]);
    Ok(all)
}

/// The objects of `install.yaml`: those of every installation, the namespace first.
///
/// # Errors
/// When an object cannot be written.
pub fn objects(images: &Lock) -> Result<Vec<Value>, Error> {
    let manifests = manifests(images)?.into_iter().filter(|manifest| manifest.everywhere);
    let mut objects: Vec<_> = manifests.flat_map(|manifest| manifest.objects).collect();
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::release::unpublished;

    fn key(object: &Value) -> String {
        format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
    }

    #[test]
    fn everything_is_installed_once_and_what_is_named_exists() {
        let objects = objects(&unpublished("1").unwrap()).unwrap();
        assert_eq!(objects[0]["kind"], "Namespace");
        let keys: BTreeSet<_> = objects.iter().map(key).collect();
        assert_eq!(keys.len(), objects.len());
        for binding in objects.iter().filter(|object| object["roleRef"].is_object()) {
            let role = &binding["roleRef"];
            let named = [format!("{}/{}", role["kind"].as_str().unwrap(), role["name"].as_str().unwrap())];
            let subjects = binding["subjects"].as_array().unwrap();
            let subjects = subjects.iter().map(|s| format!("ServiceAccount/{}", s["name"].as_str().unwrap()));
            for named in named.into_iter().chain(subjects) {
                assert!(keys.contains(&named), "{} names {named}, which is not installed", key(binding));
            }
        }
    }

    #[test]
    fn nothing_needs_an_api_that_the_oldest_supported_kubernetes_lacks() {
        let versions: BTreeSet<_> = objects(&unpublished("1").unwrap())
            .unwrap()
            .iter()
            .map(|object| format!("{} {}", object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap()))
            .collect();
        assert!(!versions.iter().any(|version| version.contains("Mutating")), "{versions:?}");
        assert!(versions.contains("admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy"), "{versions:?}");
    }
}
