//! An image of the new revision is missing for one of the kernels.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::Reason;
use cxi_e2e::{
    driver_model::image_reference,
    harness::REPOSITORY,
    scenario::{LONG, NEW, OLD, Scenario},
    soft_node::NodeShape,
};

use super::at_once;

const OTHER_KERNEL: &str = "6.12.120+deb12-amd64";

#[tokio::test(flavor = "multi_thread")]
async fn no_node_is_touched_before_the_images_of_all_kernels_are_there() -> Result<()> {
    let mut s = Scenario::start(2).await?;
    let other = NodeShape { kernel: OTHER_KERNEL.to_owned(), ..NodeShape::default() };
    s.nodes.extend(s.harness.soft.add_nodes("m", 2, &other));
    s.harness.soft.wait_until_ready(LONG).await?;
    s.install(at_once(2)).await?;
    let image = image_reference(REPOSITORY, NEW, OTHER_KERNEL);
    s.harness.soft.with_registry(|registry| registry.withdraw(&image));

    s.upgrade_to(NEW).await?;
    s.until("the condition names the image", || async {
        let condition = s.condition("PreflightPassed").await?;
        Ok(condition.is_some_and(|(status, message)| status == "False" && message.contains(&image)))
    })
    .await?;
    for node in &s.nodes {
        s.until_blocked(node, Reason::ImageMissing).await?;
    }
    s.stays("every node offers all of its NICs", Duration::from_secs(3), || async {
        for node in &s.nodes {
            ensure!(s.offered(node).await? == 200 && s.unloads(node) == 0, "{node} was touched");
        }
        Ok(true)
    })
    .await?;
    s.all_run(OLD).await?;

    s.harness.soft.with_registry(|registry| registry.restore(&image));
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}
