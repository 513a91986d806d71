//! Building one driver image.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use cxi_driver_image_format::manifest::ImageManifest;
use cxi_driver_image_format::{
    Base, ImageTag, KernelName,
    base::Distro,
    containerfile::{self, LABEL_PREFIX, LOG, SIGNER, SIGNING_SECRETS},
};
use sha2::{Digest, Sha256};

use crate::{
    architecture::Architecture,
    buildah::{Buildah, Failed, lacks_ids},
    error::{Attempt, Error, Result},
    stage::{self, Context},
    storage::Use,
    tree, unpack,
    verify::{Expected, verify, warnings},
};

pub use crate::stage::Inputs;

/// Label with a module's build-id; the module's name is appended.
pub const BUILD_ID_LABEL: &str = "cxi.hpe.com/build-id.";

/// What the scripts of the build put before the sentence that says why they failed.
pub(crate) const REASON: &str = "cxi-error: ";

/// What the scripts of the build put before the step that they begin.
const STEP: &str = "cxi-step: ";

/// What images are built from and how, for every release and kernel alike.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    /// Sources, headers, firmware.
    pub inputs: Inputs,
    /// Repository of the images, without tag.
    pub repository: String,
    /// Whose kernels they are, when neither nodes nor their names tell.
    pub distro: Option<Distro>,
    /// What the nodes with a kernel say that they run (`osImage`), where that is known.
    pub systems: BTreeMap<KernelName, String>,
    /// Image in which is built, instead of the distribution's own.
    pub builder_image: Option<String>,
    /// Image that the driver image is made on, instead of the distribution's own.
    pub runtime_image: Option<String>,
    /// What it is for, when the kernel's name does not tell and it is not what this machine is.
    pub arch: Option<Architecture>,
    /// Key and certificate to sign the modules with.
    pub signing: Option<(PathBuf, PathBuf)>,
    /// Modules that must come out, as in `/sys/module`; whatever comes out when empty.
    pub modules: Vec<String>,
    /// Seconds since 1970 that are written into images instead of the sources' newest time.
    pub epoch: Option<u64>,
    /// Builds everything anew.
    pub no_cache: bool,
    /// Never asks a registry for base images.
    pub offline: bool,
    /// Where outputs of builds are kept: a directory per tag.
    pub logs: PathBuf,
}

/// An image that was built, or that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its name.
    pub reference: String,
    /// Digests of its layers.
    pub layers: Vec<String>,
    /// Whether it was there before.
    pub existed: bool,
    /// What may be a mistake, a sentence each.
    pub warnings: Vec<String>,
}

/// Where the tools and the headers of a kernel are.
struct Bases {
    builder: String,
    runtime: String,
}

impl Recipe {
    /// Name of an image.
    ///
    /// # Errors
    /// If version and kernel make no tag.
    pub fn reference(&self, version: &str, kernel: &KernelName) -> Result<String> {
        let tag = ImageTag::new(version, kernel).map_err(|error| Error::Input(error.to_string()))?;
        Ok(format!("{}:{tag}", self.repository))
    }

    /// The image of a release for a kernel, if it is in the storage.
    ///
    /// # Errors
    /// If one is there that is another kernel's.
    pub fn find(&self, buildah: &Buildah, version: &str, kernel: &KernelName) -> Result<Option<Built>> {
        let reference = self.reference(version, kernel)?;
        let Some(image) = buildah.inspect(&reference)? else { return Ok(None) };
        match image.labels.get(&format!("{LABEL_PREFIX}kernel")) {
            Some(other) if other != kernel.as_str() => Err(Error::Taken { reference, other: other.clone() }),
            _ => Ok(Some(Built { reference, layers: image.layers, existed: true, warnings: Vec::new() })),
        }
    }

    /// Builds the image of a release for a kernel. Nothing has its name before it was looked into and found to be right.
    ///
    /// # Errors
    /// If it cannot be built, or is not what it should be.
    pub fn build(&self, buildah: &Buildah, version: &str, kernel: &KernelName) -> Result<Built> {
        self.build_and_tell(buildah, version, kernel, &|_| ())
    }

