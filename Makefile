# The front door; CMake and its presets do the work.  `make` builds build/forja.
S ?= 60
JOBS ?= $(shell nproc)

all: build/build.ninja
	cmake --build build

build/build.ninja:
	tools/setup.sh
	cmake --preset release

setup:
	@tools/setup.sh

demo: setup all
	tools/demo.sh

test: setup all
	ctest --test-dir build -LE 'interop|bench' --output-on-failure -j $(JOBS)

debug asan tsan cuda:
	@tools/setup.sh
	cmake --preset $@
	cmake --build build/$@

# For 64-bit ARM: the program and the tests that run under qemu.
ARM_TESTS = $(notdir $(basename $(wildcard tests/kcheck/test_*.c)))
arm:
	@tools/setup.sh arm
	@tools/arm-sysroot.sh
	cmake --preset arm
	cmake --build build/arm --target forja_cli $(ARM_TESTS)

# make fuzz T=gguf S=600: new inputs go to build/fuzz/corpus/T, the known ones are only read.
fuzz:
	@test -n "$(T)" || { echo "usage: make fuzz T=name [S=seconds]; names: $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))"; exit 2; }
	@tools/setup.sh check
	cmake --preset fuzz
	cmake --build build/fuzz --target fuzz_$(T)
	mkdir -p build/fuzz/corpus/$(T)
	build/fuzz/fuzz_$(T) -max_total_time=$(S) -timeout=30 -rss_limit_mb=4096 -artifact_prefix=build/fuzz/ \
	    build/fuzz/corpus/$(T) tests/fuzz/corpus/$(T)

bench: all
	build/forja bench

interop: all
	@tools/setup.sh interop
	tests/interop/run.sh

check: all
	@tools/setup.sh check
	tools/check.sh

clean:
	rm -rf build

.PHONY: all setup demo test debug asan tsan cuda arm fuzz bench interop check clean
