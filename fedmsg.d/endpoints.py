# Whom to listen to: a name and the addresses of one publisher. statscache
# connects to every address of every name, unless statscache.consumer.endpoints
# chooses among them. Only tcp://host:port is understood; use 127.0.0.1 instead
# of localhost, which fedmsg's hub refuses.
config = {
    "endpoints": {
        # A fedmsg gateway on this machine. Fedora's was
        # "tcp://hub.fedoraproject.org:9940".
        "gateway": [
            "tcp://127.0.0.1:9940",
        ],
    },
}
