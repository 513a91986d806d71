//! The text that the operator puts into a ConfigMap, built as KMM has it built: nothing but the text, and build arguments.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::lab::{StandIn, lab};
use cxi_api::{
    CXIDriverSpec,
    driver::{Dkms, DkmsRepositories, GitReference, SourceType},
    kmm::{DOCKERFILE_KEY, Module},
    layout::{LAYOUT_KEY, LayoutReference},
};
use cxi_driver_image_builder::{
    architecture::Architecture,
    unpack,
    verify::{Expected, verify},
};
use cxi_driver_image_format::{ImageManifest, Layout};
use cxi_manifests::kmm;

const RELEASE: &str = "13.0.0";

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Serves the files of a directory.
fn serve(root: PathBuf) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is its own affair.
            let _ = answer(stream, &root);
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream, root: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    match fs::read(root.join(path)) {
        Ok(content) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
            stream.write_all(&content)
        }
        Err(_) => write!(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}

/// A server of git repositories.
struct GitServer {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl GitServer {
    /// Serves each tree of the stand-in as a repository with a tag.
    fn start(sources: &StandIn, tag: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        for name in ["cassini-headers", "cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"] {
            let place = data.path().join(name);
            let copied = Command::new("cp").arg("-r").arg(sources.tree(name)).arg(&place).status().unwrap();
            assert!(copied.success());
            let steps: [&[&str]; 4] =
                [&["init", "-q"], &["add", "."], &["commit", "-q", "-m", "release"], &["tag", tag]];
            for step in steps {
                let mut git = Command::new("git");
                git.arg("-C").arg(&place).args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(step);
                assert!(git.status().unwrap().success(), "git {step:?}");
            }
        }
        let port = free_port();
        let mut command = Command::new("git");
        command.args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")]);
        command.arg(format!("--base-path={}", data.path().display()));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(20), "git daemon does not answer");
            sleep(Duration::from_millis(50));
        }
        Self { process, url: format!("git://127.0.0.1:{port}"), _data: data }
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        // It ends, or has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spec(change: impl FnOnce(&mut cxi_api::driver::Source)) -> CXIDriverSpec {
    let mut spec = CXIDriverSpec::new(RELEASE);
    spec.source.kind = SourceType::Dkms;
    spec.source.image = Some("localhost/cxi-test-cluster".to_owned());
    spec.source.builder_image = Some(lab().builder.clone());
    change(&mut spec.source);
    spec
}

