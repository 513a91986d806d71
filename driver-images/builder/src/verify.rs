//! Whether a driver image is what it says it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use cxi_driver_image_format::manifest::{ImageManifest, ManifestModule};

use crate::{
    architecture::Architecture,
    symvers::Symbols,
    unpack::{Contents, FIRMWARE, Module, PROGRAMS},
};

/// What the image is expected to be, beyond what it says of itself.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Kernel that its tag names, spelled as in a tag.
    pub kernel_in_tag: Option<String>,
    /// Driver version.
    pub driver_version: Option<String>,
    /// Architecture.
    pub arch: Option<Architecture>,
    /// Modules that must be there, as in `/sys/module`.
    pub modules: Vec<String>,
    /// Firmware that must be there, below the image's firmware directory, beside what its manifest and its modules ask for.
    pub firmware: Vec<String>,
    /// The kernel's `Module.symvers`; what the image itself tells is used without it.
    pub kernel_symbols: Option<Symbols>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// There is no manifest, or none that can be read.
    NoManifest(String),
    /// The manifest is that of another kernel or release.
    OtherImage(String),
    /// There are modules for another kernel.
    OtherKernel(String),
    /// A module that was listed is not there.
    MissingModule(String),
    /// A module is there that was not listed.
    ExtraModule(String),
    /// A module is another one than the manifest says.
    OtherModule(String),
    /// A module does not fit to the kernel, or to the others.
    Symbol(String),
    /// `modprobe` would not find what it needs.
    Index(String),
    /// KMM could not use the image.
    NoProgram(String),
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoManifest(why)
            | Self::OtherImage(why)
            | Self::OtherKernel(why)
            | Self::MissingModule(why)
            | Self::ExtraModule(why)
            | Self::OtherModule(why)
            | Self::Symbol(why)
            | Self::Index(why)
            | Self::NoProgram(why) => f.write_str(why),
        }
    }
}

/// Everything that is not as it should be; nothing when all is well.
pub fn verify(contents: &Contents, expected: &Expected) -> Vec<Lie> {
    let manifest = match contents.manifest.as_deref().map(ImageManifest::parse) {
        Some(Ok(manifest)) => manifest,
        Some(Err(error)) => return vec![Lie::NoManifest(error.to_string())],
        None => return vec![Lie::NoManifest("it has no manifest at /opt/cxi/manifest.json".to_owned())],
    };
    let mut lies = identity(&manifest, expected);
    lies.extend(kernels(contents, &manifest));
    let none = BTreeMap::new();
    let modules = contents.kernels.get(&manifest.kernel).unwrap_or(&none);
    lies.extend(listed(modules, &manifest, expected));
    lies.extend(symbols(modules, contents, expected));
    lies.extend(index(modules, contents.dependencies.get(&manifest.kernel)));
    for program in PROGRAMS.iter().filter(|program| !contents.programs.contains(program)) {
        lies.push(Lie::NoProgram(format!("it has no {program}, which KMM calls in a driver image")));
    }
    lies
}

/// What is no lie and may yet be a mistake, a sentence each: firmware that the modules ask for and that is not in the image. A driver
/// binds without its firmware, and its links stay down. Hosts may have it; so the image is not wrong.
pub fn warnings(contents: &Contents, expected: &Expected) -> Vec<String> {
    let manifest = contents.manifest.as_deref().and_then(|text| ImageManifest::parse(text).ok()).unwrap_or_default();
    let modules = contents.kernels.get(&manifest.kernel).into_iter().flatten();
    let modules = modules.flat_map(|(_, module)| module.file.iter().flat_map(|file| file.firmware.iter().cloned()));
    let wanted: BTreeSet<String> = manifest.firmware.iter().chain(&expected.firmware).cloned().chain(modules).collect();
    let missing: Vec<String> = wanted.into_iter().filter(|file| !contents.firmware.contains(file)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "it has no firmware {} below {FIRMWARE}, which its modules ask for: without it they load, and links may stay down; bring it \
         with --firmware or a layout, unless the nodes have it in /lib/firmware",
        missing.join(", ")
    )]
}

