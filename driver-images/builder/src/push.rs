//! Bringing images into a registry.

use crate::{
    buildah::Buildah,
    error::{Error, Result},
    unpack,
    verify::{Expected, verify},
};

/// How to talk to a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Accepts plain HTTP and certificates of unknown authorities.
    pub insecure: bool,
}

/// Pushes an image, after it was found to be right, to `to`, or to the registry in its name.
///
/// # Errors
/// If it is not there, not right, or cannot be pushed.
pub fn push(buildah: &Buildah, image: &str, to: Option<&str>, tls: Tls) -> Result<String> {
    let Some(found) = buildah.inspect(image)? else {
        return Err(Error::Input(format!(
            "there is no image {image} here: build it first; `buildah images` lists what is here"
        )));
    };
    let expected = Expected {
        kernel_in_tag: crate::verify::kernel_in_tag(image),
        arch: found.arch.parse().ok(),
        ..Expected::default()
    };
    let lies: Vec<String> =
        verify(&unpack::image(buildah, image)?, &expected).iter().map(ToString::to_string).collect();
    if !lies.is_empty() {
        return Err(Error::Untrue { image: image.to_owned(), lies });
    }
    let to = to.unwrap_or(image);
    if to.starts_with("localhost/") {
        let why = format!("{to} names no registry: build with --image REGISTRY/REPOSITORY, or say where with --to");
        return Err(Error::Input(why));
    }
    let place = format!("docker://{to}");
    let mut arguments = vec!["push", "--quiet"];
    if tls.insecure {
        arguments.push("--tls-verify=false");
    }
    arguments.extend([image, &place]);
    buildah.run(arguments).map_err(|error| match error {
        Error::Program { said, .. } => Error::Input(format!(
            "{to} cannot be pushed ({said}): check the registry's name and credentials (`buildah login`); --insecure accepts \
             plain HTTP and unknown certificates"
        )),
        other => other,
    })?;
    Ok(to.to_owned())
}
