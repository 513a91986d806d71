use super::*;
use rstest::rstest;

fn short(base: Option<&'static Base>) -> String {
    base.map(|base| format!("{}:{}", base.distribution.name(), base.release)).unwrap_or_default()
}

#[rstest]
#[case("6.1.0-56-cloud-amd64", "debian:12")]
#[case("6.12.117+deb12-rt-amd64", "debian:12")]
#[case("6.12.117+deb12-cloud-amd64", "debian:12")]
#[case("6.12.48+deb13-arm64", "debian:13")]
#[case("6.12.48+deb13-rt-arm64", "debian:13")]
#[case("5.10.0-35-cloud-amd64", "debian:11")]
#[case("4.18.0-553.el8_10.x86_64", "rhel:8")]
#[case("4.18.0-553.rt7.342.el8_10.x86_64", "rhel:8")]
#[case("5.14.0-427.13.1.el9_4.x86_64", "rhel:9")]
#[case("5.14.0-427.el9.aarch64+64k", "rhel:9")]
#[case("5.14.0-503.11.1.el9_5.x86_64+rt", "rhel:9")]
#[case("5.14.0-570.12.1.el9_6.aarch64+64k-debug", "rhel:9")]
#[case("6.12.0-55.9.1.el10_0.x86_64", "rhel:10")]
#[case("6.4.0-150600.23.7-default", "sles:15.6")]
#[case("6.4.0-150600.8.37-azure", "sles:15.6")]
#[case("6.4.0-150600.10.5-rt", "sles:15.6")]
#[case("6.4.0-150700.53.3-64kb", "sles:15.7")]
#[case("5.14.21-150500.33.20-azure", "sles:15.5")]
#[case("5.14.21-150500.55.39.1.27360.1.PTF.1215587-default", "sles:15.5")]
#[case("6.4.0-150600.23.7.4.28314.3.PTF.1215587-default", "sles:15.6")]
// Of Ubuntu two releases have kernels of one name.
#[case("5.15.0-91-generic", "")]
#[case("6.8.0-52-generic", "")]
#[case("6.8.0-1044-azure-fde", "")]
#[case("6.8.0-45-generic-64k", "")]
// Others' kernels for a distribution, backports, and what has no image here.
#[case("5.15.0-209.161.7.2.el9uek.x86_64", "")]
#[case("5.15.0-307.178.5.el8uek.x86_64", "")]
#[case("6.12.0-100.28.2.el9uek.x86_64", "")]
#[case("6.1.100-1.el9.elrepo.x86_64", "")]
#[case("4.18.0-477.10.1.el8_lustre.x86_64", "")]
#[case("6.1.0-0.deb11.21-amd64", "")]
#[case("5.10.0-0.deb10.16-amd64", "")]
#[case("6.12.9+bpo-amd64", "")]
#[case("6.16.3+deb14-amd64", "")]
#[case("6.12.0-160000.9-default", "")]
#[case("5.14.21-150500.55.52_13.0.58-cray_shasta_c", "")]
#[case("6.1.134-150.224.amzn2023.x86_64", "")]
#[case("6.6.74-flatcar", "")]
#[case("6.12.25-talos", "")]
#[case("6.8.12-4-pve", "")]
#[case("6.1.75+", "")]
#[case("6.9.0-custom+", "")]
#[case("6.1.0", "")]
#[case("6.1.0-rc1~exp", "")]
#[case("6.18.44-fc", "")]
fn names_tell_whose_kernels_are_only_where_that_is_sure(#[case] kernel: &str, #[case] base: &str) {
    assert_eq!(short(Base::of(&kernel.parse().unwrap())), base);
}

