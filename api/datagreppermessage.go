package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/statscache/statscache/store"
)

// grepMessage is a message in one of datagrepper's two forms. Its values are those of the envelope as it was received:
// what is signed stays verifiable.
type grepMessage []grepField

type grepField struct {
	name  string
	value any
}

// append writes the fields in their order. What stands in the envelope is copied: it was read as JSON a moment ago, and
// encoding it again would cost more than all the rest of a page.
func (m grepMessage) append(out []byte) ([]byte, error) {
	out = append(out, '{')
	for i, f := range m {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, f.name), ':')
		switch v := f.value.(type) {
		case json.RawMessage:
			out = append(out, v...)
		case string:
			out = appendString(out, v)
		default:
			raw, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("encode %s: %w", f.name, err)
			}
			out = append(out, raw...)
		}
	}
	return append(out, '}'), nil
}

// messageOf writes an event: v2 as fedora-messaging does, else as datanommer's table has it.
func messageOf(e *store.Event, v2 bool, meta []string, now time.Time) grepMessage {
	fields := envelopeOf(e.Body)
	var m grepMessage
	if v2 {
		headers := headersOf(fields, e)
		priority := rawOr(headers["priority"], "0")
		m = grepMessage{{"body", rawOr(fields.get("msg"), "{}")}, {"headers", headers}, {"id", e.ID}, {"priority", priority}, {"queue", nil}, {"topic", e.Topic}}
	} else {
		m = tableForm(e, fields)
	}
	if len(meta) > 0 {
		m = append(m, grepField{"meta", metaOf(e, meta, now)})
	}
	return m
}

func tableForm(e *store.Event, fields envelope) grepMessage {
	var agent any
	if e.Agent != "" {
		agent = e.Agent
	}
	m := grepMessage{{"i", rawOr(fields.get("i"), "0")}, {"msg_id", e.ID}, {"topic", e.Topic}, {"timestamp", timestampOf(e, fields)}}
	for _, name := range [...]string{"certificate", "signature"} {
		m = append(m, grepField{name, rawOr(fields.get(name), "null")})
	}
	m = append(m, grepField{"agent_name", agent})
	username := rawOr(fields.get("username"), "null")
	if string(username) == "null" {
		username, _ = json.Marshal(agent) // text or nothing: it can't fail
	}
	m = append(m, grepField{"username", username})
	for _, name := range [...]string{"crypto", "msg", "headers", "source_name", "source_version"} {
		m = append(m, grepField{name, rawOr(fields.get(name), "null")})
	}
	return append(m, grepField{"users", sorted(e.Users)}, grepField{"packages", sorted(e.Packages)})
}

// timestampOf gives the time as the envelope has it: a signature covers these very digits.
func timestampOf(e *store.Event, fields envelope) json.RawMessage {
	if raw := fields.get("timestamp"); len(raw) > 0 {
		if f, err := strconv.ParseFloat(string(raw), 64); err == nil && f < 1e11 {
			return raw
		}
	}
	out, _ := pyFloat(float64(e.Time) / 1e6).MarshalJSON() // a number: it can't fail
	return out
}

func rawOr(raw json.RawMessage, instead string) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage(instead)
	}
	return raw
}

func sorted(list []string) []string {
	out := append([]string{}, list...)
	slices.Sort(out)
	return out
}

// headersOf gives the envelope's headers, with the time it was sent.
func headersOf(fields envelope, e *store.Event) map[string]json.RawMessage {
	headers := map[string]json.RawMessage{}
	_ = json.Unmarshal(fields.get("headers"), &headers) // what is no object has no headers
	if headers == nil {
		headers = map[string]json.RawMessage{}
	}
	if _, ok := headers["sent-at"]; !ok {
		layout := "2006-01-02T15:04:05-07:00"
		if e.Time%1e6 != 0 {
			layout = "2006-01-02T15:04:05.000000-07:00"
		}
		headers["sent-at"] = appendString(nil, time.UnixMicro(e.Time).UTC().Format(layout))
	}
	return headers
}

// metaOf says about a message what needs no schema of its own: of a message without one fedora-messaging says the same.
func metaOf(e *store.Event, names []string, now time.Time) map[string]any {
	out := map[string]any{}
	var warnings []string
	for _, name := range names {
		switch name {
		case "date":
			out[name] = humanized(now.Sub(time.UnixMicro(e.Time)))
		case "text":
			out[name] = fmt.Sprintf("Id: %s\nTopic: %s\nBody: %s", e.ID, e.Topic, e.Body)
		case "summary", "title":
			out[name] = e.Topic
		case "subtitle":
			out[name] = e.Topic
			warnings = append(warnings, "Meta subtitle is deprecated and has been replaced by summary")
		case "usernames":
			out[name] = sorted(e.Users)
		case "packages":
			out[name] = sorted(e.Packages)
		case "containers", "modules", "flatpaks", "objects":
			out[name] = []string{}
		default:
			out[name] = nil
			if now, ok := map[string]string{"link": "url", "icon": "app_icon"}[name]; ok {
				warnings = append(warnings, fmt.Sprintf("Meta %s is deprecated and has been replaced by %s", name, now))
			}
		}
	}
	if warnings != nil {
		out["WARNING"] = warnings
	}
	return out
}

// humanized says how long ago something was, as datagrepper's pages do.
func humanized(ago time.Duration) string {
	seconds := int64(ago / time.Second)
	text, suffix := "", " ago"
	if seconds < 0 {
		seconds, suffix = -seconds, ""
	}
	several := func(n int64, unit string) string {
		if n < 2 {
			article := "a "
			if strings.HasPrefix(unit, "hour") {
				article = "an "
			}
			return article + unit
		}
		return fmt.Sprintf("%d %ss", n, unit)
	}
	switch {
	case seconds < 10:
		return "just now"
	case seconds < 45:
		text = fmt.Sprintf("%d seconds", seconds)
	case seconds < 2700:
		text = several((seconds+30)/60, "minute")
	case seconds < 79200:
		text = several((seconds+1800)/3600, "hour")
	case seconds < 7*daySeconds:
		text = several((seconds+daySeconds/2)/daySeconds, "day")
	case seconds < 30*daySeconds:
		text = several(seconds/(7*daySeconds), "week")
	case seconds < 365*daySeconds:
		text = several(seconds/(30*daySeconds), "month")
	default:
		text = several(seconds/(365*daySeconds), "year")
	}
	if suffix == "" {
		return "in " + text
	}
	return text + suffix
}

// FedoraMessage writes an archived event as fedora-messaging does: body, headers, id, priority, queue and topic.
func FedoraMessage(e *store.Event) (json.RawMessage, error) {
	return messageOf(e, true, nil, time.Time{}).append(nil)
}
