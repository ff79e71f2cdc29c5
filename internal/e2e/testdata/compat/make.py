#!/usr/bin/env python3
"""Cuts this folder's files out of a record of the original's answers: make.py DIR (events.jsonl.gz, requests.tsv, bodies/).

Kept: of the events what a count by category needs; the requests to volume-by-category-* that ours must answer alike.
"""
import csv, gzip, json, os, shutil, sys

source, here = sys.argv[1], os.path.dirname(os.path.abspath(__file__))

# Answers in which ours differs on purpose: unusable parameters are 400, page 2 holds rows, no Accept is JSON, an
# evil callback is refused, and callbacks begin with a comment.
DIFFERS = ("rpp_0", "rpp_neg", "rpp_bad", "page_0", "page_neg", "page_bad", "page_2", "page_3", "page_last", "start_bad",
           "start_iso", "start_empty", "stop_empty", "start_huge", "start_nan", "limit_bad", "order_bad", "model_noaccept",
           "model_jsonp_evil", "page_2_big", "page_2_query_kept", "page_beyond1")

with gzip.open(os.path.join(source, "events.jsonl.gz"), "rt", encoding="utf-8") as f:
    events = [json.loads(line) for line in f]
ids = {}
out = []
for e in events:  # short ids: a copy of an event keeps the id of the first
    short = ids.setdefault(e["msg_id"], "2018-%d" % len(ids))
    out.append(json.dumps({"msg": {}, "msg_id": short, "timestamp": e["timestamp"], "topic": e["topic"]}, separators=(",", ":")))
with open(os.path.join(here, "events.jsonl.gz"), "wb") as raw:
    with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as f:
        f.write(("\n".join(out) + "\n").encode())

os.makedirs(os.path.join(here, "bodies"), exist_ok=True)
with open(os.path.join(source, "requests.tsv"), newline="", encoding="utf-8") as f:
    rows = [r for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)
            if r["method"] == "GET" and "/api/volume-by-category-" in r["path"] and "/layout" not in r["path"] and r["name"] not in DIFFERS]
with open(os.path.join(here, "requests.tsv"), "w", encoding="utf-8", newline="\n") as f:
    f.write("name\tpath\taccept\tstatus\tx_link_number\tx_link_count\n")
    for r in rows:
        f.write("\t".join(r[k] for k in ("name", "path", "accept", "status", "x_link_number", "x_link_count")) + "\n")
        body = os.path.join(source, "bodies", r["name"] + ".txt")
        if os.path.exists(body):
            target = os.path.join(here, "bodies", r["name"] + ".txt")
            shutil.copyfile(body, target)
