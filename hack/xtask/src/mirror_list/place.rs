//! Where images are copied to and from.

use std::str::FromStr;

/// Where images are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Below a path of a registry, or below a registry.
    Registry(String),
    /// In a directory, each in one of its own.
    Directory(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, name): (fn(String) -> Self, _) = match text.strip_prefix("dir:") {
            Some(directory) => (Self::Directory, directory),
            None => (Self::Registry, text),
        };
        if name.contains("://") {
            return Err("leave out the scheme: a registry is named as in registry.example.com/path".to_owned());
        }
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "/.-_:@".contains(letter);
        if name.is_empty() || !name.chars().all(plain) {
            return Err("letters, digits and the characters / . - _ : are what a name may have".to_owned());
        }
        Ok(place(name.trim_end_matches('/').to_owned()))
    }
}

impl Place {
    /// Where an image is that is kept under a name with a tag, as skopeo names it. In a registry it is the same path below another,
    /// which is where mirrors of registries are looked for.
    pub(super) fn of(&self, name: &str) -> String {
        match self {
            Self::Registry(registry) => format!("docker://{registry}/{}", path(name)),
            Self::Directory(directory) => format!("dir:{directory}/{}", name.replace(['/', ':'], "_")),
        }
    }
}

/// An image's name without the registry, which is a first part with a dot or a colon in it.
fn path(name: &str) -> &str {
    match name.split_once('/') {
        Some((registry, path)) if registry.contains(['.', ':']) || registry == "localhost" => path,
        _ => name,
    }
}
