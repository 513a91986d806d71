//! How KMM's worker calls `modprobe`: which modules, and with which parameters.
//!
//! KMM hands parameters to one module only, and the five of the stack come in by two calls and their dependencies. `modprobe`
//! takes parameters of any module from a configuration file, and there is one file in a worker's pod whose content a Module
//! decides: the worker's own configuration. `modprobe` skips the lines of it that are none of its own, with a warning.

use std::collections::BTreeMap;

use cxi_api::{
    KernelModule,
    kmm::{ModprobeSpec, RawArgs},
};

/// Where KMM's worker unpacks the image; `modprobe` looks for `lib/modules/<kernel>` below it (KMM `cmd/worker`).
const MODULES_ROOT: &str = "/tmp/opt";

/// The worker's configuration, YAML with a copy of the Module's `modprobe` (KMM `internal/pod/workerpodmanager.go`).
const WORKER_CONFIG: &str = "/etc/kmm-worker/config.yaml";

/// A module's name that only the configuration makes known. It is loaded first: where `modprobe` does not find the
/// configuration, loading fails, instead of going on without parameters.
const CONFIGURED: &str = "cxi-parameters";

/// KMM's `modprobe` for the stack, with parameters by module as `name=value`.
pub fn modprobe(parameters: &BTreeMap<String, Vec<String>>, firmware_path: Option<String>) -> ModprobeSpec {
    let options: Vec<String> = parameters
        .iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(module, values)| format!("options {module} {}", values.join(" ")))
        .collect();
    let unload = arguments(&["-r"], &KernelModule::UNLOAD);
    if options.is_empty() {
        let raw_args = Some(RawArgs { load: arguments(&["-a"], &KernelModule::LOAD), unload });
        return ModprobeSpec { raw_args, firmware_path, ..ModprobeSpec::default() };
    }
    let load = arguments(&["-C", WORKER_CONFIG, "-a", CONFIGURED], &KernelModule::LOAD);
    // YAML writes a text of several lines line by line, as it is.
    let lines = format!("alias {CONFIGURED} {}\n{}", KernelModule::LOAD[0].file_stem(), options.join("\n"));
    let raw_args = Some(RawArgs { load, unload });
    ModprobeSpec { raw_args, parameters: vec![lines], firmware_path, ..ModprobeSpec::default() }
}

/// KMM runs exactly `modprobe` with these. It removes modules in the order given and stops at the first that is in use.
fn arguments(options: &[&str], modules: &[KernelModule]) -> Vec<String> {
    let options = ["-d", MODULES_ROOT].into_iter().chain(options.iter().copied());
    options.chain(modules.iter().map(|module| module.file_stem())).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_reach_modprobe_by_the_workers_configuration() {
        let given = |values: &[(&str, &[&str])]| -> BTreeMap<String, Vec<String>> {
            let owned = |value: &&str| (*value).to_owned();
            values.iter().map(|(module, values)| ((*module).to_owned(), values.iter().map(owned).collect())).collect()
        };
        let plain = modprobe(&given(&[]), None);
        assert_eq!(plain.raw_args.as_ref().unwrap().load, ["-d", "/tmp/opt", "-a", "cxi-user", "cxi-eth"]);
        assert_eq!(modprobe(&given(&[("cxi-eth", &[])]), None), plain, "no value is no parameter");

        let unload = "-d /tmp/opt -r cxi-user cxi-eth cxi-ss1 cxi-sl cxi-sbl";
        assert_eq!(plain.raw_args.as_ref().unwrap().unload.join(" "), unload, "what jobs hold is asked first");

        let set = modprobe(&given(&[("cxi-ss1", &["a=1", "b=0,1"]), ("cxi-eth", &["c=x"])]), None);
        let text = serde_saphyr::to_string(&serde_json::to_value(&set).unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for line in ["alias cxi-parameters cxi-user", "options cxi-eth c=x", "options cxi-ss1 a=1 b=0,1"] {
            assert!(lines.contains(&line), "{text}");
        }
        let load = "-d /tmp/opt -C /etc/kmm-worker/config.yaml -a cxi-parameters cxi-user cxi-eth";
        assert_eq!(set.raw_args.as_ref().unwrap().load.join(" "), load);
        assert_eq!(set.raw_args.unwrap().unload, plain.raw_args.unwrap().unload);
    }
}
