// Package releng is the bundled plugin that keeps the latest state of Fedora's release engineering: composes, updates,
// images for clouds, and built artifacts.
package releng

import (
	"bytes"
	_ "embed"
	"encoding/json"

	"github.com/statscache/statscache/plugins"
)

// ID is the plugin's id.
const ID = "releng"

//go:embed layout.json
var layout []byte // immutable

// Topics that it reads.
const (
	composePrefix = "org.fedoraproject.prod.compose."
	updatesPrefix = "org.fedoraproject.prod.bodhi.updates."
	imagePrefix   = "org.fedoraproject.prod.fedimg.image."
	taskTopic     = "org.fedoraproject.prod.buildsys.task.state.change"
)

// Plugin defines it. There is a row per category (what the board has a box for) and constraint (what is listed in it):
// the newest message wins. Name, keys and values are those of the original statscache.
func Plugin() plugins.Plugin {
	return plugins.Plugin{
		ID: ID, Version: "1", DataVersion: 1, Topics: []string{composePrefix, updatesPrefix, imagePrefix, taskTopic}, Body: true,
		Latest: []plugins.Latest{{
			Name: "Release Engineering Event Logs", Summary: "the latest state of composes, updates, images and artifacts",
			Description: "What became last of each compose, repository, cloud image and artifact of Fedora.",
			Key:         []string{"category", "category_constraint"}, View: "board", Layout: layout,
			On: func(e *plugins.Event, put func(any, ...string)) {
				m, ok := parse(e.Body)
				if !ok {
					return // a message of another shape has nothing to tell
				}
				for _, read := range []func(string, message) (row, bool){ami, artifact, compose, update} {
					if r, ok := read(e.Topic, m); ok {
						put(r.value, r.category, r.constraint)
					}
				}
			},
		}},
	}
}

// message is the part of an envelope that is looked at.
type message struct {
	Msg  map[string]any `json:"msg"`
	Meta map[string]any `json:"meta"`
}

// parse keeps numbers as they are written: they become part of names.
func parse(body []byte) (m message, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	err := d.Decode(&m)
	return m, err == nil && m.Msg != nil
}

// row is what one message says of one thing.
type row struct {
	category, constraint string
	value                map[string]any
}
