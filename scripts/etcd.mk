# Targets for an etcd cluster. In a Makefile:
#
#     ETCD_NODES = nodes.txt
#     ETCD_VERSION = v3.5.16
#     include path/to/etcd-tools/scripts/etcd.mk
#
# The first deployment needs ETCD_VERSION; without it what the cluster runs is kept.
#
# make runs these lines with /bin/sh, which knows no pipefail: a failure travels
# in the document, so the last stage fails when any of them did.

ETCD_NODES ?= nodes.txt
ETCD_VERSION ?=
ETCD_TEARDOWN_FLAGS ?=
ETCD_BACKUP_DIR ?= backup
ETCD_MEMBER ?=
ETCD_MEMBER_FLAGS ?=
ETCD_NEW_LINE ?=
ETCD_RESTORE_FLAGS ?=
ETCD_SNAPSHOT ?=
ETCD_RECOVER_FLAGS ?=
ETCD_UPGRADE_FLAGS ?=

ETCD_STOP_FLAGS ?=

ETCD_TOOLS_PKI ?= pki

# The Makefile's own first target stays the one that a bare `make` brings about.
etcd_default_goal := $(.DEFAULT_GOAL)
# The folder of this file, the last of those read: what the list of them ends with. Its
# path may have spaces, which the functions of make take for the end of a word.
etcd_hash := \#
etcd_scripts := $(shell path='$(subst ','\'',$(MAKEFILE_LIST))'; \
	until [ -f "$$path" ] || [ "$$path" = "$${path$(etcd_hash)* }" ]; do path=$${path$(etcd_hash)* }; done; \
	dirname "$$path")/
# Every ETCD_TOOLS_... that the Makefile sets, before or after this, is for the tools; one
# that is empty is as good as not set.
etcd_run = $(foreach name,$(filter ETCD_TOOLS_%,$(.VARIABLES)),$(eval export $(name)))
etcd_nodes = <"$(ETCD_NODES)"
etcd_push = etcd-fetch $(or $(ETCD_VERSION),--no-default) $(etcd_nodes) | etcd-preflight | etcd-cert issue \
	| etcd-render | etcd-push
etcd_pipeline = $(etcd_push) | etcd-unit start

# With -j, too, one target after the other, in the order in which they are asked for: all
# of them work on the same nodes.
.NOTPARALLEL:
.PHONY: etcd-deploy etcd-check etcd-install etcd-start etcd-stop etcd-restart etcd-health \
	etcd-status etcd-logs etcd-cert-check etcd-grow etcd-shrink etcd-replace-member \
	etcd-backup etcd-restore etcd-recover etcd-upgrade etcd-teardown

etcd-deploy: ## from the list of nodes to healthy members
	$(etcd_run)$(etcd_pipeline) | etcd-health --wait --output table

etcd-check: override export ETCD_TOOLS_CHECK = 1
etcd-check: ## what etcd-deploy would change; fails if anything
	$(etcd_run)$(etcd_pipeline) >/dev/null

etcd-health: ## health of members and cluster
	$(etcd_run)etcd-health --output table $(etcd_nodes)

etcd-status: ## what systemd knows of the units
	$(etcd_run)etcd-unit status --output table $(etcd_nodes)

etcd-logs: ## the last lines of the journals
	$(etcd_run)etcd-unit logs $(etcd_nodes)

etcd-install: ## all files and units on the nodes, and nothing started
	$(etcd_run)$(etcd_push) | etcd-unit install >/dev/null

etcd-start: ## what is installed: start what is stopped, restart what is outdated
	$(etcd_run)etcd-unit start $(etcd_nodes) >/dev/null

etcd-stop: ## all members; refused without ETCD_STOP_FLAGS=--lose-quorum
	$(etcd_run)etcd-unit stop $(ETCD_STOP_FLAGS) $(etcd_nodes) >/dev/null

etcd-cert-check: ## when certificates expire; fails if one is due for renewal
	$(etcd_run)etcd-cert check --output table $(etcd_nodes)

etcd-restart: ## all members, one by one
	$(etcd_run)etcd-unit restart $(etcd_nodes) >/dev/null

etcd-grow: ## make members of new nodes; asks (ETCD_MEMBER_FLAGS=--yes does not)
	$(etcd_run)"$(etcd_scripts)grow" $(ETCD_MEMBER_FLAGS) "$(ETCD_NODES)"

etcd-shrink: ## remove the members ETCD_MEMBER; asks
	$(etcd_run)"$(etcd_scripts)shrink" $(ETCD_MEMBER_FLAGS) "$(ETCD_NODES)" $(ETCD_MEMBER)

etcd-replace-member: ## give ETCD_MEMBER, or the host of ETCD_NEW_LINE, a new start; asks
	$(etcd_run)"$(etcd_scripts)replace-member" $(ETCD_MEMBER_FLAGS) "$(ETCD_NODES)" $(ETCD_MEMBER) $(ETCD_NEW_LINE)

etcd-backup: ## a verified snapshot in ETCD_BACKUP_DIR; old ones are removed
	$(etcd_run)"$(etcd_scripts)backup" "$(ETCD_NODES)" "$(ETCD_BACKUP_DIR)"

etcd-restore: ## ETCD_SNAPSHOT on all nodes; asks (ETCD_RESTORE_FLAGS=--yes does not)
	$(etcd_run)"$(etcd_scripts)restore" $(ETCD_RESTORE_FLAGS) "$(ETCD_NODES)" "$(ETCD_SNAPSHOT)"

etcd-recover: ## without quorum: what survivors have, into ETCD_SNAPSHOT and on all nodes; asks
	$(etcd_run)"$(etcd_scripts)recover" $(ETCD_RECOVER_FLAGS) "$(ETCD_NODES)" "$(ETCD_SNAPSHOT)"

etcd-upgrade: ## to ETCD_VERSION, member by member; asks (ETCD_UPGRADE_FLAGS=--yes does not)
	$(etcd_run)"$(etcd_scripts)upgrade" --backup "$(ETCD_BACKUP_DIR)" $(ETCD_UPGRADE_FLAGS) "$(ETCD_NODES)" $(ETCD_VERSION)

etcd-teardown: ## stop and remove etcd; asks (ETCD_TEARDOWN_FLAGS=--yes does not)
	$(etcd_run)"$(etcd_scripts)teardown" $(ETCD_TEARDOWN_FLAGS) "$(ETCD_NODES)"

.DEFAULT_GOAL := $(etcd_default_goal)
