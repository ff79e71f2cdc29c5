package crate

import (
	"strings"
	"testing"

	"github.com/statscache/statscache/internal/cratetest"
)

func TestNewEnough(t *testing.T) {
	for version, ok := range map[string]bool{"6.3.3": true, "6.3.10": true, "6.4.0": true, "7.0.0": true, "10.0.0": true,
		"6.3.2": false, "6.2.9": false, "5.10.4": false, "": false, "x": false} {
		err := newEnough(version)
		if (err == nil) != ok {
			t.Errorf("CrateDB %q: %v", version, err)
		}
		if err != nil && !strings.Contains(err.Error(), "too old: 6.3.3 is the first that works") {
			t.Errorf("CrateDB %q: it says %v", version, err)
		}
	}
}

// TestOpen_BrokenOffInAStep_GoesOn leaves a schema as a process does that dies between two statements of a step.
func TestOpen_BrokenOffInAStep_GoesOn(t *testing.T) {
	url := cratetest.Start(t)
	d := openAt(t, url)
	conf, err := parseURL(url, defaultStatement)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, conf.ConnConfig, "UPDATE schema_version SET version = 0 WHERE name = 'statscache'", "DROP TABLE horizons", "DROP TABLE leases")
	d = openAt(t, url)
	if err := d.record(testContext(t), horizonOf{"m", 1}, 5); err != nil {
		t.Error(err)
	}
	version, err := d.checkVersion(testContext(t), false)
	if err != nil || version != len(d.steps()) {
		t.Errorf("version %d, %v; want %d", version, err, len(d.steps()))
	}
}
