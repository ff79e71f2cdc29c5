# Settings of fedmsg that every program on the bus shares. statscache reads the
# same files in the same order as fedmsg does: /etc/fedmsg.d, ~/.fedmsg.d,
# ./fedmsg.d and $VIRTUAL_ENV/etc/fedmsg.d, the *.py files of each in byte
# order; later files win, dicts are merged. `statscache check` shows the result.
config = {
    # Topics start with <topic_prefix>.<environment>.
    "topic_prefix": "org.fedoraproject",
    "environment": "dev",

    # statscache does not check signatures yet: with True it says so and stores
    # events as "unchecked". False lets fedmsg's own tools run without
    # certificates.
    "validate_signatures": False,
    "sign_messages": False,

    # TCP keepalive of the connections to endpoints (seconds), and the longest
    # pause between two attempts to connect (milliseconds).
    "zmq_tcp_keepalive": 1,
    "zmq_tcp_keepalive_idle": 30,
    "zmq_tcp_keepalive_intvl": 5,
    "zmq_tcp_keepalive_cnt": 3,
    "zmq_reconnect_ivl": 100,
    "zmq_reconnect_ivl_max": 1000,

    "high_water_mark": 0,
    "io_threads": 1,
    "post_init_sleep": 0.5,
}