    /// The same; `tell` is told each step that begins.
    ///
    /// # Errors
    /// See [`Recipe::build`].
    pub fn build_and_tell(
        &self,
        buildah: &Buildah,
        version: &str,
        kernel: &KernelName,
        tell: &dyn Fn(&str),
    ) -> Result<Built> {
        let reference = self.reference(version, kernel)?;
        self.find(buildah, version, kernel)?;
        let arch = Architecture::to_build(self.arch, kernel)?;
        let bases = self.bases(kernel)?;
        tell("bringing the sources together");
        let context = stage::stage(&self.inputs, version)?;
        let logs = self.logs.join(ImageTag::new(version, kernel).map_err(|e| Error::Input(e.to_string()))?.as_str());
        // What an earlier build left would be taken for this one's.
        fs::remove_dir_all(&logs).ok();
        fs::create_dir_all(&logs).attempt(|| format!("create {}", logs.display()))?;
        let epoch = self.epoch.unwrap_or(context.epoch);

        let file = context.path().join("Containerfile");
        fs::write(&file, containerfile::from_context()).attempt(|| format!("write {}", file.display()))?;
        let held = Use::begin(buildah)?;
        let unnamed = self.run(&held, &context, &file, &bases, (version, kernel, arch), epoch, &logs, tell)?;

        tell("looking into the new image");
        let contents = unpack::image(buildah, &unnamed)?;
        let expected = Expected {
            kernel_in_tag: Some(kernel.in_tag()),
            driver_version: Some(version.to_owned()),
            arch: Some(arch),
            modules: self.modules.clone(),
            ..Expected::default()
        };
        let warnings = warnings(&contents, &expected);
        let lies: Vec<String> = verify(&contents, &expected).iter().map(ToString::to_string).collect();
        if !lies.is_empty() {
            return Err(Error::Untrue { image: format!("the new image of {version} for kernel {kernel}"), lies });
        }
        let manifest = ImageManifest::parse(&contents.manifest.unwrap_or_default())
            .map_err(|error| Error::Untrue { image: reference.clone(), lies: vec![error.to_string()] })?;
        name(&held, &context, &unnamed, &reference, &manifest, epoch, &logs)?;
        let layers = buildah.inspect(&reference)?.map(|image| image.layers).unwrap_or_default();
        Ok(Built { reference, layers, existed: false, warnings })
    }

    fn bases(&self, kernel: &KernelName) -> Result<Bases> {
        let os = self.systems.get(kernel).map(String::as_str);
        match (Base::choose(kernel, os, self.distro.as_ref()), &self.builder_image) {
            (Err(unknown), None) => Err(Error::Input(unknown.to_string())),
            (known, builder) => {
                let known = known.ok();
                let runtime = known.map_or("scratch", |base| base.runtime);
                Ok(Bases {
                    builder: builder.clone().or(known.map(|base| base.builder.to_owned())).unwrap_or_default(),
                    runtime: self.runtime_image.clone().unwrap_or_else(|| runtime.to_owned()),
                })
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "everything that one build is told")]
    fn run(
        &self,
        held: &Use,
        context: &Context,
        file: &Path,
        bases: &Bases,
        (version, kernel, arch): (&str, &KernelName, Architecture),
        epoch: u64,
        logs: &Path,
        tell: &dyn Fn(&str),
    ) -> Result<String> {
        let id_file = context.path().join("id");
        let mut arguments = vec![
            // Layers that are not to be used again are not kept.
            format!("--layers={}", !self.no_cache),
            format!("--timestamp={epoch}"),
            format!("--iidfile={}", id_file.display()),
            format!("--file={}", file.display()),
            format!("--volume={}:{LOG}", logs.display()),
            format!("--build-arg=KERNEL_FULL_VERSION={kernel}"),
            format!("--build-arg=DRIVER_VERSION={version}"),
            format!("--build-arg=SOURCE_DATE_EPOCH={epoch}"),
            format!("--build-arg=BUILDER_BASE={}", bases.builder),
            format!("--build-arg=RUNTIME_BASE={}", bases.runtime),
        ];
        if let Some((key, certificate)) = &self.signing {
            for (id, path) in SIGNING_SECRETS.iter().zip([key, certificate]) {
                if !path.is_file() {
                    return Err(Error::Input(format!("there is no file {} to sign modules with", path.display())));
                }
                arguments.push(format!("--secret=id={id},src={}", path.display()));
            }
            let signer = tree::file_digest(key)? + &tree::file_digest(certificate)?;
            arguments.push(format!("--build-arg={SIGNER}={:x}", Sha256::digest(signer)));
        }
        if arch != Architecture::HERE {
            arguments.push(format!("--arch={arch}"));
        }
        if self.no_cache {
            arguments.push("--no-cache".to_owned());
        }
        if self.offline {
            arguments.push("--pull-never".to_owned());
        }
        arguments.push(context.path().display().to_string());
        let log = logs.join("build.log");
        match held.build(&arguments, &log, &|line| step_of(line).map_or((), tell))? {
            Ok(()) => {
                Ok(fs::read_to_string(&id_file).attempt(|| "read the new image's id".to_owned())?.trim().to_owned())
            }
            Err(Failed { output }) => {
                let why = explain(&output, &bases.builder);
                let make_log = make_logs(logs).pop().filter(|_| why.contains("make.log"));
                Err(Error::Build { why, log, make_log })
            }
        }
    }
}

/// Gives an image its labels and its name; neither makes a layer.
fn name(
    held: &Use,
    context: &Context,
    unnamed: &str,
    reference: &str,
    manifest: &ImageManifest,
    epoch: u64,
    logs: &Path,
) -> Result<()> {
    let file = context.path().join("Labels");
    let mut labels = vec![
        ("org.opencontainers.image.title".to_owned(), "CXI driver".to_owned()),
        ("org.opencontainers.image.version".to_owned(), manifest.driver_version.clone()),
        ("org.opencontainers.image.created".to_owned(), manifest.date.clone()),
        (format!("{LABEL_PREFIX}arch"), manifest.arch.clone()),
    ];
    labels.extend(
        manifest.modules.iter().map(|module| (format!("{BUILD_ID_LABEL}{}", module.name), module.build_id.clone())),
    );
    labels.extend(
        manifest.sources.iter().map(|source| (format!("{LABEL_PREFIX}source.{}", source.name), source.digest.clone())),
    );
    let lines: Vec<String> = labels.iter().map(|(key, value)| format!("LABEL {key}={value:?}\n")).collect();
    let text = format!("FROM {unnamed}\n{}", lines.concat());
    fs::write(&file, text).attempt(|| format!("write {}", file.display()))?;
    let arguments = [
        "--layers".to_owned(),
        "--pull-never".to_owned(),
        format!("--timestamp={epoch}"),
        format!("--file={}", file.display()),
        format!("--tag={reference}"),
        context.path().display().to_string(),
    ];
    let log = logs.join("name.log");
    held.build(&arguments, &log, &|_| ())?.map_err(|failed| Error::Build {
        why: explain(&failed.output, unnamed),
        log,
        make_log: None,
    })
}

/// Copies of DKMS's make.log, oldest first.
fn make_logs(logs: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(logs).into_iter().flatten().filter_map(Result::ok);
    let mut all: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with("make.log"))
        .map(|entry| (entry.metadata().and_then(|metadata| metadata.modified()).ok(), entry.path()))
        .collect();
    all.sort();
    all.into_iter().map(|(_, path)| path).collect()
}