#[rstest]
#[case("6.8.0-52-generic", "Ubuntu 22.04.5 LTS", "ubuntu:22.04")]
#[case("6.8.0-52-generic", "Ubuntu 24.04.1 LTS", "ubuntu:24.04")]
#[case("6.5.0-15-generic", "Ubuntu 22.04.3 LTS", "ubuntu:22.04")]
#[case("6.8.0-1044-azure-fde", "Ubuntu 24.04 LTS", "ubuntu:24.04")]
#[case("6.8.0-52-generic", "Ubuntu 24.10", "")]
#[case("7.0.0-10-generic", "Ubuntu 26.04 LTS", "")]
#[case("6.4.0-150600.8.37-azure", "Ubuntu 24.04.1 LTS", "")]
#[case("6.4.0-150600.23.7-default", "SUSE Linux Enterprise Server 15 SP6", "sles:15.6")]
#[case("6.4.0-150600.8.37-azure", "SUSE Linux Enterprise Server 15 SP6", "sles:15.6")]
#[case("5.14.21-150500.55.52-default", "SUSE Linux Enterprise High Performance Computing 15 SP5", "sles:15.5")]
#[case("6.4.0-150600.23.7-default", "SUSE Linux Enterprise Server 15 SP5", "")]
#[case("5.14.21-150500.55.52-default", "SUSE Linux Enterprise Micro 5.5", "")]
#[case("6.12.0-160000.9-default", "SUSE Linux Enterprise Server 16.0", "")]
#[case("6.4.0-150600.23.7-default", "openSUSE Leap 15.6", "")]
#[case("5.14.0-427.13.1.el9_4.x86_64", "Red Hat Enterprise Linux 9.4 (Plow)", "rhel:9")]
#[case("5.14.0-427.13.1.el9_4.x86_64", "Red Hat Enterprise Linux CoreOS 416.94.202406251923-0", "rhel:9")]
#[case("5.14.0-427.13.1.el9_4.x86_64", "Rocky Linux 9.4 (Blue Onyx)", "")]
#[case("5.15.0-209.161.7.2.el9uek.x86_64", "Oracle Linux Server 9.4", "")]
#[case("6.1.0-56-amd64", "Debian GNU/Linux 12 (bookworm)", "debian:12")]
#[case("6.1.0-0.deb11.21-amd64", "Debian GNU/Linux 11 (bullseye)", "")]
#[case("6.8.12-4-pve", "Debian GNU/Linux 12 (bookworm)", "")]
#[case("6.1.0-56-amd64", "", "")]
fn nodes_decide_whose_kernel_it_is(#[case] kernel: &str, #[case] os: &str, #[case] base: &str) {
    assert_eq!(short(Base::on(&kernel.parse().unwrap(), os)), base);
}

#[rstest]
#[case("6.18.44-fc", None, Some("sles:15.7"), Ok("sles:15.7"))]
#[case("6.8.0-52-generic", Some("Ubuntu 22.04.5 LTS"), Some("ubuntu"), Ok("ubuntu:22.04"))]
#[case(
    "6.8.0-52-generic",
    None,
    Some("ubuntu"),
    Err(
        "name an image to build in with --builder-image, or say its release with --distro ubuntu:22.04 or ubuntu:24.04"
    )
)]
#[case("6.8.0-52-generic", None, None, Err("or say its release with --distro NAME:RELEASE"))]
#[case(
    "5.14.0-427.el9.x86_64",
    Some("Rocky Linux 9.4"),
    None,
    Err(r#"whose kernel 5.14.0-427.el9.x86_64 is, on nodes that run "Rocky Linux 9.4": "#)
)]
#[case("5.14.0-427.el9.x86_64", None, Some("sles"), Err("sles:15.4 or sles:15.5"))]
fn what_is_said_decides(
    #[case] kernel: &str,
    #[case] os: Option<&str>,
    #[case] distro: Option<&str>,
    #[case] expected: Result<&str, &str>,
) {
    let distro = distro.map(|text| text.parse::<Distro>().unwrap());
    match (Base::choose(&kernel.parse().unwrap(), os, distro.as_ref()), expected) {
        (Ok(base), Ok(name)) => assert_eq!(short(Some(base)), name),
        (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
        (found, _) => panic!("{found:?}"),
    }
}

#[test]
fn a_distribution_that_is_not_known_is_answered_with_those_that_are() {
    for text in ["ubuntu:25.10", "gentoo", "", "rhel:"] {
        let error = text.parse::<Distro>().unwrap_err().to_string();
        assert!(error.contains("ubuntu:22.04, ubuntu:24.04"), "{error}");
    }
}

#[test]
fn every_expression_compiles_and_no_name_is_of_two() {
    for base in BASES {
        regex::Regex::new(base.kernels).unwrap();
    }
    for kernel in ["6.1.0-56-amd64", "5.14.0-427.el9.x86_64", "6.4.0-150600.23.7-default", "6.12.48+deb13-amd64"] {
        let kernel = kernel.parse().unwrap();
        let found: Vec<_> = BASES.iter().filter(|base| base.told_by_name && base.matches(&kernel)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
