#!/bin/sh
# Makes disk-x64.so and disk-arm64.so beside their source, which the tests preload: build.sh [DIRECTORY]. A compiler for the other
# architecture is Debian's gcc-aarch64-linux-gnu, or gcc-x86-64-linux-gnu, with its libc6-dev-ARCH-cross; what there is no compiler for, or
# a compiler without libc's headers, is left out.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
to=${1:-$here}
sum=$(sha256sum < "$here/disk.c" | cut -c1-64)
make() {
  command -v "$1" > /dev/null || return 0
  echo '#include <errno.h>' | "$1" -E - > /dev/null 2>&1 || return 0
  "$1" -shared -fPIC -O2 -s -fno-stack-protector -U_FORTIFY_SOURCE -Wall -Werror -Wl,--build-id=none -DMADE_OF="\"$sum\"" -o "$to/disk-$2.so" "$here/disk.c"
}
make x86_64-linux-gnu-gcc x64
make aarch64-linux-gnu-gcc arm64
