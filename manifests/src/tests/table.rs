//! Whether the table of operands says what is rendered, and the pages for administrators what is in the table.

use std::collections::BTreeSet;

use super::*;
use crate::operands::{Gate, OPERANDS};

/// Everything that can be switched on.
fn everything() -> CXIDriverSpec {
    let mut spec = spec();
    spec.retry_handler.image = Some(CXI_RH.into());
    spec
}

#[test]
fn roles_and_accounts_are_used_once() {
    let (roles, accounts): (BTreeSet<_>, BTreeSet<_>) =
        OPERANDS.iter().map(|operand| (operand.role, operand.account)).unzip();
    assert_eq!((roles.len(), accounts.len()), (OPERANDS.len(), OPERANDS.len()));
}

#[test]
fn each_operand_has_the_name_account_gate_and_directories_of_its_row() {
    let spec = everything();
    let rendered = rendered(&spec);
    for operand in OPERANDS {
        assert!((operand.wanted)(&spec), "{operand:?}");
        let prefix = format!("cxi-{}-cassini", operand.role.as_str());
        let (name, daemonset) = rendered.iter().find(|(name, _)| name.starts_with(&prefix)).unwrap();
        assert_eq!(operand.daemonset("cassini").as_ref().unwrap_or(name), name);
        let pod = daemonset.spec.clone().unwrap().template.spec.unwrap();
        assert_eq!(pod.service_account_name.as_deref(), Some(operand.account));
        let talks = pod.automount_service_account_token != Some(false);
        assert_eq!(talks, !operand.rights.is_empty(), "{name}: an account without rights needs no token");
        let placed = serde_json::to_string(&(&pod.affinity, &pod.node_selector)).unwrap();
        let label =
            operand.gate.map_or_else(|| cxi_api::names::DRIVER_LABEL.to_owned(), |gate| gate.label()("cassini"));
        assert!(placed.contains(&format!("\"{label}\"")), "{name}: {placed}");
        let stays = daemonset.spec.clone().unwrap().update_strategy.unwrap().type_.as_deref() == Some("OnDelete");
        assert_eq!(stays, matches!(operand.gate, Some(Gate::ByImage { .. })), "{name}");
        let seen: BTreeSet<_> =
            pod.volumes.iter().flatten().filter_map(|volume| Some(volume.host_path.as_ref()?.path.as_str())).collect();
        let listed: BTreeSet<_> = operand.host.iter().map(|directory| directory.host).collect();
        assert_eq!(seen, listed, "{name}");
    }
}

#[test]
fn what_a_field_names_runs() {
    for operand in OPERANDS {
        assert!(operand.image.field.starts_with("spec."), "{operand:?}");
        assert_eq!((operand.image.named)(&CXIDriverSpec::new("1")), None, "{operand:?}");
    }
}

/// An account of the table that the page leaves out is one whose token an administrator knows nothing of.
#[test]
fn the_page_on_security_names_every_account_and_image_of_the_table() {
    let page = include_str!("../../../docs/security.md");
    for operand in OPERANDS {
        let image = operand.image.field.trim_start_matches("spec.");
        for named in [operand.account, image] {
            assert!(page.contains(&format!("`{named}`")), "docs/security.md does not name `{named}`");
        }
    }
}
