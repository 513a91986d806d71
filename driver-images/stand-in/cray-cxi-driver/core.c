// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Stand-in for the CXI core driver: binds to PCI functions with the ids of Cassini and shows what an administrator's
 * programs read of them. Its parameters are faults.
 */
#include <linux/configfs.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/module.h>
#include <linux/version.h>

#include "core.h"

unsigned int cxi_fail_probe;
module_param_named(fail_probe, cxi_fail_probe, uint, 0644);
MODULE_PARM_DESC(fail_probe, "NICs whose probe fails, bit i for the i-th");

static int fail_load;
module_param(fail_load, int, 0444);
MODULE_PARM_DESC(fail_load, "the error number with which loading fails, 0 for none");

static unsigned int unload_delay_ms;
module_param(unload_delay_ms, uint, 0644);
MODULE_PARM_DESC(unload_delay_ms, "how long unloading takes at least, in milliseconds");

unsigned int cxi_retry_handler;
module_param_named(retry_handler, cxi_retry_handler, uint, 0644);
MODULE_PARM_DESC(retry_handler, "NICs that say that a retry handler is attached, bit i for the i-th");

unsigned int cxi_link_down;

struct class *cxi_class;
DEFINE_MUTEX(cxi_lock);
LIST_HEAD(cxi_devs);
LIST_HEAD(cxi_clients);

bool cxi_link_is_up(const struct cxi_dev *cdev)
{
	return !(READ_ONCE(cxi_link_down) & BIT(cdev->index % 32));
}
EXPORT_SYMBOL(cxi_link_is_up);

static int set_link_down(const char *text, const struct kernel_param *kp)
{
	struct cxi_client *client;
	struct cxi_dev *cdev;
	int rc = param_set_uint(text, kp);

	if (rc)
		return rc;
	mutex_lock(&cxi_lock);
	list_for_each_entry(client, &cxi_clients, list)
		list_for_each_entry(cdev, &cxi_devs, list)
			if (client->link)
				client->link(cdev);
	mutex_unlock(&cxi_lock);
	return 0;
}

static const struct kernel_param_ops link_down_ops = {
	.set = set_link_down,
	.get = param_get_uint,
};
module_param_cb(link_down, &link_down_ops, &cxi_link_down, 0644);
MODULE_PARM_DESC(link_down, "NICs whose link is down, bit i for the i-th");

int cxi_register_client(struct cxi_client *client, const struct STAND_IN_ABI *abi)
{
	struct cxi_dev *cdev;
	int rc = 0;

	mutex_lock(&cxi_lock);
	list_for_each_entry(cdev, &cxi_devs, list) {
		rc = client->add(cdev);
		if (rc)
			break;
	}
	if (rc) {
		list_for_each_entry_continue_reverse(cdev, &cxi_devs, list)
			client->remove(cdev);
	} else {
		list_add_tail(&client->list, &cxi_clients);
	}
	mutex_unlock(&cxi_lock);
	return rc;
}
EXPORT_SYMBOL(cxi_register_client);

void cxi_unregister_client(struct cxi_client *client, const struct STAND_IN_ABI *abi)
{
	struct cxi_dev *cdev;

	mutex_lock(&cxi_lock);
	list_del(&client->list);
	list_for_each_entry(cdev, &cxi_devs, list)
		client->remove(cdev);
	mutex_unlock(&cxi_lock);
}
EXPORT_SYMBOL(cxi_unregister_client);

/* The directory "cxi" in configfs, so that this module needs one of the kernel's own modules as the real one does. */
static const struct config_item_type cxi_configfs_type = {
	.ct_owner = THIS_MODULE,
};

static struct configfs_subsystem cxi_configfs = {
	.su_group = {
		.cg_item = {
			.ci_namebuf = "cxi",
			.ci_type = &cxi_configfs_type,
		},
	},
};

static int __init cxi_init(void)
{
	int rc;

	if (fail_load)
		return -abs(fail_load);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	cxi_class = class_create("cxi");
#else
	cxi_class = class_create(THIS_MODULE, "cxi");
#endif
	if (IS_ERR(cxi_class))
		return PTR_ERR(cxi_class);
	config_group_init(&cxi_configfs.su_group);
	mutex_init(&cxi_configfs.su_mutex);
	rc = configfs_register_subsystem(&cxi_configfs);
	if (rc)
		goto no_configfs;
	rc = pci_register_driver(&cxi_pci_driver);
	if (rc)
		goto no_driver;
	pr_info("cxi_ss1: stand-in %s loaded\n", STAND_IN_RELEASE);
	return 0;

no_driver:
	configfs_unregister_subsystem(&cxi_configfs);
no_configfs:
	class_destroy(cxi_class);
	return rc;
}

static void __exit cxi_exit(void)
{
	msleep(unload_delay_ms);
	pci_unregister_driver(&cxi_pci_driver);
	configfs_unregister_subsystem(&cxi_configfs);
	class_destroy(cxi_class);
}

module_init(cxi_init);
module_exit(cxi_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("stand-in for the CXI core driver, for tests");
