//! Which kernels the nodes of a cluster run, and so which images it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use cxi_driver_image_format::{ImageTag, KernelName};
use serde::Serialize;
use serde_json::Value;

use crate::{
    buildah::said,
    error::{Error, Result},
};

/// Which nodes are asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Kubeconfig, when not kubectl's own choice.
    pub kubeconfig: Option<String>,
    /// CXIDriver whose nodes, image and version are meant.
    pub driver: Option<String>,
    /// Label selector of the nodes.
    pub selector: Option<String>,
}

/// What is wanted on the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Label selector of the nodes.
    pub selector: String,
    /// Repository of the images.
    pub repository: Option<String>,
    /// Driver release.
    pub version: Option<String>,
}

/// A kernel that nodes run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub kernel: String,
    /// What those nodes say that they run (`osImage`): it tells whose kernel it is where the name does not.
    pub os: String,
    /// How many nodes run it.
    pub nodes: usize,
    /// Its image, when repository and version are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether the registry has that image, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

/// Node label by which a CXIDriver selects nodes when it does not say.
const SELECTOR: &str = "feature.node.kubernetes.io/pci-1590.present=true";

/// Asks the cluster what is wanted.
///
/// # Errors
/// If there is no such CXIDriver, or the cluster cannot be asked.
pub fn wanted(question: &Question) -> Result<Wanted> {
    let Some(driver) = &question.driver else {
        let selector = question.selector.clone().unwrap_or_else(|| SELECTOR.to_owned());
        return Ok(Wanted { selector, ..Wanted::default() });
    };
    let object = kubectl(question, &["get", "cxidriver", driver, "--output=json"])?;
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let labels = spec["nodeSelector"].as_object().into_iter().flatten();
    let labels: Vec<String> = labels.filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect();
    Ok(Wanted {
        selector: question.selector.clone().unwrap_or(labels.join(",")),
        repository: text(&spec["source"]["image"]),
        version: text(&spec["version"]),
    })
}

/// The kernels of the nodes that a selector selects, most frequent first.
///
/// # Errors
/// If the cluster cannot be asked.
pub fn kernels(question: &Question, selector: &str) -> Result<Vec<Found>> {
    let list = kubectl(question, &["get", "nodes", "--output=json", "--selector", selector])?;
    count(&list)
}

/// A kernel, what its nodes say that they run, and how many they are.
pub type Found = (KernelName, String, usize);

fn count(list: &Value) -> Result<Vec<Found>> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for node in list["items"].as_array().into_iter().flatten() {
        let info = &node["status"]["nodeInfo"];
        if let Some(kernel) = info["kernelVersion"].as_str().filter(|kernel| !kernel.is_empty()) {
            *counts.entry((kernel, info["osImage"].as_str().unwrap_or_default())).or_default() += 1;
        }
    }
    let mut kernels = Vec::new();
    for ((kernel, os), nodes) in counts {
        let kernel = kernel.parse::<KernelName>().map_err(|error| Error::Input(error.to_string()))?;
        kernels.push((kernel, os.to_owned(), nodes));
    }
    kernels.sort_by_key(|(kernel, os, nodes)| (std::cmp::Reverse(*nodes), kernel.clone(), os.clone()));
    Ok(kernels)
}

/// The kernels with their images; `tags`: those that the registry has, when it was asked.
///
/// # Errors
/// If version and kernel make no tag.
pub fn images(kernels: Vec<Found>, wanted: &Wanted, tags: Option<&BTreeSet<String>>) -> Result<Vec<Kernel>> {
    let row = |(kernel, os, nodes): Found| {
        let named = wanted.repository.as_ref().zip(wanted.version.as_ref());
        let tag = named.map(|(repository, version)| {
            Ok::<_, Error>((
                repository,
                ImageTag::new(version, &kernel).map_err(|error| Error::Input(error.to_string()))?,
            ))
        });
        let tag = tag.transpose()?;
        let exists = tags.zip(tag.as_ref()).map(|(tags, (_, tag))| tags.contains(tag.as_str()));
        Ok(Kernel {
            kernel: kernel.to_string(),
            os,
            nodes,
            image: tag.map(|(repository, tag)| format!("{repository}:{tag}")),
            exists,
        })
    };
    kernels.into_iter().map(row).collect()
}

fn kubectl(question: &Question, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new("kubectl");
    if let Some(kubeconfig) = &question.kubeconfig {
        command.arg("--kubeconfig").arg(kubeconfig);
    }
    let text = said(command.args(arguments), "kubectl", "kubernetes-client").map_err(|error| match error {
        Error::Program { said, .. } => {
            Error::Input(format!("the cluster cannot be asked ({said}): check --kubeconfig, --driver and --selector"))
        }
        other => other,
    })?;
    serde_json::from_str(&text).map_err(|error| Error::Input(format!("kubectl's answer cannot be understood: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(kernel: &str) -> Value {
        json!({ "status": { "nodeInfo": { "kernelVersion": kernel, "osImage": "Debian GNU/Linux 12 (bookworm)" } } })
    }

    #[test]
    fn one_kernel_of_two_systems_is_two_lines() {
        let ubuntu =
            |os: &str| json!({ "status": { "nodeInfo": { "kernelVersion": "6.8.0-52-generic", "osImage": os } } });
        let list = json!({ "items": [ubuntu("Ubuntu 22.04.5 LTS"), ubuntu("Ubuntu 24.04.1 LTS"), ubuntu("Ubuntu 22.04.5 LTS")] });
        let found: Vec<_> = count(&list).unwrap().into_iter().map(|(_, os, nodes)| (os, nodes)).collect();
        assert_eq!(found, [("Ubuntu 22.04.5 LTS".to_owned(), 2), ("Ubuntu 24.04.1 LTS".to_owned(), 1)]);
    }

    #[test]
    fn kernels_are_counted_and_their_images_named() {
        let list = json!({ "items": [node("6.1.0-56-amd64"), node("6.12.1+deb12-amd64"), node("6.12.1+deb12-amd64")] });
        let kernels = count(&list).unwrap();
        let wanted = Wanted { repository: Some("r/cxi".into()), version: Some("13.0.0".into()), ..Wanted::default() };
        let tags = ["13.0.0-6.1.0-56-amd64".to_owned()].into();
        let rows = images(kernels, &wanted, Some(&tags)).unwrap();
        let brief: Vec<_> = rows.iter().map(|row| (row.nodes, row.image.as_deref().unwrap(), row.exists)).collect();
        assert_eq!(
            brief,
            [(2, "r/cxi:13.0.0-6.12.1_deb12-amd64", Some(false)), (1, "r/cxi:13.0.0-6.1.0-56-amd64", Some(true))]
        );
        let unknown = images(count(&list).unwrap(), &Wanted::default(), None).unwrap();
        assert!(unknown.iter().all(|row| row.image.is_none() && row.exists.is_none()));
    }
}
