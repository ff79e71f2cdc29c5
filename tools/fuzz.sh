#!/bin/sh
# Fuzzes in turn the decoders that meet what strangers send, each for the given time (default 1m), and every other Fuzz
# function of the repository for a second one (default: the same). Fails when any finds something; what it found is then
# under testdata/fuzz of that package.
#
#	fuzz.sh [TIME [TIME OF THE OTHERS]]
set -u
each=${1:-1m}
others=${2:-$each}
# Envelope, configuration evaluator, ZMTP guard, inbox reader, plugin results, query parameters, datagrepper's arguments.
first="FuzzScan FuzzEval FuzzConn FuzzOpen FuzzResult FuzzQuery FuzzExplainQuery FuzzCounts FuzzDatagrepper_Arguments"
go=${GO:-go}
status=0
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# fuzz PACKAGE NAME TIME
fuzz() {
	# By default each input that reaches something new is made smaller for up to a minute, in which nothing is tried.
	"$go" test -run '^$' -fuzz "^$2\$" -fuzztime "$3" -fuzzminimizetime 20x "$1" >"$said" 2>&1 && ended=0 || ended=1
	# The fuzzer itself sometimes fails with its own deadline when the time is over: then nothing was found.
	if [ $ended = 1 ] && ! grep -q 'Failing input' "$said" && grep -qx '    context deadline exceeded' "$said"; then
		ended=0
	fi
	if [ $ended = 1 ]; then
		cat "$said" >&2
		status=1
	fi
	inputs=$(sed -n 's/^fuzz: .*execs: \([0-9]*\) .*/\1/p' "$said" | tail -n 1)
	echo "fuzzed $1 $2 for $3: ${inputs:-no} inputs, $([ $ended = 1 ] && echo FAILED || echo nothing found)"
}

all=$("$go" list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r package dir; do
	grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | cut -c6- | sort | sed "s|^|$package |"
done)
for name in $first; do
	package=$(echo "$all" | awk -v name="$name" '$2 == name { print $1 }')
	if [ -z "$package" ]; then
		echo "there is no $name: FAILED"
		status=1
		continue
	fi
	fuzz "$package" "$name" "$each"
done
while read -r package name; do
	case " $first " in
	*" $name "*) ;;
	*) fuzz "$package" "$name" "$others" ;;
	esac
done <<END
$all
END
exit $status
