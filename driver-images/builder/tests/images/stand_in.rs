//! Driver images of the stand-in driver, really built for a Debian kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::lab::{StandIn, another_date, lab};
use cxi_driver_image_builder::{
    Error,
    architecture::Architecture,
    build::{BUILD_ID_LABEL, Built, Inputs},
    symvers, unpack,
    verify::{Expected, Lie, verify},
};
use cxi_driver_image_format::containerfile::LABEL_PREFIX;
use cxi_driver_image_format::manifest::ImageManifest;
use cxi_driver_image_lab::STACK;

/// A release, built once per process.
fn built(release: &str) -> Built {
    let lab = lab();
    let logs = tempfile::tempdir().unwrap();
    lab.stand_in(release, &lab.kernel, logs.path()).unwrap()
}

/// The same from trees elsewhere, with nothing taken from the first build, and with the kernel's packages brought along as where
/// there is no network.
fn built_again(release: &str) -> Built {
    let lab = lab();
    let sources = StandIn::generate(release).unwrap();
    let (logs, packages) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut inputs = sources.inputs().unwrap();
    inputs.kernel_headers = kernel_packages(packages.path());
    let mut recipe = lab.recipe(inputs, "cxi-test-again", logs.path());
    recipe.no_cache = true;
    recipe.build(&lab.buildah, release, &lab.kernel).unwrap()
}

/// Fetches the packages of the kernel and of its headers.
fn kernel_packages(place: &Path) -> Vec<PathBuf> {
    let lab = lab();
    let container = lab.buildah.run(["from", "--pull-never", &lab.builder]).unwrap().trim().to_owned();
    let script = format!(
        "set -e; cd /packages; apt-get update -qq; headers=linux-headers-{kernel}; \
         apt-get download -qq linux-image-{kernel} $headers \
         $(apt-cache depends $headers | sed -n 's/^ *Depends: \\(linux-.*\\(headers\\|kbuild\\)-.*\\)$/\\1/p')",
        kernel = lab.kernel
    );
    let volume = format!("--volume={}:/packages", place.display());
    let run = ["run", "--isolation", "chroot", &volume, &container, "--", "sh", "-c", &script];
    let outcome = lab.buildah.run(run);
    lab.buildah.run(["rm", &container]).unwrap();
    outcome.unwrap();
    let packages: Vec<PathBuf> = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(packages.len() >= 4, "{packages:?}");
    packages
}

/// The image that most tests look at.
pub fn first() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| built("13.0.0"))
}

fn second() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| built("13.1.0"))
}

#[test]
fn the_same_sources_give_the_same_layers() {
    let (one, other) = (first(), built_again("13.0.0"));
    assert_eq!(one.layers.len(), 1, "the image is one layer: {:?}", one.layers);
    assert_eq!(one.layers, other.layers);
    assert_ne!(one.layers, second().layers);
}

#[test]
fn an_image_says_what_it_is() {
    let lab = lab();
    let built = first();
    let contents = unpack::image(&lab.buildah, &built.reference).unwrap();
    let manifest = ImageManifest::parse(contents.manifest.as_deref().unwrap()).unwrap();
    assert_eq!((manifest.driver_version.as_str(), manifest.kernel.as_str()), ("13.0.0", lab.kernel.as_str()));
    assert_eq!(manifest.date, "2023-11-14T22:13:20Z");
    let mut names: Vec<&str> = manifest.modules.iter().map(|module| module.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, STACK);
    let sources: Vec<&str> = manifest.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(sources, ["cassini-headers", "cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"]);
    assert!(manifest.sources.iter().all(|source| source.digest.starts_with("tree:")));

    let image = lab.buildah.inspect(&built.reference).unwrap().unwrap();
    let label = |name: String| image.labels.get(&name).cloned().unwrap_or_default();
    assert_eq!(label(format!("{LABEL_PREFIX}kernel")), lab.kernel.as_str());
    assert_eq!(label(format!("{LABEL_PREFIX}driver-version")), "13.0.0");
    for module in &manifest.modules {
        assert_eq!(label(format!("{BUILD_ID_LABEL}{}", module.name)), module.build_id);
    }
    // The driver needs the kernel's own configfs, which lies on the host.
    let index = &contents.dependencies[lab.kernel.as_str()];
    let needs = index.lines().find(|line| line.starts_with("extra/cxi-ss1.ko:")).unwrap();
    assert!(needs.contains("host/kernel/fs/configfs/configfs.ko"), "{needs}");
    assert_eq!(contents.programs, unpack::PROGRAMS);

    assert_eq!(verify(&contents, &expected(lab.kernel.as_str())), []);
}

