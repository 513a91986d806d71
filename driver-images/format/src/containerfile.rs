//! The Containerfiles. All have the same stages; they differ in where the driver comes from.

use crate::layout::{FIRMWARE_RULES, Kind, Layout, Place, Plan};
use crate::script::{
    ARRANGE, BUILD, COLLECT, FETCH, KEEP, KERNEL, PLACE, PREBUILT, Script, TOOLS, quoted, run_by_family, write,
};

/// Directory of a build's context with the source trees, see `scripts/build.sh`.
pub const SOURCES: &str = "sources";

/// Directory of a build's context with headers that the administrator gives.
pub const HEADERS: &str = "kernel";

/// Directory of a build's context with firmware.
pub const FIRMWARE: &str = "firmware";

/// Directory of a build's context with the sources' digests.
pub const DIGESTS: &str = "digests";

/// Directory of the builder into which make.log is copied where it exists.
pub const LOG: &str = "/cxi/log";

/// Ids of the secrets with which modules are signed: a private key and its certificate.
pub const SIGNING_SECRETS: [&str; 2] = ["cxi-signing-key", "cxi-signing-certificate"];

/// Build argument that tells apart with what modules are signed; empty or absent when they are not.
pub const SIGNER: &str = "SIGNER";

/// Label of the images that builds make on the way to a driver image.
pub const STAGE_LABEL: &str = "cxi.hpe.com/stage";

/// Prefix of the labels of driver images.
pub const LABEL_PREFIX: &str = "cxi.hpe.com/";

/// Builds from a context on the build host.
pub fn from_context() -> String {
    let secrets = SIGNING_SECRETS.map(|id| format!("--mount=type=secret,id={id} "));
    let driver = [
        format!("COPY {SOURCES} /cxi/sources\n"),
        write(&[PLACE, KEEP, BUILD, COLLECT]),
        run(BUILD, VERSIONS),
        // Other firmware does not compile the modules again.
        format!("COPY {DIGESTS} /cxi/digests\nCOPY {FIRMWARE} /cxi/firmware\n"),
        // Secrets are not part of what makes a cached layer another one; this is.
        format!("ARG {SIGNER}\nRUN {}sh /cxi/bin/{}{VERSIONS}\n", secrets.concat(), COLLECT.name),
    ];
    let kernel = format!("COPY {HEADERS} /cxi/kernel\n");
    stages(
        "# Builds a driver image from the source trees in the build's context: `cargo xtask driver-image build`.\n",
        &kernel,
        &driver.concat(),
    )
}

/// A source tree that a build in a cluster brings itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// What messages call it.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// Directory inside that is meant, when it is not the whole.
    pub inside: Option<String>,
    /// DKMS package, for trees whose dkms.conf is a template and does not say.
    pub package: Option<String>,
    /// What it is for.
    pub kind: Kind,
    /// Which field says where it is, for messages.
    pub field: Option<String>,
}

/// Builds in a cluster from sources that the build brings itself, in this order. `platform`: `cassini`, or
/// `rosetta` for what `dkms.conf` files call a switch.
pub fn in_cluster(sources: &[Remote], platform: &str) -> String {
    building(&write(&[FETCH, PLACE, KEEP, BUILD, COLLECT]), sources, "", platform)
}

/// Builds in a cluster from the trees of a layout, see [`Layout::parse_for_cluster`].
pub fn of_layout(layout: &Layout, platform: &str) -> String {
    let sources: Vec<Remote> = layout
        .trees
        .iter()
        .map(|tree| Remote {
            name: tree.name.clone(),
            place: tree.place.clone(),
            inside: tree.inside.clone(),
            package: (tree.kind == Kind::Module).then(|| tree.name.clone()),
            kind: tree.kind,
            field: Some(format!("{}: {}", layout.file, tree.field())),
        })
        .collect();
    let plan = Plan::of(layout);
    let mut rules = String::new();
    for (number, (tree, lines)) in layout.trees.iter().zip(&plan.firmware).enumerate() {
        rules += &file(&format!("/cxi/sources/{}.{FIRMWARE_RULES}", tree.directory(number)), lines);
    }
    rules += &file("/cxi/sources/needs-firmware", &plan.needs_firmware);
    rules += &file("/cxi/rules", &plan.copy);
    if !plan.copy.is_empty() {
        rules += &run(ARRANGE, " /cxi");
    }
    building(&write(&[FETCH, PLACE, ARRANGE, KEEP, BUILD, COLLECT]), &sources, &rules, platform)
}

/// `RUN` that writes lines to a file; nothing for a file without lines.
fn file(path: &str, lines: &str) -> String {
    let words: Vec<String> = lines.lines().map(|line| format!("    {} \\\n", quoted(line))).collect();
    if words.is_empty() { String::new() } else { format!("RUN printf '%s\\n' \\\n{}    > {path}\n", words.concat()) }
}

fn building(scripts: &str, sources: &[Remote], rules: &str, platform: &str) -> String {
    let fetches: String = sources.iter().enumerate().map(|(number, source)| fetch(number + 1, source)).collect();
    let platform = format!("RUN echo {} > /cxi/platform\n", quoted(platform));
    let driver = [scripts, &fetches, rules, &platform, &run(BUILD, VERSIONS), &run(COLLECT, VERSIONS)].concat();
    stages("# Builds the driver for one kernel. Written by the CXI operator; KMM builds it.\n", "", &driver)
}