/// Build arguments as KMM gives them for a kernel: those of the first mapping that is for it, and its own.
fn arguments(module: &Module, kernel: &str) -> Vec<(String, String)> {
    let loader = module.spec.module_loader.as_ref().unwrap();
    let mappings = loader.container.kernel_mappings.iter();
    let is_for = |regexp: &String| regex::Regex::new(regexp).unwrap().is_match(kernel);
    let mapping = mappings.clone().find(|mapping| mapping.regexp.as_ref().is_some_and(is_for)).unwrap();
    let build = mapping.build.as_ref().unwrap();
    let given = build.build_args.iter().map(|argument| (argument.name.clone(), argument.value.clone()));
    let own =
        [("KERNEL_VERSION", kernel), ("KERNEL_FULL_VERSION", kernel), ("MOD_NAME", "cxi"), ("MOD_NAMESPACE", "ns")];
    given.chain(own.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

/// Builds what the operator would have KMM build.
fn build(spec: &CXIDriverSpec, image: &str) -> Result<(), String> {
    build_by(spec, image, None)
}

/// The same by a layout.
fn build_by(spec: &CXIDriverSpec, image: &str, layout: Option<&Layout>) -> Result<(), String> {
    let lab = lab();
    let revision = spec.revision("cxi");
    let config_map = kmm::containerfile("cxi", spec, &revision, "cxi-operator", "uid", layout).unwrap();
    let module = kmm::module("cxi", spec, &revision, "cxi-operator");
    let context = tempfile::tempdir().unwrap();
    let file = context.path().join("Dockerfile");
    fs::write(&file, &config_map.data.unwrap()[DOCKERFILE_KEY]).unwrap();
    let mut all = vec!["--layers".to_owned(), "--pull-never".to_owned()];
    all.extend([format!("--file={}", file.display()), format!("--tag={image}")]);
    for (name, value) in arguments(&module, lab.kernel.as_str()) {
        all.push(format!("--build-arg={name}={value}"));
    }
    all.push(context.path().display().to_string());
    let outcome = lab.held.build(&all, &context.path().join("log"), &|_| ()).unwrap();
    outcome.map_err(|failed| cxi_driver_image_builder::build::explain(&failed.output, &lab.builder))
}

/// What is in an image that was built, after it was verified.
fn verified(image: &str, modules: &[&str]) -> ImageManifest {
    let lab = lab();
    let contents = unpack::image(&lab.buildah, image).unwrap();
    let expected = Expected {
        kernel_in_tag: Some(lab.kernel.in_tag()),
        driver_version: Some(RELEASE.to_owned()),
        modules: modules.iter().map(|name| (*name).to_owned()).collect(),
        arch: Some(Architecture::HERE),
        ..Expected::default()
    };
    assert_eq!(verify(&contents, &expected), []);
    ImageManifest::parse(&contents.manifest.unwrap()).unwrap()
}

#[test]
fn four_repositories_are_fetched_and_built_in_order() {
    let sources = StandIn::generate(RELEASE).unwrap();
    let server = GitServer::start(&sources, "release/shs-13.0.0");
    let git = |name: &str| {
        Some(GitReference { url: format!("{}/{name}", server.url), reference: "release/shs-13.0.0".to_owned() })
    };
    let repositories = DkmsRepositories {
        cxi_driver: git("cray-cxi-driver"),
        sbl: git("cray-slingshot-base-link"),
        sl_driver: git("sl-driver"),
        cassini_headers: git("cassini-headers"),
    };
    let dkms = Dkms { repositories: Some(repositories), ..Dkms::default() };
    let image = "localhost/cxi-test-cluster:git";
    build(&spec(|source| source.dkms = Some(dkms)), image).unwrap();
    let manifest = verified(image, &["cxi_sbl", "cxi_sl", "cxi_ss1", "cxi_user", "cxi_eth"]);
    let digests: Vec<&str> = manifest.sources.iter().map(|source| &source.digest[..4]).collect();
    assert_eq!(digests, ["git:"; 4]);
}

#[test]
fn an_archive_is_built_if_it_has_the_checksum_and_modules_are_packed() {
    let sources = StandIn::generate(RELEASE).unwrap();
    let served = tempfile::tempdir().unwrap();
    let archive = served.path().join("driver.tar.gz");
    let tree = sources.tree("cray-slingshot-base-link");
    let mut tar = Command::new("tar");
    tar.args(["-c", "-z", "-f"]).arg(&archive).arg("-C").arg(tree.parent().unwrap()).arg(tree.file_name().unwrap());
    assert!(tar.status().unwrap().success());
    let url = serve(served.path().to_owned());
    let sum = {
        let said = Command::new("sha256sum").arg(&archive).output().unwrap().stdout;
        String::from_utf8(said).unwrap().split(' ').next().unwrap().to_owned()
    };
    let from_archive = |sum: &str| {
        spec(|source| {
            source.repository = Some(format!("{url}/driver.tar.gz"));
            source.repository_sha256 = Some(sum.to_owned());
        })
    };
    let said = build(&from_archive(&"0".repeat(64)), "localhost/cxi-test-cluster:refused").unwrap_err();
    let said = said.replace(&url, "URL").replace(&sum, "SUM");
    insta::assert_snapshot!("another_archive", said);

    let image = "localhost/cxi-test-cluster:archive";
    build(&from_archive(&sum), image).unwrap();
    let manifest = verified(image, &["cxi_sbl"]);
    assert_eq!(manifest.sources[0].digest, format!("sha256:{sum}"));

    // The module that came out, compiled elsewhere from now on.
    let lab = lab();
    let root = tempfile::tempdir().unwrap();
    unpack::extract(&lab.buildah, image, root.path()).unwrap();
    let place = served.path().join("modules").join(RELEASE).join(lab.kernel.as_str());
    fs::create_dir_all(&place).unwrap();
    let module = root.path().join("opt/lib/modules").join(lab.kernel.as_str()).join("extra/cxi-sbl.ko");
    fs::copy(module, place.join("cxi-sbl.ko")).unwrap();
    let packed = spec(|source| {
        source.kind = SourceType::Prebuilt;
        source.prebuilt_cache = Some(format!("{url}/modules/"));
    });
    // Without a list the whole stack is wanted, which is not there.
    let said = build(&packed, "localhost/cxi-test-cluster:refused").unwrap_err();
    insta::assert_snapshot!("modules_missing", lab.without_kernel(&said.replace(&url, "URL")));
    let sums = Command::new("sha256sum").arg("cxi-sbl.ko").current_dir(&place).output().unwrap();
    fs::write(place.join("SHA256SUMS"), sums.stdout).unwrap();
    let image = "localhost/cxi-test-cluster:packed";
    // Builds are cached by their text, which says nothing of what the server has now.
    let packed = spec(|source| {
        source.kind = SourceType::Prebuilt;
        source.prebuilt_cache = Some(format!("{url}//modules"));
    });
    build(&packed, image).unwrap();
    let again = verified(image, &["cxi_sbl"]);
    assert_eq!(again.modules, manifest.modules);
}

/// Trees as they are published, which do not build as they lie, from archives with checksums.
#[test]
fn a_layout_is_built_from_what_its_trees_say() {
    let sources = StandIn::published(RELEASE).unwrap();
    let served = tempfile::tempdir().unwrap();
    let mut text = fs::read_to_string(sources.layout()).unwrap();
    let url = serve(served.path().to_owned());
    for name in ["cassini-headers", "firmware-interface", "cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"] {
        let (tree, archive) = (sources.tree(name), served.path().join(format!("{name}-{RELEASE}.tar.gz")));
        let mut tar = Command::new("tar");
        tar.args(["-c", "-z", "-f"]).arg(&archive).arg("-C").arg(tree.parent().unwrap()).arg(tree.file_name().unwrap());
        assert!(tar.status().unwrap().success());
        let sum = String::from_utf8(Command::new("sha256sum").arg(&archive).output().unwrap().stdout).unwrap();
        let place = format!("archive: {url}/{name}-{{version}}.tar.gz\n  sha256: {}", sum.split(' ').next().unwrap());
        text = text.replace(&format!("directory: {name}-{{version}}"), &place);
    }
    let whole = "  copy:\n  - {from: src/interface.h, ";
    assert!(text.contains(whole));
    text = text.replace(whole, "  inside: src\n  copy:\n  - {from: interface.h, ");
    let reference = LayoutReference { name: "stack".to_owned(), key: LAYOUT_KEY.to_owned() };
    let spec = spec(|source| source.dkms = Some(Dkms { layout: Some(reference), ..Dkms::default() }));
    let layout = |text: &str| Layout::parse_for_cluster(text, "ConfigMap stack", RELEASE).unwrap();

    let image = "localhost/cxi-test-cluster:layout";
    build_by(&spec, image, Some(&layout(&text))).unwrap();
    let manifest = verified(image, &["cxi_sbl", "cxi_sl", "cxi_ss1", "cxi_user", "cxi_eth"]);
    let built: Vec<&str> = manifest.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(
        built,
        ["cassini-headers", "firmware-interface", "cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"]
    );
    assert!(manifest.sources.iter().all(|source| source.digest.starts_with("sha256:")));
    assert_eq!(manifest.firmware, ["cxi/link.bin"]);
    let contents = unpack::image(&lab().buildah, image).unwrap();
    assert_eq!(contents.firmware, ["cxi/link.bin"]);

    let refused = |text: &str| build_by(&spec, "localhost/cxi-test-cluster:refused", Some(&layout(text))).unwrap_err();
    let said = refused(&text.replace("from: knl/sl.h", "from: hw/sl.h"));
    assert!(said.starts_with("ConfigMap stack: trees[4].copy[1].from: hw/sl.h matches nothing in that tree"), "{said}");
    let said = refused(&text.replace("from: fw/link.bin", "from: fw/other.bin"));
    assert!(said.starts_with("ConfigMap stack: trees[3].firmware[0].from: fw/other.bin matches nothing"), "{said}");
    let first = text.find("sha256: ").unwrap() + "sha256: ".len();
    let said = refused(&format!("{}{}{}", &text[..first], "0".repeat(64), &text[first + 64..]));
    assert!(said.ends_with("before you change the checksum (ConfigMap stack: trees[0])"), "{said}");
}
