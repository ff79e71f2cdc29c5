package consumer

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/statscache/statscache/store"
)

// TestImport_ManyBatchesKeepTheOrderOfTheLines: decoded side by side, events stand in the archive as in the file, refused
// lines are told of in their order, and what comes again is counted as known, however much of it is new.
func TestImport_ManyBatchesKeepTheOrderOfTheLines(t *testing.T) {
	const lines = 20_000
	text := func(prefix string, from int) string {
		var b strings.Builder
		for i := range lines {
			switch {
			case i%701 == 700:
				b.WriteString("{\n")
			default:
				fmt.Fprintf(&b, `{"msg_id":"%s-%d","topic":"org.fedoraproject.dev.x.y","timestamp":%d,"msg":{}}`+"\n", prefix, from+i, 1_700_000_000+i)
			}
		}
		return b.String()
	}
	d, err := Open(t.Context(), Options{Config: testConfig(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Stop() }()
	const bad = lines / 701
	give := func(text string, owned int) {
		t.Helper()
		var told []int
		sum, err := d.Import(t.Context(), []string{"-"}, ImportOptions{Stdin: strings.NewReader(text), Bad: func(_ string, line int, _, _ string) { told = append(told, line) }})
		if err != nil {
			t.Fatal(err)
		}
		if sum.Lines != lines || sum.Owned != owned || sum.Duplicates != lines-bad-owned || sum.Rejected["json"] != bad {
			t.Errorf("%+v, want %d lines, %d new, %d known, %d refused", sum, lines, owned, lines-bad-owned, bad)
		}
		if len(told) != bad || !slices.IsSorted(told) || told[0] != 701 {
			t.Errorf("refused lines were told of as %v", told)
		}
	}
	give(text("a", 0), lines-bad)
	give(text("a", 0), 0)
	list, _, err := d.feed.archive.Read(t.Context(), store.ReadRequest{Stream: d.feed.live(), Events: 2 * lines, Bodies: true})
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for _, b := range list {
		ids, err := b.IDs()
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if next%701 == 700 {
				next++
			}
			if id != fmt.Sprint("a-", next) {
				t.Fatalf("event %s where a-%d should be", id, next)
			}
			next++
		}
	}
	if next != lines {
		t.Errorf("%d lines are in the archive, want %d", next, lines)
	}
	// Half of it is known: those blocks alone are passed over.
	mixed := strings.SplitAfter(text("a", 0), "\n")[:lines/2]
	mixed = append(mixed, strings.SplitAfter(text("b", 0), "\n")[lines/2:lines]...)
	known := 0
	for _, line := range mixed[:lines/2] {
		if line != "{\n" {
			known++
		}
	}
	give(strings.Join(mixed, ""), lines-bad-known)
}
