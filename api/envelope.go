package api

import "encoding/json"

// envelope is the top level of a message.
type envelope []envelopeField

type envelopeField struct {
	name  []byte
	value json.RawMessage
}

// envelopeOf takes the top level of a message apart; nil where it is no object. What was archived is valid JSON: it is
// walked, and what is not walks out of it anyway gives nothing.
func envelopeOf(body []byte) envelope {
	i := passBlank(body, 0)
	if i >= len(body) || body[i] != '{' {
		return nil
	}
	out := make(envelope, 0, 16)
	for i = passBlank(body, i+1); i < len(body) && body[i] == '"'; {
		end := passText(body, i)
		name := body[i+1 : max(end-1, i+1)]
		if i = passBlank(body, end); i >= len(body) || body[i] != ':' {
			return nil
		}
		i = passBlank(body, i+1)
		end = passValue(body, i)
		out = append(out, envelopeField{plainName(name), json.RawMessage(body[i:end:end])})
		if i = passBlank(body, end); i < len(body) && body[i] == ',' {
			i = passBlank(body, i+1)
		}
	}
	if i >= len(body) || body[i] != '}' {
		return nil
	}
	return out
}

// get gives the value of a member, nil where there is none. Of several of one name the last one counts.
func (e envelope) get(name string) json.RawMessage {
	for i := len(e) - 1; i >= 0; i-- {
		if string(e[i].name) == name {
			return e[i].value
		}
	}
	return nil
}

// plainName undoes the escapes of a member's name.
func plainName(raw []byte) []byte {
	for _, c := range raw {
		if c == '\\' {
			var s string
			if json.Unmarshal(append(append([]byte{'"'}, raw...), '"'), &s) == nil {
				return []byte(s)
			}
			break
		}
	}
	return raw
}

// The functions below give the index behind what they pass, which is at most the length.

func passBlank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// passText passes a string; i is at its opening quote.
func passText(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(b)
}

func passValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = passText(b, i); depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 { // the end of what the value stands in
				return i
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return len(b)
}
