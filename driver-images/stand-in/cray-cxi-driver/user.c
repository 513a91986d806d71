// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Stand-in for the module that makes /dev/cxiN: files that can be opened, held and closed. */
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/version.h>

#include "cxi.h"

#define MINORS 256

struct user_dev {
	struct device dev;
	struct cdev cdev;
};

static dev_t region;
static struct class *user_class;
static DEFINE_IDA(minors);

/* Refusing to be unloaded although no process has a device open: a reference of its own. */
static bool hold;

static int set_hold(const char *text, const struct kernel_param *kp)
{
	bool before = hold;
	int rc = param_set_bool(text, kp);

	if (rc || hold == before)
		return rc;
	if (hold)
		__module_get(THIS_MODULE);
	else
		module_put(THIS_MODULE);
	return 0;
}

static const struct kernel_param_ops hold_ops = {
	.set = set_hold,
	.get = param_get_bool,
};
module_param_cb(hold, &hold_ops, &hold, 0644);
MODULE_PARM_DESC(hold, "refuse to be unloaded while this is set");

static ssize_t user_write(struct file *file, const char __user *text, size_t size, loff_t *offset)
{
	/* The real one takes commands here; this one knows none. */
	return -EOPNOTSUPP;
}

static const struct file_operations user_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.write = user_write,
};

static void user_release(struct device *dev)
{
	kfree(container_of(dev, struct user_dev, dev));
}

static int user_add(struct cxi_dev *cdev)
{
	struct user_dev *user;
	int rc, minor = ida_alloc_max(&minors, MINORS - 1, GFP_KERNEL);

	if (minor < 0)
		return minor;
	user = kzalloc(sizeof(*user), GFP_KERNEL);
	if (!user) {
		ida_free(&minors, minor);
		return -ENOMEM;
	}
	device_initialize(&user->dev);
	user->dev.class = user_class;
	user->dev.parent = &cdev->pdev->dev;
	user->dev.devt = MKDEV(MAJOR(region), minor);
	user->dev.release = user_release;
	cdev_init(&user->cdev, &user_fops);
	user->cdev.owner = THIS_MODULE;
	rc = dev_set_name(&user->dev, "cxi%u", cdev->number);
	if (!rc)
		rc = cdev_device_add(&user->cdev, &user->dev);
	if (rc) {
		ida_free(&minors, minor);
		put_device(&user->dev);
		return rc;
	}
	cdev->user = user;
	return 0;
}

static void user_remove(struct cxi_dev *cdev)
{
	struct user_dev *user = cdev->user;

	if (!user)
		return;
	cdev->user = NULL;
	ida_free(&minors, MINOR(user->dev.devt));
	cdev_device_del(&user->cdev, &user->dev);
	put_device(&user->dev);
}

static struct cxi_client user_client = {
	.add = user_add,
	.remove = user_remove,
};

/* Anybody may open a device: the container's device rules are the barrier. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
static char *user_devnode(const struct device *dev, umode_t *mode)
#else
static char *user_devnode(struct device *dev, umode_t *mode)
#endif
{
	if (mode)
		*mode = 0666;
	return NULL;
}

static int __init user_init(void)
{
	int rc = alloc_chrdev_region(&region, 0, MINORS, "ucxi");

	if (rc)
		return rc;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	user_class = class_create("cxi_user");
#else
	user_class = class_create(THIS_MODULE, "cxi_user");
#endif
	if (IS_ERR(user_class)) {
		rc = PTR_ERR(user_class);
		goto no_class;
	}
	user_class->devnode = user_devnode;
	rc = cxi_register_client(&user_client, NULL);
	if (rc)
		goto no_client;
	pr_info("cxi_user: stand-in %s loaded\n", STAND_IN_RELEASE);
	return 0;

no_client:
	class_destroy(user_class);
no_class:
	unregister_chrdev_region(region, MINORS);
	return rc;
}

static void __exit user_exit(void)
{
	cxi_unregister_client(&user_client, NULL);
	class_destroy(user_class);
	unregister_chrdev_region(region, MINORS);
	ida_destroy(&minors);
}

module_init(user_init);
module_exit(user_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("stand-in for the CXI user-space interface, for tests");
