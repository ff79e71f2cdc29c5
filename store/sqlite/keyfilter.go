package sqlite

import "github.com/zeebo/xxh3"

// keyFilter is a Bloom filter: it knows of most keys that were never added that they weren't. It is 1 MiB large, which
// makes one of 50 doubtful at a million keys.
type keyFilter struct{ bits []uint64 }

const (
	filterBits   = 1 << 23
	filterHashes = 4
)

func newKeyFilter() *keyFilter { return &keyFilter{make([]uint64, filterBits/64)} }

func (f *keyFilter) add(key string) {
	h := xxh3.HashString128(key)
	for i := range uint64(filterHashes) {
		at := (h.Lo + i*h.Hi) % filterBits
		f.bits[at/64] |= 1 << (at % 64)
	}
}

// has says whether a key may have been added.
func (f *keyFilter) has(key string) bool {
	h := xxh3.HashString128(key)
	for i := range uint64(filterHashes) {
		at := (h.Lo + i*h.Hi) % filterBits
		if f.bits[at/64]&(1<<(at%64)) == 0 {
			return false
		}
	}
	return true
}
