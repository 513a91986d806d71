//! The programs on the nodes take the settings that the operator hands them of an accepted CXIDriver: none exits because of one.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::{Command, CommandFactory as _, Parser as _};
use cxi_api::CXIDriverSpec;
use cxi_device_plugin::cli::Args;
use cxi_hardware::NicName;
use cxi_injection::{
    cdi::{self, Subject},
    provision::Provision,
};
use cxi_manifests::{images::Images, operands::operands};
use k8s_openapi::api::core::v1::EnvVar;

/// Tries them all.
///
/// # Errors
/// If one would exit, or the operator could not work with the spec.
pub fn take(spec: &CXIDriverSpec) -> Result<()> {
    ensure!(spec.update_strategy.budget(10).is_some(), "maxUnavailable is no number of nodes");
    for (name, daemonset) in operands("cxi", spec, "cxi-operator", &Images::default(), &[].into()) {
        let pod = daemonset.and_then(|daemonset| daemonset.spec).and_then(|spec| spec.template.spec);
        let Some(container) = pod.and_then(|pod| pod.containers.into_iter().next()) else { continue };
        let variables = container.env.unwrap_or_default();
        match container.name.as_str() {
            "device-plugin" => device_plugin(spec, &variables).with_context(|| name.clone())?,
            "exporter" => exporter(&variables).with_context(|| name.clone())?,
            _ => {}
        }
    }
    Ok(())
}

fn device_plugin(spec: &CXIDriverSpec, variables: &[EnvVar]) -> Result<()> {
    let flags = flags(&Args::command(), variables);
    let config = Args::try_parse_from([vec!["cxi-device-plugin".to_owned()], flags].concat())?.into_config();
    config.sources.check()?;
    // As on a host that has every device, and two NICs.
    let provision = Provision { binds: config.sources.extra_mounts, nodes: spec.device_plugin.extra_devices.clone() };
    let nics = [("0000:21:00.0".parse()?, NicName::new(0)), ("0000:c1:00.0".parse()?, NicName::new(1))];
    let subject = Subject { nics: &nics, dev: Path::new("/dev"), provision: &provision, env: &[] };
    cdi::spec(cdi::PLUGIN_KIND, subject)?;
    Ok(())
}

fn exporter(variables: &[EnvVar]) -> Result<()> {
    let mut agent = cxi_agent::cli::Args::command();
    agent.build();
    let exporter = agent.find_subcommand("exporter").context("the agent has no exporter")?.clone();
    let flags = flags(&exporter, variables);
    agent.try_get_matches_from([vec!["cxi-agent".to_owned(), "exporter".to_owned()], flags].concat())?;
    Ok(())
}

/// What a kubelet would put for a field of the pod.
fn of_field(variable: &EnvVar) -> &'static str {
    let field = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
    if field.is_some_and(|field| field.field_path == "status.hostIPs") { "192.0.2.1" } else { "n1" }
}

/// The flags that mean the same as these variables: a test cannot set those for itself alone.
fn flags(command: &Command, variables: &[EnvVar]) -> Vec<String> {
    let flag = |variable: &EnvVar| {
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_env().is_some_and(|name| name.to_str() == Some(variable.name.as_str())))?;
        let (long, value) = (argument.get_long()?, variable.value.as_deref().unwrap_or_else(|| of_field(variable)));
        if argument.get_action().takes_values() {
            Some(format!("--{long}={value}"))
        } else {
            (value == "true").then(|| format!("--{long}"))
        }
    };
    variables.iter().filter_map(flag).collect()
}
