package releng

import (
	"testing"

	"github.com/statscache/statscache/plugins/plugintest"
)

func TestMain(m *testing.M) { plugintest.Main(m, Plugin()) }

func TestCases(t *testing.T) { plugintest.Run(t, "testdata") }
