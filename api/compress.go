package api

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// coding is a content coding.
type coding int

// The codings, the best first where a client likes several equally.
const (
	brotliCoding coding = iota
	zstdCoding
	gzipCoding
	identity
	codings
)

var (
	codingNames   = [codings]string{"br", "zstd", "gzip", "identity"}  // immutable
	codingHeaders = [codings][]string{{"br"}, {"zstd"}, {"gzip"}, nil} // immutable: hung into responses
)

// smallBody is below what compression is for.
const smallBody = 128

// compressors are encoders to be used again: making one costs more than an average answer.
type compressors struct {
	brotli, brotliBest, gzip sync.Pool
	zstd                     *zstd.Encoder
}

func newCompressors() (*compressors, error) {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("api: make a zstd encoder: %w", err)
	}
	c := &compressors{zstd: z}
	c.brotli.New = func() any { return brotli.NewWriterLevel(nil, 5) }
	c.brotliBest.New = func() any { return brotli.NewWriterLevel(nil, brotli.BestCompression) }
	c.gzip.New = func() any { return gzip.NewWriter(nil) }
	return c, nil
}

// resetter is what the stream encoders have in common.
type resetter interface {
	io.WriteCloser
	Reset(io.Writer)
}

// compress gives the body in a coding, nil for none. What is fixed is sent often and compressed once: as small as can be.
func (c *compressors) compress(k coding, body []byte, fixed bool) []byte {
	if len(body) < smallBody {
		return nil
	}
	switch k {
	case zstdCoding:
		return c.zstd.EncodeAll(body, nil)
	case brotliCoding:
		if fixed {
			return stream(&c.brotliBest, body)
		}
		return stream(&c.brotli, body)
	case gzipCoding:
		return stream(&c.gzip, body)
	}
	return nil
}

func stream(pool *sync.Pool, body []byte) []byte {
	w := pool.Get().(resetter)
	defer pool.Put(w)
	var out bytes.Buffer
	w.Reset(&out)
	if _, err := w.Write(body); err != nil {
		return nil // memory can't fail, and uncompressed is right too
	}
	if err := w.Close(); err != nil {
		return nil
	}
	return bytes.Clone(out.Bytes())
}

// codingOf chooses by Accept-Encoding. Without one the body goes plain, and so it does where nothing else is left.
func codingOf(header string) coding {
	best, chosen := 0.0, identity
	var q [codings]float64
	for i := range q {
		q[i] = -1
	}
	star := -1.0
	ranges := 0
	for part := range strings.SplitSeq(header, ",") {
		if ranges++; ranges > maxRanges {
			break
		}
		name, params, _ := strings.Cut(part, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "x-gzip" {
			name = "gzip"
		}
		if name == "*" {
			star = quality(params)
		}
		for i, n := range codingNames {
			if name == n {
				q[i] = quality(params)
			}
		}
	}
	for i := brotliCoding; i < identity; i++ {
		v := q[i]
		if v < 0 {
			v = star
		}
		if v > best {
			best, chosen = v, i
		}
	}
	if q[identity] > best {
		return identity
	}
	return chosen
}
