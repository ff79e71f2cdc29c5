"""A real fedmsg publisher: publishes with fedmsg's own API and configuration (fedmsg.d in the working folder).

  publish.py NAME RATE SECONDS SETTLE [--active]

NAME is the name of its endpoints, and the topic. It waits SETTLE seconds after its endpoint is up, then publishes.
Prints "up", then "published N"; ends when its standard input ends. --active: to a relay's inbound address.
"""
import sys, time, warnings

warnings.simplefilter("ignore")
import fedmsg, fedmsg.config

name, rate, seconds, settle = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
config = fedmsg.config.load_config([], None)
config["post_init_sleep"] = 0  # the wait is ours, so that it is known exactly
if "--active" in sys.argv:
    config["active"] = True
    config["name"] = "relay_inbound"
else:
    config["name"] = name
fedmsg.init(**config)
print("up", flush=True)
time.sleep(settle)
n, begin = 0, time.monotonic()
while n < rate * seconds:
    n += 1
    fedmsg.publish(topic=name, modname="e2e", msg={"n": n})
    ahead = begin + n / rate - time.monotonic()
    if ahead > 0:
        time.sleep(ahead)
print("published %d" % n, flush=True)
sys.stdin.read()
