package consumer

import (
	"context"
	"fmt"

	"github.com/statscache/statscache/consumer/control"
)

// CommandPlugin does what the verb of a plugin command says.
func (d *Daemon) CommandPlugin(_ context.Context, verb, _ string) (control.PluginResult, error) {
	return control.PluginResult{}, fmt.Errorf("no plugin command %q", verb)
}
