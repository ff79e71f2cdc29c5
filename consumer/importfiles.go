package consumer

import (
	"context"
	"sync"

	"github.com/statscache/statscache/consumer/control"
)

// importWorkers is how many files are read at once: unpacking and taking apart is worth it, decoding is done by one.
const importWorkers = 3

// importOne imports files one after the other.
type importOne func(ctx context.Context, next control.NextFile, o control.ImportOptions) (ImportSummary, error)

// importSideBySide shares files out among some imports and adds up what becomes of them. After one that fails the others
// end with the file that they are at.
func importSideBySide(ctx context.Context, files []string, o ImportOptions, one importOne) (ImportSummary, error) {
	workers := min(len(files), importWorkers)
	s := &sideBySide{files: files, options: o, lines: make([]int, workers), sum: ImportSummary{Rejected: map[string]int{}}}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			next, done := openFiles(s.take, o.Stdin)
			sum, err := one(ctx, next, s.optionsOf(i))
			if ctx.Err() == nil { // else the last file may be being read still: the process closes it
				if closed := done(); err == nil {
					err = closed // of a file that could not be read to its end, closing has nothing to add
				}
			}
			s.add(sum, err)
		}()
	}
	wg.Wait()
	return s.sum, s.err
}

// sideBySide is what the imports share.
type sideBySide struct {
	options ImportOptions

	mu    sync.Mutex
	files []string // not taken yet
	lines []int    // read so far, by import
	sum   ImportSummary
	err   error
}

func (s *sideBySide) take() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return "", false
	}
	path := s.files[0]
	s.files = s.files[1:]
	return path, true
}

// optionsOf makes the options of one import. What its owner gave is called from one goroutine at a time.
func (s *sideBySide) optionsOf(i int) control.ImportOptions {
	o := s.options.control()
	if tell := o.Progress; tell != nil {
		o.Progress = func(lines int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.lines[i] = lines
			all := 0
			for _, n := range s.lines {
				all += n
			}
			tell(all)
		}
	}
	if tell := o.Bad; tell != nil {
		o.Bad = func(b control.BadLine) {
			s.mu.Lock()
			defer s.mu.Unlock()
			tell(b)
		}
	}
	return o
}

// add takes the end of one import.
func (s *sideBySide) add(sum ImportSummary, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Lines += sum.Lines
	s.sum.Owned += sum.Owned
	s.sum.Duplicates += sum.Duplicates
	s.sum.Expired += sum.Expired
	for reason, n := range sum.Rejected {
		s.sum.Rejected[reason] += n
	}
	if err == nil {
		return
	}
	if s.err == nil {
		s.err = err
	}
	s.files = nil
}
