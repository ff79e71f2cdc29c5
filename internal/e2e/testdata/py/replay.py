"""A libzmq publisher: sends the envelopes of a file of JSON lines once enough subscribers are there.

  replay.py PORT SUBSCRIBERS FILE

Prints "bound", then "sent N"; ends when its standard input ends.
"""
import gzip, json, sys, zmq

port, subscribers, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
opener = gzip.open if path.endswith(".gz") else open
with opener(path, "rb") as f:
    lines = [line.rstrip(b"\n") for line in f]
messages = [(json.loads(line)["topic"].encode(), line) for line in lines]

# XPUB is PUB on the wire and tells who subscribes; verbose: each subscriber, though they ask for the same topic.
publisher = zmq.Context().socket(zmq.XPUB)
publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
publisher.setsockopt(zmq.SNDHWM, 0)
publisher.bind("tcp://127.0.0.1:%d" % port)
print("bound", flush=True)
while subscribers:
    if publisher.recv()[:1] == b"\x01":
        subscribers -= 1
for message in messages:
    publisher.send_multipart(message)
print("sent %d" % len(messages), flush=True)
sys.stdin.read()
