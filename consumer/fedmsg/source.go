package fedmsg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// source is where names stand: a path, and what makes names of the texts that are found there.
type source struct {
	soleUser   bool // no path: the event's user where there is exactly one
	root       root
	segments   []segment // below msg
	keys       bool      // the keys of the object that the path leads to, not a text
	place      int       // the text at this place, from 1, of a list that the path leads to; 0 is every text
	transforms []transform
}

// root is the member of the envelope that a path begins with.
type root uint8

const (
	msgRoot root = iota
	usernameRoot
	topicRoot
)

// segment is one step of a path into an object. Arrays are no steps: a path goes on in each of their elements.
type segment struct {
	key        string // of the member; "" is any
	conditions []condition
}

// condition is what an object must hold to be looked into: a member that is this text, or none that is.
type condition struct {
	key, value string
	any        bool // whatever the member's value is
	not        bool
}

// parseSource reads a source such as "nvr /msg/task[type=koji_build]/item".
func parseSource(text string, p part) (source, error) {
	var s source
	if len(text) > maxText {
		return s, fmt.Errorf("has %d bytes, allowed are %d", len(text), maxText)
	}
	words := strings.Fields(text)
	switch {
	case len(words) == 0:
		return s, errors.New("is empty")
	case text == soleUser && p == agent:
		return source{soleUser: true}, nil
	case text == soleUser:
		return s, errors.New("is for the agent alone")
	}
	last := len(words) - 1
	for _, word := range words[:last] {
		t, err := parseTransform(word)
		if err != nil {
			return s, err
		}
		s.transforms = append(s.transforms, t)
	}
	if len(s.transforms) > maxSegments {
		return s, fmt.Errorf("has %d transforms, allowed are %d", len(s.transforms), maxSegments)
	}
	return s, s.parsePath(words[last])
}

// parsePath reads a path such as "/msg/packages[distro=Fedora]/name" or "/msg/attendees/~key".
func (s *source) parsePath(path string) error {
	if !strings.HasPrefix(path, "/") {
		return errors.New("ends with no path, which begins with /msg, /username or /topic")
	}
	steps, err := splitPath(path[1:])
	if err != nil {
		return err
	}
	if len(steps) > maxSegments {
		return fmt.Errorf("has %d steps, allowed are %d", len(steps), maxSegments)
	}
	first, conditions, err := parseStep(steps[0])
	switch {
	case err != nil:
		return err
	case (first == "username" || first == "topic") && (len(steps) > 1 || len(conditions) > 0):
		return fmt.Errorf("goes on behind /%s, which is a text", first)
	case first == "username":
		s.root = usernameRoot
		return nil
	case first == "topic":
		s.root = topicRoot
		return nil
	case first != "msg":
		return errors.New("must begin with /msg, /username or /topic")
	}
	// The first segment is msg itself, for its conditions.
	s.segments = append(s.segments, segment{key: "msg", conditions: conditions})
	for i, step := range steps[1:] {
		if step == "~key" {
			if i != len(steps)-2 {
				return errors.New("goes on behind ~key")
			}
			s.keys = true
			return nil
		}
		if number, is := strings.CutPrefix(step, "#"); is {
			var err error
			if s.place, err = strconv.Atoi(number); err != nil || s.place < 1 || s.place > maxText || i != len(steps)-2 {
				return errors.New("has a # that is no place in a list: #1 at the end of a path is the first")
			}
			return nil
		}
		key, conditions, err := parseStep(step)
		if err != nil {
			return err
		}
		if key == "*" {
			key = ""
		}
		s.segments = append(s.segments, segment{key: key, conditions: conditions})
	}
	if len(s.segments[len(s.segments)-1].conditions) > 0 {
		return errors.New("ends with a condition; conditions are for objects that the path goes on in")
	}
	return nil
}

// splitPath cuts at slashes that are in no condition.
func splitPath(path string) ([]string, error) {
	var out []string
	from, inside := 0, false
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '[' && !inside:
			inside = true
		case c == ']' && inside:
			inside = false
		case c == '/' && !inside:
			out = append(out, path[from:i])
			from = i + 1
		}
	}
	if inside {
		return nil, errors.New("has a [ without its ]")
	}
	return append(out, path[from:]), nil
}

// parseStep reads a key and its conditions, "packages[distro=Fedora][ok!=no]".
func parseStep(step string) (key string, out []condition, err error) {
	key, rest, found := strings.Cut(step, "[")
	switch {
	case key == "":
		return "", nil, errors.New("has an empty step")
	case strings.ContainsRune(key, ']'):
		return "", nil, errors.New("has a ] without its [")
	case strings.HasPrefix(key, "~"):
		return "", nil, fmt.Errorf("has the step %q; ~key stands for the keys of an object", clipped(key))
	case key != "*" && strings.Contains(key, "*"):
		return "", nil, errors.New("has a * that is no step of its own: it stands for any key")
	}
	for found {
		var text string
		text, rest, found = strings.Cut(rest, "]")
		if text == "" {
			return "", nil, errors.New("has [] in it: arrays need no mark, a path goes on in each of their elements")
		}
		c, ok := parseCondition(text)
		if !ok {
			return "", nil, fmt.Errorf("has the condition [%s]; it must be [key=text], [key!=text] or [!key]", clipped(text))
		}
		out = append(out, c)
		if rest == "" {
			break
		}
		if rest[0] != '[' {
			return "", nil, errors.New("has something behind a ]")
		}
		rest = rest[1:]
	}
	return key, out, nil
}

// parseCondition reads what stands between brackets.
func parseCondition(text string) (c condition, ok bool) {
	if key, is := strings.CutPrefix(text, "!"); is {
		return condition{key: key, any: true, not: true}, key != "" && !strings.Contains(key, "=")
	}
	if c.key, c.value, ok = strings.Cut(text, "="); !ok {
		return c, false
	}
	c.key, c.not = strings.CutSuffix(c.key, "!")
	return c, c.key != ""
}
