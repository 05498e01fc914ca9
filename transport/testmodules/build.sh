#!/bin/sh
# Builds the test modules of modules.list into built/, next to this script, and
# those on the SDK for Go, one for each folder in go/, into built/go/.
# Only what is missing or older than its sources is built; the same sources and
# compiler give the same bytes.
#
#   ./build.sh            build
#   ./build.sh -f         build everything anew
#   ./build.sh -n         say what would be built
#
# CLANG, WASM_LD, RUSTC, GO and WASI_SYSROOT name others than those found. The Rust
# modules are left out, with a note, where there is no Rust compiler for WASI;
# REQUIRE_RUST=1 makes that an error.
set -eu
cd "$(dirname "$0")"
export LC_ALL=C

force= dry=
case "${1-}" in
-f) force=1 ;;
-n) dry=1 ;;
'') ;;
*) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

fail() {
	echo "testmodules: $*" >&2
	exit 1
}

# find_tool NAME: NAME, or the newest NAME-<version> on PATH.
find_tool() {
	if command -v "$1" 2>/dev/null; then return; fi
	for v in 22 21 20 19 18 17 16 15 14; do
		if command -v "$1-$v" 2>/dev/null; then return; fi
	done
}

CLANG=${CLANG:-$(find_tool clang)}
[ -n "$CLANG" ] || fail "no clang; Debian package: clang"
WASM_LD=${WASM_LD:-$(find_tool wasm-ld)}
[ -n "$WASM_LD" ] || fail "no wasm-ld; Debian package: lld"
WASM_LD=$(command -v "$WASM_LD") || fail "WASM_LD: not found"
[ -e /usr/include/wasm32-wasi/stdio.h ] || [ -n "${WASI_SYSROOT-}" ] ||
	fail "no C library for WASI; Debian package: wasi-libc (or set WASI_SYSROOT)"

# What is being built stays in a folder of this run's own until it is whole, so
# that two builds at once do no harm.
export TMPOUT=built/.tmp.$$
mkdir -p "$TMPOUT"
trap 'rm -rf "$TMPOUT"' EXIT

# The compiler's own library for WebAssembly has lived in more than one folder:
# building an empty program shows whether clang finds it.
if [ ! -e built/.tools ] || [ "$(cat built/.tools)" != "$("$CLANG" --version)" ]; then
	echo 'int main(void) { return 0; }' >"$TMPOUT/try.c"
	"$CLANG" --target=wasm32-wasi ${WASI_SYSROOT:+--sysroot="$WASI_SYSROOT"} -fuse-ld="$WASM_LD" \
		"$TMPOUT/try.c" -o "$TMPOUT/try.wasm" 2>"$TMPOUT/log" || {
		cat "$TMPOUT/log" >&2
		fail "clang cannot link for wasm32-wasi; Debian packages: wasi-libc, libclang-rt-dev-wasm32"
	}
	"$CLANG" --version >built/.tools
	force=1 # another compiler
fi

# The first Rust compiler that has a standard library for WASI. (A compiler
# from elsewhere often comes first on PATH, without that library.)
rust_target=
for r in ${RUSTC:-rustc /usr/bin/rustc}; do
	command -v "$r" >/dev/null 2>&1 || continue
	for t in wasm32-wasip1 wasm32-wasi; do
		dir=$("$r" --print target-libdir --target "$t" 2>/dev/null) || continue
		ls "$dir"/libstd-*.rlib >/dev/null 2>&1 || continue
		RUSTC=$r rust_target=$t
		break 2
	done
done
if [ -z "$rust_target" ]; then
	[ -z "${REQUIRE_RUST-}" ] ||
		fail "no Rust compiler for WASI; Debian packages: rustc, libstd-rust-dev-wasm32"
	echo "testmodules: leaving out rust_*: no Rust compiler for WASI (Debian packages: rustc, libstd-rust-dev-wasm32)" >&2
	echo "no Rust compiler for WASI when the test modules were built" >built/rust_left_out
else
	rm -f built/rust_left_out
fi

# -mcpu=mvp: the plainest WebAssembly, whatever this compiler's default is.
common="-O2 -g0 -mcpu=mvp -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-function \
-Wl,--strip-debug -fuse-ld='$WASM_LD'"
bare="--target=wasm32-unknown-unknown -std=c11 -ffreestanding -nostdlib -Wl,--no-entry $common"
libc="--target=wasm32-wasi -std=gnu11 -mexec-model=reactor ${WASI_SYSROOT:+--sysroot='$WASI_SYSROOT'} $common"
rust="--edition=2021 --crate-type=cdylib -O -C panic=abort -C strip=debuginfo -C 'linker=$WASM_LD' \
'--remap-path-prefix=$PWD=.' -D warnings -A unknown_lints -A unexpected_cfgs"

