# Two commands on a fresh Debian 12 machine: `make demo` and `make test`. Everything else is CMake: see CMakePresets.json.
PRESET ?= release
BUILD := build/$(PRESET)
PROMPT ?= Fellow-Citizens of the Senate and House of Representatives:

.PHONY: demo test build deps clean

demo: build
	$(BUILD)/bin/weft generate -p "$(PROMPT)" -n 64 --temp 0

# TESTS='Regex' runs only the tests whose name matches.
test: build
	ctest --test-dir $(BUILD) --output-on-failure -j 2 $(if $(TESTS),-R '$(TESTS)')

build: deps
	cmake --preset $(PRESET)
	cmake --build $(BUILD)

# Installs what .ci/packages.txt lists and the machine lacks.
deps:
	@missing=$$(for p in $$(cat .ci/packages.txt); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	fi

clean:
	rm -rf build
