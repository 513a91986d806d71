//! Lists of kernels: what `list-kernels` prints for `matrix`, a kernel a line, and behind it what its nodes say that they run.

use std::collections::BTreeMap;

use cxi_driver_image_format::{Base, KernelName};

use crate::error::{Error, Result};

/// Kernels, each with what its nodes say that they run (`osImage`) where that is known.
pub type Systems = BTreeMap<KernelName, Option<String>>;

/// Title of the last column of the table that `list-kernels` prints without `--missing`: what the nodes of a kernel run.
pub const NODES_RUN: &str = "NODES RUN";

/// Where the last column of that table begins, in bytes, if a line is the one above it.
fn last_column(line: &str) -> Option<usize> {
    if line.starts_with("KERNEL ") { line.find(NODES_RUN) } else { None }
}

/// A line of a list.
pub fn line(kernel: &str, os: &str) -> String {
    // It ends with the line.
    let os: String = os.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if os.trim().is_empty() { kernel.to_owned() } else { format!("{kernel}\t{}", os.trim()) }
}

/// Reads a list, or the table of `list-kernels`. Empty lines and those that begin with `#` do not count.
///
/// # Errors
/// If a line does not begin with a kernel, or nodes of two distributions run kernels of one name: their images would have one tag.
pub fn parse(text: &str) -> Result<Systems> {
    let mut systems = Systems::new();
    let mut table = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(column) = last_column(line) {
            table = Some(column);
            continue;
        }
        let (kernel, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let os = table.map_or(rest, |column| line.get(column..).unwrap_or_default());
        let kernel: KernelName = kernel.parse().map_err(|error| Error::Input(format!("{error}")))?;
        let os = Some(os.trim()).filter(|os| !os.is_empty());
        let base = |os: &str| Base::on(&kernel, os);
        match systems.get(&kernel).and_then(Option::as_deref).zip(os) {
            Some((one, other)) if one != other && base(one) != base(other) => {
                return Err(Error::Input(format!(
                    "nodes that run {one:?} and nodes that run {other:?} have kernel {kernel}, and their images would have one tag: \
                     build them into two repositories, one of them with --kernel {kernel} and --distro, and name its image in \
                     source.kernelMappings of a CXIDriver of its own"
                )));
            }
            _ => {
                let known = systems.entry(kernel).or_default();
                if known.is_none() {
                    *known = os.map(str::to_owned);
                }
            }
        }
    }
    Ok(systems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_read() {
        let text = [
            line("6.8.0-52-generic", "Ubuntu 22.04.4 LTS"),
            line("6.8.0-52-generic", "Ubuntu 22.04.5 LTS"),
            "# a comment".to_owned(),
            line("6.1.0-56-amd64", ""),
            String::new(),
        ]
        .join("\n");
        let systems = parse(&text).unwrap();
        let expected = [("6.1.0-56-amd64", None), ("6.8.0-52-generic", Some("Ubuntu 22.04.4 LTS"))];
        let expected = expected.map(|(kernel, os)| (kernel.parse().unwrap(), os.map(str::to_owned)));
        assert_eq!(systems, expected.into());
    }

    #[test]
    fn the_line_above_a_table_is_no_kernel() {
        let text = "KERNEL            NODES  STATE      IMAGE  NODES RUN\n\
                    6.1.0-56-amd64        2  there      r/x:1  \n\
                    6.8.0-52-generic      1  not asked  r/x:2  Ubuntu 22.04.4 LTS\n";
        let expected = [("6.1.0-56-amd64", None), ("6.8.0-52-generic", Some("Ubuntu 22.04.4 LTS"))];
        let expected = expected.map(|(kernel, os)| (kernel.parse().unwrap(), os.map(str::to_owned)));
        assert_eq!(parse(text).unwrap(), expected.into());
    }

    #[test]
    fn kernels_of_two_distributions_with_one_name_are_refused() {
        let text = "6.8.0-52-generic\tUbuntu 22.04.5 LTS\n6.8.0-52-generic\tUbuntu 24.04.1 LTS\n";
        insta::assert_snapshot!(parse(text).unwrap_err());
    }
}
