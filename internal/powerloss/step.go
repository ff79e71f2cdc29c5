// Package powerloss replays what a process did to the files of a folder and makes what a loss of power could have left.
//
// The program in record traces a process and writes a recording; Read reads one, and a Disk goes through its steps.
package powerloss

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Op says what a step does.
type Op byte

// What a process does to files.
const (
	Create    Op = iota + 1 // Path is a new file, File
	Mkdir                   // Path is a new folder, File
	Write                   // Data stands in File at At
	Truncate                // File is At bytes long
	SyncBegin               // thread At asks for File to be made durable, Path where it is a folder
	SyncEnd                 // it is
	SyncFail                // it may not be
	Rename                  // Path is Data now
	Remove                  // Path is gone
	Unknown                 // the process did to Path what this package does not follow: Data names it
)

// Step is one change, in the order in which the process could know of them.
type Step struct {
	Op   Op
	File uint64 // a number for as long as the recording goes, never used again
	At   int64
	Path string // below the folder
	Data []byte
	End  int64 // of its bytes in the recording: what the process did later stands behind it
}

const (
	head = 1 + 8 + 8 + 4 + 4
	// most bounds a path and the data of one step.
	most = 256 << 20
)

// Append adds a step to a recording in one write, so that whoever sees the effect of a later step finds it there.
func Append(w io.Writer, s Step) error {
	b := make([]byte, head, head+len(s.Path)+len(s.Data))
	b[0] = byte(s.Op)
	binary.LittleEndian.PutUint64(b[1:], s.File)
	binary.LittleEndian.PutUint64(b[9:], uint64(s.At))
	binary.LittleEndian.PutUint32(b[17:], uint32(len(s.Path)))
	binary.LittleEndian.PutUint32(b[21:], uint32(len(s.Data)))
	_, err := w.Write(append(append(b, s.Path...), s.Data...))
	return err
}

// Read reads a recording; one that was cut off gives the whole steps before.
func Read(path string) ([]Step, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the recording: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	var steps []Step
	end, in := int64(0), bufio.NewReader(f)
	for {
		var b [head]byte
		_, err := io.ReadFull(in, b[:])
		s := Step{Op: Op(b[0]), File: binary.LittleEndian.Uint64(b[1:]), At: int64(binary.LittleEndian.Uint64(b[9:]))}
		paths, data := binary.LittleEndian.Uint32(b[17:]), binary.LittleEndian.Uint32(b[21:])
		if err == nil && (paths > most || data > most) {
			return nil, fmt.Errorf("%s at %d: a step of %d and %d bytes", path, end, paths, data)
		}
		rest := make([]byte, paths+data)
		if err == nil {
			_, err = io.ReadFull(in, rest)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return steps, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		end += int64(head + len(rest))
		s.Path, s.Data, s.End = string(rest[:paths]), rest[paths:], end
		steps = append(steps, s)
	}
}