pub fn expected(kernel: &str) -> Expected {
    Expected {
        kernel_in_tag: Some(kernel.replace('+', "_")),
        driver_version: Some("13.0.0".to_owned()),
        modules: STACK.map(str::to_owned).into(),
        arch: Some(Architecture::HERE),
        ..Expected::default()
    }
}

/// An unpacked image to tell lies with.
struct Forgery {
    directory: tempfile::TempDir,
    kernel: String,
}

impl Forgery {
    fn of(built: &Built) -> Self {
        let directory = tempfile::tempdir().unwrap();
        unpack::extract(&lab().buildah, &built.reference, directory.path()).unwrap();
        Self { directory, kernel: lab().kernel.to_string() }
    }

    fn module(&self, file: &str) -> PathBuf {
        self.directory.path().join("opt/lib/modules").join(&self.kernel).join("extra").join(file)
    }

    fn manifest(&self, change: impl FnOnce(&mut ImageManifest)) {
        let path = self.directory.path().join("opt/cxi/manifest.json");
        let mut manifest = ImageManifest::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut manifest);
        fs::write(path, serde_json::to_string(&manifest).unwrap()).unwrap();
    }

    fn lies(&self, expected: &Expected) -> Vec<Lie> {
        verify(&unpack::directory(self.directory.path()).unwrap(), expected)
    }
}

#[test]
fn every_kind_of_lie_is_found() {
    let kernel = lab().kernel.to_string();
    let honest = Forgery::of(first());
    assert_eq!(honest.lies(&expected(&kernel)), [], "before anything is changed");

    let other = Expected { kernel_in_tag: Some("6.1.0-1-amd64".to_owned()), ..expected(&kernel) };
    assert!(matches!(honest.lies(&other)[..], [Lie::OtherImage(_)]));

    // The builder image was one for other machines, as happens where an image's name is that of several.
    let elsewhere = Forgery::of(first());
    elsewhere.manifest(|manifest| manifest.arch = "riscv64".to_owned());
    assert!(matches!(&elsewhere.lies(&expected(&kernel))[..], [Lie::OtherImage(why)] if why.ends_with("riscv64")));

    // Modules of one kernel in the directory of another, as the manifest says too.
    let moved = Forgery::of(first());
    let modules = moved.directory.path().join("opt/lib/modules");
    fs::rename(modules.join(&kernel), modules.join("6.1.0-1-cloud-amd64")).unwrap();
    moved.manifest(|manifest| manifest.kernel = "6.1.0-1-cloud-amd64".to_owned());
    let lies = moved.lies(&Expected { kernel_in_tag: None, ..expected(&kernel) });
    assert!(lies.iter().filter(|lie| matches!(lie, Lie::OtherKernel(_))).count() == STACK.len(), "{lies:?}");

    let wrong = Forgery::of(first());
    wrong.manifest(|manifest| manifest.modules[0].build_id = "00".repeat(20));
    assert!(matches!(&wrong.lies(&expected(&kernel))[..], [Lie::OtherModule(why)] if why.contains("build-id")));

    let changed = Forgery::of(first());
    let mut data = fs::read(changed.module("cxi-sl.ko")).unwrap();
    let at = data.windows(7).position(|window| window == b"vermagi").unwrap();
    data[at - 30] ^= 1;
    fs::write(changed.module("cxi-sl.ko"), data).unwrap();
    assert!(matches!(&changed.lies(&expected(&kernel))[..], [Lie::OtherModule(why)] if why.contains("SHA-256")));

    let extra = Forgery::of(first());
    fs::copy(extra.module("cxi-sl.ko"), extra.module("kfi.ko")).unwrap();
    let lies = extra.lies(&expected(&kernel));
    assert!(lies.iter().any(|lie| matches!(lie, Lie::ExtraModule(why) if why.contains("kfi.ko"))), "{lies:?}");

    let missing = Forgery::of(first());
    fs::remove_file(missing.module("cxi-eth.ko")).unwrap();
    assert!(matches!(&missing.lies(&expected(&kernel))[..], [Lie::MissingModule(why)] if why.contains("cxi_eth")));

    // The core of another release, with its own entry in the manifest: only the symbols tell.
    let mixed = Forgery::of(first());
    let newer = Forgery::of(second());
    fs::copy(newer.module("cxi-ss1.ko"), mixed.module("cxi-ss1.ko")).unwrap();
    let mut theirs = None;
    newer.manifest(|manifest| theirs = manifest.modules.iter().find(|module| module.name == "cxi_ss1").cloned());
    mixed.manifest(|manifest| {
        manifest.modules.retain(|module| module.name != "cxi_ss1");
        manifest.modules.extend(theirs);
    });
    let lies = mixed.lies(&expected(&kernel));
    assert!(!lies.is_empty() && lies.iter().all(|lie| matches!(lie, Lie::Symbol(_))), "{lies:?}");

    // A kernel with other versions of its symbols.
    let path = honest.directory.path().join("opt/cxi/kernel.symvers");
    let text = fs::read_to_string(path).unwrap();
    let symbols = symvers::parse(&text).into_iter().map(|(name, version)| (name, version ^ 1)).collect();
    let lies = honest.lies(&Expected { kernel_symbols: Some(symbols), ..expected(&kernel) });
    assert!(lies.len() == STACK.len() && lies.iter().all(|lie| matches!(lie, Lie::Symbol(_))), "{lies:?}");

    let bare = Forgery::of(first());
    fs::remove_dir_all(bare.directory.path().join("bin")).unwrap();
    fs::remove_file(bare.module("../modules.dep")).unwrap();
    fs::remove_file(bare.directory.path().join("opt/cxi/manifest.json")).unwrap();
    assert!(matches!(bare.lies(&expected(&kernel))[..], [Lie::NoManifest(_)]));
}

