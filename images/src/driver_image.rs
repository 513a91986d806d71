//! How images of the driver are named.

/// The image that `source.image` of a CXIDriver means on nodes of one kernel: `<repository>:<version>-<kernel>`.
///
/// `kernel` is what `uname -r` prints. A tag has no `+`; KMM writes `_` instead, and so does the operator.
pub fn driver_image(repository: &str, version: &str, kernel: &str) -> String {
    format!("{repository}:{version}-{kernel}").replace('+', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_no_plus() {
        let image = driver_image("registry.example.com/hpe/cxi", "13.1.0+1", "6.12.1+deb12-amd64");
        assert_eq!(image, "registry.example.com/hpe/cxi:13.1.0_1-6.12.1_deb12-amd64");
    }
}
