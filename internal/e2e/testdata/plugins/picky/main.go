// Command picky is a plugin that misbehaves at events whose topics end in a word, until a file named .mended lies
// beside it: then only the words in it do it still. The word slow has it take a millisecond for each
// event whose topic ends in error.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/statscache/statscache/plugins"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(self), ".mended"))
	mended, words := err == nil, strings.Fields(string(text))
	plugins.Serve(plugins.Plugin{ID: "picky", Deadline: time.Second, Counters: []plugins.Counter{{
		Name: "Counts of a picky one", Dims: []string{"topic"}, Every: []time.Duration{time.Minute, 24 * time.Hour},
		On: func(e *plugins.Event, add func(int64, ...string)) {
			word := e.Topic[strings.LastIndexByte(e.Topic, '.')+1:]
			if !mended || slices.Contains(words, word) {
				misbehave(word)
			}
			if word == "error" && slices.Contains(words, "slow") {
				time.Sleep(time.Millisecond)
			}
			add(1, e.Topic)
		},
	}}})
}

func misbehave(word string) {
	switch word {
	case "crash":
		os.Exit(3)
	case "hang":
		select {}
	case "error":
		panic("I do not like it")
	case "grow":
		for all := [][]byte(nil); ; {
			all = append(all, bytes.Repeat([]byte("x"), 8<<20))
			fmt.Fprintln(os.Stderr, len(all))
		}
	}
}
