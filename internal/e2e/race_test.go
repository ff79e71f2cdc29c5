//go:build race

package e2e

// raced says that these tests are built with the race detector; the binary that they drive is then built with it too.
const raced = true
