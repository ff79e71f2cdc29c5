// Package activity is the bundled plugin that counts what people do: who caused how many messages of which kind, and who
// was involved in how many.
package activity

import (
	"time"

	"github.com/statscache/statscache/plugins"
)

// ID is the plugin's id.
const ID = "activity"

const (
	quarter = 15 * time.Minute // days of every time zone are made of these
	hour    = time.Hour
	day     = 24 * time.Hour

	// mostPairs bounds the pairs of users and packages: some 1.4 million come together in a year of ten million messages.
	mostPairs = 10_000_000
)

// Plugin defines it. A contribution counts for the one agent who caused the message; involvement counts for each user
// that the message is about.
func Plugin() plugins.Plugin {
	return plugins.Plugin{
		ID: ID, Version: "1", DataVersion: 1,
		Counters: []plugins.Counter{
			{
				Name: "Contributions, by agent and topic", Summary: "the count of messages that a person caused, organized by topic",
				Description: "How many messages of each topic each person caused: the pushes, comments, builds and updates of one contributor.",
				Dims:        []string{"agent", "topic"}, Every: []time.Duration{hour, day}, Unit: "messages", View: "top",
				On: func(e *plugins.Event, add func(int64, ...string)) {
					if e.Agent != "" {
						add(1, e.Agent, e.Topic)
					}
				},
			},
			{
				Name: "Contributions, by agent and category", Summary: "the count of messages that a person caused, organized by category",
				Description: "How many messages of each service each person caused. It has the buckets of a calendar in every time zone.",
				Dims:        []string{"agent", "category"}, Every: []time.Duration{quarter, hour, day}, Unit: "messages", View: "calendar",
				On: func(e *plugins.Event, add func(int64, ...string)) {
					if e.Agent != "" {
						add(1, e.Agent, e.Category())
					}
				},
			},
			{
				Name: "Involvement, by user and topic", Summary: "the count of messages about a person, organized by topic",
				Description: "How many messages of each topic were about each person, whoever caused them. A message about three people counts for each of them.",
				Dims:        []string{"user", "topic"}, Multi: []string{"user"}, Every: []time.Duration{hour, day}, Unit: "messages", View: "top",
				On: func(e *plugins.Event, add func(int64, ...string)) {
					for _, u := range e.Users {
						add(1, u, e.Topic)
					}
				},
			},
			{
				Name: "Involvement, by user and package", Summary: "the count of messages about a person, organized by package",
				Description: "How many messages about each person were about each package. A message about three people and two packages counts for each of the six pairs.",
				Dims:        []string{"user", "package"}, Multi: []string{"user", "package"}, Every: []time.Duration{day}, Unit: "messages", View: "top",
				MaxSeries: mostPairs,
				On: func(e *plugins.Event, add func(int64, ...string)) {
					for _, u := range e.Users {
						for _, p := range e.Packages {
							add(1, u, p)
						}
					}
				},
			},
		},
	}
}