# What modules with threads need, free-standing as they are.
threads="-I../../watm/c -matomics -mbulk-memory -ftls-model=local-exec \
-Wl,--import-memory,--shared-memory,--max-memory=1048576"

# The modules of modules.list, and those that are examples for authors elsewhere in
# the tree.
list() {
	cat modules.list
	echo "many_c ../../../watm/c/plain.c LIBC"
	echo "threads ../../../modules/threads/threads.c THREADS -O3 -msimd128"
}

# Writes one "output<TAB>command" for every module to be built.
plan() {
	newest=$(ls -t src/*.h ../../watm/c/*.h ../../watm/rust/*.rs ../../modules/threads/*.h build.sh | head -n 1)
	list | while read -r name source flags; do
		case "$name" in '' | '#'*) continue ;; esac
		source=src/$source
		out=built/$name.wasm
		case "$source" in
		*.rs)
			[ -n "$rust_target" ] || { rm -f "$out" "$out.cmd"; continue; }
			cmd="'$RUSTC' --target=$rust_target $rust --crate-name=$name $flags -o \"\$tmp\" $source" ;;
		*)
			# Quotes and parentheses in a flag are for the compiler, not the shell.
			args=
			for f in $flags; do
				case "$f" in
				LIBC) ;;
				THREADS) args="$args $threads" ;;
				*) args="$args '$(printf %s "$f" | tr '~' ' ')'" ;;
				esac
			done
			case " $flags " in *' LIBC '*) base=$libc ;; *) base=$bare ;; esac
			cmd="'$CLANG' $base $args -o \"\$tmp\" $source" ;;
		esac
		if [ -z "$force" ] && [ -e "$out" ] && [ "$out" -nt "$source" ] && [ "$out" -nt "$newest" ] &&
			[ "$(cat "$out.cmd" 2>/dev/null)" = "$cmd" ]; then
			continue
		fi
		printf '%s\t%s\n' "$out" "$cmd"
	done
}

todo=$(plan)
if [ -n "$dry" ]; then
	printf '%s\n' "$todo" | cut -f 1
	exit
fi

if [ -n "$todo" ]; then
	# One shell for each, as many at once as there are cores.
	jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
	printf '%s\n' "$todo" | tr '\n' '\0' | xargs -0 -n 1 -P "$jobs" sh -c '
		out=${1%%	*} cmd=${1#*	} tmp=$TMPOUT/${out##*/}
		if eval "$cmd"; then
			printf "%s\n" "$cmd" >"$out.cmd"
			mv "$tmp" "$out"
		else
			echo "testmodules: $out failed: $cmd" >&2
			exit 255
		fi' sh || fail "the build failed"
	echo "testmodules: built $(printf '%s\n' "$todo" | wc -l)" >&2
fi

# What is not a module at all, written only if it is not there as it should be.
put() {
	cat >"$TMPOUT/$1"
	cmp -s "$TMPOUT/$1" "built/$1.wasm" || mv "$TMPOUT/$1" "built/$1.wasm"
}
whole=built/plain_v1.wasm
half=$(($(wc -c <"$whole") / 2))
printf '' | put bad_empty
printf 'This is not WebAssembly.\n' | put bad_text
printf '\000asm' | put bad_magic_only
printf '\000asm\001\000\000\000' | put bad_header_only # valid, in fact: no exports
printf '\000asm\002\000\000\000' | put bad_version
printf '\000asm\015\000\001\000' | put bad_component # a component, not a core module
printf '\000asm\001\000\000\000\001\377\377\377\377\017\000' | put bad_section_length
head -c "$half" "$whole" | put bad_truncated
{ cat "$whole" && printf 'trailing rubbish'; } | put bad_trailing
# A body of another opcode: validation has to find it, not the machine.
{ head -c $((half + half / 2)) "$whole" && head -c 16 /dev/zero | tr '\000' '\377' &&
	tail -c +$((half + half / 2 + 17)) "$whole"; } | put bad_body

# What is no longer in the list.
for f in built/*.wasm; do
	name=${f#built/} name=${name%.wasm}
	case "$name" in bad_*) continue ;; esac
	list | grep -q "^$name[ 	]" || rm -f "$f" "$f.cmd"
done

# Modules on the SDK: the Go command knows by itself what is out of date.
mkdir -p built/go
for dir in go/*/; do
	name=$(basename "$dir")
	GOOS=wasip1 GOARCH=wasm "${GO:-go}" build -buildmode=c-shared -trimpath -buildvcs=false \
		-ldflags='-s -w -buildid=' -o "$TMPOUT/$name" "./$dir" || fail "go/$name failed"
	cmp -s "$TMPOUT/$name" "built/go/$name.wasm" || mv "$TMPOUT/$name" "built/go/$name.wasm"
done
for f in built/go/*.wasm; do
	name=${f#built/go/}
	[ -d "go/${name%.wasm}" ] || rm -f "$f"
done
