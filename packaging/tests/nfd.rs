//! `deploy/nfd`: nodes that Node Feature Discovery labels are those with a NIC that the programs on nodes know, and a CXIDriver
//! selects them.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use cxi_api::CXIDriverSpec;
use cxi_hardware::PciId;
use serde_json::{Value, json};

/// The only rule of the file.
fn rule() -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nfd/nodefeaturerule.yaml");
    let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    ensure!(object["apiVersion"] == "nfd.k8s-sigs.io/v1alpha1" && object["kind"] == "NodeFeatureRule", "{object:#}");
    let rules = object["spec"]["rules"].as_array().context("rules")?;
    ensure!(rules.len() == 1, "{object:#}");
    Ok(rules[0].clone())
}

/// The number that an attribute of a device is compared with. Node Feature Discovery compares texts, as sysfs has them without `0x`.
fn number(expression: &Value) -> Result<u16> {
    let [text] = &expression["value"].as_array().context("values")?[..] else { anyhow::bail!("one value") };
    let text = text.as_str().context("a text: YAML would have taken it for a number")?;
    let number = u16::from_str_radix(text, 16)?;
    ensure!(expression["op"] == "In" && text == format!("{number:04x}"), "{expression}");
    Ok(number)
}

/// The ids that the rule matches.
fn ids(rule: &Value) -> Result<BTreeSet<PciId>> {
    ensure!(rule["matchFeatures"].is_null(), "what is asked for besides: {rule:#}");
    let alternatives = rule["matchAny"].as_array().context("alternatives")?;
    let id = |alternative: &Value| {
        let [feature] = &alternative["matchFeatures"].as_array().context("features")?[..] else {
            anyhow::bail!("one device: {alternative:#}")
        };
        let attributes = &feature["matchExpressions"];
        ensure!(feature["feature"] == "pci.device", "{feature:#}");
        ensure!(attributes.as_object().is_some_and(|all| all.len() == 2), "{attributes:#}");
        Ok(PciId { vendor: number(&attributes["vendor"])?, device: number(&attributes["device"])? })
    };
    alternatives.iter().map(id).collect()
}

#[test]
fn the_rule_knows_the_nics_that_the_programs_know() -> Result<()> {
    let ids = ids(&rule()?)?;
    ensure!(!ids.is_empty(), "no ids");
    // Every device of these vendors, and these devices of every vendor.
    for known in &ids {
        for other in 0..=u16::MAX {
            for id in [PciId { device: other, ..*known }, PciId { vendor: other, ..*known }] {
                ensure!(ids.contains(&id) == id.cassini_generation().is_some(), "{id}: {ids:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn the_label_is_the_one_that_a_cxidriver_selects_by_default() -> Result<()> {
    let spec: CXIDriverSpec = serde_json::from_value(json!({ "version": "13.0.0" }))?;
    let labels = rule()?["labels"].clone();
    ensure!(labels == json!(spec.node_selector) && !spec.node_selector.is_empty(), "{labels}");
    Ok(())
}
