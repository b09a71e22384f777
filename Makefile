# What a developer types. `make build` and everything else needs Go 1.26 and
# nothing more; `make test-race` needs a C compiler besides.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Root tests run as root where root can be had without a question: then they
# fail rather than skip.
ifeq ($(shell id -u),0)
ROOT := STEAD_TEST_ROOT=1
else ifeq ($(shell sudo -n true 2>/dev/null && echo yes),yes)
ROOT := STEAD_TEST_ROOT=1
AS_ROOT := -exec 'sudo -n --preserve-env=STEAD_TEST_ROOT,STEAD_TEST_DEBIAN,TORTURE_TIME,TORTURE_SEED'
endif

.PHONY: build test test-race test-crash test-long test-clients lint demo generate test-vm test-vm-all test-arm64 bench bench-compare

build:
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o bin/stead ./cmd/stead

# Everything once, as it is released: the race detector's build takes another clone path. The
# second takes single defences away and wants the attacks to succeed then. -short takes fewer
# rounds where chance decides; test-long takes all of them.
test:
	$(ROOT) CGO_ENABLED=0 go test -short -parallel 4 -timeout 15m $(AS_ROOT) ./...
	$(ROOT) CGO_ENABLED=0 go test -tags weak -run TestCVE -timeout 8m $(AS_ROOT) ./runtime

# With the race detector. Of the program as a whole a share, in which much happens at a time: each
# command that a test types would be a slow program too.
test-race:
	$(ROOT) go test -race -short -parallel 4 -timeout 15m $(AS_ROOT) $$(go list ./... | grep -v /cmd/)
	$(ROOT) go test -race -short -parallel 4 -timeout 15m -run 'TestDaemon|TestHold|TestLogs|TestExec$$|TestReplicas|TestImage|TestReload|TestEvents|TestShutdown|TestHung|TestRename' $(AS_ROOT) ./cmd/...

# Daemon and keeper are killed between any two steps, in a build of its own. Some seconds of
# `make torture` go with it.
test-crash:
	$(ROOT) CGO_ENABLED=0 go test -tags fault -run 'Crash|TestTorture|TestKilled' -parallel 8 -timeout 15m $(AS_ROOT) ./cmd/stead ./runtime/image

test-long:
	$(ROOT) CGO_ENABLED=0 go test -count=1 -parallel 4 -timeout 30m $(AS_ROOT) ./...

# A random life of a host, in which daemon and keeper die at any moment. It prints
# its seed; TORTURE_SEED=N has the same choices made again.
.PHONY: torture
torture: export TORTURE_TIME ?= 10m
torture:
	$(ROOT) CGO_ENABLED=0 go test -count=1 -tags fault -run TestTorture -v -timeout 0 $(AS_ROOT) ./cmd/stead

# The real clients of a manifest directory (git, Ansible, editors), as root. apt
# has them.
test-clients:
	.ci/clients
	$(ROOT) go test -tags clients -run 'TestGit|TestEditors|TestAnsible|TestBusy' -timeout 15m $(AS_ROOT) ./cmd/stead

# Images that other tools make, what they make of ours, and the servers of a Debian as containers,
# as root: apt has the tools and the Debian, which is downloaded (STEAD_TEST_DEBIAN=FILE for one
# that is there).
.PHONY: test-images
test-images:
	$(ROOT) CGO_ENABLED=0 .ci/images go test -tags images -run 'TestTools' -v -timeout 20m $(AS_ROOT) ./runtime/image ./cmd/stead

# The root tests on a kernel with nothing but cgroup v2: the share that CI has time for,
# and all of them (hours).
test-vm:
	runtime/vmtest/run

test-vm-all:
	STEAD_TEST_VM=require runtime/vmtest/run all

# Unit tests that need no root and no openat2 (which the emulator lacks), on an emulated arm64
# processor: apt has it, as qemu-user-static.
test-arm64:
	CGO_ENABLED=0 GOARCH=arm64 go test -exec qemu-aarch64-static -timeout 10m ./spec ./runtime/record ./runtime/logs ./runtime/seccomp ./reconcile/events

lint:
	@bad="$$(gofmt -l cmd reconcile runtime spec)"; if [ -n "$$bad" ]; then echo "not formatted (gofmt -w):"; echo "$$bad"; exit 1; fi
	go vet ./...
	go tool -modfile=.ci/tools.mod staticcheck ./...

demo: build
	examples/demo.sh

# All figures in one table, with the peers that are installed. As root, on a
# machine that does nothing else.
bench:
	runtime/bench/run.sh

# make bench-compare OLD=v1 [NEW=HEAD]
bench-compare:
	runtime/bench/compare.sh $(OLD) $(NEW)

# Each fuzz target for some seconds, from its committed corpus on; FUZZ_TIME for
# longer. Counts, not durations: a deadline of Go 1.26's fuzzing engine, on a busy
# machine, is now and then reported as the target's failure (go.dev/issue/75804).
FUZZ_TIME ?= 50000x
.PHONY: fuzz
fuzz:
	@grep -rho --include=*_test.go '^func Fuzz[A-Za-z]*' spec runtime | sort -u | sed 's/^func //' | while read -r f; do \
		dir=$$(grep -rl --include=*_test.go "^func $$f(" spec runtime | xargs dirname); \
		go test "./$$dir" -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 500x -parallel 2 || exit 1; done

# What a workload sees of its confinement, beside crun and podman with their
# defaults where they are installed. As root.
.PHONY: probe
probe:
	STEAD_TEST_PEERS=1 CGO_ENABLED=0 go test -count=1 -run TestProbe -v $(AS_ROOT) ./runtime

generate:
	go generate ./spec ./cmd/... # in this order: the documentation holds what spec generates
