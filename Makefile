# chargegate: what people and CI call.
#
#   make build   the three programs, into bin/
#   make demo    a garage on this machine: chargers, gateway, cloud
#   make test    everything: units, and the garage with real programs
#   make test-vm the installed system in a virtual machine, with real Wi-Fi
#   make bench   figures: the rooms alone, a whole garage after a power cut, and beside
#                others in the same run DHCP (dnsmasq, Kea), names (dnsmasq, unbound,
#                CoreDNS), time (chronyd) and the way out (nginx, haproxy, no proxy at
#                all); twenty minutes, BENCH_RUNS=1 for six, and at first some more to
#                build CoreDNS
#   make lint    form and common mistakes
#   make install the programs, units and a first configuration onto this system;
#                make uninstall takes all of it away but for what is yours: the
#                configuration, the promises to chargers, the user
#
# demo, test and bench install what is missing through the system's package manager
# and say so. None needs root where user namespaces are allowed.

GO      ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
export CGO_ENABLED ?= 0
# nft, ip and the servers live where an ordinary user's path may not lead: a test
# that does not find them would pass itself over.
# PEERS keeps what no package manager has; it outlives make clean.
export PEERS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/chargegate
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin:$(PEERS)

.PHONY: build install uninstall demo test test-vm bench lint golden clean

build:
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