/// What a build says that fails, with what changes from run to run replaced.
pub fn failure(inputs: Inputs, kernel: &str, logs: &Path) -> String {
    let lab = lab();
    let recipe = lab.recipe(inputs, "cxi-test-fails", logs);
    let kernel = kernel.parse().unwrap();
    let error = recipe.build(&lab.buildah, "13.0.0", &kernel).unwrap_err();
    assert!(lab.buildah.inspect(&recipe.reference("13.0.0", &kernel).unwrap()).unwrap().is_none(), "it has a name");
    if let Error::Build { log, .. } = &error {
        assert!(log.is_file());
    }
    lab.without_kernel(&error.to_string().replace(&logs.display().to_string(), "LOGS"))
}

#[test]
fn a_kernel_without_headers_is_one_sentence() {
    let logs = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(failure(
        StandIn::generate("13.0.0").unwrap().inputs().unwrap(),
        "6.1.0-1-cloud-amd64",
        logs.path()
    ));
}

#[test]
fn what_does_not_compile_leaves_the_log_of_make() {
    let lab = lab();
    let sources = StandIn::generate("13.0.0").unwrap();
    fs::write(sources.tree("sl-driver").join("sl.c"), "#error this release is broken\n").unwrap();
    let logs = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(failure(sources.inputs().unwrap(), lab.kernel.as_str(), logs.path()));
    let log = logs.path().join(format!("13.0.0-{}", lab.kernel.in_tag())).join("sl-driver-make.log");
    assert!(fs::read_to_string(log).unwrap().contains("this release is broken"));
}

/// Not an error of the source: its own file says for which kernels it is.
#[test]
fn a_source_may_exclude_a_kernel() {
    let lab = lab();
    let sources = StandIn::generate("13.0.0").unwrap();
    let conf = sources.tree("sl-driver").join("dkms.conf");
    let text = fs::read_to_string(&conf).unwrap() + "BUILD_EXCLUSIVE_KERNEL=\"^4[.]18\"\n";
    fs::write(conf, text).unwrap();
    let logs = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(failure(sources.inputs().unwrap(), lab.kernel.as_str(), logs.path()));
}

#[test]
fn a_build_tells_what_it_is_doing() {
    let lab = lab();
    let sources = StandIn::generate("13.0.0").unwrap();
    let logs = tempfile::tempdir().unwrap();
    let mut recipe = lab.recipe(sources.inputs().unwrap(), "cxi-test-steps", logs.path());
    recipe.epoch = Some(another_date());
    let steps = std::cell::RefCell::new(Vec::new());
    recipe
        .build_and_tell(&lab.buildah, "13.0.0", &lab.kernel, &|step| steps.borrow_mut().push(step.to_owned()))
        .unwrap();
    let steps = steps.into_inner();
    let from = steps.iter().position(|step| step.starts_with("building")).unwrap();
    assert_eq!(steps[0], "bringing the sources together");
    assert_eq!(
        steps[from..],
        [
            "building cray-slingshot-base-link",
            "building sl-driver",
            "building cray-cxi-driver",
            "putting the image together",
            "looking into the new image"
        ]
    );
}

