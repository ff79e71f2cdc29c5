package consumer

import (
	"errors"
	"os"
	"path/filepath"
)

// refresh reads again what is remembered where another process has written it. The caller holds mu.
func (c *changes) refresh() {
	info, err := os.Stat(filepath.Join(c.dataDir, programsFile))
	if err != nil || c.seen != nil && os.SameFile(info, c.seen) && info.Size() == c.seen.Size() && info.ModTime().Equal(c.seen.ModTime()) {
		return
	}
	known, err := readPrograms(c.dataDir)
	if err != nil {
		c.log.Warn("what another process remembered of the programs can't be read", "error", err)
		return
	}
	c.known, c.seen = known, info
}

// lift forgets the doubt about programs that have counted all of their plugins' numbers as they are stored: the same
// program files, that is, as those which were doubted.
func (c *changes) lift(verified []candidate) error {
	var errs []error
	for _, v := range verified {
		if c.doubt(v.plugin.ID) == "" {
			continue
		}
		sum, err := sumOf(v.program, map[string]fileSum{})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.mu.Lock()
		p := c.known[v.plugin.ID]
		if p.SHA256 == sum && p.Doubt != "" {
			p.Doubt = ""
			errs = append(errs, c.write(v.plugin.ID, p))
			c.log.Info("plugin's program counts all of the archive as it is stored: there is no doubt about it any more", "plugin", v.plugin.ID)
		}
		c.mu.Unlock()
	}
	return errors.Join(errs...)
}
