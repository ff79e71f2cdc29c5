"""A libzmq publisher of what must be refused, among what must not.

  hostile.py PORT

Waits for one subscriber; sends each hostile message between good ones. Prints "sent GOOD", ends with standard input.
"""
import json, sys, time, zmq

TOPIC = b"org.fedoraproject.dev.e2e.hostile"
good = 0


def envelope(**changed):
    global good
    e = {"topic": TOPIC.decode(), "msg": {"n": good}, "msg_id": "2026-hostile-%d" % good, "timestamp": int(time.time()), "i": good + 1}
    e.update(changed)
    return json.dumps(e).encode()


publisher = zmq.Context().socket(zmq.XPUB)
publisher.bind("tcp://127.0.0.1:%s" % sys.argv[1])
print("bound", flush=True)
while publisher.recv()[:1] != b"\x01":
    pass
hostile = [
    [TOPIC, b"null"],                                                  # envelope: a fedmsg with a too new pyOpenSSL
    [TOPIC, b'{"topic": "' + TOPIC + b'", "msg": "\xff\xfe"}'],        # encoding
    [TOPIC, b"this is not JSON"],                                      # json
    [TOPIC, b'{"topic": "' + TOPIC + b'", "msg": {}'],                 # json: cut off
    [TOPIC, b'[1, 2, 3]'],                                             # envelope
    [TOPIC, envelope(topic="org.fedoraproject.dev.e2e.other")],        # topic: the frame says another one
    [TOPIC, envelope(), b"a third frame"],                             # frames
    [TOPIC],                                                           # frames: no body, no \0 either
    [TOPIC, envelope(timestamp=int(time.time()) + 3 * 86400)],         # time
    [TOPIC, envelope(timestamp="soon")],                               # envelope
]
for message in hostile:
    publisher.send_multipart([TOPIC, envelope()]); good += 1
    publisher.send_multipart(message)
publisher.send_multipart([TOPIC, envelope()]); good += 1
print("sent %d" % good, flush=True)
sys.stdin.read()
