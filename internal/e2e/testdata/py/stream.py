"""A libzmq publisher of made-up events with the time of now: at a rate, or as fast as the subscriber takes them.

  stream.py PORT SUBSCRIBERS RATE SECONDS [--name NAME]

RATE 0 is as fast as possible. A full queue is waited for (XPUB_NODROP), so that what was sent is what must be counted.
Prints "bound", "start TIME", then "sent N in S"; ends when its standard input ends.
"""
import argparse, sys, time, zmq

ap = argparse.ArgumentParser()
ap.add_argument("port", type=int); ap.add_argument("subscribers", type=int)
ap.add_argument("rate", type=float); ap.add_argument("seconds", type=float)
ap.add_argument("--name", default="stream")
a = ap.parse_args()

CATEGORIES = ["buildsys", "git", "bodhi", "fas", "wiki", "irc", "pagure", "copr"]
topics = [("org.fedoraproject.dev.%s.%s.change%d" % (c, a.name, k)).encode() for c in CATEGORIES for k in range(4)]
pad = b"x" * 200
# Everything but the time, the number and the id is ready before; %-formatting of bytes is the cheapest way to fill in.
templates = [b'{"i":%%d,"msg":{"text":"%s","user":"user%d"},"msg_id":"%%s-%%d","headers":{"fedora_messaging_user_user%d":true,'
             b'"fedora_messaging_rpm_pkg%d":true},"timestamp":%%d,"topic":"%s","username":"apache"}'
             % (pad, k % 97, k % 97, k % 61, topics[k % len(topics)]) for k in range(192)]

publisher = zmq.Context().socket(zmq.XPUB)
publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
publisher.setsockopt(zmq.SNDHWM, 20000)
publisher.setsockopt(zmq.XPUB_NODROP, 1)
publisher.bind("tcp://127.0.0.1:%d" % a.port)
print("bound", flush=True)
waiting = a.subscribers
while waiting:
    if publisher.recv()[:1] == b"\x01":
        waiting -= 1
run = ("%s-%x" % (a.name, time.time_ns())).encode()
begin = time.time(); end = begin + a.seconds
print("start %.6f" % begin, flush=True)

send, clock = publisher.send, time.time
n = 0; kinds = len(templates); topic_count = len(topics)
while True:
    now = clock()
    if now >= end:
        break
    burst = int((now - begin) * a.rate) - n if a.rate else 200
    if burst <= 0:
        time.sleep(0.0005)
        continue
    stamp = int(now)
    for _ in range(burst):
        n += 1
        kind = n % kinds
        send(topics[kind % topic_count], zmq.SNDMORE)
        send(templates[kind] % (n, run, n, stamp))
print("sent %d in %.3f" % (n, clock() - begin), flush=True)
sys.stdin.read()
