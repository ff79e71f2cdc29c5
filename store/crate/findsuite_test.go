package crate

import (
	"testing"

	"github.com/statscache/statscache/store/storetest"
)

func TestFind(t *testing.T) {
	needLong(t)
	storetest.Find(t, emptied)
}
