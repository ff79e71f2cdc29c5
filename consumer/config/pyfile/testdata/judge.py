"""Evaluates the files on standard input ({name: source}) as fedmsg does and
prints {name: value of config} with every type marked."""
import datetime, io, json, os, socket, sys, warnings

warnings.simplefilter('ignore')
files = json.load(sys.stdin)
socket.gethostname = lambda: 'box.example.org'
socket.getfqdn = lambda: 'box.example.org'
os.environ.clear()
os.environ.update({'HOME': '/home/tester', 'LANG': 'C.UTF-8'})
os.getcwd = lambda: '/srv/work'


def mark(v):
    if v is None or isinstance(v, (bool, str)):
        return v
    if isinstance(v, int):
        return v if abs(v) < 2 ** 53 else {'int': str(v)}
    if isinstance(v, float):
        return {'float': repr(v)}
    if isinstance(v, bytes):
        return {'bytes': v.decode('latin-1')}
    if isinstance(v, datetime.timedelta):
        return {'timedelta': v // datetime.timedelta(microseconds=1)}
    if isinstance(v, datetime.datetime):
        return {'datetime': v.isoformat()}
    if isinstance(v, dict):
        names = [k if isinstance(k, str) else list(json.loads(json.dumps({k: 0})))[0] for k in v]
        return {'dict': dict(zip(names, map(mark, v.values())))}
    if isinstance(v, (list, tuple)):
        return [mark(x) for x in v]
    if isinstance(v, (set, frozenset)):
        return [mark(x) for x in sorted(v, key=str)]
    return {'opaque': True}


out, real = {}, sys.stdout
for name, source in files.items():
    sys.stdout = io.StringIO()
    try:
        variables = {}
        exec(compile(source, name, 'exec'), variables)
        out[name] = mark(variables['config'])
    except BaseException as e:
        out[name] = {'error': '%s: %s' % (type(e).__name__, e)}
    sys.stdout = real
json.dump(out, sys.stdout, sort_keys=True, ensure_ascii=True, indent=0)
