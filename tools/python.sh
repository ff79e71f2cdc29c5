#!/bin/sh
# Makes the virtual environment with real fedmsg, pyzmq and schemathesis in the user's cache folder, or does nothing when it is as
# tools/requirements.txt says. A machine where that is impossible isn't an error here: the tests that need it are
# skipped with a reason, and the run of the tests decides what that means.
set -u
requirements=$(dirname "$0")/requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/statscache
venv=$cache/venv
stamp=$venv/requirements.txt

fail() {
	echo "python.sh: $1; tests against the real fedmsg and with schemathesis will be skipped" >&2
	exit 0
}

mkdir -p "$cache" || fail "can't make $cache"
# Two runs side by side would install into each other's environment.
if command -v flock >/dev/null 2>&1; then
	exec 9>"$cache/venv.lock"
	flock 9
fi
# The copy of the requirements is written last, so it stands for an environment that is complete.
if cmp -s "$requirements" "$stamp" && "$venv/bin/python" -c '' 2>/dev/null; then
	exit 0
fi
echo "installing the real fedmsg, pyzmq and schemathesis into $venv (only this once, about a minute)"
rm -f "$stamp"
# An environment that still runs is mended in place: another run may be using it.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
	rm -rf "$venv"
	python3 -m venv "$venv" || fail "python3 -m venv failed (on Debian: apt install python3-venv)"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" || fail "pip install failed"
"$venv/bin/python" -W ignore -c 'import zmq, fedmsg' || fail "fedmsg doesn't import"
cp "$requirements" "$stamp"