fn identity(manifest: &ImageManifest, expected: &Expected) -> Vec<Lie> {
    let mut lies = Vec::new();
    let tagged = cxi_driver_image_format::KernelName::in_tag;
    match manifest.kernel.parse::<cxi_driver_image_format::KernelName>() {
        Err(error) => lies.push(Lie::OtherImage(format!("its manifest is not for a kernel: {error}"))),
        Ok(kernel) => {
            if let Some(tag) = expected.kernel_in_tag.as_ref().filter(|tag| **tag != tagged(&kernel)) {
                lies.push(Lie::OtherImage(format!("its tag names kernel {tag}, its manifest kernel {kernel}")));
            }
        }
    }
    if let Some(version) = expected.driver_version.as_ref().filter(|version| **version != manifest.driver_version) {
        let said = &manifest.driver_version;
        lies.push(Lie::OtherImage(format!("it is to be release {version}, its manifest says {said}")));
    }
    let said = &manifest.arch;
    if let Some(arch) = expected.arch.filter(|arch| !said.is_empty() && arch.machine() != said) {
        lies.push(Lie::OtherImage(format!("it is to be for {arch}, and was built by programs for {said}")));
    }
    lies
}

fn kernels(contents: &Contents, manifest: &ImageManifest) -> Vec<Lie> {
    let mut lies = Vec::new();
    if !contents.kernels.contains_key(&manifest.kernel) {
        lies.push(Lie::OtherKernel(format!(
            "it has no modules for kernel {}, which its manifest names",
            manifest.kernel
        )));
    }
    for other in contents.kernels.keys().filter(|kernel| **kernel != manifest.kernel) {
        lies.push(Lie::OtherKernel(format!("it has modules for kernel {other}, which its manifest does not name")));
    }
    lies
}

/// `extra/cxi-ss1.ko` is `cxi_ss1`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn listed(modules: &BTreeMap<String, Module>, manifest: &ImageManifest, expected: &Expected) -> Vec<Lie> {
    let mut lies = Vec::new();
    let there: BTreeMap<String, (&String, &Module)> =
        modules.iter().map(|(path, module)| (name_of(path), (path, module))).collect();
    let wanted = manifest.modules.iter().map(|module| &module.name).chain(&expected.modules);
    for name in wanted.collect::<BTreeSet<_>>() {
        if !there.contains_key(name.as_str()) {
            lies.push(Lie::MissingModule(format!("module {name} is not in it")));
        }
    }
    for (name, (path, module)) in there {
        match manifest.modules.iter().find(|listed| listed.name == name) {
            Some(listed) => lies.extend(compare(path, module, listed, &manifest.kernel)),
            None => lies.push(Lie::ExtraModule(format!("{path} is in it, which its manifest does not list"))),
        }
    }
    lies
}

fn compare(path: &str, module: &Module, listed: &ManifestModule, kernel: &str) -> Vec<Lie> {
    let file = match &module.file {
        Ok(file) => file,
        Err(error) => return vec![Lie::OtherModule(format!("{path} cannot be loaded: {error}"))],
    };
    let mut lies = Vec::new();
    if file.build_id != listed.build_id {
        let (is, said) = (&file.build_id, &listed.build_id);
        lies.push(Lie::OtherModule(format!("{path} has build-id {is}, its manifest says {said}")));
    } else if !listed.sha256.is_empty() && listed.sha256 != module.sha256 {
        let (is, said) = (&module.sha256, &listed.sha256);
        lies.push(Lie::OtherModule(format!("{path} has SHA-256 {is}, its manifest says {said}")));
    }
    let built_for = file.vermagic.split(' ').next().unwrap_or_default();
    if built_for != kernel {
        lies.push(Lie::OtherKernel(format!("{path} is for kernel {built_for}, not {kernel}")));
    } else if !listed.vermagic.is_empty() && listed.vermagic != file.vermagic {
        let (is, said) = (&file.vermagic, &listed.vermagic);
        lies.push(Lie::OtherModule(format!("{path} has vermagic {is:?}, its manifest says {said:?}")));
    }
    lies
}

