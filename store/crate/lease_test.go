package crate

import (
	"testing"

	"github.com/statscache/statscache/store/storetest"
)

func TestLeases(t *testing.T) { storetest.Leases(t, emptied) }

func TestLeases_AnswersLost(t *testing.T) {
	needLong(t)
	storetest.Leases(t, flaky)
}
