#!/usr/bin/env python3
"""Cuts this folder's files out of a record of the original's answers: make.py DIR (events.jsonl.gz, requests.tsv, bodies/).

Kept: of the events what the recorded idents are made of, of the requests and answers all.
"""
import gzip, json, os, shutil, sys

source, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))

# Events whose bodies count: contributions to pagure, and the states of release engineering.
BODIES = ("io.pagure.", "org.fedoraproject.prod.compose.", "org.fedoraproject.prod.bodhi.updates.", "org.fedoraproject.prod.fedimg.image.")


def needs_body(e):
    m = e.get("msg")
    return e["topic"].startswith(BODIES) or isinstance(m, dict) and m.get("owner") == "masher"


with gzip.open(os.path.join(source, "events.jsonl.gz"), "rt", encoding="utf-8") as f:
    events = [json.loads(line) for line in f]
ids = {}
out = []
for e in events:  # short ids: a copy of an event keeps the id of the first
    short = {"msg": {}, "msg_id": ids.setdefault(e["msg_id"], "2018-%d" % len(ids)), "timestamp": e["timestamp"], "topic": e["topic"]}
    if needs_body(e):
        short["msg"] = e["msg"]
        for k in ("headers", "meta"):
            if k in e:
                short[k] = e[k]
    out.append(json.dumps(short, separators=(",", ":")))
with open(os.path.join(here, "events.jsonl.gz"), "wb") as raw:
    with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as f:
        f.write(("\n".join(out) + "\n").encode())

shutil.rmtree(os.path.join(here, "bodies"), ignore_errors=True)
os.makedirs(os.path.join(here, "bodies"))
shutil.copyfile(os.path.join(source, "requests.tsv"), os.path.join(here, "requests.tsv"))
for name in sorted(os.listdir(os.path.join(source, "bodies"))):
    shutil.copyfile(os.path.join(source, "bodies", name), os.path.join(here, "bodies", name))