/// Each symbol that a module needs is offered in the same version: by another module of the image, or by the kernel.
fn symbols(modules: &BTreeMap<String, Module>, contents: &Contents, expected: &Expected) -> Vec<Lie> {
    let files: Vec<_> = modules.iter().filter_map(|(path, module)| Some((path, module.file.as_ref().ok()?))).collect();
    let offered: Symbols = files.iter().flat_map(|(_, file)| file.exports.clone()).collect();
    let kernel = expected.kernel_symbols.as_ref().or(contents.kernel_symbols.as_ref());
    let mut lies = Vec::new();
    for (path, file) in &files {
        let mut wrong: Vec<String> = Vec::new();
        for (symbol, version) in &file.imports {
            let (by, found) = match offered.get(symbol) {
                Some(found) => ("the image", Some(found)),
                None => ("the kernel", kernel.and_then(|kernel| kernel.get(symbol))),
            };
            match found {
                Some(found) if found == version => {}
                Some(found) => wrong.push(format!("{symbol} in version {version:#010x}, {by} has {found:#010x}")),
                // Without any list nothing can be said.
                None if kernel.is_none() => {}
                None => wrong.push(format!("{symbol}, which neither the image nor the kernel has")),
            }
        }
        if let Some(first) = wrong.first() {
            let more = if wrong.len() > 1 { format!(" (and {} more)", wrong.len() - 1) } else { String::new() };
            lies.push(Lie::Symbol(format!("{path} needs {first}{more}")));
        }
    }
    lies
}

fn index(modules: &BTreeMap<String, Module>, dependencies: Option<&String>) -> Vec<Lie> {
    let Some(text) = dependencies else {
        return vec![Lie::Index("it has no modules.dep: depmod was not run".to_owned())];
    };
    let known: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(':')).collect();
    let mut lies = Vec::new();
    for (path, module) in modules {
        let Some(dependencies) = known.get(path.as_str()) else {
            lies.push(Lie::Index(format!("{path} is not in modules.dep: depmod was run before it was there")));
            continue;
        };
        let found: BTreeSet<String> = dependencies.split_whitespace().map(name_of).collect();
        let needed = module.file.iter().flat_map(|file| &file.depends).map(|name| name.replace('-', "_"));
        for name in needed.filter(|name| !found.contains(name)) {
            lies.push(Lie::Index(format!("{path} needs module {name}, which modules.dep does not know")));
        }
    }
    lies
}

/// The kernel in an image's tag, as a tag spells it. Versions have no `-` before a kernel's first number in any release so
/// far; where one has, the kernel begins at the last place that looks like one.
pub fn kernel_in_tag(reference: &str) -> Option<String> {
    let tag = reference.rsplit('/').next()?.split_once(':')?.1;
    let starts = tag.match_indices('-').map(|(at, _)| &tag[at + 1..]);
    let dotted = |text: &&str| {
        let number = text.split(['-', '_']).next().unwrap_or_default();
        number.split('.').count() >= 3 && number.split('.').take(2).all(|part| part.parse::<u32>().is_ok())
    };
    starts.filter(dotted).find(|text| text.parse::<cxi_driver_image_format::KernelName>().is_ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("localhost/cxi-driver:13.0.0-6.1.0-56-amd64", Some("6.1.0-56-amd64"))]
    #[case("r:5000/a/cxi:2.0.1-shs12-6.12.117_deb12-amd64", Some("6.12.117_deb12-amd64"))]
    #[case("r/cxi:14-5.14.0-427.13.1.el9_4.x86_64", Some("5.14.0-427.13.1.el9_4.x86_64"))]
    #[case("r/cxi:latest", None)]
    #[case("r/cxi", None)]
    fn kernels_of_tags(#[case] reference: &str, #[case] kernel: Option<&str>) {
        assert_eq!(kernel_in_tag(reference).as_deref(), kernel);
    }
}