#[test]
fn a_source_out_of_order_does_not_compile() {
    let lab = lab();
    let sources = StandIn::generate("13.0.0").unwrap();
    let mut inputs = sources.inputs().unwrap();
    inputs.sources.reverse();
    let logs = tempfile::tempdir().unwrap();
    assert!(failure(inputs, lab.kernel.as_str(), logs.path()).starts_with("cray-cxi-driver 13.0.0 does not compile"));
}

#[test]
fn modules_are_signed_and_firmware_is_brought() {
    let lab = lab();
    let sources = StandIn::generate("13.0.0").unwrap();
    let (logs, keys, firmware) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let places = (keys.path().join("key.pem"), keys.path().join("certificate.pem"));
    fs::write(&places.0, key.serialize_pem()).unwrap();
    fs::write(&places.1, certificate.pem()).unwrap();
    fs::create_dir(firmware.path().join("cxi")).unwrap();
    fs::write(firmware.path().join("cxi/serdes.bin"), "firmware").unwrap();

    let mut inputs = sources.inputs().unwrap();
    inputs.firmware = Some(firmware.path().display().to_string().parse().unwrap());
    let mut recipe = lab.recipe(inputs, "cxi-test-signed", logs.path());
    recipe.signing = Some(places);
    let built = recipe.build(&lab.buildah, "13.0.0", &lab.kernel).unwrap();

    let contents = unpack::image(&lab.buildah, &built.reference).unwrap();
    assert_eq!(verify(&contents, &expected(lab.kernel.as_str())), []);
    assert_eq!(contents.firmware, ["cxi/serdes.bin"]);
    let modules = &contents.kernels[lab.kernel.as_str()];
    assert!(modules.len() == STACK.len() && modules.values().all(|module| module.file.as_ref().unwrap().signed));
    // The manifest says the same of a module whoever signed it.
    let plain = unpack::image(&lab.buildah, &first().reference).unwrap();
    let of = |contents: &unpack::Contents| ImageManifest::parse(contents.manifest.as_deref().unwrap()).unwrap().modules;
    assert_eq!(of(&contents), of(&plain));
}

/// HPE's trees have a template of dkms.conf, which their packages fill in; the name is in a .spec file, or nowhere.
#[test]
fn templates_are_filled_in_and_archives_unpacked() {
    let lab = lab();
    let sources = StandIn::generate("13.0.0").unwrap();
    for name in ["cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"] {
        let tree = sources.tree(name);
        let text = fs::read_to_string(tree.join("dkms.conf")).unwrap();
        let template = text
            .replace(&format!("PACKAGE_NAME=\"{name}\""), "PACKAGE_NAME=\"@PACKAGE_NAME@\"")
            .replace("PACKAGE_VERSION=\"13.0.0\"", "PACKAGE_VERSION=\"@PACKAGE_VERSION@\"");
        assert_ne!(template, text);
        fs::write(tree.join("dkms.conf.in"), template).unwrap();
        fs::remove_file(tree.join("dkms.conf")).unwrap();
    }
    fs::write(sources.tree("sl-driver").join("sl-driver.spec"), "Summary: link\nName:    sl-driver\n").unwrap();
    let archive = sources.tree("archive").with_extension("tar.xz");
    let driver = sources.tree("cray-cxi-driver");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-c", "-J", "-f"]).arg(&archive).arg("-C").arg(driver.parent().unwrap()).arg(driver.file_name().unwrap());
    assert!(tar.status().unwrap().success());

    let logs = tempfile::tempdir().unwrap();
    let mut inputs = sources.inputs().unwrap();
    inputs.sources[1] = sources.tree("sl-driver").display().to_string().parse().unwrap();
    inputs.sources[2] = format!("cray-cxi-driver={}", archive.display()).parse().unwrap();
    let recipe = lab.recipe(inputs.clone(), "cxi-test-templates", logs.path());
    let built = recipe.build(&lab.buildah, "13.0.0", &lab.kernel).unwrap();
    let contents = unpack::image(&lab.buildah, &built.reference).unwrap();
    assert_eq!(verify(&contents, &expected(lab.kernel.as_str())), []);

    // Without a name nobody can tell what the package is.
    inputs.sources[0] = sources.tree("cray-slingshot-base-link").display().to_string().parse().unwrap();
    let said = failure(inputs, lab.kernel.as_str(), logs.path());
    insta::assert_snapshot!(said);
}
