# Targets for an etcd cluster. In a Makefile:
#
#     ETCD_NODES = nodes.txt
#     ETCD_VERSION = v3.5.16
#     include path/to/etcd-tools/scripts/etcd.mk
#
# make runs these lines with /bin/sh, which knows no pipefail: a failure travels
# in the document, so the last stage fails when any of them did.

ETCD_NODES ?= nodes.txt
ETCD_VERSION ?=
ETCD_TEARDOWN_FLAGS ?=
ETCD_BACKUP_DIR ?= backup
ETCD_RESTORE_FLAGS ?=
ETCD_SNAPSHOT ?=
ETCD_UPGRADE_FLAGS ?=

# Settings of the tools; one that is empty is as good as not set.
export ETCD_TOOLS_PKI ?= pki
export ETCD_TOOLS_MIRROR ETCD_TOOLS_CACHE
export ETCD_TOOLS_SSH_USER ETCD_TOOLS_SSH_PORT ETCD_TOOLS_SSH_CONFIG

etcd_scripts := $(dir $(lastword $(MAKEFILE_LIST)))
etcd_pipeline = etcd-fetch $(ETCD_VERSION) <$(ETCD_NODES) | etcd-preflight | etcd-cert issue \
	| etcd-render | etcd-push | etcd-unit start

.PHONY: etcd-deploy etcd-check etcd-health etcd-status etcd-logs etcd-restart etcd-backup \
	etcd-restore etcd-upgrade etcd-teardown

etcd-deploy: ## from the list of nodes to healthy members
	$(etcd_pipeline) | etcd-health --wait --output table

etcd-check: export ETCD_TOOLS_CHECK = 1
etcd-check: ## what etcd-deploy would change; fails if anything
	$(etcd_pipeline) >/dev/null

etcd-health: ## health of members and cluster
	etcd-health --output table <$(ETCD_NODES)

etcd-status: ## what systemd knows of the units
	etcd-unit status --output table <$(ETCD_NODES)

etcd-logs: ## the last lines of the journals
	etcd-unit logs <$(ETCD_NODES)

etcd-restart: ## all members, one by one
	etcd-unit restart <$(ETCD_NODES) >/dev/null

etcd-backup: ## a verified snapshot in ETCD_BACKUP_DIR; old ones are removed
	$(etcd_scripts)backup $(ETCD_NODES) $(ETCD_BACKUP_DIR)

etcd-restore: ## ETCD_SNAPSHOT on all nodes; asks (ETCD_RESTORE_FLAGS=--yes does not)
	$(etcd_scripts)restore $(ETCD_RESTORE_FLAGS) $(ETCD_NODES) $(ETCD_SNAPSHOT)

etcd-upgrade: ## to ETCD_VERSION, member by member; asks (ETCD_UPGRADE_FLAGS=--yes does not)
	$(etcd_scripts)upgrade --backup $(ETCD_BACKUP_DIR) $(ETCD_UPGRADE_FLAGS) $(ETCD_NODES) $(ETCD_VERSION)

etcd-teardown: ## stop and remove etcd; asks (ETCD_TEARDOWN_FLAGS=--yes does not)
	$(etcd_scripts)teardown $(ETCD_TEARDOWN_FLAGS) $(ETCD_NODES)