/// `RUN` that brings a source tree, which is built after those of lower numbers.
fn fetch(number: usize, source: &Remote) -> String {
    let directory = format!("/cxi/sources/{number:02}-{}", source.name);
    let place = match &source.place {
        Place::Archive { url, sha256: None } => format!("archive {}", quoted(url)),
        Place::Archive { url, sha256: Some(sum) } => format!("archive {} {}", quoted(url), quoted(sum)),
        Place::Git { url, reference } => format!("git {} {}", quoted(url), quoted(reference)),
        // Refused before, see `Layout::parse_for_cluster`.
        Place::Path { path, .. } => format!("archive {}", quoted(path)),
    };
    let variable = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("{name}={} ", quoted(value))).unwrap_or_default()
    };
    let variables = variable("INSIDE", &source.inside) + &variable("FIELD", &source.field);
    let package = source.package.as_deref();
    let package = package.map(|package| format!(" && echo {} > {directory}.name", quoted(package)));
    let kind = match source.kind {
        Kind::Module => None,
        Kind::Headers => Some(format!(" && echo headers > {directory}.kind")),
        Kind::Firmware => Some(format!(" && echo firmware > {directory}.kind")),
    };
    let (package, kind) = (package.unwrap_or_default(), kind.unwrap_or_default());
    format!("RUN {variables}sh /cxi/bin/{} {directory} {place}{package}{kind}\n", FETCH.name)
}

/// Packs compiled modules that lie below a URL.
pub fn packing(url: &str) -> String {
    let driver = [
        write(&[PREBUILT, COLLECT]),
        format!(
            "RUN sh /cxi/bin/{} {} \"$DRIVER_VERSION\" \"$KERNEL_FULL_VERSION\"\n",
            PREBUILT.name,
            quoted(url.trim_end_matches('/'))
        ),
        run(COLLECT, VERSIONS),
    ];
    stages(
        "# Packs compiled modules for one kernel. Written by the CXI operator; KMM builds it.\n",
        "",
        &driver.concat(),
    )
}

const VERSIONS: &str = " \"$KERNEL_FULL_VERSION\" \"$DRIVER_VERSION\"";

fn run(script: Script, arguments: &str) -> String {
    format!("RUN sh /cxi/bin/{}{arguments}\n", script.name)
}

/// The stages: tools, which every kernel shares; a kernel's headers, which every release shares; the driver; the image.
fn stages(about: &str, kernel: &str, driver: &str) -> String {
    let tools = write(&TOOLS) + &run_by_family("tools", "");
    let headers = write(&KERNEL) + &run_by_family("kernel", " \"$KERNEL_FULL_VERSION\"");
    format!(
        "{about}\
         # KERNEL_FULL_VERSION: what `uname -r` prints. DRIVER_VERSION: the release. BUILDER_BASE: an image of the\n\
         # distribution whose kernel it is. RUNTIME_BASE: scratch, or an image with sh, mkdir and cp where the builder's\n\
         # distribution has no busybox. SOURCE_DATE_EPOCH: the date that is written into the image.\n\
         ARG BUILDER_BASE=docker.io/library/debian:bookworm\n\
         ARG RUNTIME_BASE=scratch\n\n\
         FROM ${{BUILDER_BASE}} AS tools\nLABEL {STAGE_LABEL}=build\n{tools}\n\
         FROM tools AS kernel\nARG KERNEL_FULL_VERSION\n{kernel}{headers}\n\
         FROM kernel AS driver\nARG KERNEL_FULL_VERSION\nARG DRIVER_VERSION\nARG SOURCE_DATE_EPOCH\n{driver}\n\
         FROM ${{RUNTIME_BASE}}\nARG KERNEL_FULL_VERSION\nARG DRIVER_VERSION\n\
         LABEL {LABEL_PREFIX}driver-version=\"${{DRIVER_VERSION}}\" {LABEL_PREFIX}kernel=\"${{KERNEL_FULL_VERSION}}\"\n\
         COPY --from=driver /cxi/image /\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_cluster_sources_are_fetched_in_order() {
        let git = |name: &str, package: Option<&str>, headers| Remote {
            name: name.to_owned(),
            place: Place::Git { url: format!("https://example.com/{name}"), reference: "release/13".to_owned() },
            inside: None,
            package: package.map(str::to_owned),
            kind: if headers { Kind::Headers } else { Kind::Module },
            field: None,
        };
        let text = in_cluster(&[git("headers", None, true), git("sbl", Some("base-link"), false)], "cassini");
        insta::assert_snapshot!(without_scripts(&text));
    }

    #[test]
    fn a_context_is_copied() {
        insta::assert_snapshot!(without_scripts(&from_context()));
    }

    #[test]
    fn modules_are_packed() {
        insta::assert_snapshot!(without_scripts(&packing("https://example.com/modules/")));
    }

    #[test]
    fn what_an_archive_is_called_stays_one_word() {
        let place = Place::Archive { url: "https://x/a'; reboot; '".to_owned(), sha256: None };
        let source =
            Remote { name: "driver".to_owned(), place, inside: None, package: None, kind: Kind::Module, field: None };
        let text = in_cluster(&[source], "cassini");
        assert!(text.contains(r"archive 'https://x/a'\''; reboot; '\'''"), "{text}");
    }

    /// The text without the lines of the scripts, which are files of their own.
    fn without_scripts(text: &str) -> String {
        let keeps = |line: &&str| !line.starts_with("    '");
        text.lines().filter(keeps).collect::<Vec<_>>().join("\n")
    }
}
