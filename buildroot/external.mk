include $(sort $(wildcard $(BR2_EXTERNAL_EDGE_METRICS_PATH)/package/*/*.mk))