/// The step that a line of a build's output says to begin.
fn step_of(line: &str) -> Option<&str> {
    // The scripts themselves are in the output too, with the marker inside quotes.
    line.strip_prefix(STEP)
}

/// Why a build failed, in one sentence.
pub fn explain(output: &str, builder: &str) -> String {
    // The scripts themselves are in the output too, with the marker inside quotes.
    let reason = output.lines().rev().find_map(|line| line.strip_prefix(REASON));
    let says = |text: &str| output.to_ascii_lowercase().contains(text);
    if says("no space left on device") {
        "the disk is full: make room where container images are kept and in TMPDIR (`cargo xtask driver-image prune` removes \
         what builds left), or name another place with --storage"
            .to_owned()
    } else if let Some(reason) = reason {
        reason.to_owned()
    } else if let Some(why) = lacks_ids(output) {
        why.to_owned()
    } else if let Some(image) = output.lines().rev().find_map(not_here) {
        format!(
            "the image {image} is not here and may not be pulled: leave --offline out, bring the image here, or name another \
             one with --builder-image or --runtime-image"
        )
    } else if says("initializing source") || says("short-name") || says("error creating build container") {
        format!(
            "the builder image {builder} cannot be had: check the network, the registry and its credentials (`buildah login`), \
             or name another one with --builder-image"
        )
    } else {
        let last = output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it printed nothing");
        format!("buildah failed: {last}")
    }
}

/// The image that a line of buildah says is not here.
fn not_here(line: &str) -> Option<&str> {
    line.split_once("build container: ")?.1.strip_suffix(": image not known")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "STEP 1: RUN printf 'cxi-error: $*'\ncxi-error: kernel 1 has no headers\nerror building at STEP",
        "kernel 1 has no headers"
    )]
    #[case("write /x: no space left on device\ncxi-error: base does not compile", "the disk is full")]
    #[case(
        "Trying to pull docker.io/x...\nerror creating build container: initializing source docker://x",
        "the builder image debian cannot be had"
    )]
    #[case("Error: creating build container: r/micro:1: image not known", "the image r/micro:1 is not here")]
    #[case(
        "error: finding newgidmap: exec: \"newgidmap\": executable file not found in $PATH",
        "buildah has no user ids"
    )]
    #[case("whatever\nerror building: exit status 7\n", "buildah failed: error building: exit status 7")]
    #[case("", "buildah failed: it printed nothing")]
    fn failures_are_one_sentence(#[case] output: &str, #[case] begins: &str) {
        let why = explain(output, "debian");
        assert!(why.starts_with(begins), "{why}");
    }

    #[test]
    fn an_unknown_kernel_needs_a_word_about_whose_it_is() {
        let recipe = Recipe { repository: "r".to_owned(), ..Recipe::default() };
        let kernel = "6.18.44-fc".parse().unwrap();
        let error = recipe.bases(&kernel).err().unwrap();
        insta::assert_snapshot!(error);
        let told = Recipe { distro: Some("sles:15.7".parse().unwrap()), ..recipe.clone() };
        assert_eq!(told.bases(&kernel).unwrap().builder, "registry.suse.com/bci/bci-base:15.7");
        let kernel: KernelName = "6.8.0-52-generic".parse().unwrap();
        let systems = [(kernel.clone(), "Ubuntu 22.04.5 LTS".to_owned())].into();
        let seen = Recipe { systems, ..recipe };
        assert_eq!(seen.bases(&kernel).unwrap().builder, "docker.io/library/ubuntu:22.04");
    }
}
