//go:build race

package e2e

// raced says that these tests are built with the race detector. The daemons of the sites that ask for it (site.race) are
// then built with it too: those whose parts do most at the same time. The others would only be five times slower.
const raced = true
