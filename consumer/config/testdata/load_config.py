"""Prints what fedmsg itself loads: from the files named as arguments, or from
its search path."""
import json
import sys
import warnings

warnings.simplefilter('ignore')
import fedmsg.config

config = fedmsg.config.load_config([], None, filenames=sys.argv[1:], disable_defaults=True)
config.pop('topic_prefix_re', None)
json.dump(config, sys.stdout)
