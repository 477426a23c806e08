# Two commands on a fresh Debian 12 machine: `make demo` and `make test`. Everything else is CMake: see CMakePresets.json.
PRESET ?= release
BUILD = build/$(PRESET)
PROMPT ?= Fellow-Citizens of the Senate and House of Representatives:

.PHONY: demo test build fuzz deps clean

demo: TARGET := --target weft_cli
demo: build
	$(BUILD)/bin/weft generate -p "$(PROMPT)" -n 64 --temp 0

# TESTS='Regex' runs only the tests whose name matches.
test: build
	ctest --test-dir $(BUILD) --output-on-failure -j 2 $(if $(TESTS),-R '$(TESTS)')

build: deps
	cmake --preset $(PRESET)
	cmake --build $(BUILD) $(TARGET)

# Feeds each reader of foreign files with its corpus, and what becomes of it, for SECONDS.
SECONDS ?= 15
fuzz: PRESET = asan
fuzz: TARGET := --target fuzzers
fuzz: build
	@for name in gguf safetensors torch_file tokenizer_json config_json; do \
	  echo "== $$name"; \
	  mkdir -p $(BUILD)/corpus/$$name; \
	  $(BUILD)/bin/fuzz_$$name -max_total_time=$(SECONDS) -timeout=20 -rss_limit_mb=4096 -verbosity=0 \
	    -artifact_prefix=$(BUILD)/crash-$$name- $(BUILD)/corpus/$$name tests/fuzz/corpus/$$name || exit 1; \
	done

# Installs what these files list and the machine lacks.
PACKAGES = .ci/packages.txt $(if $(filter asan,$(PRESET)),.ci/packages-clang.txt)
deps:
	@missing=$$(for p in $$(cat $(PACKAGES)); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	fi

clean:
	rm -rf build
