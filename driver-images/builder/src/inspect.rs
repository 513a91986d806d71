//! What is in a driver image, for people.

use std::fmt::Write;

use cxi_driver_image_format::manifest::ImageManifest;

use crate::{buildah::Image, unpack::Contents};

/// A few lines that say what is in an image.
pub fn describe(reference: &str, image: &Image, contents: &Contents) -> String {
    let mut text = format!("image     {reference}\nid        {}\n", image.id);
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:9} {value}");
    };
    line("arch", &image.arch);
    image.layers.iter().for_each(|layer| line("layer", layer));
    match contents.manifest.as_deref().map(ImageManifest::parse) {
        None => line("manifest", "none: it was not made by this pipeline, and no node can prove that it runs it"),
        Some(Err(error)) => line("manifest", &error.to_string()),
        Some(Ok(manifest)) => {
            line("driver", &manifest.driver_version);
            line("kernel", &manifest.kernel);
            line("date", &manifest.date);
            for source in &manifest.sources {
                line("source", &format!("{} {}", source.name, source.digest));
            }
        }
    }
    for (kernel, modules) in &contents.kernels {
        for (path, module) in modules {
            match &module.file {
                Ok(file) => {
                    let signed = if file.signed { ", signed" } else { "" };
                    let needs = if file.depends.is_empty() {
                        String::new()
                    } else {
                        format!(", needs {}", file.depends.join(" "))
                    };
                    line("module", &format!("{path} build-id {}{signed}{needs}", file.build_id));
                    file.firmware.iter().for_each(|name| line("", &format!("  asks for firmware {name}")));
                }
                Err(error) => line("module", &format!("{path}: {error}")),
            }
        }
        if modules.is_empty() {
            line("module", &format!("none for kernel {kernel}"));
        }
    }
    contents.firmware.iter().for_each(|file| line("firmware", file));
    line("programs", &contents.programs.join(" "));
    text
}
