// Package volume is the bundled plugin that counts messages: all of them, and by category, topic, user and package.
package volume

import (
	"time"

	"github.com/statscache/statscache/plugins"
)

// ID is the plugin's id.
const ID = "volume"

// Plugin defines it. Names and intervals are those of the original statscache, so that its API finds them.
func Plugin() plugins.Plugin {
	every := []time.Duration{time.Second, 5 * time.Second, time.Minute, time.Hour, 24 * time.Hour}
	return plugins.Plugin{
		ID: ID, Version: "1", DataVersion: 1,
		Counters: []plugins.Counter{
			{
				Name: "Volume", Summary: "the count of messages",
				Description: "How many messages were published on the bus.",
				Every:       every, Unit: "messages", View: "line",
				On: func(_ *plugins.Event, add func(int64, ...string)) { add(1) },
			},
			{
				Name: "Volume, by category", Summary: "the count of messages, organized by category",
				Description: "How many messages were published by each service: the category is the part of the topic that names it.",
				Dims:        []string{"category"}, Unit: "messages", View: "stacked",
				Every: []time.Duration{time.Second, 15 * time.Second, time.Minute, time.Hour, 24 * time.Hour},
				On:    func(e *plugins.Event, add func(int64, ...string)) { add(1, e.Category()) },
			},
			{
				Name: "Volume, by topic", Summary: "the count of messages, organized by topic",
				Description: "How many messages were published with each topic.",
				Dims:        []string{"topic"}, Every: every, Unit: "messages", View: "top",
				On: func(e *plugins.Event, add func(int64, ...string)) { add(1, e.Topic) },
			},
			{
				Name: "Volume, by user", Summary: "the count of messages, organized by user",
				Description: "How many messages were about each user. A message about three users counts for each of them.",
				Dims:        []string{"user"}, Multi: []string{"user"}, Every: every, Unit: "messages", View: "top",
				On: func(e *plugins.Event, add func(int64, ...string)) { each(e.Users, add) },
			},
			{
				Name: "Volume, by package", Summary: "the count of messages, organized by package",
				Description: "How many messages were about each package. A message about three packages counts for each of them.",
				Dims:        []string{"package"}, Multi: []string{"package"}, Every: every, Unit: "messages", View: "top",
				On: func(e *plugins.Event, add func(int64, ...string)) { each(e.Packages, add) },
			},
		},
	}
}

func each(names []string, add func(int64, ...string)) {
	for _, n := range names {
		add(1, n)
	}
}
