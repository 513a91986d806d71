// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Stand-in for the Ethernet driver: interfaces that have a link and drop every packet. */
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/module.h>

#include "cxi.h"

static netdev_tx_t eth_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	dev_kfree_skb_any(skb);
	netdev->stats.tx_dropped++;
	return NETDEV_TX_OK;
}

static const struct net_device_ops eth_ops = {
	.ndo_start_xmit = eth_xmit,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static int eth_get_link_ksettings(struct net_device *netdev, struct ethtool_link_ksettings *settings)
{
	settings->base.speed = netif_carrier_ok(netdev) ? SPEED_200000 : SPEED_UNKNOWN;
	settings->base.duplex = DUPLEX_FULL;
	return 0;
}

static const struct ethtool_ops eth_ethtool_ops = {
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = eth_get_link_ksettings,
};

static void eth_link(struct cxi_dev *cdev)
{
	if (cxi_link_is_up(cdev))
		netif_carrier_on(cdev->netdev);
	else
		netif_carrier_off(cdev->netdev);
}

static int eth_add(struct cxi_dev *cdev)
{
	struct net_device *netdev = alloc_etherdev(0);
	u8 address[ETH_ALEN] = { 0x02, 0, 0, 0, cdev->index >> 8, cdev->index };
	int rc;

	if (!netdev)
		return -ENOMEM;
	SET_NETDEV_DEV(netdev, &cdev->pdev->dev);
	snprintf(netdev->name, sizeof(netdev->name), "hsn%%d");
	netdev->netdev_ops = &eth_ops;
	netdev->ethtool_ops = &eth_ethtool_ops;
	netdev->max_mtu = 9000;
	eth_hw_addr_set(netdev, address);
	netif_carrier_off(netdev);
	rc = register_netdev(netdev);
	if (rc) {
		free_netdev(netdev);
		return rc;
	}
	cdev->netdev = netdev;
	eth_link(cdev);
	return 0;
}

static void eth_remove(struct cxi_dev *cdev)
{
	if (!cdev->netdev)
		return;
	unregister_netdev(cdev->netdev);
	free_netdev(cdev->netdev);
	cdev->netdev = NULL;
}

static struct cxi_client eth_client = {
	.add = eth_add,
	.remove = eth_remove,
	.link = eth_link,
};

static int __init eth_init(void)
{
	int rc = cxi_register_client(&eth_client, NULL);

	if (!rc)
		pr_info("cxi_eth: stand-in %s loaded\n", STAND_IN_RELEASE);
	return rc;
}

static void __exit eth_exit(void)
{
	cxi_unregister_client(&eth_client, NULL);
}

module_init(eth_init);
module_exit(eth_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("stand-in for the CXI Ethernet driver, for tests");
