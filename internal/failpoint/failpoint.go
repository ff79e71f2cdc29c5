// Package failpoint names the durable steps and lets a test make them fail.
package failpoint

// Step is something that is on disk, or with somebody else, once it is done. Each has two points: before it, where an
// error means that it was not done, and after it, where an error means that it was done and nobody was told.
type Step string

// The steps, in the order in which an event meets them.
const (
	Migration         Step = "migration"           // a layout step of the store's file
	InboxState        Step = "inbox.state"         // the file that names the stream and both ends of its numbering is replaced
	InboxRotate       Step = "inbox.rotate"        // a new segment gets its name
	InboxAppend       Step = "inbox.append"        // blocks are written behind the last record
	InboxSync         Step = "inbox.sync"          // what was written is made durable: then it is accepted
	InboxTrim         Step = "inbox.trim"          // segments that are archived whole are removed
	ArchiveInsert     Step = "archive.insert"      // rows of a block
	ArchiveArchivedTo Step = "archive.archived_to" // the position up to which a stream is archived
	PluginSend        Step = "plugin.send"         // a batch to a plugin's process
	PluginResult      Step = "plugin.result"       // its answer is taken in
	Commit            Step = "commit"              // counts and the plugin's position
	Version           Step = "version"             // versions of the metrics that a commit changed
	RetentionHorizon  Step = "retention.horizon"   // how far back counts are kept from now on
	RetentionCounters Step = "retention.counters"  // counts behind it are removed
	RetentionArchive  Step = "retention.archive"   // events behind the archive's horizon are removed
	GenerationSwap    Step = "generation.swap"     // another generation of a plugin's counts is served
)

// Steps lists all of them.
func Steps() []Step {
	return []Step{Migration, InboxState, InboxRotate, InboxAppend, InboxSync, InboxTrim, ArchiveInsert, ArchiveArchivedTo,
		PluginSend, PluginResult, Commit, Version, RetentionHorizon, RetentionCounters, RetentionArchive, GenerationSwap}
}

// Before is the name of the point before the step.
func (s Step) Before() string { return string(s) + ".before" }

// After is the name of the point after the step.
func (s Step) After() string { return string(s) + ".after" }

// Names lists every point.
func Names() []string {
	var all []string
	for _, s := range Steps() {
		all = append(all, s.Before(), s.After())
	}
	return all
}

// Hook is called with the name of each point that is reached. What it returns, the step fails with. The nil Hook is the
// one outside tests: nothing happens.
type Hook func(name string) error

// Before is called where the step is about to be done.
func (h Hook) Before(s Step) error { return h.reach(s.Before) }

// After is called where the step is done and nobody has been told.
func (h Hook) After(s Step) error { return h.reach(s.After) }

// Around does a step between its two points.
func (h Hook) Around(s Step, do func() error) error {
	if err := h.Before(s); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return h.After(s)
}

func (h Hook) reach(name func() string) error {
	if h == nil {
		return nil
	}
	return h(name())
}