# DESTDIR is for packagers, and so is SYSTEMD: the systemd of the system that it is
# for, where that is not this one. What an older one does not know (systemd/since-254)
# it would complain about. A configuration that is there is never touched.
BIN     ?= bin
SYSTEMD ?= $(shell systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
DROPINS := chargegate-prepare.service.d/credentials.conf $(addsuffix .d/back-off.conf,chargegate-prepare.service chargegate-firewall.service chargegated.service chargegate-radio@.service)
install:
	@test -x $(BIN)/chargegated || { echo "run make build first, as yourself"; exit 1; }
	install -D -t $(DESTDIR)/usr/bin $(BIN)/chargegated $(BIN)/chargegate
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/system systemd/*.service systemd/*.target
	install -d $(DESTDIR)/usr/lib/systemd/system/multi-user.target.wants
	ln -sf ../chargegate-radios.target $(DESTDIR)/usr/lib/systemd/system/multi-user.target.wants/
	rm -f $(DROPINS:%=$(DESTDIR)/usr/lib/systemd/system/%)
	test 0$(SYSTEMD) -lt 254 || for f in $(DROPINS); do install -D -m 644 systemd/since-254/$$f $(DESTDIR)/usr/lib/systemd/system/$$f; done
	for d in sysctl.d sysusers.d tmpfiles.d modules-load.d; do install -D -m 644 -t $(DESTDIR)/usr/lib/$$d systemd/$$d/*; done
	install -D -m 644 -t $(DESTDIR)/usr/lib/udev/rules.d systemd/udev/*.rules
	for d in journald.conf.d system.conf.d; do install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/$$d systemd/$$d/*; done
	install -D -m 644 systemd/chargegate.catalog $(DESTDIR)/usr/lib/systemd/catalog/chargegate.catalog
	install -D -m 644 -t $(DESTDIR)/usr/share/doc/chargegate README.md configs/chrony/chrony.conf systemd/kernel-clock.conf systemd/credential.conf docs/*.md
	install -d -m 750 $(DESTDIR)/etc/chargegate
	for f in chargegate.toml chargers.csv; do \
	  test -e $(DESTDIR)/etc/chargegate/$$f || install -m 640 configs/$$f $(DESTDIR)/etc/chargegate/$$f; done
ifeq ($(DESTDIR),)
	systemd-sysusers && systemd-tmpfiles --create chargegate.conf && systemctl daemon-reload
	chgrp -R chargegate /etc/chargegate
	-modprobe nf_conntrack
	sysctl -q --system
	journalctl --update-catalog
endif

# The firewall's rules go last, with the command that its unit leaves to people.
uninstall:
ifeq ($(DESTDIR),)
	-systemctl stop 'chargegate-radio@*.service'
	rm -f /etc/systemd/system/*.wants/chargegate-radio@*.service
	-systemctl disable --now $(patsubst systemd/%,%,$(filter-out %@.service,$(wildcard systemd/*.service)))
	rm -f /run/sysctl.d/70-chargegate-networks.conf /run/systemd/network/10-chargegate-*.network /run/NetworkManager/conf.d/10-chargegate.conf
	rm -rf /run/chargegate-rendered
	-nft delete table inet chargegate
	-nft delete table arp chargegate
endif
	rm -f $(DESTDIR)/usr/bin/chargegated $(DESTDIR)/usr/bin/chargegate
	rm -f $(patsubst systemd/%,$(DESTDIR)/usr/lib/systemd/system/%,$(wildcard systemd/*.service systemd/*.target))
	rm -f $(DESTDIR)/usr/lib/systemd/system/multi-user.target.wants/chargegate-radios.target
	rm -f $(DROPINS:%=$(DESTDIR)/usr/lib/systemd/system/%)
	rmdir --ignore-fail-on-non-empty $(sort $(dir $(DROPINS:%=$(DESTDIR)/usr/lib/systemd/system/%))) 2>/dev/null || :
	for d in sysctl.d sysusers.d tmpfiles.d modules-load.d; do rm -f $(DESTDIR)/usr/lib/$$d/*chargegate.conf; done
	for d in journald.conf.d system.conf.d; do rm -f $(DESTDIR)/usr/lib/systemd/$$d/60-chargegate.conf; done
	rm -f $(DESTDIR)/usr/lib/systemd/catalog/chargegate.catalog $(DESTDIR)/usr/lib/udev/rules.d/*chargegate*.rules
	rm -rf $(DESTDIR)/usr/share/doc/chargegate
ifeq ($(DESTDIR),)
	systemctl daemon-reload
	@echo "Left as they are: /etc/chargegate, /var/lib/chargegate, /etc/chrony/chrony.conf, and the user chargegate. What sysctl.d set stays until the next boot."
endif

demo: build
	@test/need demo
	@bin/chargesim demo -bin bin

# The race detector needs cgo, and so a C compiler; test/need sees to it. What
# was passed before is run again: go does not see that the programs under test
# have changed.
test:
	@test/need test
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 15m ./...
	CGO_ENABLED=1 $(GO) test -race -count=1 ./pkg/egress -args -long # every call by the long way

# The installed system in a virtual machine with real Wi-Fi, systemd and power cuts:
# some minutes, as root. SCENARIO=boot,wifi runs those alone, VM="-list" says which
# there are, VM="-nightly" runs the long ones, too.
test-vm: build
	@test/need vm
	$(GO) run ./test/vm -scenario '$(SCENARIO)' $(VM)

BENCH_RUNS ?= 5
bench: build
	@test/need bench
	$(GO) test -run '^$$' -bench . -benchmem ./pkg/...
	bin/chargesim herd -bin bin -n 50
	bin/chargesim bench dhcp -bin bin -runs $(BENCH_RUNS)
	bin/chargesim bench names -bin bin -runs $(BENCH_RUNS)
	bin/chargesim bench time -bin bin -runs $(BENCH_RUNS)
	bin/chargesim bench egress -bin bin -runs $(BENCH_RUNS)

lint:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	 if [ -n "$$unformatted" ]; then echo "not in gofmt's form:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	GOARCH=arm CGO_ENABLED=0 $(GO) vet ./... # a Pi with a system of 32 bits
	GOARCH=arm CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/chargegated

# After a change of what is promised in text: write the golden files anew, then
# read the difference as a reviewer would.
golden:
	$(GO) test ./pkg/config ./pkg/render ./cmd/chargegate -update

clean:
	rm -rf bin
