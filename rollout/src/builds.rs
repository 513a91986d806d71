//! Which driver images are built in the cluster.

use cxi_api::source::Source;
use cxi_driver_image_format::Base;

/// Whether an image for this kernel is built in the cluster when it does not exist: where the image to build in is named, or the
/// kernel's name tells for sure whose it is.
pub fn builds_for(source: &Source, kernel: &str) -> bool {
    source.builds() && (source.builder_image.is_some() || Base::is_told_by(kernel))
}
