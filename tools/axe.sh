#!/bin/sh
# Puts axe-core, with which the browser tests look for what keeps people from using a page, into the user's cache folder,
# or does nothing when it is there. It is half a megabyte of somebody else's script (MPL-2.0), so it isn't kept here.
# Where it can't be had the tests are skipped and say so.
set -u
version=4.14.1
integrity=FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==
file=${XDG_CACHE_HOME:-$HOME/.cache}/statscache/axe-core-$version/axe.min.js

fail() {
	echo "axe.sh: $1; the tests with axe-core will be skipped" >&2
	exit 0
}

[ -s "$file" ] && exit 0
command -v npm >/dev/null 2>&1 || fail "npm is needed to fetch axe-core (on Debian: apt install npm)"
work=$(mktemp -d) || fail "can't make a folder"
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "axe-core@$version" >/dev/null 2>&1) || fail "npm pack axe-core@$version failed"
[ "$(openssl dgst -sha512 -binary "$work/axe-core-$version.tgz" | base64 | tr -d '\n')" = "$integrity" ] || fail "axe-core-$version.tgz isn't the one that is known"
tar -xzf "$work/axe-core-$version.tgz" -C "$work" package/axe.min.js || fail "can't unpack axe-core"
mkdir -p "${file%/*}" && mv "$work/package/axe.min.js" "$file.new" && mv "$file.new" "$file" || fail "can't write $file"
