# make               build build/curdkv (installs missing Debian packages when it may, fetches llama.cpp once)
# make demo          answer three questions about a document, full cache and compressed side by side
# make test          build and pass all tests, a second build under AddressSanitizer and UBSan included
# make portable      build build-portable/curdkv, for any x86-64 that has SSE4.2
# make test-portable pass its fast tests, on processors that QEMU stands in for as well (package qemu-user)
# make install       put program, library, headers and CMake package under PREFIX (default /usr/local)
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
CMAKE_FLAGS ?=

MAKEFLAGS += --no-print-directory

.PHONY: all deps demo test test-fast portable test-portable install lint format clean

all: deps
	@cmake -S . -B build $(CMAKE_FLAGS)
	@cmake --build build -j $(JOBS)

deps:
	@scripts/deps.sh

demo: all
	@scripts/demo.sh

test: deps
	cmake -S . -B build -DCURDKV_WERROR=ON $(CMAKE_FLAGS)
	cmake --build build -j $(JOBS)
	cmake -S . -B build-asan -DCURDKV_SANITIZE=ON -DCURDKV_WERROR=ON $(CMAKE_FLAGS)
	cmake --build build-asan -j $(JOBS)
	ctest --test-dir build-asan --output-on-failure -L fast -j $(JOBS)
	ctest --test-dir build --output-on-failure -j $(JOBS)

test-fast: all
	ctest --test-dir build --output-on-failure -L fast

portable: deps
	@cmake -S . -B build-portable -DCURDKV_PORTABLE=ON $(CMAKE_FLAGS)
	@cmake --build build-portable -j $(JOBS)

test-portable: portable
	ctest --test-dir build-portable --output-on-failure -L fast -j $(JOBS)

install: all
	cmake --install build --prefix $(PREFIX)

# clang-tidy cannot read GCC's precompiled headers, so it gets a configuration without any.
lint: deps
	@cmake -S . -B build-lint -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON $(CMAKE_FLAGS)
	clang-format --dry-run --Werror $$(git ls-files '*.cpp' '*.h')
	git ls-files 'src/*.cpp' 'apps/*.cpp' ':!src/attention/*_kernel.cpp' | xargs -n 8 -P $(JOBS) clang-tidy -p build-lint --quiet

format:
	clang-format -i $$(git ls-files '*.cpp' '*.h')

clean:
	rm -rf build build-asan build-lint build-portable
