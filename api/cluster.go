package api

import "time"

// ClusterStatus is what a process knows of others that share its store.
type ClusterStatus struct {
	Node    string         `json:"node"` // this process
	Nodes   []NodeStatus   `json:"nodes"`
	Streams []StreamStatus `json:"streams"`
	Leases  []LeaseStatus  `json:"leases"`
	Health  []HealthStatus `json:"health"` // what is wrong with the database, empty where nothing is
}

// NodeStatus is a process that shares the store.
type NodeStatus struct {
	ID              string    `json:"id"`
	Alive           bool      `json:"alive"`
	Silent          float64   `json:"silent_seconds"` // since it was heard of
	Version         string    `json:"version"`
	Host            string    `json:"host"`
	PID             int       `json:"pid"`
	Roles           []string  `json:"roles"`
	Started         time.Time `json:"started"`
	Listen          string    `json:"listen,omitempty"`
	Admin           string    `json:"admin,omitempty"`
	EventsPerSecond float64   `json:"events_per_second"`
	JournalBytes    int64     `json:"journal_bytes"`
}

// StreamStatus is one consumer's sequence of events.
type StreamStatus struct {
	ID         string `json:"id"`
	ArchivedTo uint64 `json:"archived_to"`
	Owned      uint64 `json:"owned"`
	Retired    bool   `json:"retired"`
	Node       string `json:"node"` // whose it is, empty for nobody's
}

// LeaseStatus says which node does a piece of work.
type LeaseStatus struct {
	Name  string `json:"name"`
	Node  string `json:"node"` // empty where it is free
	Alive bool   `json:"alive"`
}

// HealthStatus is something that the database says is wrong with itself.
type HealthStatus struct {
	What     string `json:"what"`
	Severity string `json:"severity"` // red or yellow
	Why      string `json:"why"`
	Do       string `json:"do"` // what mends it
}
