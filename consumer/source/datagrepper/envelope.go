package datagrepper

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"
)

// message is what tells the forms of an archived message apart: datagrepper's own is fedmsg's envelope with further
// columns, that of newer releases and of datanommer-dump is fedora-messaging's.
type message struct {
	MsgID     string          `json:"msg_id"`
	Msg       json.RawMessage `json:"msg"`
	Timestamp json.RawMessage `json:"timestamp"`

	ID      string          `json:"id"`
	Topic   json.RawMessage `json:"topic"`
	Body    json.RawMessage `json:"body"`
	Headers json.RawMessage `json:"headers"`
}

// Envelope gives the envelope of an archived message. One that is an envelope already is given as it is, byte by byte:
// headers, signature and certificate stay what somebody signed. One in fedora-messaging's form gets the names that an
// envelope has, its parts byte by byte.
func Envelope(raw []byte) ([]byte, error) {
	m, err := parse(raw)
	return m.envelope, err
}

// archived is a message as it is handed on.
type archived struct {
	envelope []byte
	id       uint64  // a hash of its id, or of all of it where it has none
	at       float64 // seconds since 1970, 0 where it has no such time
}

func parse(raw []byte) (archived, error) {
	var m message
	if err := json.Unmarshal(raw, &m); err != nil {
		return archived{envelope: raw, id: identity(raw)}, fmt.Errorf("message: %w", err)
	}
	out := archived{envelope: raw}
	switch {
	case m.MsgID != "":
		out.id = identity([]byte(m.MsgID))
	case m.ID != "":
		out.id = identity([]byte(m.ID))
	default:
		out.id = identity(raw)
	}
	if m.Body == nil || m.Msg != nil {
		out.at, _ = strconv.ParseFloat(string(m.Timestamp), 64) // 0 for what is no number
		return out, nil
	}
	if len(m.Topic) == 0 {
		return out, errors.New("message without a topic")
	}
	at := sentAt(m.Headers)
	out.at, _ = strconv.ParseFloat(at, 64)
	var err error
	out.envelope, err = fromFedoraMessaging(&m, at)
	return out, err
}

func identity(b []byte) uint64 {
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8])
}

// fromFedoraMessaging writes the envelope of {body, headers, id, topic}; the time is the header sent-at.
func fromFedoraMessaging(m *message, at string) ([]byte, error) {
	var b bytes.Buffer
	id, err := json.Marshal(m.ID)
	if err != nil {
		return nil, err
	}
	b.WriteString(`{"msg_id":`)
	b.Write(id)
	b.WriteString(`,"topic":`)
	b.Write(m.Topic)
	if at != "" {
		b.WriteString(`,"timestamp":`)
		b.WriteString(at)
	}
	if len(m.Headers) > 0 {
		b.WriteString(`,"headers":`)
		b.Write(m.Headers)
	}
	b.WriteString(`,"msg":`)
	b.Write(m.Body)
	b.WriteByte('}')
	return b.Bytes(), nil
}

// sentAt gives the header as seconds since 1970, "" where there is none that can be read.
func sentAt(headers json.RawMessage) string {
	var h struct {
		SentAt string `json:"sent-at"`
	}
	if len(headers) == 0 || json.Unmarshal(headers, &h) != nil {
		return ""
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, h.SentAt); err == nil {
			return Seconds(t)
		}
	}
	return ""
}

// Seconds writes a time as seconds since 1970, exact to the microsecond.
func Seconds(t time.Time) string {
	us := t.UnixMicro()
	if us%1e6 == 0 {
		return fmt.Sprint(us / 1e6)
	}
	return new(big.Rat).SetFrac64(us, 1e6).FloatString(6)
}
