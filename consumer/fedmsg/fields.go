package fedmsg

// span is a piece of a body; {0, 0} is no piece, as no field can begin before the first brace.
type span struct{ from, to int }

func (s span) missing() bool { return s.to == 0 }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// fields says where in a body the envelope's fields stand. Values are as written, strings with their quotes. Of a key
// that comes twice the last one counts, as for Python.
type fields struct {
	topic, msgID, timestamp, i, msg, username span
	userKeys, packageKeys                     []span // header keys behind their prefixes, as written
	escapedKeys                               []span // header keys with a backslash: whole, sorted out later
}

const (
	userHeader    = "fedora_messaging_user_"
	packageHeader = "fedora_messaging_rpm_"
)

func (f *fields) reset() {
	*f = fields{userKeys: f.userKeys[:0], packageKeys: f.packageKeys[:0], escapedKeys: f.escapedKeys[:0]}
}

func (f *fields) resetHeaders() {
	f.userKeys, f.packageKeys, f.escapedKeys = f.userKeys[:0], f.packageKeys[:0], f.escapedKeys[:0]
}

// envelope reads the outermost object and notes its fields; i is behind its brace.
func (p *pass) envelope(i int) int {
	b := p.b
	if i = p.space(i); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		var key span
		p.escaped = false
		if key, i = p.key(i); i < 0 {
			return i
		}
		name := key.of(b)
		if p.escaped {
			name = appendUnescaped(nil, name, false)
		}
		if i = p.field(name, i); i < 0 {
			return i
		}
		if i = p.space(i); i >= len(b) {
			return ^i
		}
		if b[i] == '}' {
			return i + 1
		}
		if b[i] != ',' {
			return ^i
		}
		i++
	}
}

// field reads the value of one of the envelope's keys.
func (p *pass) field(name []byte, from int) int {
	if string(name) == "headers" {
		p.found.resetHeaders()
		if from < len(p.b) && p.b[from] == '{' {
			return p.headers(from+1, 2)
		}
	}
	i := p.value(from, 1)
	if i < 0 {
		return i
	}
	switch string(name) {
	case "timestamp":
		p.found.timestamp = span{from, i}
	case "msg_id":
		p.found.msgID = span{from, i}
	case "topic":
		p.found.topic = span{from, i}
	case "msg":
		p.found.msg = span{from, i}
	case "i":
		p.found.i = span{from, i}
	case "username":
		p.found.username = span{from, i}
	}
	return i
}

// headers reads the headers' object and notes the keys that name users and packages; i is behind its brace.
func (p *pass) headers(i, depth int) int {
	b := p.b
	if i = p.space(i); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		var key span
		p.escaped = false
		if key, i = p.key(i); i < 0 {
			return i
		}
		if k := key.of(b); p.escaped {
			p.found.escapedKeys = append(p.found.escapedKeys, key)
		} else if len(k) >= len(userHeader) && string(k[:len(userHeader)]) == userHeader {
			p.found.userKeys = append(p.found.userKeys, span{key.from + len(userHeader), key.to})
		} else if len(k) >= len(packageHeader) && string(k[:len(packageHeader)]) == packageHeader {
			p.found.packageKeys = append(p.found.packageKeys, span{key.from + len(packageHeader), key.to})
		}
		if i = p.value(i, depth); i < 0 {
			return i
		}
		if i = p.space(i); i >= len(b) {
			return ^i
		}
		if b[i] == '}' {
			return i + 1
		}
		if b[i] != ',' {
			return ^i
		}
		i++
	}
}
