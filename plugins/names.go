package plugins

import "unsafe"

// names is the dictionary of one result.
type names struct {
	list  []string
	index map[string]uint32
	// seen finds strings by where they lie in memory before their bytes are looked at: most of what a plugin counts by
	// are strings of its batch, the same ones again and again. Entries hold for one batch, whose memory is in use.
	seen  [2048]seen
	batch uint64
}

type seen struct {
	at    uintptr
	size  int
	batch uint64
	index uint32
}

func newNames() *names {
	d := &names{index: map[string]uint32{}}
	d.reset()
	return d
}

// reset starts the dictionary of another batch.
func (d *names) reset() {
	d.list = []string{""}
	clear(d.index)
	d.index[""] = 0
	d.batch++
}

// of gives the number of a string.
func (d *names) of(s string) uint32 {
	at := uintptr(unsafe.Pointer(unsafe.StringData(s)))
	e := &d.seen[(at>>3^at>>14)%uintptr(len(d.seen))]
	if e.at == at && e.size == len(s) && e.batch == d.batch {
		return e.index
	}
	i, ok := d.index[s]
	if !ok {
		i = uint32(len(d.list))
		d.list = append(d.list, s) // keeps the memory in use while the entry holds
		d.index[s] = i
	} else if unsafe.StringData(d.list[i]) != unsafe.StringData(s) {
		return i // a copy that may be gone, and its memory another string's, before the batch ends
	}
	*e = seen{at, len(s), d.batch, i}
	return i
}
