package plugins

import (
	"encoding/json"
	"errors"
	"time"
)

// Event is one message of the bus. It is valid during the call it is given to: copy what is kept longer.
type Event struct {
	Time     time.Time // UTC
	Topic    string
	Users    []string // distinct names of the users it is about
	Packages []string // distinct names of the packages it is about
	Agent    string   // who caused it; empty where unknown
	ID       string   // msg_id; with Plugin.Body, and in plugins that have Latest metrics
	Body     []byte   // the message as it was received; with Plugin.Body only

	category string
}

// errNoBody is what JSON answers in a plugin that did not ask for bodies.
var errNoBody = errors.New("the event has no body: set Body in plugins.Plugin")

// Category is the category of the topic: its fourth part on Fedora's bus.
func (e *Event) Category() string { return e.category }

// JSON decodes the message into v, as json.Unmarshal does. The message is the envelope: topic, timestamp, msg_id, msg
// and more.
func (e *Event) JSON(v any) error {
	if e.Body == nil {
		return errNoBody
	}
	return json.Unmarshal(e.Body, v)
}
