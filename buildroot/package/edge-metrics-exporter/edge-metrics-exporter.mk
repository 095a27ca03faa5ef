################################################################################
#
# edge-metrics-exporter
#
################################################################################

EDGE_METRICS_EXPORTER_VERSION = $(call qstrip,$(BR2_PACKAGE_EDGE_METRICS_EXPORTER_REVISION))
# The public address is a line of Cargo.toml. Until it is known (.invalid) the
# sources are those of the checkout that this tree is a folder of.
EDGE_METRICS_EXPORTER_CHECKOUT = $(realpath $(BR2_EXTERNAL_EDGE_METRICS_PATH)/..)
EDGE_METRICS_EXPORTER_ADDRESS = $(shell sed -n 's/^repository = "\(.*\)"$$/\1/p' $(EDGE_METRICS_EXPORTER_CHECKOUT)/Cargo.toml)
EDGE_METRICS_EXPORTER_SITE = $(if $(findstring .invalid/,$(EDGE_METRICS_EXPORTER_ADDRESS)),$(EDGE_METRICS_EXPORTER_CHECKOUT),$(EDGE_METRICS_EXPORTER_ADDRESS))
EDGE_METRICS_EXPORTER_SITE_METHOD = git
EDGE_METRICS_EXPORTER_LICENSE = MIT
EDGE_METRICS_EXPORTER_LICENSE_FILES = LICENSE

# The user chooses the revision: git's own hash says what it is.
BR_NO_CHECK_HASH_FOR += $(EDGE_METRICS_EXPORTER_SOURCE)

EDGE_METRICS_EXPORTER_CARGO_BUILD_OPTS = --no-default-features --features gzip
EDGE_METRICS_EXPORTER_CARGO_INSTALL_OPTS = --no-default-features --features gzip
ifeq ($(BR2_PACKAGE_EDGE_METRICS_EXPORTER_TLS),y)
EDGE_METRICS_EXPORTER_CARGO_BUILD_OPTS += --features tls
EDGE_METRICS_EXPORTER_CARGO_INSTALL_OPTS += --features tls
endif

define EDGE_METRICS_EXPORTER_USERS
	edge-metrics -1 edge-metrics -1 * /var/lib/edge-metrics-exporter - i2c,video power meters
endef

define EDGE_METRICS_EXPORTER_PERMISSIONS
	/etc/edge-metrics-exporter d 750 edge-metrics edge-metrics - - - - -
	/etc/edge-metrics-exporter/config.yaml f 640 edge-metrics edge-metrics - - - - -
endef

define EDGE_METRICS_EXPORTER_INSTALL_SETTINGS
	$(INSTALL) -D -m 0640 $(@D)/config.yaml.template \
		$(TARGET_DIR)/etc/edge-metrics-exporter/config.yaml
	$(INSTALL) -D -m 0644 $(@D)/systemd/60-edge-metrics-exporter.rules \
		$(TARGET_DIR)/usr/lib/udev/rules.d/60-edge-metrics-exporter.rules
endef
EDGE_METRICS_EXPORTER_POST_INSTALL_TARGET_HOOKS += EDGE_METRICS_EXPORTER_INSTALL_SETTINGS

define EDGE_METRICS_EXPORTER_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/sysvinit/edge-metrics-exporter \
		$(TARGET_DIR)/etc/init.d/S90edge-metrics-exporter
	$(INSTALL) -D -m 0644 $(@D)/systemd/edge-metrics-exporter.default \
		$(TARGET_DIR)/etc/default/edge-metrics-exporter
endef

define EDGE_METRICS_EXPORTER_INSTALL_INIT_OPENRC
	$(INSTALL) -D -m 0755 $(@D)/openrc/edge-metrics-exporter.initd \
		$(TARGET_DIR)/etc/init.d/edge-metrics-exporter
	$(INSTALL) -D -m 0644 $(@D)/openrc/edge-metrics-exporter.confd \
		$(TARGET_DIR)/etc/conf.d/edge-metrics-exporter
endef

define EDGE_METRICS_EXPORTER_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/systemd/edge-metrics-exporter.service \
		$(TARGET_DIR)/usr/lib/systemd/system/edge-metrics-exporter.service
	$(INSTALL) -D -m 0644 $(@D)/systemd/edge-metrics-exporter.tmpfiles \
		$(TARGET_DIR)/usr/lib/tmpfiles.d/edge-metrics-exporter.conf
	$(INSTALL) -D -m 0644 $(@D)/systemd/edge-metrics-exporter.default \
		$(TARGET_DIR)/etc/default/edge-metrics-exporter
endef

$(eval $(cargo-package))
