#!/bin/sh
# Fuzzes every Fuzz function of the repository in turn for the given time each (default 5m) and fails when any finds
# something; what it found is then under testdata/fuzz of that package.
set -u
each=${1:-5m}
go=${GO:-go}
status=0
for package in $("$go" list ./...); do
	dir=$("$go" list -f '{{.Dir}}' "$package")
	for name in $(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | cut -c6- | sort); do
		echo "fuzzing $package $name for $each"
		"$go" test -run '^$' -fuzz "^$name\$" -fuzztime "$each" "$package" || status=1
	done
done
exit $status
