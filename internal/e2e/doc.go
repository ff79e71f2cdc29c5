// Package e2e drives the built binary as its users do: commands, configuration, data dir, ZeroMQ and HTTP.
//
// Everything is in test files. The expected rows come from an independent oracle (testdata/golden), never from
// statscache itself. The ordinary suite takes a few minutes; STATSCACHE_LONG=1 adds the long crash and chaos suites
// (`make e2e`), STATSCACHE_SOAK=30m the soak tests (`make soak`); the benchmarks are `make bench`.
package e2e
