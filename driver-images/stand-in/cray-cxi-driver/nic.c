// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* One PCI function becomes a NIC, and ceases to be one. */
#include <linux/device.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "core.h"
#include "sbl.h"
#include "sl.h"

#define PCI_DEVICE_ID_CASSINI_2 0x0371

static const struct pci_device_id cxi_ids[] = {
	{ PCI_DEVICE(0x17db, 0x0501) },
	{ PCI_DEVICE(0x1590, PCI_DEVICE_ID_CASSINI_2) },
	{ PCI_DEVICE(0x1590, 0x0372) },
	{ }
};
MODULE_DEVICE_TABLE(pci, cxi_ids);

/* Both only grow, under cxi_lock: what was taken out and comes back is another NIC. */
static unsigned int next_number;
static unsigned int next_index;

bool cxi_is_cassini_2(const struct cxi_dev *cdev)
{
	return cdev->pdev->device == PCI_DEVICE_ID_CASSINI_2;
}

static int link_start(struct cxi_dev *cdev)
{
	if (cxi_is_cassini_2(cdev))
		return sl_link_up(cdev->number, NULL);
	return sbl_base_link_start(cdev->number, NULL);
}

static void link_stop(struct cxi_dev *cdev)
{
	if (cxi_is_cassini_2(cdev))
		sl_link_down(cdev->number, NULL);
	else
		sbl_base_link_stop(cdev->number, NULL);
}

/* Tells all clients; those told before one refuses are told to forget it. */
static int add_to_clients(struct cxi_dev *cdev)
{
	struct cxi_client *client;
	int rc;

	list_for_each_entry(client, &cxi_clients, list) {
		rc = client->add(cdev);
		if (rc) {
			list_for_each_entry_continue_reverse(client, &cxi_clients, list)
				client->remove(cdev);
			return rc;
		}
	}
	return 0;
}

static void remove_from_clients(struct cxi_dev *cdev)
{
	struct cxi_client *client;

	list_for_each_entry_reverse(client, &cxi_clients, list)
		client->remove(cdev);
}

static int cxi_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct cxi_dev *cdev = kzalloc(sizeof(*cdev), GFP_KERNEL);
	int rc;

	if (!cdev)
		return -ENOMEM;
	mutex_lock(&cxi_lock);
	cdev->pdev = pdev;
	cdev->number = next_number++;
	cdev->index = next_index++;
	pci_set_drvdata(pdev, cdev);
	if (cxi_fail_probe & BIT(cdev->index % 32)) {
		dev_err(&pdev->dev, "probe fails because it was told to\n");
		rc = -EIO;
		goto failed;
	}
	rc = link_start(cdev);
	if (rc)
		goto failed;
	rc = cxi_sysfs_add(cdev);
	if (rc)
		goto no_sysfs;
	/* In the order of the real one: device node and interface are there before the class device is. */
	rc = add_to_clients(cdev);
	if (rc)
		goto no_clients;
	cdev->class_dev = device_create(cxi_class, &pdev->dev, MKDEV(0, 0), cdev, "cxi%u", cdev->number);
	if (IS_ERR(cdev->class_dev)) {
		rc = PTR_ERR(cdev->class_dev);
		goto no_class_dev;
	}
	list_add_tail(&cdev->list, &cxi_devs);
	mutex_unlock(&cxi_lock);
	return 0;

no_class_dev:
	remove_from_clients(cdev);
no_clients:
	cxi_sysfs_remove(cdev);
no_sysfs:
	link_stop(cdev);
failed:
	mutex_unlock(&cxi_lock);
	kfree(cdev);
	return rc;
}

static void cxi_remove(struct pci_dev *pdev)
{
	struct cxi_dev *cdev = pci_get_drvdata(pdev);

	mutex_lock(&cxi_lock);
	list_del(&cdev->list);
	device_unregister(cdev->class_dev);
	remove_from_clients(cdev);
	cxi_sysfs_remove(cdev);
	link_stop(cdev);
	mutex_unlock(&cxi_lock);
	kfree(cdev);
}

struct pci_driver cxi_pci_driver = {
	.name = "cxi_ss1",
	.id_table = cxi_ids,
	.probe = cxi_probe,
	.remove = cxi_remove,
};
