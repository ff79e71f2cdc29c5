package api

import (
	"context"
	"math"
	"time"
)

// PluginStatus is how a plugin is doing.
type PluginStatus struct {
	ID          string   `json:"id"`
	Version     string   `json:"version"`
	DataVersion uint32   `json:"data_version"`
	State       string   `json:"state"` // running, starting, catching-up, backing-off, quarantined or disabled
	Builtin     bool     `json:"builtin"`
	Metrics     []string `json:"metrics"`      // ids
	Lag         uint64   `json:"lag"`          // events that it has yet to count
	Restarts    uint64   `json:"restarts"`     // since the start of the process
	DeadLetters uint64   `json:"dead_letters"` // events it could not take
	Error       string   `json:"error"`        // the last one, empty for none

	Building *BuildingStatus `json:"building,omitempty"` // nil: no new generation of its numbers is being made
}

// BuildingStatus is how far a new generation of a plugin's numbers has come. The old one is shown meanwhile.
type BuildingStatus struct {
	Generation uint32 `json:"generation"`
	Done       uint64 `json:"done"`  // events that it has counted
	Total      uint64 `json:"total"` // events that there are
}

// Status is how the whole process is doing.
type Status struct {
	Version         string           `json:"version"`
	Started         time.Time        `json:"started"`
	Roles           []string         `json:"roles"` // of consume, compute, serve
	EventsPerSecond float64          `json:"events_per_second"`
	Owned           uint64           `json:"owned"` // events archived as ours, ever
	Endpoints       []EndpointStatus `json:"endpoints"`
	Journal         JournalStatus    `json:"journal"`
	Store           StoreStatus      `json:"store"`
	Plugins         []PluginStatus   `json:"plugins"` // those of Options.Plugins when nil
	Cluster         *ClusterStatus   `json:"cluster,omitempty"`
}

// EndpointStatus is how one source of events is doing.
type EndpointStatus struct {
	Name       string     `json:"name"`
	Address    string     `json:"address"`
	State      string     `json:"state"`
	LastEvent  *time.Time `json:"last_event"` // nil: none yet
	Received   uint64     `json:"received"`
	Rejected   uint64     `json:"rejected"`
	Reconnects uint64     `json:"reconnects"`
}

// JournalStatus is how full the inbox is.
type JournalStatus struct {
	Bytes int64 `json:"bytes"`
	Limit int64 `json:"limit"`
}

// StoreStatus says which engine is used and whether it answers.
type StoreStatus struct {
	Kind string `json:"kind"`
	Up   bool   `json:"up"`
}

// statusLife is how long an answer about the process itself is kept: long enough that a crowd of watchers costs one
// look per moment.
const statusLife = 250 * time.Millisecond

func (s *Server) pluginList() []PluginStatus {
	list := append([]PluginStatus{}, s.plugins()...)
	for i := range list {
		list[i].Metrics = append([]string{}, list[i].Metrics...)
	}
	return list
}

func (s *Server) pluginsQuestion() question {
	return question{key: "plugins", dir: &directory{}, until: s.now().Add(statusLife), build: func(context.Context) (*answer, error) {
		return jsonAnswer(struct {
			Plugins []PluginStatus `json:"plugins"`
		}{s.pluginList()})
	}}
}

func (s *Server) statusQuestion() question {
	return question{key: "status", dir: &directory{}, until: s.now().Add(statusLife), build: func(context.Context) (*answer, error) {
		st := s.status()
		if math.IsNaN(st.EventsPerSecond) || math.IsInf(st.EventsPerSecond, 0) {
			st.EventsPerSecond = 0 // JSON has no such numbers
		}
		st.Started = st.Started.UTC()
		st.Roles = append([]string{}, st.Roles...)
		st.Endpoints = append([]EndpointStatus{}, st.Endpoints...)
		for i, e := range st.Endpoints {
			if e.LastEvent != nil {
				t := e.LastEvent.UTC()
				st.Endpoints[i].LastEvent = &t
			}
		}
		if st.Plugins == nil {
			st.Plugins = s.pluginList()
		}
		return jsonAnswer(st)
	}}
}
