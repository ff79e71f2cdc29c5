package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// signature tells a file from the one that stands in its place later.
type signature struct {
	size, changed int64 // bytes; ns since 1970
	inode         uint64
}

// signatureOf gives the zero signature where there is no file.
func signatureOf(path string) signature {
	info, err := os.Stat(path)
	if err != nil {
		return signature{}
	}
	s := signature{size: info.Size(), changed: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = st.Ino
	}
	return s
}

// watcher follows the plugin folders by looking at them again and again: that works on every file system.
type watcher struct {
	host *Host
	last map[string]signature // at the last look, by path; the zero one for a file that is missed
	said string               // what was last said of files that are passed over
}

// watch starts what is dropped into the folders, starts anew what is replaced and stops what is removed, until ctx
// ends. A change counts when it is the same at two looks: a file may be being written still.
func (h *Host) watch(ctx context.Context, all *sync.WaitGroup) {
	w := &watcher{host: h, last: map[string]signature{}}
	for sleep(ctx, h.Limits.Watch) {
		for _, r := range w.look() {
			all.Go(func() { r.keep(ctx) })
		}
	}
}

// look compares the folders with what runs and gives the runners that are new.
func (w *watcher) look() (fresh []*Runner) {
	found, err := Discover(w.host.Folders)
	w.say(err)
	now := map[string]signature{}
	for _, p := range found {
		now[p.Argv[0]] = signatureOf(p.Argv[0])
	}
	running := map[string]bool{}
	for _, r := range w.host.list() {
		if r.program.Builtin || len(r.program.Argv) == 0 || !slices.Contains(w.host.Folders, filepath.Dir(r.program.Argv[0])) {
			continue
		}
		path := r.program.Argv[0]
		running[path] = true
		is := now[path] // zero: gone, or a plugin no more
		if _, err := os.Stat(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			is = r.file // nobody can tell
		}
		now[path] = is
		before, seen := w.last[path]
		switch {
		case is == r.file || !seen || is != before:
		case is == signature{}:
			w.host.drop(r)
		default:
			r.file = is
			w.host.Logger.Info("plugin's program was replaced", "plugin", r.id(), "path", path)
			r.ask(errAsked)
		}
	}
	for _, p := range found {
		if path := p.Argv[0]; !running[path] && w.last[path] == now[path] {
			w.host.Logger.Info("plugin's program is new", "path", path)
			fresh = append(fresh, w.host.add(p))
		}
	}
	w.last = now
	return fresh
}

// say warns of files that are passed over, once.
func (w *watcher) say(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != w.said && text != "" {
		w.host.Logger.Warn("plugin passed over", "reason", text)
	}
	w.said = text
}

// drop ends a plugin whose program is gone; its numbers stay. Another program may have its id now.
func (h *Host) drop(r *Runner) {
	id := r.id()
	h.Logger.Info("plugin's program was removed: the plugin stops, its numbers stay", "plugin", id, "path", r.program.Argv[0])
	h.mu.Lock()
	for i, x := range h.runners {
		if x == r {
			h.runners = append(h.runners[:i:i], h.runners[i+1:]...)
			break
		}
	}
	if h.claims[id] == r {
		delete(h.claims, id)
	}
	heirs := h.runners
	h.mu.Unlock()
	r.remove()
	for _, x := range heirs {
		x.mu.Lock()
		waits := x.shown.ID == id && x.shown.State == Quarantined
		x.mu.Unlock()
		if waits {
			x.ask(errAsked)
		}
	}
	h.progress.notify()
}
