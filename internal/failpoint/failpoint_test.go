package failpoint

import (
	"errors"
	"slices"
	"testing"
)

func TestAround_AnErrorBeforeLeavesTheStepUndoneAndOneAfterDoesNot(t *testing.T) {
	injected, own := errors.New("injected"), errors.New("of the step itself")
	for _, c := range []struct {
		name    string
		hook    Hook
		step    error
		done    bool
		want    error
		reached []string
	}{
		{"nothing armed", func(string) error { return nil }, nil, true, nil, []string{"commit.before", "commit.after"}},
		{"no hook", nil, nil, true, nil, nil},
		{"before", failAt("commit.before", injected), nil, false, injected, []string{"commit.before"}},
		{"after", failAt("commit.after", injected), nil, true, injected, []string{"commit.before", "commit.after"}},
		{"the step fails by itself", failAt("commit.after", injected), own, true, own, []string{"commit.before"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var reached []string
			hook := c.hook
			if hook != nil {
				hook = func(name string) error { reached = append(reached, name); return c.hook(name) }
			}
			done := false
			err := hook.Around(Commit, func() error { done = true; return c.step })
			if !errors.Is(err, c.want) || done != c.done || !slices.Equal(reached, c.reached) {
				t.Errorf("error %v, done %t, reached %v", err, done, reached)
			}
		})
	}
}

func failAt(point string, err error) Hook {
	return func(name string) error {
		if name == point {
			return err
		}
		return nil
	}
}

func TestNames_AreTwoOfEachStepAndAllDifferent(t *testing.T) {
	names := Names()
	if len(names) != 2*len(Steps()) {
		t.Errorf("%d names of %d steps", len(names), len(Steps()))
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != 2*len(Steps()) {
		t.Error("a name is listed twice")
	}
}
