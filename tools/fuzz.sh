#!/bin/sh
# Fuzzes every Fuzz function of the repository in turn for the given time each (default 5m) and fails when any finds
# something; what it found is then under testdata/fuzz of that package.
set -u
each=${1:-5m}
go=${GO:-go}
status=0
said=$(mktemp)
trap 'rm -f "$said"' EXIT
for package in $("$go" list ./...); do
	dir=$("$go" list -f '{{.Dir}}' "$package")
	for name in $(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | cut -c6- | sort); do
		echo "fuzzing $package $name for $each"
		"$go" test -run '^$' -fuzz "^$name\$" -fuzztime "$each" "$package" >"$said" 2>&1 && ended=0 || ended=1
		cat "$said"
		# The fuzzer itself sometimes fails with its own deadline when the time is over: then nothing was found.
		if [ $ended = 1 ] && { grep -q 'Failing input' "$said" || ! grep -qx '    context deadline exceeded' "$said"; }; then
			status=1
		fi
	done
done
exit $status
