//! The Containerfiles. All have the same stages; they differ in where the driver comes from.

use crate::script::{BUILD, COLLECT, FETCH, KERNEL, PREBUILT, Script, TOOLS, quoted, run_by_family, write};

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
        write(&[BUILD, COLLECT]),
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
    /// DKMS package, for trees whose dkms.conf is a template and does not say.
    pub package: Option<String>,
    /// Whether it has headers and no modules.
    pub headers: bool,
}

/// Where a source tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An archive.
    Archive {
        /// URL.
        url: String,
        /// SHA-256 in hexadecimal, where it is known.
        sha256: Option<String>,
    },
    /// A git repository.
    Git {
        /// URL.
        url: String,
        /// Branch, tag or commit.
        reference: String,
    },
}

/// Builds in a cluster from sources that the build brings itself, in this order. `platform`: `cassini`, or
/// `rosetta` for what `dkms.conf` files call a switch.
pub fn in_cluster(sources: &[Remote], platform: &str) -> String {
    let driver = [
        write(&[FETCH, BUILD, COLLECT]),
        sources.iter().enumerate().map(|(number, source)| fetch(number + 1, source)).collect(),
        format!("RUN echo {} > /cxi/platform\n", quoted(platform)),
        run(BUILD, VERSIONS),
        run(COLLECT, VERSIONS),
    ]
    .concat();
    stages("# Builds the driver for one kernel. Written by the CXI operator; KMM builds it.\n", "", &driver)
}

/// `RUN` that brings a source tree, which is built after those of lower numbers.
fn fetch(number: usize, source: &Remote) -> String {
    let directory = format!("/cxi/sources/{number:02}-{}", source.name);
    let place = match &source.place {
        Place::Archive { url, sha256: None } => format!("archive {}", quoted(url)),
        Place::Archive { url, sha256: Some(sum) } => format!("archive {} {}", quoted(url), quoted(sum)),
        Place::Git { url, reference } => format!("git {} {}", quoted(url), quoted(reference)),
    };
    let package = source.package.as_deref();
    let package = package.map(|package| format!(" && echo {} > {directory}.name", quoted(package)));
    let kind = source.headers.then(|| format!(" && echo headers > {directory}.kind"));
    let (package, kind) = (package.unwrap_or_default(), kind.unwrap_or_default());
    format!("RUN sh /cxi/bin/{} {directory} {place}{package}{kind}\n", FETCH.name)
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
            package: package.map(str::to_owned),
            headers,
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
        let source = Remote { name: "driver".to_owned(), place, package: None, headers: false };
        let text = in_cluster(&[source], "cassini");
        assert!(text.contains(r"archive 'https://x/a'\''; reboot; '\'''"), "{text}");
    }

    /// The text without the lines of the scripts, which are files of their own.
    fn without_scripts(text: &str) -> String {
        let keeps = |line: &&str| !line.starts_with("    '");
        text.lines().filter(keeps).collect::<Vec<_>>().join("\n")
    }
}
