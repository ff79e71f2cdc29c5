package api

import (
	"os"
	"path/filepath"
	"testing"
)

// axeCore reads the script that tools/axe.sh has fetched, empty where it hasn't.
func axeCore(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	found, _ := filepath.Glob(filepath.Join(cache, "statscache", "axe-core-*", "axe.min.js")) // the pattern is a good one
	if len(found) == 0 {
		return ""
	}
	script, err := os.ReadFile(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

// axeRun keeps what is found in a variable of the page: it takes a while.
const axeRun = `window.axeFound = undefined;
	axe.run(document, { resultTypes: ["violations"] }).then((r) => { window.axeFound = r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.join(" ") + ": " + (n.failureSummary ?? "").replace(/\s+/g, " "))); });
	true`

// violations lists what axe-core finds on the page that is shown, where asked with all its tables and details open.
func (b *browser) violations(where, axe string, open bool) []string {
	b.t.Helper()
	if open {
		_ = eval[bool](b, widgetList+`.forEach((w) => w.shadowRoot.querySelector("footer button:not([hidden])")?.click()), document.querySelectorAll("details").forEach((d) => { d.open = true; }), true`)
	}
	if !eval[bool](b, `typeof axe === "object"`) {
		_ = eval[bool](b, axe+";true")
	}
	_ = eval[bool](b, axeRun)
	b.until(where+": axe-core's answer", `window.axeFound !== undefined`)
	return eval[[]string](b, `window.axeFound`)
}
