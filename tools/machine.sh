#!/bin/sh
# Describes the machine that figures were measured on, in one line.
model=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)
memory=$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo 2>/dev/null)
echo "machine: ${model:-$(uname -m)}, $(getconf _NPROCESSORS_ONLN) cores, ${memory:-memory unknown}, $(uname -s) $(uname -r), $(${GO:-go} env GOVERSION)"
