// Package pagure is the bundled plugin that counts contributions to pagure.io: all of them, per user and per project.
package pagure

import (
	"strings"
	"time"

	"github.com/statscache/statscache/plugins"
)

// ID is the plugin's id.
const ID = "pagure"

const (
	prefix       = "io.pagure.prod."
	pullRequests = prefix + "pagure.pull-request"
	receive      = prefix + "pagure.git.receive"
	edited       = prefix + "pagure.issue.comment.edited"
)

// Plugin defines it. Names are those of the original statscache, so that its idents hold.
func Plugin() plugins.Plugin {
	every := []time.Duration{time.Hour, 24 * time.Hour}
	return plugins.Plugin{
		ID: ID, Version: "1", DataVersion: 1, Topics: []string{prefix}, Body: true,
		Counters: []plugins.Counter{
			{
				Name: "Number of contribution to pagure.io", Summary: "the count of contributions to pagure.io",
				Description: "How many messages pagure.io sent: each stands for something that somebody did there.",
				Every:       every, Unit: "contributions", View: "line",
				On: func(_ *plugins.Event, add func(int64, ...string)) { add(1) },
			},
			{
				Name: "Number of contribution per user to pagure.io", Summary: "the count of contributions to pagure.io, organized by user",
				Description: "How many messages of pagure.io were about each user. A message about three users counts for each of them.",
				Dims:        []string{"user"}, Multi: []string{"user"}, Every: every, Unit: "contributions", View: "top",
				On: func(e *plugins.Event, add func(int64, ...string)) {
					for _, u := range e.Users {
						add(1, u)
					}
				},
			},
			{
				Name: "Number of contribution per project to pagure.io", Summary: "the count of contributions to pagure.io, organized by project",
				Description: "How many messages of pagure.io were about each project. Edited comments name no project, and they, like other messages that name none, are not counted here.",
				Dims:        []string{"project"}, Every: every, Unit: "contributions", View: "top",
				On: func(e *plugins.Event, add func(int64, ...string)) {
					if p := project(e); p != "" {
						add(1, p)
					}
				},
			},
		},
	}
}

type named struct {
	Name string `json:"name"`
}

// project is the name of the project that a message is about, empty where it names none.
func project(e *plugins.Event) string {
	if e.Topic == edited {
		return ""
	}
	var m struct {
		Msg struct {
			PullRequest struct {
				Project named `json:"project"`
			} `json:"pullrequest"`
			Repo    named `json:"repo"`
			Project named `json:"project"`
		} `json:"msg"`
	}
	if err := e.JSON(&m); err != nil {
		return "" // of another shape: it names no project
	}
	switch {
	case strings.HasPrefix(e.Topic, pullRequests):
		return m.Msg.PullRequest.Project.Name
	case e.Topic == receive:
		return m.Msg.Repo.Name
	}
	return m.Msg.Project.Name
}
