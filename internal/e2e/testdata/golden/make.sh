#!/bin/sh
# Makes the golden streams anew: make.sh DIR, with DIR holding gen_events.py, gen_model.json and oracle.py.
# The expected rows are the oracle's files, unchanged, never our own output.
set -eu
tools=$1
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

golden() { # name, arguments of gen_events.py
	name=$1
	shift
	mkdir -p "$name" "$work/$name"
	python3 "$tools/gen_events.py" "$@" --out "$work/events.jsonl"
	python3 "$tools/oracle.py" "$work/events.jsonl" --out "$work/$name" --dedupe --lateness 86400 --only volume- >/dev/null
	rm "$work/$name/summary.json" "$work/$name/volume-raw.csv" "$work/$name/release-engineering-event-logs.json"
	gzip -9 -n <"$work/events.jsonl" >"$name/events.jsonl.gz"
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/$name" -cf - . | gzip -9 -n >"$name/expected.tar.gz"
}

golden plain --seed 11 --n 400 --start 2018-04-26T12:00 --days 0.05
golden dup-late --seed 12 --n 400 --start 2018-04-26T23:30 --days 0.04 --dup 0.05 --late 0.05
golden new-year --seed 13 --n 400 --start 2018-12-30T12:00 --days 2.5
