/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the core module offers to those that are built on it. */
#ifndef STAND_IN_CXI_H
#define STAND_IN_CXI_H

#include <linux/list.h>
#include <linux/netdevice.h>
#include <linux/pci.h>

#include "release.h"

struct STAND_IN_ABI;

/* One NIC. */
struct cxi_dev {
	struct list_head list;
	struct pci_dev *pdev;
	/* N of cxiN: counts up with every probe until the module is unloaded. */
	unsigned int number;
	/* Place among the NICs of this kind, from 0: what the masks of the parameters count. */
	unsigned int index;
	struct device *class_dev;
	struct kobject *port;
	struct kobject *port0;
	/* Of cxi-user and cxi-eth. */
	void *user;
	struct net_device *netdev;
};

/* A module that wants to know of every NIC. */
struct cxi_client {
	struct list_head list;
	int (*add)(struct cxi_dev *cdev);
	void (*remove)(struct cxi_dev *cdev);
	/* The link went up or down; may be missing. */
	void (*link)(struct cxi_dev *cdev);
};

int cxi_register_client(struct cxi_client *client, const struct STAND_IN_ABI *abi);
void cxi_unregister_client(struct cxi_client *client, const struct STAND_IN_ABI *abi);
bool cxi_link_is_up(const struct cxi_dev *cdev);

#endif
