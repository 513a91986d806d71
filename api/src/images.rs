//! Images of the earlier operator, which cannot work with this one.

/// Where the images of the earlier operator are: they do not know the command lines and the objects of this one.
pub const EARLIER_IMAGES: &str = "ghcr.io/sielicki/slingshot-operator/";

/// The image that a field names, unless it is one of the earlier operator's, which cannot work with this one.
pub fn own_image(named: Option<&String>) -> Option<&String> {
    named.filter(|image| !image.is_empty() && !image.starts_with(EARLIER_IMAGES))
}
